"""Bring together what was written apart: values whose copies agree after `merge`, in whatever order they meet.

Theory: Shapiro, Preguiça, Baquero, Zawirski, "Conflict-free Replicated Data Types", 2011 (state-based). Each type
here is a value with a partial order, and ``merge`` returns the least value that is not below either side. Hence

- it is commutative, associative and idempotent: copies may meet in any order, through others, and repeatedly;
- nothing goes back: a merge is never below what went in.

What each type loses when two sides write at once: VectorClock nothing (it only tells that they did), GCounter and
PNCounter nothing, LWWRegister one of the two values, ORSet nothing that was added (a removal takes only what it saw).

All are immutable: each method returns a new value (or the same one where nothing changes). They compare, hash and
pickle by content. Counts are of at most 64 bits. The fixed form of `to_bytes` is, for each node in the order of
names, its name's length in UTF-8 (4 bytes), the name, and the count (8 bytes), big-endian.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Generic, Literal, TypeVar

from distcache_django.core.clock import Timestamp

__all__ = ["UNSET", "GCounter", "LWWRegister", "ORSet", "Order", "PNCounter", "Unset", "VectorClock"]

Order = Literal["before", "after", "equal", "concurrent"]
_Counts = tuple[tuple[str, int], ...]
_T = TypeVar("_T")
_Item = TypeVar("_Item", bound=Hashable)
_LENGTH_SIZE = 4
_COUNT_SIZE = 8
_COUNT_LIMIT = 1 << 8 * _COUNT_SIZE


class Unset(Enum):
    """Be the value of a register that nobody has set; None is a value like any other."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET


@dataclass(frozen=True, slots=True, init=False, repr=False)
class VectorClock:
    """Say which writes of which nodes a value has seen, and so whether one value came before another.

    A node that is not named has the count 0. A node must not increment two copies of one clock apart from each
    other: two writes would look like one.
    """

    _counts: _Counts

    def __init__(self, counters: Mapping[str, int] | None = None) -> None:
        object.__setattr__(self, "_counts", _checked(counters or {}))

    @property
    def counters(self) -> dict[str, int]:
        """Return the count of each node that has one above 0."""
        return dict(self._counts)

    def increment(self, node: str) -> VectorClock:
        """Return the clock of a new write by ``node``, which comes after this one."""
        return VectorClock(_raised(self._counts, node, 1))

    def merge(self, other: VectorClock) -> VectorClock:
        """Return the clock of a value that has seen both."""
        return VectorClock(_merged(self._counts, other._counts))

    def compare(self, other: VectorClock) -> Order:
        """Return how this clock stands to another; ``"concurrent"`` if each has seen what the other has not."""
        if self == other:
            return "equal"
        merged = self.merge(other)
        if merged == other:
            return "before"
        return "after" if merged == self else "concurrent"

    def to_bytes(self) -> bytes:
        """Return the fixed form; equal clocks have equal bytes."""
        return _to_bytes(self._counts)

    @classmethod
    def from_bytes(cls, data: bytes) -> VectorClock:
        """Return the clock of a fixed form; raises ValueError for anything else."""
        return cls(_from_bytes(data))

    def __repr__(self) -> str:
        return f"VectorClock({self.counters!r})"


@dataclass(frozen=True, slots=True, init=False, repr=False)
class GCounter:
    """Count up, on any node, without losing an increment.

    A node must have one writer at a time that starts from its latest value: of increments made apart under one
    name only the larger count remains.
    """

    _counts: _Counts

    def __init__(self, counters: Mapping[str, int] | None = None) -> None:
        object.__setattr__(self, "_counts", _checked(counters or {}))

    @property
    def counters(self) -> dict[str, int]:
        """Return what each node has counted, where above 0."""
        return dict(self._counts)

    @property
    def value(self) -> int:
        """Return the sum over all nodes."""
        return sum(count for _, count in self._counts)

    def increment(self, node: str, n: int = 1) -> GCounter:
        """Return the counter after ``node`` has counted ``n`` more; raises ValueError if ``n`` is below 0."""
        return GCounter(_raised(self._counts, node, n))

    def merge(self, other: GCounter) -> GCounter:
        """Return the counter with all increments of both, each once."""
        return GCounter(_merged(self._counts, other._counts))

    def to_bytes(self) -> bytes:
        """Return the fixed form; equal counters have equal bytes."""
        return _to_bytes(self._counts)

    @classmethod
    def from_bytes(cls, data: bytes) -> GCounter:
        """Return the counter of a fixed form; raises ValueError for anything else."""
        return cls(_from_bytes(data))

    def __repr__(self) -> str:
        return f"GCounter({self.counters!r})"


@dataclass(frozen=True, slots=True)
class PNCounter:
    """Count up and down, on any node, without losing a step: one `GCounter` for each direction.

    As there, a node must have one writer at a time. The value may go below 0.
    """

    plus: GCounter = field(default_factory=GCounter)
    minus: GCounter = field(default_factory=GCounter)

    @property
    def value(self) -> int:
        """Return all increments less all decrements."""
        return self.plus.value - self.minus.value

    def increment(self, node: str, n: int = 1) -> PNCounter:
        """Return the counter after ``node`` has counted ``n`` up; raises ValueError if ``n`` is below 0."""
        return PNCounter(self.plus.increment(node, n), self.minus)

    def decrement(self, node: str, n: int = 1) -> PNCounter:
        """Return the counter after ``node`` has counted ``n`` down; raises ValueError if ``n`` is below 0."""
        return PNCounter(self.plus, self.minus.increment(node, n))

    def merge(self, other: PNCounter) -> PNCounter:
        """Return the counter with all steps of both, each once."""
        return PNCounter(self.plus.merge(other.plus), self.minus.merge(other.minus))

    def to_bytes(self) -> bytes:
        """Return the fixed form: the length of the form of ``plus`` (4 bytes), that form, and that of ``minus``."""
        plus = self.plus.to_bytes()
        return len(plus).to_bytes(_LENGTH_SIZE, "big") + plus + self.minus.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> PNCounter:
        """Return the counter of a fixed form; raises ValueError for anything else."""
        end = _LENGTH_SIZE + int.from_bytes(data[:_LENGTH_SIZE], "big")
        if end > len(data):
            raise ValueError("these bytes are cut off, or are not the fixed form of a counter")
        return cls(GCounter.from_bytes(data[_LENGTH_SIZE:end]), GCounter.from_bytes(data[end:]))


