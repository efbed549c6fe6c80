"""What processes do to keys, and how that is judged."""

from typing import Any, ClassVar

from distcache_django.core import requests as r
from tests.replication.ledger import ACKNOWLEDGED, DOUBTFUL, Call, Ledger
from tests.replication.process import Thread
from tests.replication.registers import Register
from tests.replication.world import Steps, World


class Workload:
    """Choose calls on a few keys."""

    #: The methods that make a call, and how often each is chosen.
    calls: ClassVar[dict[str, float]] = {}

    def __init__(self, world: World, ledger: Ledger) -> None:
        self.world = world
        self.ledger = ledger
        self.keys = ["k"] if world.random.random() < 0.7 else ["k", "l"]
        self.weights = dict(self.calls)
        self.lives: tuple[float | None, ...] = (None,)
        self._values = 0

    def step(self, thread: Thread) -> Steps:
        """Make one call."""
        (name,) = self.world.random.choices(list(self.weights), list(self.weights.values()))
        steps: Steps = getattr(self, name)(thread)
        return steps

    def finish(self, thread: Thread) -> Steps:
        """Read all, when all is well again; return whether all could be read."""
        good = True
        for key in self.keys:
            good = (yield from self.get(thread, key)).is_acknowledged and good
        return good

    def check(self) -> None:
        """Raise ``Broken`` for a promise that was not kept."""
        self.ledger.forgive()
        for key, calls in self.ledger.by_key():
            Register(key, calls, self.ledger.amnesties).check()

    def value(self) -> Any:
        """Return a value that nobody else writes."""
        self._values += 1
        return b"%d" % self._values

    def pick(self) -> str:
        return self.world.random.choice(self.keys)

    def life(self) -> float | None:
        return self.world.random.choice(self.lives)

    # ------------------------------------------------------------------ calls

    def get(self, thread: Thread, key: str = "") -> Steps:
        key = key or self.pick()
        return (yield from self.ledger.call(thread, "get", key, lambda: thread.cache.fetch(key)))

    def set(self, thread: Thread) -> Steps:
        key, value, life = self.pick(), self.value(), self.life()
        yield from self.ledger.call(thread, "set", key, lambda: thread.cache.store(key, value, _ms(life)), value, life)

    def add(self, thread: Thread) -> Steps:
        key, value, life = self.pick(), self.value(), self.life()
        yield from self.ledger.call(
            thread, "add", key, lambda: thread.cache.store_if(key, value, _ms(life), "NX"), value, life
        )

    def replace(self, thread: Thread) -> Steps:
        key, value, life = self.pick(), self.value(), self.life()
        yield from self.ledger.call(
            thread, "replace", key, lambda: thread.cache.store_if(key, value, _ms(life), "XX"), value, life
        )

    def delete(self, thread: Thread) -> Steps:
        key = self.pick()
        yield from self.ledger.call(thread, "delete", key, lambda: thread.cache.remove(key))

    def touch(self, thread: Thread) -> Steps:
        key, life = self.pick(), self.world.random.choice((None, 0.7, 3.0))
        request = r.Persist(key) if life is None else r.Expire(key, round(life * 1000))
        call: Call = yield from self.ledger.call(
            thread, "touch", key, lambda: thread.cache.ask_owner(key, request), None, life
        )
        if isinstance(call.outcome, tuple):
            call.outcome = call.outcome[1]


class Registers(Workload):
    """Set, delete and read, one key or several at once."""

    calls: ClassVar[dict[str, float]] = {"get": 10.0, "set": 6.0, "delete": 2.0}

    def __init__(self, world: World, ledger: Ledger) -> None:
        super().__init__(world, ledger)
        if world.random.random() < 0.25:
            self.weights |= {"get_many": 3.0, "set_many": 3.0, "delete_many": 1.0, "clear": 0.5}
        self.lives = world.random.choice([(None,), (None, 0.7, 2.0), (None, 0.3, 1.0)])

    def get_many(self, thread: Thread) -> Steps:
        calls = [self.ledger.open(thread, "get", key) for key in self.keys]
        pieces, failures = yield from thread.process.run(thread.cache.fetch_many(self.keys))
        ((_, _, found),) = pieces
        for call, value in zip(calls, found, strict=True):
            self.ledger.close(call, DOUBTFUL if failures and value is None else ACKNOWLEDGED, value)

    def set_many(self, thread: Thread) -> Steps:
        life = self.life()
        values = [self.value() for _ in self.keys]
        calls = [self.ledger.open(thread, "set", k, v, life) for k, v in zip(self.keys, values, strict=True)]
        left, _ = yield from thread.process.run(thread.cache.store_many(self.keys, values, _ms(life)))
        for index, call in enumerate(calls):
            self.ledger.close(call, DOUBTFUL if index in left else ACKNOWLEDGED)

    def delete_many(self, thread: Thread) -> Steps:
        calls = [self.ledger.open(thread, "delete", key) for key in self.keys]
        left, _ = yield from thread.process.run(thread.cache.remove_many(self.keys))
        for index, call in enumerate(calls):
            self.ledger.close(call, DOUBTFUL if index in left else ACKNOWLEDGED)

    def clear(self, thread: Thread) -> Steps:
        """Delete whatever there is."""
        calls = [self.ledger.open(thread, "delete", key) for key in self.keys]
        removed, failures = yield from thread.process.run(thread.cache.remove_matching("[kl]"))
        # What reads as nothing is left alone, and may be a deletion that is in doubt itself.
        is_certain = removed == len(calls) and not failures
        for call in calls:
            self.ledger.close(call, ACKNOWLEDGED if is_certain else DOUBTFUL)


class Clearings(Registers):
    """Clear often."""

    calls: ClassVar[dict[str, float]] = {"get": 4.0, "set": 4.0, "clear": 2.0}


class Deletions(Workload):
    """Set and delete about as often."""

    calls: ClassVar[dict[str, float]] = {"get": 4.0, "set": 3.0, "delete": 3.0}


class Touches(Workload):
    """Give few values other ends, while they are read and written."""

    calls: ClassVar[dict[str, float]] = {"get": 8.0, "touch": 6.0, "set": 2.0, "delete": 0.3}

    def __init__(self, world: World, ledger: Ledger) -> None:
        super().__init__(world, ledger)
        self.lives = (None, 0.7, 2.0)


class Additions(Workload):
    """Add, replace and delete."""

    calls: ClassVar[dict[str, float]] = {"get": 4.0, "add": 8.0, "delete": 1.5}

    def __init__(self, world: World, ledger: Ledger) -> None:
        super().__init__(world, ledger)
        if world.random.random() < 0.3:
            self.weights |= {"replace": 2.0, "set": 2.0}
        if world.random.random() < 0.3:
            del self.weights["delete"]
        self.lives = world.random.choice([(None,), (None,), (None, 0.7, 2.0)])


def _ms(life: float | None) -> int | None:
    return None if life is None else round(life * 1000)
