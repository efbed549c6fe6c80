"""Place 16384 slots on named nodes by consistent hashing, evenly and with the least movement.

Theory: `distcache_django.core.slots`. Invariants of a `HashRing`:

- It is a value: nothing changes it, and the order in which nodes were given does not matter.
- A node is its name. Addresses and passwords are not part of it and move no key.
- A new ring gives every node its share of the slots by weight, rounded down or up.
- `add_node` moves slots to the new node only, `remove_node` moves those of the lost node only,
  and as many as the node's share, off by less than one. They start from the present placement,
  so a ring that has changed may differ from a new one over the same nodes. With equal weights
  it stays as even as a new one; with uneven weights rounding may leave a node two slots off.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from types import MappingProxyType

import mmh3

from distcache_django.core import slots
from distcache_django.core.slots import SLOT_COUNT, slot_of

DEFAULT_VIRTUAL_NODES = 160

# Beyond this a ring takes seconds to build and is no more even for it.
MAX_VIRTUAL_NODES = 1 << 20


@dataclass(frozen=True, slots=True)
class MovementPlan:
    """List the slots that change hands between two rings, as (slot, source, target)."""

    moves: tuple[tuple[int, str, str], ...]

    @property
    def fraction(self) -> float:
        """Return the share of all slots that move, from 0 to 1."""
        return len(self.moves) / SLOT_COUNT


@dataclass(frozen=True, slots=True, init=False, repr=False)
class HashRing:
    """Say which nodes hold a key: an immutable placement of all slots on named nodes.

    ``nodes`` are names, each of weight 1, or a mapping of names to weights; ``zones`` names the
    failure domain of some or all of them. Raises ValueError for what cannot be placed. Building
    costs milliseconds, looking up a key one hash and one index. Threads may share a ring.
    """

    nodes: tuple[str, ...]
    owners: tuple[str, ...]
    virtual_nodes: int
    _weights: Mapping[str, float] = field(hash=False)
    _zones: Mapping[str, str] = field(hash=False)
    _preference_lists: tuple[tuple[str, ...], ...] | None = field(compare=False)

    def __init__(
        self,
        nodes: Iterable[str] | Mapping[str, float],
        *,
        virtual_nodes: int = DEFAULT_VIRTUAL_NODES,
        zones: Mapping[str, str] | None = None,
    ) -> None:
        weights = _checked_weights(nodes)
        self._set(weights, _checked_zones(zones or {}, weights), virtual_nodes)
        placed = slots.fill(self._ring_orders(), slots.quotas(weights))
        self._place(placed)

    @property
    def weights(self) -> Mapping[str, float]:
        """Return the weight of each node."""
        return MappingProxyType(self._weights)

    @property
    def zones(self) -> Mapping[str, str]:
        """Return the zone of each node that has one."""
        return MappingProxyType(self._zones)

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the owner of each slot, in slot order, each followed by a newline."""
        return hashlib.sha256("".join(f"{name}\n" for name in self.owners).encode()).hexdigest()

    @property
    def preference_lists(self) -> tuple[tuple[str, ...], ...]:
        """Return for each slot all nodes, the owner first; see `preference_list`.

        Made at first use: milliseconds for a few nodes, a tenth of a second and 14 MB for a hundred.
        """
        lists = self._preference_lists
        if lists is None:
            # Two threads may both make it; they make the same.
            lists = self.replica_lists(len(self.nodes))
            object.__setattr__(self, "_preference_lists", lists)
        return lists

    def get_node(self, key: str | bytes) -> str:
        """Return the node that owns a key."""
        return self.owners[slot_of(key)]

    def get_nodes(self, key: str | bytes, n: int) -> tuple[str, ...]:
        """Return the first ``n`` nodes of a key's preference list, all distinct."""
        self._check_count(n)
        return self.preference_lists[slot_of(key)][:n]

    def preference_list(self, slot: int) -> tuple[str, ...]:
        """Return all nodes in the order in which they should hold a slot.

        The owner comes first, then the others in ring order, save that no zone has a second node
        before each zone has a first, nor a third before each has a second. A node without a zone
        counts as a zone of its own.
        """
        if not 0 <= slot < SLOT_COUNT:
            raise ValueError(f"slot {slot!r} is not between 0 and {SLOT_COUNT - 1}")
        return self.preference_lists[slot]

    def replica_lists(self, n: int) -> tuple[tuple[str, ...], ...]:
        """Return for each slot the first ``n`` nodes of its preference list."""
        self._check_count(n)
        made: dict[tuple[str, tuple[str, ...]], tuple[str, ...]] = {}
        shared: dict[tuple[str, ...], tuple[str, ...]] = {}
        lists: list[tuple[str, ...]] = []
        for slot, order in self._ring_orders():
            request = (self.owners[slot], order)
            if request not in made:
                replicas = self.spread(*request)[:n]
                made[request] = shared.setdefault(replicas, replicas)
            lists.append(made[request])
        lists.reverse()
        return tuple(lists)

    def spread(self, first: str, order: Iterable[str]) -> tuple[str, ...]:
        """Return ``first`` and then the other nodes in the given order, distinct zones first."""
        sequence = (first, *(name for name in order if name != first))
        zones = self._zones
        if not zones:
            return sequence
        seen: Counter[str] = Counter()
        turns: dict[str, int] = {}
        for name in sequence:
            zone = zones.get(name)
            turns[name] = 0 if zone is None else seen[zone]
            if zone is not None:
                seen[zone] += 1
        return tuple(sorted(sequence, key=turns.__getitem__))

    def add_node(self, name: str, weight: float = 1.0, zone: str | None = None) -> "HashRing":
        """Return a ring with one node more, which takes its share from the others."""
        if name in self.nodes:
            raise ValueError(f"node {name!r} is on the ring already")
        weights = _checked_weights({**self._weights, name: weight})
        zones = self._zones if zone is None else {**self._zones, name: zone}
        ring = self._derived(weights, _checked_zones(zones, weights))
        ring._place(dict(enumerate(self.owners)) | dict.fromkeys(ring._claims(name, self.owners), name))
        return ring

    def remove_node(self, name: str) -> "HashRing":
        """Return a ring without a node, whose slots the others share out."""
        if name not in self.nodes:
            raise ValueError(f"node {name!r} is not on the ring; its nodes are {', '.join(self.nodes)}")
        if len(self.nodes) == 1:
            raise ValueError(f"node {name!r} is the last of the ring and cannot be removed")
        weights = {other: weight for other, weight in self._weights.items() if other != name}
        zones = {other: zone for other, zone in self._zones.items() if other != name}
        ring = self._derived(weights, zones)
        counts = Counter(self.owners)
        room = Counter(slots.receivers(weights, counts, counts[name]))
        lost = [(slot, order) for slot, order in ring._ring_orders() if self.owners[slot] == name]
        ring._place(dict(enumerate(self.owners)) | slots.fill(lost, room))
        return ring

    def get_load_distribution(self, keys: Iterable[str | bytes] | None = None) -> dict[str, float]:
        """Return the share of each node in all slots, or in the given keys; the shares sum to 1."""
        counts = Counter(self.owners) if keys is None else Counter(map(self.get_node, keys))
        total = counts.total()
        if not total:
            raise ValueError("no keys were given, so there is no load to distribute")
        return {name: counts[name] / total for name in self.nodes}

    def rebalance(self, target: "HashRing") -> MovementPlan:
        """Return the slots that must move for the placement of this ring to become the target's."""
        pairs = zip(self.owners, target.owners, strict=True)
        return MovementPlan(tuple((slot, source, goal) for slot, (source, goal) in enumerate(pairs) if source != goal))

    def __repr__(self) -> str:
        """Show what the ring is made of; ``placement`` tells apart rings with different histories."""
        return (
            f"HashRing({self._weights!r}, virtual_nodes={self.virtual_nodes}, "
            f"zones={self._zones!r}, placement={self.digest[:12]!r})"
        )

    def _derived(self, weights: Mapping[str, float], zones: Mapping[str, str]) -> "HashRing":
        ring = object.__new__(HashRing)
        ring._set(weights, zones, self.virtual_nodes)
        return ring

    def _set(self, weights: Mapping[str, float], zones: Mapping[str, str], virtual_nodes: int) -> None:
        _check_virtual_nodes(virtual_nodes, weights)
        names = tuple(sorted(weights))
        object.__setattr__(self, "nodes", names)
        object.__setattr__(self, "virtual_nodes", virtual_nodes)
        object.__setattr__(self, "_weights", {name: weights[name] for name in names})
        object.__setattr__(self, "_zones", {name: zones[name] for name in names if name in zones})
        object.__setattr__(self, "_preference_lists", None)

    def _place(self, placed: Mapping[int, str]) -> None:
        object.__setattr__(self, "owners", tuple(placed[slot] for slot in range(SLOT_COUNT)))

    def _ring_orders(self) -> Iterator[tuple[int, tuple[str, ...]]]:
        return slots.ring_orders(slots.ring_points(self._weights, self.virtual_nodes))

    def _claims(self, name: str, owners: Sequence[str]) -> list[int]:
        """Return the slots a new node takes: of each donor those in whose order it comes first."""
        donors = Counter(slots.donors(self._weights, Counter(owners), name))
        candidates = sorted((order.index(name), slot) for slot, order in self._ring_orders())
        claimed: list[int] = []
        for _, slot in candidates:
            donor = owners[slot]
            if donors[donor]:
                donors[donor] -= 1
                claimed.append(slot)
        return claimed

    def _check_count(self, n: int) -> None:
        if not 1 <= n <= len(self.nodes):
            raise ValueError(f"{n!r} nodes asked for, of a ring that has {len(self.nodes)}")


