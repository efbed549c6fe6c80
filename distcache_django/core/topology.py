"""Say which nodes hold a key: the ring, replication and ranges joined into one value.

A *range* places keys by the number they carry instead of by their hash: with
``{"user:": [(1, 1000, "cache-a")]}`` the keys ``user:57`` and ``user:57:profile`` are on
``cache-a``. The number is the ASCII digits right after the prefix; what follows it must not be
a letter, digit or underscore. Of several prefixes the longest that is followed by a number
counts. Numbers outside every range of that prefix, and all other keys, are placed by hash.
"""

import hashlib
import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Self

from mmh3 import hash as murmur3_32

from distcache_django.core.ring import DEFAULT_VIRTUAL_NODES, HashRing
from distcache_django.core.slots import SLOT_SHIFT, slot_of

# 20 digits hold every 64-bit number; int() refuses text of thousands of digits.
MAX_RANGE_NUMBER = 2**64 - 1

RangeSpec = Mapping[str, Iterable[tuple[int, int, str]]]


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """Describe a node's place: its weight against the others and its failure domain."""

    weight: float = 1.0
    zone: str | None = None


@dataclass(frozen=True, slots=True)
class RangeRule:
    """Put the keys of a prefix whose number is from ``lo`` to ``hi``, both included, on a node."""

    prefix: str
    lo: int
    hi: int
    node: str

    def __post_init__(self) -> None:
        """Refuse bounds that no key can meet."""
        if not _is_text(self.prefix):
            raise ValueError(f"{self}: the prefix must be text that is not empty")
        for bound in (self.lo, self.hi):
            if not _is_bound(bound):
                raise ValueError(f"{self}: {bound!r} is not a whole number from 0 to {MAX_RANGE_NUMBER}")
        if self.lo > self.hi:
            raise ValueError(f"{self}: the first number is above the last")

    def __str__(self) -> str:
        """Name the rule as error messages do."""
        return f"range {self.prefix!r} {self.lo!r}-{self.hi!r}"


@dataclass(frozen=True, slots=True)
class Ranges:
    """Find the node that a key's number puts it on."""

    rules: tuple[RangeRule, ...]
    _pattern: re.Pattern[str] = field(compare=False, repr=False)
    _by_prefix: Mapping[str, tuple[RangeRule, ...]] = field(compare=False, repr=False)

    @classmethod
    def build(cls, spec: RangeSpec, *, nodes: Iterable[str], lead: str = "") -> Self:
        """Make ranges from the setting's shape; ``lead`` is a pattern for what precedes a user's key.

        Raises ValueError that names prefix and range for ranges that overlap, are empty or name
        a node that is not among ``nodes``.
        """
        rules = sorted(_parsed_rules(spec), key=lambda rule: (rule.prefix, rule.lo))
        names = tuple(nodes)
        for rule in rules:
            if rule.node not in names:
                raise ValueError(f"{rule} names node {rule.node!r}; the nodes are {', '.join(names)}")
        for before, after in pairwise(rules):
            if before.prefix == after.prefix and after.lo <= before.hi:
                raise ValueError(f"{before} and {after} overlap")
        by_prefix = {rule.prefix: tuple(r for r in rules if r.prefix == rule.prefix) for rule in rules}
        return cls(tuple(rules), _compiled(by_prefix, lead), by_prefix)

    def node_of(self, key: str | bytes) -> str | None:
        """Return the node whose range holds the key's number, None where the hash is to decide."""
        # Bytes that are not UTF-8 match no prefix, and need no error here.
        text = key if isinstance(key, str) else key.decode(errors="surrogateescape")
        found = self._pattern.match(text)
        if found is None:
            return None
        rules, number = self._by_prefix[found["range_prefix"]], int(found["range_number"])
        index = bisect_right(rules, number, key=lambda rule: rule.lo) - 1
        return rules[index].node if index >= 0 and number <= rules[index].hi else None


