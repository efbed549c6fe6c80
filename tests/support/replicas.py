"""Processes that share replicated keys on nodes in memory; every round trip is counted."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterable
from typing import Any

from distcache_django.core import requests as r
from distcache_django.core.agreement import Agreement
from distcache_django.core.clock import Stamps
from distcache_django.core.counting import Counting, Own
from distcache_django.core.effects import Ask, Gather, Op, Raised, step
from distcache_django.core.fence import Fence, Standings
from distcache_django.core.locking import Locking
from distcache_django.core.record import VALUE, Record, node_tag, parse
from distcache_django.core.repair import Repair
from distcache_django.core.replicas import Limits, Replicas
from distcache_django.core.replicated import ReplicatedCoordinator
from distcache_django.core.slots import slot_of
from distcache_django.core.topology import NodeSpec, Topology
from distcache_django.exceptions import DistcacheError
from distcache_django.testing.memory import MemoryNode, MemoryNodes

NAMES = ("a", "b", "c")
LIMITS = Limits(deadline=0.25, drift=0.5)
QUARANTINE_MS = 5000
GRACE = LIMITS.grace_ms / 1000


class Process:
    """Be one process: its view of the nodes, its clock (``ahead`` of theirs by so many seconds), its Ops."""

    def __init__(
        self,
        nodes: MemoryNodes,
        *,
        read: int = 2,
        write: int = 2,
        factor: int = 3,
        ahead: float = 0.0,
        topology: bytes = b"",
        seed: int = 0,
    ) -> None:
        self.nodes = nodes
        self.ahead = ahead
        self._random = random.Random(f"{seed} {len(nodes.requests)} {id(self)}")
        self.topology = Topology.build({name: NodeSpec() for name in nodes.nodes}, replication_factor=factor)
        self.standings = Standings(
            topology or bytes.fromhex(self.topology.ring.digest)[:8],
            self.topology.node_names,
            generation=lambda name: nodes.generations[name],
            wall=lambda: nodes.now + self.ahead,
            random=self._random.randbytes,
            quarantine_ms=QUARANTINE_MS,
        )
        self.stamps = Stamps(self._random.randbytes(6), contextlib.nullcontext())
        self.replicas = Replicas(
            self.topology, self.standings, self.stamps, read=read, write=write, limits=LIMITS, down=lambda: nodes.down
        )
        self.agreement = Agreement(self.replicas, self._random.uniform)
        self.locking = Locking(self.replicas, self.agreement)
        self.own: dict[str, Own] = {}
        self.counting = Counting(self.replicas, self.agreement, lambda: self.own, self._random.randbytes)
        self.coordinator = ReplicatedCoordinator(self.replicas, self.agreement, self.counting)
        self.repair = Repair(self.replicas, lambda key: not key.startswith("dc:"))
        #: Round trips of the Op that ran last.
        self.trips = 0

    def __call__(self, op: Op[Any]) -> Any:
        """Run an Op."""
        self.trips = 0
        return self.nodes.run(self._counted(op))

    def failure(self, op: Op[Any]) -> Any:
        """Run an Op that fails and return its error."""
        try:
            found = self(op)
        except DistcacheError as error:
            return error
        raise AssertionError(f"it returned {found!r}")

    def get(self, key: str = "k") -> bytes | None:
        found: bytes | None = self(self.replicas.fetch(key))
        return found

    def set(self, value: r.WireValue = b"v", key: str = "k", ttl_ms: int | None = None) -> None:
        self(self.replicas.store(key, value, ttl_ms))

    def add(self, value: r.WireValue = b"v", key: str = "k", ttl_ms: int | None = None) -> bool:
        found: bool = self(self.coordinator.store_if(key, value, ttl_ms, "NX"))
        return found

    def incr(self, delta: int = 1, key: str = "k") -> int | None:
        found: int | None = self(self.counting.increase(key, delta))
        return found

    def recover(self, node: str) -> bool:
        found: bool = self(self.repair.recover(node))
        return found

    def replay(self, node: str) -> bool:
        found: bool = self(self.repair.replay(node))
        return found

    def _counted(self, op: Op[Any]) -> Op[Any]:
        def note(effect: Any) -> None:
            self.trips += isinstance(effect, Ask) or (isinstance(effect, Gather) and len(effect.asks) > 0)

        return _watched(op, note)


def _watched(op: Op[Any], note: Callable[[Any], None]) -> Op[Any]:
    """Pass on what an Op yields, having shown it to ``note``."""
    outcome: Any = None
    try:
        while True:
            effect = step(op, outcome)
            note(effect)
            try:
                outcome = yield effect
            except DistcacheError as error:
                outcome = Raised(error)
    except StopIteration as done:
        return done.value


def before(op: Op[Any], kind: type[r.Request], act: Callable[[], Any], number: int = 1) -> Op[Any]:
    """Run an Op, and ``act`` just before the ``number``-th time that it sends requests of a kind."""
    seen = 0

    def note(effect: Any) -> None:
        nonlocal seen
        asks = [effect] if isinstance(effect, Ask) else effect.asks if isinstance(effect, Gather) else ()
        if any(isinstance(ask.request, kind) for ask in asks):
            seen += 1
            if seen == number:
                act()

    return _watched(op, note)


def made(**options: Any) -> MemoryNodes:
    """Return three nodes that are empty."""
    return MemoryNodes(NAMES, **options)


def held(nodes: MemoryNodes, name: str, key: str = "k") -> Any:
    """Return the record that a node keeps, valid or not."""
    return parse(nodes.nodes[name].execute(r.Fetch(key)))


def valid(nodes: MemoryNodes, name: str, key: str = "k") -> Any:
    return parse(nodes.nodes[name].execute(r.Fetch(key)), fence(nodes, name).incarnation)


def payloads(nodes: MemoryNodes, key: str = "k") -> list[bytes | None]:
    """Return what each node keeps as a value."""
    return [record and record.payload for record in (held(nodes, name, key) for name in nodes.nodes)]


def fence(nodes: MemoryNodes, name: str) -> Fence:
    found = Fence.parse(nodes.nodes[name].execute(r.Fetch("dc:node")))
    assert found is not None
    return found


def behind(nodes: MemoryNodes) -> dict[str, set[str]]:
    """Return whom each node calls behind."""
    tags = {node_tag(name): name for name in nodes.nodes}
    return {name: {tags[tag] for tag in fence(nodes, name).behind} for name in nodes.nodes}


def marks(nodes: MemoryNodes, holder: str, node: str) -> set[str]:
    """Return the keys that a node has noted for another."""
    _, found, _ = nodes.nodes[holder].execute(r.Missed(node_tag(node), 0, 10_000))
    return {each.key for each in found}


def asked(nodes: MemoryNodes, *kinds: type[r.Request], since: int = 0) -> list[str]:
    """Return which nodes have been asked for something of these kinds."""
    return [name for name, request in nodes.requests[since:] if isinstance(request, kinds)]


def place(
    nodes: MemoryNodes, names: Iterable[str], payload: bytes, stamp: bytes, key: str = "k", **changes: Any
) -> None:
    """Have nodes keep a record that no others know of, as a writer does that ends in the middle."""
    record = Record(VALUE, stamp, payload=payload)._replace(**changes)
    for name in names:
        topology = fence(nodes, name).topology
        request = r.Put([r.PutItem(key, record.pack(), None, b"", slot_of(key))], topology, 2**52, 2**50)
        assert nodes.nodes[name].execute(request).outcome[0] in (b"S", b"="), name


def skew(nodes: MemoryNodes, name: str, seconds: float) -> None:
    """Have a node that is still empty be ahead of the others' time."""
    nodes.nodes[name] = MemoryNode(name, lambda: nodes.now + seconds)


def stamp_at(nodes: MemoryNodes, seconds: float = 0.0, actor: bytes = b"others") -> bytes:
    return round((nodes.now + seconds) * 1000).to_bytes(6) + bytes(2) + actor
