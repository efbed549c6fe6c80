"""What the promises come to for a history of real processes, key by key.

A read is wrong if it finds what was never written, what was refused for certain, something *older* than a write that
was acknowledged before the read began, or nothing where something has to be (*lost*). Of two acknowledged writes the
older is the one that ended before the other began, or before a read began that found the other. A write in doubt may
happen at any time, once: after it was found, an acknowledged write that begins later ends it (*undead*).
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import inf
from typing import Any, NamedTuple

from tests.failover.calls import FAILED, Call

__all__ = ["Violation", "judge"]

#: By how much the end of a value may be off: what clocks may differ by, twice.
EDGE = 1.0
#: A failed write is not on its way any more this long after its end.
OVER = 0.5
#: By this much less than its time to live is a lock valid.
DRIFT = 0.5
_WRITES = {"set", "add", "delete"}


class Violation(NamedTuple):
    """Be a promise that was broken."""

    promise: str
    what: str


def judge(calls: Sequence[Call]) -> list[Violation]:
    """Return every promise that a history breaks; calls are in the order of their beginnings."""
    keys: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        keys[call.key].append(call)
    return [violation for key, found in keys.items() for violation in _rule(key)(found)]


def _rule(key: str) -> Callable[[Sequence[Call]], Iterator[Violation]]:
    kinds: Mapping[str, Any] = {"counter": judge_counter, "lock": judge_lock, "race": judge_race}
    rule: Callable[[Sequence[Call]], Iterator[Violation]] = kinds.get(key.partition("-")[0], judge_register)
    return rule


# ------------------------------------------------------------------ registers


class Register:
    """Judge the reads of a key that is set, added and deleted."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self.reads = [call for call in calls if call.kind == "get" and call.is_acknowledged]
        self.writes = [call for call in calls if call.kind in _WRITES and _may_have_happened(call)]
        self.refused = {call.value for call in calls if call.kind in _WRITES and call.state == FAILED}
        self.by_value = {write.value: write for write in self.writes if write.kind != "delete"}
        self.first_found: dict[Any, float] = {}
        self.last_found: dict[Any, float] = {}
        for read in self.reads:
            self.first_found[read.outcome] = min(self.first_found.get(read.outcome, inf), read.ended)
            self.last_found[read.outcome] = max(self.last_found.get(read.outcome, -inf), read.began)
        self._order_acknowledged()

    def _order_acknowledged(self) -> None:
        """Prepare to tell, for any moment, how late writes took effect that were acknowledged before it."""
        acknowledged = sorted((w for w in self.writes if w.is_acknowledged), key=lambda write: write.ended)
        self._ends = [write.ended for write in acknowledged]
        self._latest: list[list[tuple[float, Call]]] = [[]]
        self._begun: list[float] = [-inf]
        for write in acknowledged:
            late = write.began if write.kind == "delete" else max(write.began, self.last_found.get(write.value, -inf))
            best = sorted([*self._latest[-1], (late, write)], key=lambda pair: pair[0])[-2:]
            self._latest.append(best)
            self._begun.append(max(self._begun[-1], write.began))

    def newer(self, write: Call, moment: float) -> Call | None:
        """Return a write acknowledged before a moment that must have taken another's place."""
        count = bisect_left(self._ends, moment)
        if write.is_acknowledged:
            return next((w for late, w in self._latest[count] if w is not write and late > write.ended), None)
        over = max(self.first_found.get(write.value, inf), write.ended + OVER) if write.kind != "delete" else inf
        return next((w for late, w in self._latest[count] if self._begun[count] > over), None)

    def may_be_missing(self, read: Call) -> bool:
        """Return whether there may have been nothing."""
        if bisect_left(self._ends, read.began) == 0:
            return True
        for write in self.writes:
            over = write.kind == "delete" or (write.ttl is not None and write.began + write.ttl - EDGE < read.ended)
            if over and write.began < read.ended and self.newer(write, read.began) is None:
                return True
        return False


def _may_have_happened(call: Call) -> bool:
    return call.state != FAILED and not (call.kind == "add" and call.outcome is False)


