"""A world in virtual time for replicated keys: nodes in memory, processes with links, and what comes between them.

Everything that happens is an event at a time of its own: a request is sent, reaches its node, is executed, its reply
arrives, somebody's patience ends. How long a message travels is chance, so others step in between any two events.

A node has a clock of its own and may be paused, with requests waiting in its buffers, those of closed links among
them; it may be dead, and come back as another process with what memory it then has. A process may be paused too, or
die. Between a process and a node a link may be cut, each apart from all others.
"""

from collections.abc import Callable, Generator, Iterable
from functools import lru_cache
from heapq import heappop, heappush
from random import Random
from typing import Any

from distcache_django.core import requests as r
from distcache_django.core.fence import UP, Fence
from distcache_django.core.record import node_tag
from distcache_django.core.topology import NodeSpec, Topology
from distcache_django.exceptions import DistcacheError
from distcache_django.testing.memory_node import MemoryNode
from distcache_django.testing.memory_records import FENCE, incarnation

#: When all begins, Unix seconds.
START = 1_700_000_000.0
#: Seconds of an operation, and by how much clocks may differ.
DEADLINE = 0.25
DRIFT = 0.3
NAMES = ("a", "b", "c", "d", "e")

#: What a task does between two of its waits: for seconds, or for replies.
Steps = Generator[Any, Any, Any]


class Broken(AssertionError):
    """A promise was broken."""


class Stuck(AssertionError):
    """Something did not come to its end when all was well again."""


@lru_cache
def topology_of(nodes: int, replication_factor: int) -> Topology:
    """Return how keys are placed on the first ``nodes`` names."""
    return Topology.build(
        {name: NodeSpec() for name in NAMES[:nodes]}, replication_factor=replication_factor, virtual_nodes=16
    )


class Machine:
    """Be a node and what is before it: its clock, its buffers."""

    def __init__(self, world: "World", name: str, skew: float) -> None:
        self.name = name
        self.skew = skew
        self.node = MemoryNode(name, lambda: world.now + self.skew)
        self.is_dead = False
        self.is_paused = False
        #: What has arrived and not been executed.
        self.inbox: list[Callable[[], None]] = []
        #: Saved at some time; a restart may find it.
        self.snapshot: MemoryNode | None = None

    @property
    def is_well(self) -> bool:
        return not self.is_dead and not self.is_paused

    @property
    def fence(self) -> Fence | None:
        """Return what the node says of itself, ``None`` where it has to be registered first."""
        raw = self.node.text(FENCE)
        fence = Fence.parse(raw)
        is_known = raw is not None and raw[9:49] == self.node.run_id and incarnation(self.node) is not None
        return fence if is_known else None

    def resume(self) -> None:
        """Go on, with all that has arrived meanwhile."""
        self.is_paused = False
        waiting, self.inbox = self.inbox, []
        for execute in waiting:
            execute()

    def die(self) -> None:
        """End all links, with what is in them."""
        self.is_dead, self.is_paused = True, False
        self.inbox.clear()

    def restart(self, memory: MemoryNode | None) -> None:
        """Be another process, with what memory holds."""
        self.is_dead, self.is_paused = False, False
        self.inbox.clear()
        self.node.restart(memory)


class Task:
    """Be something that a process does, one wait after the other."""

    __slots__ = ("is_done", "owner", "steps")

    def __init__(self, owner: Any, steps: Steps) -> None:
        self.owner = owner
        self.steps = steps
        self.is_done = False


