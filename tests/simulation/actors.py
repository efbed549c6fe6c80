"""Who uses the cache: readers that load and store, writers that mark, commit, bump, roll back and die."""

from collections.abc import Sequence

from distcache_django.core.freshness import BYPASS, HIT, LOAD, Lease
from tests.simulation.world import ANSWERS, GRAIN, MARK_LIFE, Client, Steps, World, pauses, record_of

#: How a transaction ends, and how often.
FATES = {
    "committed": 8,
    "rolled back": 2,
    "died before": 1,
    "died after": 2,
    "unknown": 3,
}


def read(world: World, client: Client, answer: str) -> Steps:
    """Look an answer up, load it if need be and store it; return what was found."""
    rows, records = ANSWERS[answer], [record_of(row) for row in ANSWERS[answer]]
    promised = client.promised()
    early = world.load(rows)
    lease = Lease(f"{answer}:lease", world.random.randbytes(4), 3000)
    claim = None if world.random.random() < 0.05 else lease
    begun = yield from client.run(client.versions.begin(client.versions.look(answer, records), lambda: claim))
    world.note(client.name, "begins", answer, begun)
    if begun.state is HIT:
        world.check(client, answer, begun.payload, promised)
        return begun.payload
    if begun.state is not LOAD:
        return begun.state if begun.state is not BYPASS else world.load(rows)
    yield from pauses(world, 3)
    payload = loaded(world, rows, early)
    world.note(client.name, "loads", answer, payload)
    if world.random.random() < 0.05:
        return None  # killed while it loads: its lease stays
    yield from pauses(world, 3)
    yield from client.run(client.versions.fill(answer, payload, begun.versions, _ttl(world), lease))
    return payload


def loaded(world: World, rows: Sequence[str], _early: bytes) -> bytes:
    """Ask the database; what it would have said before the look-up is of no use."""
    return world.load(rows)


def record(world: World, client: Client, answer: str) -> Steps:
    """Load an answer whose dependencies are found on the way, and store it without a lease."""
    rows = ANSWERS[answer]
    versions = yield from client.run(client.versions.votes([record_of(row) for row in rows]))
    if versions is None:
        return
    yield from pauses(world, 3)
    payload = world.load(rows)
    world.note(client.name, "records", answer, payload, versions)
    yield from pauses(world, 3)
    yield from client.run(client.versions.fill(answer, payload, b"".join(versions), _ttl(world), None))


def _ttl(world: World) -> int:
    return world.random.choice([1000, 60_000, 3_600_000, 172_800_000])


class Write:
    """Be one transaction: marks, COMMIT, and what its writer comes to know of it."""

    def __init__(self, world: World, client: Client, rows: Sequence[str]) -> None:
        self.world = world
        self.client = client
        self.rows = rows
        self.records = [record_of(row) for row in rows]
        self.token = world.random.randbytes(8)
        self.marked_at = world.now
        self.is_complete = False

    def run(self) -> Steps:
        """Run to the end that chance has chosen."""
        if not (yield from self.mark()):
            yield from self.unmark()
            return
        (fate,) = self.world.random.choices(list(FATES), list(FATES.values()))
        self.world.note(self.client.name, "writes", self.rows, "complete" if self.is_complete else "suspended", fate)
        if fate == "died before":
            return
        if fate == "rolled back":
            yield from pauses(self.world, 3)
            yield from self.unmark()
            return
        yield from self.commit(fate)

    def mark(self) -> Steps:
        """Mark, unless ``FRESHNESS`` is ``bounded``; return whether COMMIT is sent."""
        if self.world.is_bounded:
            return True
        self.marked_at = self.world.now
        failures = yield from self.client.run(self.client.versions.mark(self.records, self.token))
        self.is_complete = not failures and self.is_young()
        return self.is_complete or not self.world.raises

    def is_young(self) -> bool:
        """Return whether the marks may be relied on for a COMMIT that is sent now."""
        return self.world.now - self.marked_at < MARK_LIFE / 2

    def may_apply(self) -> bool:
        """Return whether the database may still apply the commit: by assumption, not after its marks' end."""
        return self.world.now < self.marked_at + MARK_LIFE - GRAIN

    def renew(self) -> Steps:
        """Prolong the marks while COMMIT runs."""
        sent = self.world.now
        if not (yield from self.client.run(self.client.versions.mark(self.records, self.token))):
            self.marked_at = sent

    def commit(self, fate: str) -> Steps:
        """Send COMMIT; the database applies it some time later, or not."""
        if fate == "unknown" and self.world.random.random() < 0.5:
            yield from self.lose_track()
            return
        yield from pauses(self.world, 4)
        if self.world.random.random() < 0.2 and not self.world.is_bounded:
            yield from self.renew()
            yield from pauses(self.world, 4)
        if not self.apply():
            yield from self.unmark()
        elif fate == "committed":
            yield from pauses(self.world, 4)
            yield from self.bump()
        elif fate == "unknown":
            yield from self.resign()

    def apply(self) -> bool:
        """Let the database apply the commit, if it still may."""
        if self.is_complete and not self.may_apply():
            return False
        self.world.commit(self.rows, is_promised=self.is_complete)
        self.world.note("COMMIT of", self.client.name, dict(self.world.rows), "promised", dict(self.world.floors))
        return True

    def lose_track(self) -> Steps:
        """Lose the link in COMMIT: the writer does what it does, and the database applies it later, or not."""
        yield from self.resign()
        yield from pauses(self.world, 6)
        if self.world.random.random() < 0.7:
            self.apply()

    def resign(self) -> Steps:
        """Do what a writer does that does not know whether its transaction was committed."""
        if not self.is_complete:
            yield from self.client.run(self.client.versions.bump(self.records, b""))

    def bump(self) -> Steps:
        """Give new versions; from then on this process reads nothing older."""
        wrote = {row: self.world.rows[row] for row in self.rows}
        yield from self.client.run(self.client.versions.bump(self.records, self.token))
        self.world.note(self.client.name, "has bumped", self.records)
        for row, value in wrote.items():
            self.client.floors[row] = max(self.client.floors[row], value)

    def unmark(self) -> Steps:
        """Take the marks off."""
        yield from self.client.run(self.client.versions.unmark(self.records, self.token))
