"""What P2 promises of a key that is set, added, touched, deleted and read: checked call by call.

``older``: of two acknowledged writes, the one that ended before the other began, or that was there when a read found
the other. After the newer was acknowledged, nobody may find the older. A write in doubt may take effect at any time,
but once: when it has been read, a write that begins later ends it for good.
"""

from collections.abc import Iterable
from math import inf

from distcache_django.core.effects import Op
from tests.replication.ledger import EDGE, Call, Span
from tests.replication.world import DEADLINE, Broken

__all__ = ["Op", "Register"]

_WRITES = {"set", "add", "replace", "delete"}


class Register:
    """Judge the calls of one key."""

    def __init__(self, key: str, calls: list[Call], amnesties: Iterable[float]) -> None:
        self.key = key
        self.reads = [call for call in calls if call.operation == "get" and call.is_acknowledged]
        self.conditional = [call for call in calls if call.operation in {"add", "replace"} and call.ended < inf]
        self.writes = [call for call in calls if call.operation in _WRITES and not _had_no_effect(call)]
        self.touches = [call for call in calls if call.operation == "touch" and call.outcome is not False]
        self.by_value = {write.value: write for write in self.writes if write.value is not None}
        self.seen: dict[object, list[Call]] = {}
        for read in self.reads:
            self.seen.setdefault(read.outcome, []).append(read)
        self.amnesties = sorted(amnesties)

    def check(self) -> None:
        """Raise ``Broken`` for the first call that found what it must not."""
        for read in self.reads:
            if read.outcome is None:
                self._expect_nothing(read)
            else:
                self._expect(read, read.outcome)
        for call in self.conditional:
            self._check_condition(call)
        self._check_winners()

    # ------------------------------------------------------------------ what may be found

    def _expect(self, read: Call, value: object) -> None:
        write = self.by_value.get(value)
        if write is None or write.began > read.ended:
            raise Broken(f"{read} found what was never written")
        if newer := self.outdated(write, read):
            raise Broken(f"older: {read} found {write}, but there was {newer}")
        if read.began > self.ends(write, read).latest:
            raise Broken(f"undead: {read} found {write} after its end")

    def _expect_nothing(self, read: Call, besides: Call | None = None) -> None:
        if not self.may_be_missing(read, besides):
            raise Broken(f"lost: {read} found nothing; written were {self._last_writes(read)}")

    def _check_condition(self, call: Call) -> None:
        """Take what a condition says for a read."""
        if not call.is_acknowledged:
            return
        if call.outcome is (call.operation == "add"):
            self._expect_nothing(call, besides=call)
        elif not any(self.may_be_there(write, call) for write in self.writes if write is not call):
            raise Broken(f"{call} says that there was a value, of {self._last_writes(call)}")

    def may_be_there(self, write: Call, read: Call) -> bool:
        """Return whether a value may have been there during some call."""
        if write.value is None or write.began > read.ended or self.outdated(write, read):
            return False
        return read.began <= self.ends(write, read).latest

    def may_be_missing(self, read: Call, besides: Call | None = None) -> bool:
        """Return whether there may have been nothing, by any cause: nothing yet, a deletion, an end."""
        if all(write.acknowledged_at >= read.began for write in self.writes if write is not besides):
            return True
        if any(moment < read.ended and self._none_since(moment, read) for moment in self.amnesties):
            return True
        for write in self.writes:
            if write is besides or write.began > read.ended or self.outdated(write, read):
                continue
            if write.value is None or self.ends(write, read).earliest < read.ended:
                return True
        return False

    def _none_since(self, moment: float, read: Call) -> bool:
        return not any(write.began > moment and write.acknowledged_at < read.began for write in self.writes)

    def _last_writes(self, read: Call) -> list[Call]:
        return [write for write in self.writes if write.began < read.ended][-6:]

    # ------------------------------------------------------------------ order

    def outdated(self, write: Call, read: Call) -> Call | None:
        """Return a write that must have taken a write's place before a read began."""
        for newer in self.writes:
            if newer is not write and newer.acknowledged_at < read.began and self.is_older(write, newer):
                return newer
        return None

    def is_older(self, write: Call, newer: Call) -> bool:
        """Return whether ``newer``, which was acknowledged, came after another write took effect."""
        if write.is_acknowledged:
            if write.ended < newer.began:
                return True
            return newer.value is not None and any(q.began > write.ended for q in self.seen.get(newer.value, ()))
        # While it goes on, a write may be seen, be overwritten, and be written again in the end.
        over = write.ended + 2 * DEADLINE < newer.began
        return over and write.value is not None and any(q.ended < newer.began for q in self.seen.get(write.value, ()))

    # ------------------------------------------------------------------ ends

    def ends(self, write: Call, read: Call) -> Span:
        """Return when a value ends, as far as a read can know of what changed its life."""
        spans = [_span(write)]
        for touch in self.touches:
            if touch.began > read.ended or touch.ended < write.began:
                continue
            if touch.is_acknowledged and touch.ended < read.began and self._is_of(touch, write):
                spans = [_span(touch)]
            else:
                spans.append(_span(touch))
        return Span(min(span.earliest for span in spans), max(span.latest for span in spans))

    def _is_of(self, touch: Call, write: Call) -> bool:
        """Return whether a touch was of this write and no other, and after all that other touches did."""
        if not write.acknowledged_at < touch.began:
            return False
        others = all(
            other is write or other.acknowledged_at < write.began or other.began > touch.ended for other in self.writes
        )
        return others and all(
            other is touch or other.acknowledged_at < touch.began or other.began > touch.ended for other in self.touches
        )

    # ------------------------------------------------------------------ winners

    def _check_winners(self) -> None:
        """Let no two have added a value to one life of the key, which only a deletion or an end divides."""
        winners = [
            call for call in self.conditional if call.operation == "add" and call.is_acknowledged and call.outcome
        ]
        for index, one in enumerate(winners):
            for other in winners[index + 1 :]:
                if not self._are_divided(one, other):
                    raise Broken(f"two winners: {one} and {other}")

    def _are_divided(self, one: Call, other: Call) -> bool:
        last, began = max(one.ended, other.ended), min(one.began, other.began)
        later = max(one, other, key=lambda call: call.ended)
        if any(began < moment < last for moment in self.amnesties):
            return True
        for write in self.writes:
            if write.began > last or write.acknowledged_at < began:
                continue
            if write.value is None or self.ends(write, later).earliest < last:
                return True
        return False


def _had_no_effect(call: Call) -> bool:
    return call.operation in {"add", "replace"} and call.outcome is False


def _span(call: Call) -> Span:
    """Return when what a call gave an end ends, by that."""
    if call.ttl is None:
        return Span(inf, inf)
    return Span(call.began + call.ttl - EDGE, min(call.ended, call.began + 2 * DEADLINE) + call.ttl + EDGE)
