"""Remember which keys of a node missed a write, so that nothing old comes back with it.

A write to a node that hangs is dropped (or goes to another node), and a request that was cut off may still be
executed when the node resumes. The keys concerned are deleted there before the process uses the node again.
The memory is bounded: beyond the bound, all keys of the caches that use the cluster are deleted instead, where
their names tell them from others.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Debts"]

#: Keys, and patterns, that are remembered for one node.
BOUND = 100_000
PATTERN_BOUND = 100


class Debts:
    """Hold the debts to one node. Not thread-safe: the board's lock guards it."""

    __slots__ = ("_keys", "_patterns")

    def __init__(self) -> None:
        self._keys: set[str] = set()
        self._patterns: set[str] = set()

    def __len__(self) -> int:
        return len(self._keys)

    def __bool__(self) -> bool:
        return bool(self._keys or self._patterns)

    def add(self, keys: Iterable[str], patterns: Iterable[str] = (), *, everything: Iterable[str] = ()) -> None:
        """Note keys and patterns; beyond a bound, ``everything`` replaces them: patterns that match all keys.

        Without ``everything`` there is no bound: forgetting would bring old values back.
        """
        self._keys.update(keys)
        self._patterns.update(patterns)
        if (len(self._keys) > BOUND or len(self._patterns) > PATTERN_BOUND) and everything:
            self._keys.clear()
            self._patterns = set(everything)

    def take(self) -> tuple[list[str], list[str]]:
        """Return the keys and the patterns, and forget them."""
        keys, patterns = list(self._keys), list(self._patterns)
        self._keys.clear()
        self._patterns.clear()
        return keys, patterns