@dataclass(frozen=True, slots=True)
class Topology:
    """Answer where keys are: an immutable value that threads may share.

    ``owner(key)`` is the first node that holds a key and ``owners(key)`` all of them, as many as
    the replication factor says; ``preference_list(key)`` goes on with the nodes that would take
    their place. Each is a hash and one look-up, plus the match of a pattern where there are ranges.
    ``digest`` tells whether two processes place keys alike.
    """

    ring: HashRing
    replication_factor: int
    ranges: Ranges | None
    digest: str
    owner: Callable[[str | bytes], str] = field(compare=False, repr=False)
    owners: Callable[[str | bytes], tuple[str, ...]] = field(compare=False, repr=False)
    preference_list: Callable[[str | bytes], tuple[str, ...]] = field(compare=False, repr=False)

    @classmethod
    def build(
        cls,
        nodes: Mapping[str, NodeSpec],
        *,
        replication_factor: int = 1,
        virtual_nodes: int = DEFAULT_VIRTUAL_NODES,
        ranges: RangeSpec | None = None,
        range_lead: str = "",
    ) -> Self:
        """Place all slots anew on the given nodes; raise ValueError that names a wrong value."""
        weights = {name: spec.weight for name, spec in nodes.items()}
        zones = {name: spec.zone for name, spec in nodes.items() if spec.zone is not None}
        ring = HashRing(weights, virtual_nodes=virtual_nodes, zones=zones)
        return cls.of_ring(ring, replication_factor=replication_factor, ranges=ranges, range_lead=range_lead)

    @classmethod
    def of_ring(
        cls,
        ring: HashRing,
        *,
        replication_factor: int = 1,
        ranges: RangeSpec | None = None,
        range_lead: str = "",
    ) -> Self:
        """Take the placement of a ring, which may have changed since it was new."""
        if not 1 <= replication_factor <= len(ring.nodes):
            raise ValueError(
                f"replication factor {replication_factor!r} is not between 1 and the number of nodes, {len(ring.nodes)}"
            )
        built = Ranges.build(ranges, nodes=ring.nodes, lead=range_lead) if ranges else None
        return cls(
            ring,
            replication_factor,
            built,
            _digest(ring, replication_factor, built),
            *_hashed_lookups(ring, replication_factor)
            if built is None
            else _ranged_lookups(ring, replication_factor, built),
        )

    def parts(self, keys: Sequence[str]) -> dict[str, list[int]]:
        """Return the indices of ``keys`` by owner.

        Twice as fast as asking ``owner`` for each key where no key has a hash tag, a range or a
        character beyond ASCII.
        """
        joined = "".join(keys)
        if self.ranges is None and "{" not in joined and joined.isascii():
            primary = self.ring.owners
            owners = [primary[murmur3_32(key, 0, False) >> SLOT_SHIFT] for key in keys]
        else:
            owners = [self.owner(key) for key in keys]
        parts: dict[str, list[int]] = {node: [] for node in dict.fromkeys(owners)}
        for index, owner in enumerate(owners):
            parts[owner].append(index)
        return parts

    @property
    def node_names(self) -> tuple[str, ...]:
        """Return the names of all nodes, sorted."""
        return self.ring.nodes

    def slot_of(self, key: str | bytes) -> int:
        """Return the slot of a key, which ranges do not change."""
        return slot_of(key)


_Lookups = tuple[
    Callable[[str | bytes], str],
    Callable[[str | bytes], tuple[str, ...]],
    Callable[[str | bytes], tuple[str, ...]],
]


def _hashed_lookups(ring: HashRing, replication_factor: int) -> _Lookups:
    """Return owner, owners and preference list as functions that know of no ranges."""
    primary = ring.owners
    replicas = ring.replica_lists(replication_factor)

    def owner(key: str | bytes) -> str:
        return primary[slot_of(key)]

    def owners(key: str | bytes) -> tuple[str, ...]:
        return replicas[slot_of(key)]

    def preference_list(key: str | bytes) -> tuple[str, ...]:
        return ring.preference_lists[slot_of(key)]

    return owner, owners, preference_list


def _ranged_lookups(ring: HashRing, replication_factor: int, ranges: Ranges) -> _Lookups:
    """Return the same functions, asking the ranges first."""
    hashed_owner, hashed_owners, hashed_list = _hashed_lookups(ring, replication_factor)

    def owner(key: str | bytes) -> str:
        return ranges.node_of(key) or hashed_owner(key)

    def preference_list(key: str | bytes) -> tuple[str, ...]:
        node = ranges.node_of(key)
        hashed = hashed_list(key)
        return hashed if node is None else ring.spread(node, hashed)

    def owners(key: str | bytes) -> tuple[str, ...]:
        node = ranges.node_of(key)
        return hashed_owners(key) if node is None else ring.spread(node, hashed_list(key))[:replication_factor]

    return owner, owners, preference_list


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_bound(value: object) -> bool:
    return isinstance(value, int) and 0 <= value <= MAX_RANGE_NUMBER


def _parsed_rules(spec: RangeSpec) -> Iterable[RangeRule]:
    for prefix, entries in spec.items():
        for entry in entries:
            try:
                lo, hi, node = entry
            except (TypeError, ValueError):
                raise ValueError(f"range {prefix!r} {entry!r} must be (first number, last number, node)") from None
            yield RangeRule(prefix, lo, hi, node)


def _compiled(prefixes: Iterable[str], lead: str) -> re.Pattern[str]:
    longest_first = sorted(prefixes, key=lambda prefix: (-len(prefix), prefix))
    alternatives = "|".join(map(re.escape, longest_first))
    try:
        return re.compile(f"(?:{lead})(?P<range_prefix>{alternatives})(?P<range_number>[0-9]{{1,20}})(?![0-9A-Za-z_])")
    except re.error as error:
        raise ValueError(f"range lead {lead!r} is not a regular expression: {error}") from error


def _digest(ring: HashRing, replication_factor: int, ranges: Ranges | None) -> str:
    """Return the SHA-256 of all that decides a placement, as JSON in a fixed form."""
    described = {
        "nodes": [[name, ring.weights[name], ring.zones.get(name)] for name in ring.nodes],
        "virtual_nodes": ring.virtual_nodes,
        "replication_factor": replication_factor,
        "ranges": [[rule.prefix, rule.lo, rule.hi, rule.node] for rule in ranges.rules] if ranges else [],
        "owners": ring.digest,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
