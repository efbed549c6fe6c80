"""Remember which keys of a node missed a write, so that nothing old comes back with it.

A write to a node that hangs is dropped (or goes to another node), and a request that was cut off may still be
executed when the node resumes. The keys concerned are deleted there before the process uses the node again.
The memory is bounded: beyond the bound, all keys of the caches that use the cluster are deleted instead.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Debts"]

#: Keys remembered for one node.
BOUND = 100_000


class Debts:
    """Hold the debts to one node. Not thread-safe: the board's lock guards it."""

    __slots__ = ("_keys", "everything")

    def __init__(self) -> None:
        self._keys: set[str] = set()
        self.everything = False

    def __len__(self) -> int:
        return len(self._keys)

    def __bool__(self) -> bool:
        return self.everything or bool(self._keys)

    def add(self, keys: Iterable[str], *, everything: bool = False) -> None:
        """Note keys; with ``everything``, or beyond the bound, note all of them."""
        if not self.everything:
            self._keys.update(keys)
        if everything or len(self._keys) > BOUND:
            self.everything = True
            self._keys.clear()

    def take(self) -> tuple[list[str], bool]:
        """Return the keys and whether all keys are owed, and forget them."""
        keys, everything = list(self._keys), self.everything
        self._keys.clear()
        self.everything = False
        return keys, everything