class World:
    """Own the time, the nodes and the tasks."""

    def __init__(
        self, seed: int, *, nodes: int = 3, replication_factor: int = 3, write: int = 2, read: int = 2
    ) -> None:
        self.random = Random(seed)
        self.now = START
        self.topology = topology_of(nodes, replication_factor)
        self.write = write
        self.read = read
        self.machines = {name: Machine(self, name, 0.0) for name in NAMES[:nodes]}
        self.processes: list[Any] = []
        #: Requests beyond their senders' patience, whose links are cut: executed when these are mended, or never.
        self.stranded: list[tuple[Machine, Callable[[], None]]] = []
        self.cuts: set[tuple[Any, str]] = set()
        self.loss = 0.0
        #: How many nodes have lost their memories since all were whole; at first, all have to be so once.
        self.losses = write - 1
        #: What happens once something has been stored.
        self.trap: Callable[[World, Any, Machine], None] | None = None
        #: How long messages travel: each of these is drawn as often.
        self.delays: tuple[float, ...] = (0.0005, 0.001, 0.001, 0.002)
        self.log: list[tuple[float, tuple[object, ...]]] = []
        self._queue: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._serial = 0

    # ------------------------------------------------------------------ what happened

    def note(self, *words: object) -> None:
        """Write down what happened, for the reader of a failure."""
        self.log.append((self.now, words))

    def story(self, last: int = 60) -> str:
        """Return what happened last."""
        return "\n".join(f"{now - START:9.4f} {' '.join(map(described, words))}" for now, words in self.log[-last:])

    # ------------------------------------------------------------------ time

    def at(self, delay: float, function: Callable[..., None], *arguments: Any) -> None:
        """Do something later."""
        self._serial += 1
        heappush(self._queue, (self.now + delay, self._serial, function, arguments))

    def travel(self) -> float:
        """Return how long a message travels."""
        return self.random.choice(self.delays) * (0.5 + self.random.random())

    def run(self, until: float) -> None:
        """Let happen what happens until then."""
        queue = self._queue
        while queue and queue[0][0] <= until:
            self.now, _, function, arguments = heappop(queue)
            function(*arguments)
        self.now = until

    def begin(self, owner: Any, steps: Steps, delay: float = 0.0) -> Task:
        """Let a process do something."""
        task = Task(owner, steps)
        self.at(delay, self.go_on, task)
        return task

    def go_on(self, task: Task, outcome: Any = None) -> None:
        """Let a task make its next step, as soon as its process runs."""
        owner = task.owner
        if owner.is_dead or task.is_done:
            return
        if owner.paused_until > self.now:
            self.at(owner.paused_until - self.now, self.go_on, task, outcome)
            return
        try:
            wait = task.steps.send(outcome)
        except StopIteration:
            task.is_done = True
            return
        if isinstance(wait, (int, float)):
            self.at(wait, self.go_on, task)
        else:
            wait.begin(task)

    # ------------------------------------------------------------------ nodes

    def is_cut(self, process: Any, node: str) -> bool:
        return (process, node) in self.cuts

    def mend_cuts(self, chosen: Iterable[tuple[Any, str]]) -> None:
        """Mend links; what was sent before may still arrive."""
        self.cuts.difference_update(chosen)
        stranded, self.stranded = self.stranded, []
        for machine, arrive in stranded:
            if self.random.random() < 0.5:
                self.at(self.travel(), arrive)
            else:
                self.stranded.append((machine, arrive))

    def execute(self, machine: Machine, request: r.Request) -> Any:
        """Let a node execute a request and return its reply, an error too."""
        try:
            return machine.node.execute(request)
        except DistcacheError as error:
            return error

    def is_whole(self) -> bool:
        """Return whether every node lives, votes, and has all that it should."""
        fences = [machine.fence for machine in self.machines.values() if not machine.is_dead]
        return len(fences) == len(self.machines) and all(
            fence is not None and fence.state == UP and not fence.behind for fence in fences
        )

    def take_memory(self) -> bool:
        """Return whether a node may lose its memory now: ``write - 1`` may between two times when all are whole."""
        if self.is_whole():
            self.losses = 0
        may = self.losses < self.write - 1
        self.losses += may
        return may


def described(word: object) -> str:
    """Return a word of the log as text."""
    if isinstance(word, r.Request):
        names = [name for cls in type(word).__mro__ for name in getattr(cls, "__slots__", ())]
        fields = [f"{name}={short(getattr(word, name))}" for name in names if name not in _DULL]
        return f"{type(word).__name__}({', '.join(fields)})"
    return short(word)


_TAGS = {node_tag(name): name for name in NAMES}
_DULL = {"topology", "drift_ms", "grace_ms", "missed_bound"}


def short(value: object) -> str:
    """Return a value as a reader needs it: stamps and tags in hex."""
    if isinstance(value, bytes):
        return _short_bytes(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return f"{type(value).__name__}({', '.join(map(short, value))})"
    if isinstance(value, (tuple, list, set, frozenset)):
        return f"[{', '.join(map(short, value))}]"
    return str(value)


def _short_bytes(value: bytes) -> str:
    if len(value) == 4 and value in _TAGS:
        return f"tag of {_TAGS[value]}"
    if len(value) >= 66 and value[:1] == b"2":
        behind = ", ".join(_TAGS.get(value[at : at + 4], "?") for at in range(66, len(value), 4))
        return f"<{value[1:5].hex()} {value[57:58].decode()} behind {behind or '-'}>"
    if len(value) >= 36 and value[:1] == b"\x10":
        ends = int.from_bytes(value[16:24])
        ended = f"ends {ends / 1000 - START:.3f}" if ends else "never ends"
        return f"<{value[1:2].decode()} {_stamp(value[2:16])} {_payload(value[36:])} {ended} of {value[32:36].hex()}>"
    if len(value) == 14:
        return _stamp(value)
    if len(value) == 15:
        return f"{value[:1].decode(errors='replace')} {_stamp(value[1:])}"
    return repr(value) if value.isascii() else value.hex()


def _payload(value: bytes) -> str:
    return repr(value) if value.isascii() else value.hex()


def _stamp(value: bytes) -> str:
    ms = int.from_bytes(value[:6]) / 1000 - START if any(value) else 0.0
    return f"{ms:.3f}.{int.from_bytes(value[6:8])}@{value[8:10].hex()}"
