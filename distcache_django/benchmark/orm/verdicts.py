"""Judge answers against the truth: fresh, stale and for how long, a value that was rolled back, or one that
never was.

A list or a sum is judged as a whole. A list is as stale as its stalest row, rows that are missing or too many
included. A sum is fresh if it is that of all settled changes and any of those in flight; otherwise its age is
that of the state in the past which it fits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from distcache_django.benchmark.orm.truth import Change, GroupHistory, Truth

__all__ = ["FRESH", "ROLLED_BACK_FROM", "Answer", "Judge", "Verdict", "tally"]

#: A version of this size was written by a transaction or in a savepoint that was rolled back.
ROLLED_BACK_FROM = 1_000_000
#: More changes in flight at once than this are not combined: their sums would be too many.
_COMBINED = 10
#: How many changes beyond a state in the past an old sum may contain out of order.
_OUT_OF_ORDER = 3

Shape = Literal["item", "group", "total", "tags"]


class Answer(NamedTuple):
    """What a reader was told: the shape of its query and the key, when it asked and had the answer."""

    shape: Shape
    key: int
    begun: int
    ended: int
    value: tuple[Any, ...]


class Verdict(NamedTuple):
    """What an answer is worth; ``age_ns`` is since when a stale one was known to be old."""

    kind: Literal["fresh", "stale", "rolled_back", "impossible"]
    age_ns: int = 0


FRESH = Verdict("fresh")
ROLLED_BACK = Verdict("rolled_back")
IMPOSSIBLE = Verdict("impossible")


def _of_age(age: int) -> Verdict:
    return Verdict("stale", age) if age > 0 else FRESH


class Judge:
    """Compare answers with the truth."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self._judges = {"item": self._item, "group": self._group, "total": self._total, "tags": self._tags}

    def judge(self, answer: Answer) -> Verdict:
        """Return what an answer is worth."""
        return self._judges[answer.shape](answer)

    def _item(self, answer: Answer) -> Verdict:
        ver, group = answer.value
        return self._row(answer, answer.key, ver, group)

    def _row(self, answer: Answer, item: int, ver: int, group: int) -> Verdict:
        if ver >= ROLLED_BACK_FROM:
            return ROLLED_BACK
        history = self._truth.groups[item]
        if history.is_ahead(ver, answer.ended) or history.states[ver] != group:
            return IMPOSSIBLE
        return _of_age(history.superseded_for(ver, answer.begun))

    def _group(self, answer: Answer) -> Verdict:
        worst = FRESH
        for item, ver in answer.value:
            verdict = self._row(answer, item, ver, answer.key)
            if verdict.kind in ("rolled_back", "impossible"):
                return verdict
            worst = max(worst, verdict, key=_age_of)
        found = {item for item, _ in answer.value}
        missing = [item for item in self._truth.ever_in.get(answer.key, ()) if item not in found]
        return max([worst, *(self._missing(answer, item) for item in missing)], key=_age_of)

    def _missing(self, answer: Answer, item: int) -> Verdict:
        """Judge that a row is not in the list of a group it was in at some time."""
        history = self._truth.groups[item]
        seen = history.visible(answer.begun, answer.ended)
        if any(history.states[version] != answer.key for version in seen):
            return FRESH
        joined = seen.start
        while joined and history.states[joined - 1] == answer.key:
            joined -= 1
        return _of_age(history.settled_for(joined, answer.begun)) if joined else IMPOSSIBLE

    def _total(self, answer: Answer) -> Verdict:
        if answer.value[0] >= ROLLED_BACK_FROM:
            return ROLLED_BACK
        history = self._truth.sums[answer.key]
        settled = history.settled(answer.begun)
        flying = history.in_flight(answer.begun, answer.ended)
        if len(flying) > _COMBINED or answer.value in _combined(history.sums[settled], flying):
            return FRESH
        since = _last_fit(history, settled, answer.value)
        return IMPOSSIBLE if since is None else _of_age(answer.begun - since)

    def _tags(self, answer: Answer) -> Verdict:
        history = self._truth.tags[answer.key]
        seen = history.visible(answer.begun, answer.ended)
        if any(history.states[version] == answer.value for version in seen):
            return FRESH
        for version in reversed(range(seen.start)):
            if history.states[version] == answer.value:
                return _of_age(history.superseded_for(version, answer.begun))
        return IMPOSSIBLE


def _age_of(verdict: Verdict) -> tuple[bool, int]:
    return verdict.kind != "stale" and verdict.kind != "fresh", verdict.age_ns


def _combined(base: tuple[int, int], changes: Sequence[Change]) -> set[tuple[int, int]]:
    """Return the sums that any of the changes make of a base."""
    sums = {base}
    for change in changes:
        sums |= {(total + change.total, rows + change.rows) for total, rows in sums}
    return sums


def _last_fit(history: GroupHistory, settled: int, value: tuple[Any, ...]) -> int | None:
    """Return since when a sum had been wrong: when the first change returned that it lacks."""
    for position in reversed(range(settled)):
        if history.sums[position] == value:
            return history.changes[position].returned
    for position in reversed(range(settled)):
        if value in _combined(history.sums[position], history.changes[position : position + _OUT_OF_ORDER]):
            return history.changes[position].returned
    return None


def tally(verdicts: Iterable[Verdict]) -> dict[str, Any]:
    """Count verdicts; ``ages_ms`` are those of the stale ones, ascending."""
    kinds: Counter[str] = Counter()
    ages = []
    for verdict in verdicts:
        kinds[verdict.kind] += 1
        if verdict.kind == "stale":
            ages.append(verdict.age_ns / 1e6)
    return {kind: kinds[kind] for kind in ("fresh", "stale", "rolled_back", "impossible")} | {"ages_ms": sorted(ages)}
