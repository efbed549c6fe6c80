"""Say which version records stand for dependencies: all of them to a writer, one of each to a reader.

An epoch has several (``dependencies.STRIPES``). Whoever keeps versions under the *name* of a dependency, as answers
with learned dependencies do, compares those of the *first* record; a reader that names the records it compares takes
the one that is nearest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from distcache_django.freshness.dependencies import record_keys, record_tag

__all__ = ["Placing"]

#: How many names a process remembers the places of.
_BOUND = 65_536


class Placing:
    """Find the records of dependencies; shared by threads. ``owner`` tells the node of a key."""

    def __init__(self, prefix: str, buckets: int, owner: Callable[[str], str]) -> None:
        self.owner = owner
        self.records = lru_cache(_BOUND)(lambda name: record_keys(prefix, name, buckets))
        self._beside = lru_cache(_BOUND)(self._find)
        self._buckets = buckets

    def key(self, key: str, dependencies: Sequence[str]) -> str:
        """Return the name of an answer: next to its first dependency's record, so that one node has both."""
        tag = record_tag(dependencies[0], self._buckets) if dependencies else None
        return f"q:{{{tag}}}:{key}" if tag else f"q:{key}"

    def all(self, dependencies: Iterable[str]) -> tuple[str, ...]:
        """Return what a write has to change: every record of each."""
        return tuple(dict.fromkeys(record for name in dependencies for record in self.records(name)))

    def first(self, dependencies: Iterable[str]) -> list[str]:
        """Return the first record of each, which is the same for every reader."""
        return [self.records(name)[0] for name in dependencies]

    def beside(self, key: str, dependencies: Iterable[str]) -> list[str]:
        """Return one record of each: one at the node of ``key``, or the first where none is there."""
        home = self.owner(key)
        return [self._beside(name, home) for name in dependencies]

    def _find(self, name: str, home: str) -> str:
        records = self.records(name)
        return next((record for record in records if len(records) > 1 and self.owner(record) == home), records[0])
