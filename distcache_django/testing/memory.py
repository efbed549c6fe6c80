"""Run Ops on nodes that are plain dicts, in virtual time: no server, no socket, no thread, no waiting.

The third way to run an Op unchanged, beside the blocking and the asyncio driver. A healthy node answers in no
time; what waits moves the clock:

==========  ===============================  ================================  ==========================
fault       a request                        costs                             the request itself
==========  ===============================  ================================  ==========================
``hang``    fails with ``NodeTimeout``       the time that there is for it     executed late, at ``mend``
``kill``    fails with ``NodeUnreachable``   nothing                           never executed
``refuse``  ``NodeRefused``, if it needs     nothing                           never executed
            memory
``demote``  ``NodeRefused``, if it writes    nothing                           never executed
==========  ===============================  ================================  ==========================

The first failure takes a node off the requests' way, as the health board of a process does; it is used
again after ``mend`` (or ``settle``, where the node itself is well), which first deletes what missed a write and
bumps the version records that missed it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any, TypeVar

from distcache_django.cluster.debts import Debts
from distcache_django.core import requests as r
from distcache_django.core.coordinator import REDIRECTED_TTL_MS
from distcache_django.core.effects import Ask, Gather, Load, Op, Owe, OweBumps, Pause, Raised, step
from distcache_django.core.freshness import RECORD_PREFIX, RECORD_TTL_MS
from distcache_django.exceptions import DistcacheError, NodeRefused, NodeTimeout, NodeUnreachable
from distcache_django.testing.memory_node import MemoryNode
from distcache_django.transport.health import OutOfTime, known_down, remember, report

__all__ = ["OUT_OF_MEMORY", "READ_ONLY", "MemoryNode", "MemoryNodes", "pay"]

T = TypeVar("T")
#: What a full server answers.
OUT_OF_MEMORY = "OOM command not allowed when used memory > 'maxmemory'."
#: What a server answers that follows another one.
READ_ONLY = "READONLY You can't write against a read only replica."
_GROWING = (
    *(r.Store, r.StoreIf, r.StoreMany, r.Increase, r.Acquire, r.Release),
    *(r.Register, r.Mint, r.Mark, r.Bump, r.Fill),
    *(r.Put, r.Prepare, r.Raise, r.Settle, r.Rise),
)
_WRITING = (*_GROWING, r.Remove, r.Expire, r.Deadline, r.Persist, r.Prolong, r.Void)


class _Fault(Enum):
    HUNG = "hung"
    DEAD = "dead"


class MemoryNodes:
    """Own nodes, their faults, one process's view of their health, and the clock; not for several threads.

    ``requests`` lists what has reached for a node, as (node, request), in order; a request that is not made
    because its node is known to be down is not in it. ``now`` is Unix time in seconds.
    """

    def __init__(self, names: Iterable[str], *, deadline: float = 0.25, now: float = 1_700_000_000.0) -> None:
        self.now = now
        self.deadline = deadline
        self.nodes = {name: MemoryNode(name, lambda: self.now) for name in names}
        self.requests: list[tuple[str, r.Request]] = []
        self.down: frozenset[str] = frozenset()
        self.returned: dict[str, float] = {}
        self.debts = {name: Debts() for name in self.nodes}
        #: Changes when a link reaches another run of a node, as ``Endpoint.generation`` does.
        self.generations = dict.fromkeys(self.nodes, 0)
        self._reached: dict[str, int] = {}
        self._faults: dict[str, _Fault] = {}
        self._refusals: dict[str, tuple[str, tuple[type[r.Request], ...]]] = {}
        self._late: dict[str, list[r.Request]] = {name: [] for name in self.nodes}
        self._expires = self._limit = now

    # ------------------------------------------------------------------ time and faults

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def hang(self, name: str) -> None:
        """Freeze a node: it takes requests in and answers none; ``mend`` lets it run on and execute them."""
        self._faults[name] = _Fault.HUNG

    def kill(self, name: str) -> None:
        """End a node: it refuses connections, and what it had taken in is lost."""
        self._faults[name] = _Fault.DEAD
        self._late[name].clear()

    def refuse(self, name: str, message: str = OUT_OF_MEMORY) -> None:
        """Let a node answer every request that needs memory with an error, until ``mend``."""
        self._refusals[name] = message, _GROWING

    def demote(self, name: str) -> None:
        """Let a node answer every write, deletions too, with an error, as a read-only replica does, until ``mend``."""
        self._refusals[name] = READ_ONLY, _WRITING

    def mend(self, name: str, *, empty: bool = False) -> None:
        """Bring a node back, having executed what it had taken in, or ``empty``, and use it again.

        What was killed or is ``empty`` is another process.
        """
        node = self.nodes[name]
        self._refusals.pop(name, None)
        if self._faults.pop(name, None) is _Fault.DEAD or empty:
            node.restart(None if empty else node)
        late, self._late[name] = self._late[name], []
        for request in late if not empty else ():
            try:
                self.nodes[name].execute(request)
            except DistcacheError:
                continue  # nobody is left to be told
        self.settle(name)

    def settle(self, name: str) -> None:
        """Pay what is owed to a node and use it again, as good probes do; nothing while it is away."""
        if name in self._faults or self._is_refused(name, r.Remove):
            return
        pay(self.nodes[name], self.debts[name])
        if name in self.down:
            self.down -= {name}
            self.returned[name] = self.now

    def may_redirect(self, name: str) -> bool:
        """Return whether others may serve a node's keys, as ``Cluster.may_redirect`` does."""
        returned = self.returned.get(name)
        return returned is None or self.now - returned > REDIRECTED_TTL_MS / 1000

    # ------------------------------------------------------------------ what a driver tells about health

    def failed(self, node: str, reason: str, owed: Sequence[str] = ()) -> None:
        """Take a node off the requests' way; ``owed`` are keys that missed a write there."""
        self.owe(node, owed)

    def owe(self, node: str, keys: Iterable[Any], patterns: Iterable[str] = ()) -> None:
        """Note keys that missed a write; the node is not used before they are deleted."""
        self.debts[node].add(keys, patterns, caches=("*",))
        self.down |= {node}

    def owe_bumps(self, node: str, keys: Iterable[str]) -> None:
        """Note version records that missed a bump; the node is not used before they have it."""
        self.debts[node].add_bumps(keys)
        self.down |= {node}

    # ------------------------------------------------------------------ the driver

    def run(self, op: Op[T]) -> T:
        """Run an Op to its end and return its result."""
        self._expires = self.now + self.deadline
        try:
            effect = op.send(None)
            while True:
                effect = step(op, self._perform(effect))
        except StopIteration as done:
            result: T = done.value
            return result

    def _perform(self, effect: Any) -> Any:
        late = self.now >= self._expires
        self._limit = self._expires
        if isinstance(effect, Ask):
            reply = self._ask(effect, late)
            return Raised(reply) if isinstance(reply, DistcacheError) else reply
        if isinstance(effect, Gather):
            self._limit = self.now + (self._expires - self.now) * effect.patience
            return [self._ask(ask, late) for ask in effect.asks]
        if isinstance(effect, (Owe, OweBumps)):
            remember(self, effect)
        elif isinstance(effect, Pause):
            self.advance(effect.seconds)
            self._expires = self.now + self.deadline
        elif isinstance(effect, Load):
            return self._load(effect)
        return None

    def _load(self, effect: Load) -> Any:
        left = self._expires - self.now
        try:
            return effect.function()
        except Exception as error:  # noqa: BLE001 - it is the Op's to pass on
            return Raised(error)
        finally:
            self._expires = self.now + left

    def _ask(self, ask: Ask, late: bool) -> Any:
        """Return the reply to one request, or the error it failed with; there is no time for it when it is ``late``."""
        node, request = ask.node, ask.request
        if node in self.down:
            return known_down(self, node, request)
        if late:
            return OutOfTime(node, "no time left")
        self.requests.append((node, request))
        try:
            return self._reach(node, request)
        except DistcacheError as error:
            report(self, request, error)
            return error

    def _reach(self, node: str, request: r.Request) -> Any:
        fault = self._faults.get(node)
        if fault is _Fault.DEAD:
            raise NodeUnreachable(node, "connection refused")
        if fault is _Fault.HUNG:
            self._late[node].append(request)
            self.now = max(self.now, self._limit)
            raise NodeTimeout(node, f"no answer within {self.deadline:g} s")
        if self._reached.get(node) != self.nodes[node].boots:
            self._reached[node] = self.nodes[node].boots
            self.generations[node] += 1
        if self._is_refused(node, type(request)):
            raise NodeRefused(node, self._refusals[node][0])
        return self.nodes[node].execute(request)

    def _is_refused(self, node: str, kind: type[r.Request]) -> bool:
        return node in self._refusals and issubclass(kind, self._refusals[node][1])


def pay(node: MemoryNode, debts: Debts) -> None:
    """Pay the debts to a node, as a process does before it uses it again."""
    keys, patterns = debts.take()
    node.execute(r.Remove(keys))
    for pattern in patterns:
        _, found = node.execute(r.Scan(0, pattern, len(node.keys())))
        node.execute(r.Remove(found))
    bumps, is_all = debts.take_bumps()
    if is_all:
        _, found = node.execute(r.Scan(0, f"{RECORD_PREFIX}*", len(node.keys())))
        bumps = found
    node.execute(r.Bump(bumps, RECORD_TTL_MS))
