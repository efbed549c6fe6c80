"""A world in virtual time: nodes in memory, a database of counters, processes with their own view of the nodes.

Everything that happens is a step of a generator, and somebody else may step in between: before a request reaches a
node, before its reply reaches the process, before and after the database is asked. The value of a row is the number of
commits that the database has applied to it, so a value is older than a commit exactly if it is smaller.

What is promised is kept as *floors*: the least value of a row that a hit may hold. A commit raises the floor when the
database applies it, if its marks were complete. If they were not (``ON_MARK_FAILURE="proceed"``), or there are none
(``bounded``), P1 is suspended until a bump has been executed where the row's record is: then it raises the floor. The
process that wrote has its own floor: it never reads older than what its own bumps, delivered or owed, were for.
"""

from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from random import Random
from typing import Any

from distcache_django.cluster.debts import Debts
from distcache_django.core import requests as r
from distcache_django.core.effects import Ask, Gather, Op, OweBumps, Raised, step
from distcache_django.core.freshness import RECORD_PREFIX, Versions
from distcache_django.exceptions import DistcacheError, NodeRefused, NodeTimeout, NodeUnreachable, TransportError
from distcache_django.testing.memory import OUT_OF_MEMORY, pay
from distcache_django.testing.memory_node import MemoryNode
from distcache_django.testing.memory_records import incarnation
from distcache_django.transport.health import known_down, remember, report

#: Seconds that a mark lives, and a quarantine.
MARK_LIFE = 5.0
#: Milliseconds are counted in whole ones: what happens this long before a mark's end happens before it.
GRAIN = 0.002
NODES = ("a", "b")
ROWS = ("0", "1")
#: Where each record and each answer is: answers beside their records, and away from them.
OWNERS = {f"{RECORD_PREFIX}0": "a", f"{RECORD_PREFIX}1": "b", "k:x": "a", "k:y": "b", "k:z": "a"}
ANSWERS = {"k:x": ("0",), "k:y": ("0", "1"), "k:z": ("1",)}

#: What a task does between two scheduling points.
Steps = Generator[None, None, Any]


def record_of(row: str) -> str:
    return f"{RECORD_PREFIX}{row}"


class StaleHit(AssertionError):
    """A hit was older than what had been committed when the read began."""


