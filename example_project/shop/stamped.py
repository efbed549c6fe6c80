"""Cache rows so that a writer's invalidation also reaches readers that are just loading them.

Deleting a key after a commit is not enough: a reader that missed, and loaded the old row before the commit,
can store it after the delete. So each row has a *stamp* beside its cached copy, and a copy counts only
together with the stamp that was in the cache *before* it was loaded:

    reader   reads stamp and copy in one round trip; on a miss it loads the row and stores (stamp, row)
    writer   commits, then stores a new stamp: every copy of an older stamp is dead, stored or still to come

The hash tag in the key, `{product:42}`, puts stamp and copy on one node: they are read, and lost, together.
Plain methods of Django's cache are all it takes; any backend works.
"""

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from asgiref.sync import sync_to_async
from django.core.cache import cache

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Reading(Generic[Row]):
    """What was read: the rows that exist, and which of them the cache did not have."""

    rows: dict[int, Row]
    missed: frozenset[int] = frozenset()

    @property
    def verdict(self) -> str:
        """Say how many rows the cache had and how many it had not, as `hit=23 miss=1`."""
        return f"hit={len(self.rows.keys() - self.missed)} miss={len(self.missed)}"


@dataclass(slots=True)
class _Lookup(Generic[Row]):
    rows: dict[int, Row] = field(default_factory=dict)
    stamps: dict[int, str] = field(default_factory=dict)
    missed: list[int] = field(default_factory=list)


class StampedRows(Generic[Row]):
    """Rows of one kind, read through the cache by primary key.

    `load_many` gets the keys that missed and returns the rows it found; a missing row is not cached.
    A read costs one round trip per node when everything hits.
    """

    def __init__(self, prefix: str, load_many: Callable[[list[int]], Mapping[int, Row]], *, timeout: int) -> None:
        self._prefix = prefix
        self._load_many = load_many
        self._timeout = timeout

    def read(self, ids: Iterable[int]) -> Reading[Row]:
        """Read rows, from the cache where it has them."""
        wanted = list(dict.fromkeys(ids))
        lookup = self._judge(wanted, cache.get_many(self._keys(wanted)))
        if lookup.missed:
            unstamped = self._new_stamps(lookup)
            failed = cache.set_many(unstamped, None) if unstamped else []
            loaded = self._load_many(lookup.missed)
            cache.set_many(self._entries(lookup, loaded, failed), self._timeout)
            lookup.rows.update(loaded)
        return Reading(lookup.rows, frozenset(lookup.missed))

    async def aread(self, ids: Iterable[int]) -> Reading[Row]:
        """Read rows, from the cache where it has them; the asynchronous twin of `read`."""
        wanted = list(dict.fromkeys(ids))
        lookup = self._judge(wanted, await cache.aget_many(self._keys(wanted)))
        if lookup.missed:
            unstamped = self._new_stamps(lookup)
            failed = await cache.aset_many(unstamped, None) if unstamped else []
            loaded = await sync_to_async(self._load_many)(lookup.missed)
            await cache.aset_many(self._entries(lookup, loaded, failed), self._timeout)
            lookup.rows.update(loaded)
        return Reading(lookup.rows, frozenset(lookup.missed))

    def invalidate(self, ids: Iterable[int]) -> bool:
        """Void the cached copies of these rows; call it after the commit.

        False means that a node did not take the new stamp, so that old copies may be served once it is back.
        """
        return not cache.set_many({self._stamp_key(pk): _fresh_stamp() for pk in ids}, None)

    def _stamp_key(self, pk: int) -> str:
        return f"{{{self._prefix}:{pk}}}:stamp"

    def _row_key(self, pk: int) -> str:
        return f"{{{self._prefix}:{pk}}}:row"

    def _keys(self, ids: list[int]) -> list[str]:
        return [key(pk) for pk in ids for key in (self._stamp_key, self._row_key)]

    def _judge(self, ids: list[int], answers: Mapping[str, Any]) -> _Lookup[Row]:
        lookup: _Lookup[Row] = _Lookup()
        for pk in ids:
            stamp = answers.get(self._stamp_key(pk))
            if stamp is not None:
                lookup.stamps[pk] = stamp
            made_under, row = answers.get(self._row_key(pk), (None, None))
            if stamp is not None and made_under == stamp:
                lookup.rows[pk] = row
            else:
                lookup.missed.append(pk)
        return lookup

    def _new_stamps(self, lookup: _Lookup[Row]) -> dict[str, str]:
        # Stored before the rows are loaded. Two readers may overwrite each other's: the copy of the first is
        # then dead, which costs one more load and is never wrong.
        fresh = {pk: _fresh_stamp() for pk in lookup.missed if pk not in lookup.stamps}
        lookup.stamps.update(fresh)
        return {self._stamp_key(pk): stamp for pk, stamp in fresh.items()}

    def _entries(
        self, lookup: _Lookup[Row], loaded: Mapping[int, Row], failed: list[str]
    ) -> dict[str, tuple[str, Row]]:
        without_stamp = set(failed)
        return {
            self._row_key(pk): (lookup.stamps[pk], row)
            for pk, row in loaded.items()
            if self._stamp_key(pk) not in without_stamp
        }


def _fresh_stamp() -> str:
    return uuid.uuid4().hex