def modulo_movement(before: Sequence[str], after: Sequence[str], keys: Iterable[str | bytes]) -> float:
    """Return the share of keys that change nodes when placed by hash modulo the number of nodes.

    This is what clients without a ring do, and what a ring is to be compared with: from four
    nodes to three it moves three keys of four, a ring one.
    """
    hashes = [mmh3.hash(key, 0, False) for key in map(_as_bytes, keys)]
    return _moved_share((before[value % len(before)], after[value % len(after)]) for value in hashes)


def ring_movement(before: HashRing, after: HashRing, keys: Iterable[str | bytes]) -> float:
    """Return the share of keys that change nodes between two rings."""
    found = [slot_of(key) for key in keys]
    return _moved_share((before.owners[slot], after.owners[slot]) for slot in found)


def _moved_share(pairs: Iterable[tuple[str, str]]) -> float:
    moved = [source != goal for source, goal in pairs]
    if not moved:
        raise ValueError("no keys were given, so none can move")
    return sum(moved) / len(moved)


def _check_virtual_nodes(virtual_nodes: int, weights: Mapping[str, float]) -> None:
    if virtual_nodes < 1:
        raise ValueError(f"virtual_nodes must be at least 1, not {virtual_nodes!r}")
    wanted = virtual_nodes * sum(weights.values())
    if wanted > MAX_VIRTUAL_NODES:
        raise ValueError(
            f"{virtual_nodes} virtual nodes per unit of weight make {wanted:.0f} in all, "
            f"more than {MAX_VIRTUAL_NODES}: scale the weights down"
        )