# Not slotted, nor is ORSet: in Python 3.11 and 3.12 a slotted frozen dataclass cannot be made as LWWRegister[int]().
@dataclass(frozen=True)
class LWWRegister(Generic[_T]):
    """Hold one value: that of the last write, by timestamp. Of two writes made at once **one is lost**, silently.

    Timestamps are ordered by ms, counter and node, so the larger node's name decides between equal times. One that
    nobody has set has the value ``UNSET`` and no timestamp.
    """

    value: _T | Unset = UNSET
    timestamp: Timestamp | None = None

    def __post_init__(self) -> None:
        if (self.value is UNSET) is not (self.timestamp is None):
            raise ValueError("a register has a value and its timestamp, or neither")

    def set(self, value: _T, timestamp: Timestamp) -> LWWRegister[_T]:
        """Return the register after a write; the same register if it holds a later one."""
        return self.merge(LWWRegister(value, timestamp))

    def merge(self, other: LWWRegister[_T]) -> LWWRegister[_T]:
        """Return the register that was written last."""
        if other.timestamp is None:
            return self
        if self.timestamp is None or self.timestamp < other.timestamp:
            return other
        if other.timestamp < self.timestamp:
            return self
        # One timestamp for two writes: clocks do not do that, callers may. Copies must still come to agree.
        return max(self, other, key=lambda register: repr(register.value))


@dataclass(frozen=True)
class ORSet(Generic[_Item]):
    """Be a set in which an addition wins over a removal made at once: an observed-remove set.

    Each addition carries a tag, and a removal takes the additions that it has seen: an addition elsewhere has
    another tag and stays, and an item can be added again later. Tags must never be used twice for one item; a stamp
    or timestamp is a good one. An addition that is repeated with its tag is the same addition: once removed it
    stays so, and a late or repeated request cannot bring it back. The price is that each removed addition leaves a
    tombstone, which is kept for good.
    """

    additions: frozenset[tuple[_Item, Hashable]] = frozenset()
    tombstones: frozenset[tuple[_Item, Hashable]] = frozenset()

    def __post_init__(self) -> None:
        tombstones = frozenset(self.tombstones)
        object.__setattr__(self, "tombstones", tombstones)
        object.__setattr__(self, "additions", frozenset(self.additions) - tombstones)

    @property
    def value(self) -> frozenset[_Item]:
        """Return the items of the set."""
        return frozenset(item for item, _ in self.additions)

    def add(self, item: _Item, tag: Hashable) -> ORSet[_Item]:
        """Return the set after an addition."""
        return ORSet(self.additions | {(item, tag)}, self.tombstones)

    def remove(self, item: _Item) -> ORSet[_Item]:
        """Return the set without an item: all its additions seen here are tombstones. No error if there is none."""
        seen = frozenset(addition for addition in self.additions if addition[0] == item)
        return ORSet(self.additions, self.tombstones | seen) if seen else self

    def merge(self, other: ORSet[_Item]) -> ORSet[_Item]:
        """Return the set with the additions of both, save those that either has seen removed."""
        return ORSet(self.additions | other.additions, self.tombstones | other.tombstones)


def _checked(counters: Mapping[str, int]) -> _Counts:
    """Return counts in their one form: in the order of names, without zeros."""
    for node, count in counters.items():
        _check(node, count)
    return tuple(sorted((node, count) for node, count in counters.items() if count))


def _check(node: str, count: object) -> None:
    if not isinstance(count, int) or not 0 <= count < _COUNT_LIMIT:
        raise ValueError(f"the count of node {node!r} must be a whole number from 0 to 2**64 - 1, not {count!r}")


def _raised(counts: _Counts, node: str, n: int) -> dict[str, int]:
    if n < 0:
        raise ValueError(f"node {node!r} cannot count {n!r} up: a count never goes back")
    raised = dict(counts)
    raised[node] = raised.get(node, 0) + n
    return raised


def _merged(ours: _Counts, theirs: _Counts) -> dict[str, int]:
    merged = dict(ours)
    for node, count in theirs:
        merged[node] = max(count, merged.get(node, 0))
    return merged


def _to_bytes(counts: _Counts) -> bytes:
    return b"".join(_entry_to_bytes(node.encode(), count) for node, count in counts)


def _entry_to_bytes(name: bytes, count: int) -> bytes:
    return len(name).to_bytes(_LENGTH_SIZE, "big") + name + count.to_bytes(_COUNT_SIZE, "big")


def _from_bytes(data: bytes) -> dict[str, int]:
    counters = dict(_entries(data))
    # What does not come back as it was is cut off, out of order, repeated or padded.
    if _to_bytes(_checked(counters)) != data:
        raise ValueError("these bytes are cut off, or are not the fixed form of counts")
    return counters


def _entries(data: bytes) -> Iterator[tuple[str, int]]:
    start = 0
    while start < len(data):
        name = start + _LENGTH_SIZE
        count = name + int.from_bytes(data[start:name], "big")
        start = count + _COUNT_SIZE
        yield data[name:count].decode(), int.from_bytes(data[count:start], "big")
