"""Count what happens to cached answers, on the way of every read: without a lock, exactly, in well under 0.1 us."""

from __future__ import annotations

import itertools
import os
import re

__all__ = ["Tallies"]

_NAMES = ("hits", "misses", "waits", "bypasses", "unreadable", "marks", "mark_failures", "unmarks", "bumps", "owed")


class Tallies:
    """Count events of this process; each name is a function that counts one event."""

    def __init__(self) -> None:
        self.forget()
        os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        """Start at nothing, as a forked child does."""
        self._counters = {name: itertools.count() for name in _NAMES}
        counters = self._counters
        self.hit, self.miss, self.wait = (counters[name].__next__ for name in ("hits", "misses", "waits"))
        self.bypass, self.unreadable = (counters[name].__next__ for name in ("bypasses", "unreadable"))

    def add(self, name: str, amount: int = 1) -> None:
        """Count ``amount`` events."""
        count = self._counters[name].__next__
        for _ in range(amount):
            count()

    def read(self) -> dict[str, int]:
        """Return how often each event happened."""
        # The representation is the one way to see where a count stands without moving it.
        return {name: int(re.sub(r"\D", "", repr(counter))) for name, counter in self._counters.items()}