def judge_register(calls: Sequence[Call]) -> Iterator[Violation]:
    """Judge a key of which the last write counts."""
    register = Register(calls)
    for read in register.reads:
        if read.outcome is None:
            if not register.may_be_missing(read):
                yield Violation("lost", f"{read} found nothing; written were {_last(register.writes, read)}")
            continue
        write = register.by_value.get(read.outcome)
        if write is None or write.began > read.ended:
            promise = "refused" if read.outcome in register.refused else "made up"
            yield Violation(promise, f"{read} found what was not written")
        elif newer := register.newer(write, read.began):
            yield Violation("older", f"{read} found {write}, but there was {newer}")
        elif write.ttl is not None and read.began > write.ended + write.ttl + EDGE:
            yield Violation("undead", f"{read} found {write} after its end")


def _last(writes: Iterable[Call], read: Call) -> list[Call]:
    return [write for write in writes if write.began < read.ended][-4:]


# ------------------------------------------------------------------ add


def judge_race(calls: Sequence[Call]) -> Iterator[Violation]:
    """Judge a key that is added by several, once each, and never deleted."""
    yield from judge_register(calls)
    adds = [call for call in calls if call.kind == "add"]
    winners = [call for call in adds if call.outcome is True]
    if len(winners) > 1:
        yield Violation("two winners", f"{winners}")
    found = {call.outcome for call in calls if call.kind == "get" and call.is_acknowledged} - {None}
    if len(found | {call.value for call in winners}) > 1:
        yield Violation("two values", f"{found} were found, {winners} have won")
    for call in adds:
        others = (other for other in adds if other is not call and _may_have_happened(other))
        if call.outcome is False and all(other.began > call.ended for other in others):
            yield Violation("no winner", f"{call}: there was nothing")


# ------------------------------------------------------------------ counters


def judge_counter(calls: Sequence[Call]) -> Iterator[Violation]:
    """Judge a counter: what anybody finds is what was acknowledged before, and no more than was begun."""
    raises = [call for call in calls if call.kind == "incr" and call.state != FAILED]
    acknowledged = _Sums((call.ended, call.value) for call in raises if call.is_acknowledged)
    begun = _Sums((call.began, call.value) for call in raises)
    for call in calls:
        if not call.is_acknowledged or call.kind not in {"get", "incr"}:
            continue
        own = call.value if call.kind == "incr" else 0
        low, high = acknowledged.before(call.began) + own, begun.before(call.ended)
        if not isinstance(call.outcome, int):
            yield Violation("counter lost", f"{call}")
        elif not low <= call.outcome <= high:
            yield Violation("miscounted", f"{call}: should be between {low} and {high}")


class _Sums:
    """Sum up what came before a moment."""

    def __init__(self, found: Iterable[tuple[float, int]]) -> None:
        pairs = sorted(found)
        self._moments = [moment for moment, _ in pairs]
        self._sums = [0]
        for _, value in pairs:
            self._sums.append(self._sums[-1] + value)

    def before(self, moment: float) -> int:
        return self._sums[bisect_left(self._moments, moment)]


# ------------------------------------------------------------------ locks


class Held(NamedTuple):
    """Be a time during which a client was entitled to believe that it held a lock."""

    began: float
    ended: float
    token: int
    by: int


def holds(calls: Sequence[Call]) -> list[Held]:
    """Return who held a lock when: to the release, or to the end of its validity."""
    released = {(call.by, call.value): call.began for call in calls if call.kind == "release"}
    return sorted(
        Held(call.ended, min(released.get((call.by, call.outcome), inf), _valid_until(call)), call.outcome, call.by)
        for call in calls
        if call.kind == "lock" and call.is_acknowledged and call.outcome
    )


def _valid_until(call: Call) -> float:
    assert call.ttl is not None
    return call.began + call.ttl - DRIFT


def judge_lock(calls: Sequence[Call]) -> Iterator[Violation]:
    """Judge a lock: never two holders at once, and tokens grow."""
    last: Held | None = None
    until = -inf
    for held in holds(calls):
        if held.began < min(until, held.ended):
            yield Violation("two holders", f"{last} and {held}")
        if last is not None and held.token <= last.token:
            yield Violation("token", f"{held} came after {last}")
        last, until = held, max(until, held.ended)
    for call in calls:
        if call.kind == "release" and call.outcome == "LockNotOwned" and call.ended < _taken(calls, call) + 1.0 - DRIFT:
            yield Violation("lock lost", f"{call} in its time")


def _taken(calls: Sequence[Call], release: Call) -> float:
    began = (c.began for c in calls if c.kind == "lock" and c.by == release.by and c.outcome == release.value)
    return max(began, default=-inf)
