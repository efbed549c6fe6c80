"""Say which version records stand for dependencies: all of them to a writer, one of each to a reader.

An epoch has several (``dependencies.STRIPES``). Whoever keeps versions under the *name* of a dependency, as answers
with learned dependencies do, compares those of the *first* record; a reader that names the records it compares takes
the one that is nearest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from distcache_django.core.freshness import Look
from distcache_django.freshness.dependencies import record_keys, record_tag

if TYPE_CHECKING:
    from distcache_django.freshness.learning import Learning

__all__ = ["Place", "Placing", "Wanted"]

#: How many keys, and how many names, a process remembers the places of: some 20 MB, where that many are in use.
_BOUND = 32_768
_NOWHERE: Mapping[str, str] = {}


class Place(NamedTuple):
    """Be where the version of one dependency is kept."""

    #: The first record, and all of them.
    first: str
    records: tuple[str, ...]
    #: By node, one that is there, if there are several.
    near: Mapping[str, str]
    #: What a key has in braces that is beside the record; ``None`` if answers are not to be.
    tag: str | None


class Wanted(NamedTuple):
    """Be an answer that is looked for: where it and what vouches for it are, and what to do if it is not there."""

    look: Look
    dependencies: Sequence[str]
    load: Callable[[], Any]
    timeout: float
    #: Where the dependencies have to be found.
    learning: Learning | None = None


class Placing:
    """Find the records of dependencies; shared by threads. ``owner`` tells the node of a key."""

    def __init__(self, prefix: str, buckets: int, owner: Callable[[str], str]) -> None:
        #: The same as ``owner``, remembered.
        self.owner = lru_cache(_BOUND)(owner)
        self.place = lru_cache(_BOUND)(lambda name: _place(name, prefix, buckets, owner))

    def key(self, key: str, dependencies: Iterable[str]) -> str:
        """Return the name of an answer: beside the record of its first row, value or tag, so that one node has both.

        Answers about whole tables are spread, for each table would have all of its answers on one node.
        """
        for name in dependencies:
            if tag := self.place(name).tag:
                return f"q:{{{tag}}}:{key}"
        return f"q:{key}"

    def all(self, dependencies: Iterable[str]) -> tuple[str, ...]:
        """Return what a write has to change: every record of each."""
        return tuple(dict.fromkeys(record for place in map(self.place, dependencies) for record in place.records))

    def first(self, dependencies: Iterable[str]) -> list[str]:
        """Return the first record of each, which is the same for every reader."""
        return [place.first for place in map(self.place, dependencies)]

    def beside(self, key: str, dependencies: Iterable[str]) -> list[str]:
        """Return one record of each: one at the node of ``key``, or the first where none is there."""
        home = self.owner(key)
        return [place.near.get(home, place.first) for place in map(self.place, dependencies)]


def _place(name: str, prefix: str, buckets: int, owner: Callable[[str], str]) -> Place:
    records = record_keys(prefix, name, buckets)
    near = {owner(record): record for record in reversed(records)} if len(records) > 1 else _NOWHERE
    return Place(records[0], records, near, record_tag(name, buckets))
