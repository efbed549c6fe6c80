"""Give each write a time that grows with cause and effect, even where wall clocks disagree: hybrid logical clocks.

Theory: Kulkarni, Demirbas et al., "Logical Physical Clocks", 2014. A time is (ms, counter): the wall clock in
milliseconds and a count of 16 bits that tells apart what happened within one. Held as one number,
``ms << 16 | counter``, the whole algorithm is

    now:             last = max(last + 1, wall clock)
    update(remote):  last = max(last + 1, remote + 1, wall clock)

Invariants:

- Each time that a clock gives is greater than all it has given and seen. So what caused something has the smaller
  time, on whichever node it happened, and a wall clock that is set back delays nothing and repeats nothing.
- A counter that is full carries over into the next millisecond, by the addition itself.
- Times of different nodes may fall together; the node's name (or actor) decides, so no two are equal.

Nothing here reads a clock: ``physical`` is the caller's wall clock, in seconds since 1970.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

__all__ = ["ACTOR_SIZE", "STAMP_SIZE", "HybridLogicalClock", "Stamps", "Timestamp"]

ACTOR_SIZE = 6
_TIME_SIZE = 8
STAMP_SIZE = _TIME_SIZE + ACTOR_SIZE

_COUNTER_BITS = 16
_COUNTER_MASK = (1 << _COUNTER_BITS) - 1
_MS_LIMIT = 1 << 48


def _packed(physical: float) -> int:
    """Return a wall clock as a packed time, rounded to the millisecond so that ms / 1000 comes back as ms."""
    return int(physical * 1000 + 0.5) << _COUNTER_BITS


@dataclass(frozen=True, slots=True, order=True)
class Timestamp:
    """Be one moment of one node. Timestamps are ordered by ms, then counter, then the node's name."""

    ms: int
    counter: int
    node: str

    def __post_init__(self) -> None:
        if not 0 <= self.ms < _MS_LIMIT:
            raise ValueError(f"the time of node {self.node!r} must fit in 48 bits, not {self.ms!r} ms")
        if not 0 <= self.counter <= _COUNTER_MASK:
            raise ValueError(f"the counter of node {self.node!r} must fit in 16 bits, not {self.counter!r}")


class HybridLogicalClock:
    """Make the timestamps of one node: ``now`` for what happens here, ``update`` for what arrives.

    A timestamp from further ahead than ``max_drift`` seconds is refused, so that one wrong wall clock cannot drag
    the others along. Not thread-safe: whoever shares a clock holds a lock around each call.
    """

    __slots__ = ("_last", "max_drift", "node")

    def __init__(self, node: str, max_drift: float) -> None:
        if not max_drift >= 0:
            raise ValueError(f"max_drift must be 0 or more seconds, not {max_drift!r}")
        self.node = node
        self.max_drift = max_drift
        self._last = -1

    def now(self, physical: float) -> Timestamp:
        """Return a timestamp greater than all that this clock has given or seen."""
        return self._advance(max(self._last + 1, _packed(physical)))

    def update(self, remote: Timestamp, physical: float) -> Timestamp:
        """Return a timestamp for the arrival of ``remote``: greater than it and than all before.

        :raises ValueError: if ``remote`` is more than ``max_drift`` ahead of ``physical``; nothing has changed then.
        """
        wall = _packed(physical)
        if remote.ms - (wall >> _COUNTER_BITS) > self.max_drift * 1000:
            raise ValueError(
                f"the time {remote.ms / 1000} of node {remote.node!r} is more than {self.max_drift} s "
                f"ahead of {physical}, the clock of node {self.node!r}"
            )
        return self._advance(max(self._last + 1, (remote.ms << _COUNTER_BITS | remote.counter) + 1, wall))

    def _advance(self, packed: int) -> Timestamp:
        timestamp = Timestamp(packed >> _COUNTER_BITS, packed & _COUNTER_MASK, self.node)
        self._last = packed
        return timestamp


class Stamps:
    """Make the stamps of one process: the same clock as bytes that compare as times do, 14 for each write.

    A stamp is ms (6 bytes), counter (2) and actor (6), big-endian. ``actor`` must be random, and new after a fork:
    two processes with one actor could give two writes one stamp. ``lock`` guards the last time, for microseconds
    and without I/O; threads may share the object if it is a real lock, a single event loop may give
    ``contextlib.nullcontext()``.
    """

    __slots__ = ("_last", "_lock", "actor")

    def __init__(self, actor: bytes, lock: AbstractContextManager[object]) -> None:
        if len(actor) != ACTOR_SIZE:
            raise ValueError(f"an actor has {ACTOR_SIZE} bytes, not {len(actor)}")
        self.actor = actor
        self._lock = lock
        # The stamp of all zeros means "no stamp": the first one must be greater, whatever the clock says.
        self._last = 0

    def next(self, physical: float) -> bytes:
        """Return a stamp greater than all that were given or observed."""
        wall = _packed(physical)
        with self._lock:
            last = wall if wall > self._last else self._last + 1
            stamp = last.to_bytes(_TIME_SIZE, "big") + self.actor
            self._last = last
        return stamp

    def observe(self, stamp: bytes) -> None:
        """Move past a stamp that a node had, however far ahead: the node is the judge of clocks, not this process."""
        if len(stamp) != STAMP_SIZE:
            raise ValueError(f"a stamp has {STAMP_SIZE} bytes, not {len(stamp)}")
        seen = int.from_bytes(stamp[:_TIME_SIZE], "big")
        with self._lock:
            self._last = max(self._last, seen)

    def renew(self, actor: bytes) -> None:
        """Begin anew as another actor: nodes have found this clock ahead of theirs, and refused what it stamped."""
        with self._lock:
            self.actor = actor
            self._last = 0