def _checked_weights(nodes: Iterable[str] | Mapping[str, float]) -> dict[str, float]:
    if isinstance(nodes, str | bytes):
        raise ValueError(f"nodes must be a collection of names, not the text {nodes!r}")
    names = list(nodes)
    if not names:
        raise ValueError("a ring needs at least one node")
    for name in names:
        _check_name(name)
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ValueError(f"node {repeated[0]!r} is given more than once")
    if not isinstance(nodes, Mapping):
        return dict.fromkeys(names, 1.0)
    return {name: _checked_weight(name, weight) for name, weight in nodes.items()}


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name or not name.isprintable():
        raise ValueError(f"a node's name must be printable text, not {name!r}")


def _checked_weight(name: str, weight: object) -> float:
    if not isinstance(weight, int | float) or not 0 < weight < inf:
        raise ValueError(f"the weight of node {name!r} must be a number above 0, not {weight!r}")
    return float(weight)


def _checked_zones(zones: Mapping[str, str], weights: Mapping[str, float]) -> Mapping[str, str]:
    for name, zone in zones.items():
        if name not in weights:
            raise ValueError(f"zone {zone!r} is given to node {name!r}, which is not on the ring")
        _check_zone(name, zone)
    return zones


def _check_zone(name: str, zone: object) -> None:
    if not isinstance(zone, str) or not zone:
        raise ValueError(f"the zone of node {name!r} must be text, not {zone!r}")


def _as_bytes(key: str | bytes) -> bytes:
    return key.encode() if isinstance(key, str) else key