class World:
    """Own the nodes, the database, the processes and the time."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now = 1_700_000_000.0
        self.nodes = {name: MemoryNode(name, lambda: self.now) for name in NODES}
        self.snapshots: dict[str, MemoryNode] = {}
        self.dead: set[str] = set()
        self.full: set[str] = set()
        #: Requests that nobody waits for any more, and that their nodes have still to execute.
        self.late: list[tuple[str, r.Request]] = []
        self.rows = dict.fromkeys(ROWS, 0)
        self.previous = dict(self.rows)
        self.floors = dict(self.rows)
        self.loss = 0.0
        self.raises = False
        self.is_bounded = False
        self.hits = 0
        self.log: list[tuple[float, tuple[object, ...]]] = []
        self.processes = 0
        self.clients = [Client(self) for _ in range(3)]
        for node in self.nodes.values():
            node.execute(r.Register(self.random.randbytes(8), 0))

    def note(self, *words: object) -> None:
        """Write down what happened, for the reader of a failure."""
        self.log.append((self.now, words))

    def story(self, last: int = 60) -> str:
        """Return what happened last."""
        return "\n".join(
            f"{now - 1_700_000_000.0:12.3f} {' '.join(map(described, words))}" for now, words in self.log[-last:]
        )

    # ------------------------------------------------------------------ the database

    def commit(self, rows: Iterable[str], *, is_promised: bool) -> None:
        """Apply a transaction that has written these rows."""
        self.previous = dict(self.rows)
        for row in rows:
            self.rows[row] += 1
            if is_promised:
                self.floors[row] = self.rows[row]

    def load(self, rows: Iterable[str]) -> bytes:
        """Read rows in one statement."""
        return b",".join(b"%d" % self.rows[row] for row in rows)

    def check(self, client: "Client", answer: str, payload: bytes, floors: dict[str, int]) -> None:
        """Compare a hit with what was promised when the read began."""
        self.hits += 1
        found = dict(zip(ANSWERS[answer], map(int, payload.split(b",")), strict=True))
        stale = {row: (value, floors[row]) for row, value in found.items() if value < floors[row]}
        if stale:
            raise StaleHit(f"{client.name} read {answer} as {found}, promised was at least {floors}")

    # ------------------------------------------------------------------ the nodes

    def execute(self, name: str, request: r.Request) -> Any:
        """Let a node execute a request."""
        node = self.nodes[name]
        if name in self.full and needs_memory(node, request):
            raise NodeRefused(name, OUT_OF_MEMORY)
        reply = node.execute(request)
        if type(request) is r.Bump:
            self.deliver(request.keys)
        return reply

    def deliver(self, keys: Collection[str]) -> None:
        """Promise what has been committed by now: these records have just been bumped where they are."""
        for row in ROWS:
            if record_of(row) in keys:
                self.floors[row] = self.rows[row]

    def execute_late(self) -> None:
        """Let one of the requests that nobody waits for be executed."""
        name, request = self.late.pop(self.random.randrange(len(self.late)))
        if name not in self.dead:
            self.note("late at", name, request)
            try:
                self.execute(name, request)
            except DistcacheError:
                return

    def restart(self, name: str, memory: MemoryNode | None) -> None:
        """Let a node be another process, with old data or none; what it had taken in is lost."""
        self.nodes[name].restart(memory)
        self.late = [entry for entry in self.late if entry[0] != name]


class Client:
    """Be a process: what it knows of the nodes, and the driver of its Ops."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.processes += 1
        self.name = f"p{world.processes}"
        self.down: frozenset[str] = frozenset()
        self.debts = {name: Debts() for name in NODES}
        self.cut: set[str] = set()
        self.floors = dict.fromkeys(ROWS, 0)
        self.generations = dict.fromkeys(NODES, 0)
        self._runs: dict[str, int] = {}
        skew = world.random.choice([0.0, 0.0, -3.0, 3.0])
        self.versions = Versions(
            OWNERS.__getitem__,
            lambda name: self.generations[name],
            clock=lambda: world.now - 1_600_000_000.0,
            wall=lambda: world.now + skew,
            random=world.random.randbytes,
            mark_ms=round(MARK_LIFE * 1000),
        )

    def promised(self) -> dict[str, int]:
        """Return the least values that a read that begins now may find in a hit."""
        return {row: max(self.floors[row], self.world.floors[row]) for row in ROWS}

    # ------------------------------------------------------------------ what a driver tells about health

    def failed(self, node: str, reason: str, owed: Sequence[str] = ()) -> None:
        self.debts[node].add(owed)
        self.down |= {node}

    def owe(self, node: str, keys: Iterable[Any], patterns: Iterable[str] = ()) -> None:
        self.debts[node].add(keys, patterns)
        self.down |= {node}

    def owe_bumps(self, node: str, keys: Iterable[str]) -> None:
        self.debts[node].add_bumps(keys)
        self.down |= {node}

    def can_reach(self, node: str) -> bool:
        return node not in self.cut and node not in self.world.dead

    def settle(self, node: str) -> None:
        """Pay what is owed to a node and use it again, as good probes do."""
        if node in self.down and self.can_reach(node) and node not in self.world.full:
            self._note_run(node)
            bumps, is_all = self.debts[node].take_bumps()
            self.world.note(self.name, "settles", node, bumps, is_all)
            self.debts[node].add_bumps(bumps)
            if is_all:
                self.debts[node].add_all_bumps()
            pay(self.world.nodes[node], self.debts[node])
            at_node = [name for name, owner in OWNERS.items() if owner == node]
            self.world.deliver(at_node if is_all else bumps)
            self.down -= {node}

    # ------------------------------------------------------------------ the driver

    def run(self, op: Op[Any]) -> Steps:
        """Run an Op to its end, one step at a time, and return its result."""
        try:
            effect = op.send(None)
            while True:
                effect = step(op, (yield from self._perform(effect)))
        except StopIteration as done:
            return done.value

    def _perform(self, effect: Any) -> Steps:
        if isinstance(effect, Ask):
            reply = yield from self._ask(effect)
            return Raised(reply) if isinstance(reply, TransportError) else reply
        if isinstance(effect, Gather):
            replies: list[Any] = [None] * len(effect.asks)
            order = list(range(len(replies)))
            self.world.random.shuffle(order)
            for index in order:
                replies[index] = yield from self._ask(effect.asks[index])
            return replies
        assert isinstance(effect, OweBumps)
        remember(self, effect)
        return None

    def _ask(self, ask: Ask) -> Steps:
        """Return the reply to one request, or the error it failed with."""
        if ask.node in self.down:
            return known_down(self, ask.node, ask.request)
        yield
        try:
            reply = self._reach(ask.node, ask.request)
        except TransportError as error:
            self.world.note(self.name, "->", ask.node, ask.request, error.reason)
            report(self, ask.request, error)
            return error
        self.world.note(self.name, "->", ask.node, ask.request, reply)
        yield
        return reply

    def _reach(self, node: str, request: r.Request) -> Any:
        if not self.can_reach(node):
            raise NodeUnreachable(node, "connection refused")
        self._note_run(node)
        if self.world.random.random() < self.world.loss:
            fate = self.world.random.choice(["lost", "late", "answer lost"])
            if fate == "late":
                self.world.late.append((node, request))
            elif fate == "answer lost":
                self.world.execute(node, request)
            raise NodeTimeout(node, fate)
        return self.world.execute(node, request)

    def _note_run(self, node: str) -> None:
        """Notice a server that was restarted, as a new link does: all older ones have ended."""
        boots = self.world.nodes[node].boots
        if self._runs.get(node) != boots:
            self._runs[node] = boots
            self.generations[node] += 1


def needs_memory(node: MemoryNode, request: r.Request) -> bool:
    """Return whether a full node refuses a request: a script that writes nothing is not refused."""
    if isinstance(request, (r.Mint, r.Mark)):
        return incarnation(node) is not None
    return isinstance(request, (r.Register, r.Bump, r.Fill, r.Store))


def described(word: object) -> str:
    """Return a word of the log as text."""
    if not isinstance(word, r.Request):
        return str(word)
    names = [name for cls in type(word).__mro__ for name in getattr(cls, "__slots__", ())]
    fields = [f"{name}={getattr(word, name)}" for name in names if not name.endswith("_ms")]
    return f"{type(word).__name__}({', '.join(fields)})"


def pauses(world: World, most: int) -> Steps:
    """Let others step in, up to ``most`` times."""
    for _ in range(world.random.randrange(most + 1)):
        yield


Choice = Callable[[World], None]
Rows = Collection[str]
