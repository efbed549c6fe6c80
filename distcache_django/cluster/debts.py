"""Remember which keys of a node missed a write, so that nothing old comes back with it.

A write to a node that hangs is dropped (or goes to another node), and a request that was cut off may still be
executed when the node resumes. The keys concerned are deleted there before the process uses the node again.
The memory is bounded: beyond the bound, all keys of the caches concerned are deleted instead, where the beginning
of their names tells them from others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

__all__ = ["Debts"]

#: Keys, and patterns, that are remembered for one node.
BOUND = 100_000
PATTERN_BOUND = 100


class Debts:
    """Hold the debts to one node. Not thread-safe: the board's lock guards it."""

    __slots__ = ("_bumps", "_keys", "_owes_all_bumps", "_patterns")

    def __init__(self) -> None:
        self._keys: set[str] = set()
        self._patterns: set[str] = set()
        self._bumps: set[str] = set()
        self._owes_all_bumps = False

    def __len__(self) -> int:
        return len(self._keys)

    def __bool__(self) -> bool:
        return bool(self._keys or self._patterns or self._bumps or self._owes_all_bumps)

    def add(self, keys: Iterable[str], patterns: Iterable[str] = (), *, caches: Iterable[str] = ()) -> None:
        """Note keys and patterns; beyond a bound, those of ``caches`` (patterns too) take the place of theirs.

        What belongs to none of them is kept without a bound: forgetting it would bring old values back.
        """
        self._keys.update(keys)
        self._patterns.update(patterns)
        if len(self._keys) > BOUND or len(self._patterns) > PATTERN_BOUND:
            heads = [(_literal_beginning(cache), cache) for cache in caches]
            self._keys, all_of_some = _without_members(self._keys, heads)
            self._patterns, all_of_others = _without_members(self._patterns, heads)
            self._patterns |= all_of_some | all_of_others

    def add_bumps(self, keys: Iterable[str]) -> None:
        """Note version records that missed a bump; beyond the bound, all that the node has take their place."""
        if not self._owes_all_bumps:
            self._bumps.update(keys)
        if len(self._bumps) > BOUND:
            self.add_all_bumps()

    def add_all_bumps(self) -> None:
        """Note that all version records of the node are to be bumped."""
        self._bumps.clear()
        self._owes_all_bumps = True

    def take_bumps(self) -> tuple[list[str], bool]:
        """Return the records, and whether all that the node has are meant instead, and forget them."""
        bumps, is_all = list(self._bumps), self._owes_all_bumps
        self._bumps.clear()
        self._owes_all_bumps = False
        return bumps, is_all

    def take(self) -> tuple[list[str], list[str]]:
        """Return the keys and the patterns, and forget them."""
        keys, patterns = list(self._keys), list(self._patterns)
        self._keys.clear()
        self._patterns.clear()
        return keys, patterns


def _literal_beginning(pattern: str) -> str:
    """Return what precedes the first wildcard of a glob that ``conf`` made."""
    head = re.match(r"(?:\\.|[^*])*", pattern)
    return re.sub(r"\\(.)", r"\1", head[0]) if head else ""


def _without_members(names: Iterable[str], heads: Sequence[tuple[str, str]]) -> tuple[set[str], set[str]]:
    """Return the names that belong to no cache, and the patterns of the caches that the others belong to."""
    strangers: set[str] = set()
    concerned: set[str] = set()
    for name in names:
        caches = {cache for head, cache in heads if name.startswith(head)}
        if caches:
            concerned |= caches
        else:
            strangers.add(name)
    return strangers, concerned
