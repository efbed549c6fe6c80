"""Write as sites do, at a fixed rate, whatever the cache makes of it.

Each write that commits adds 1 to the version of every item it changes; one that is rolled back would have
made it so large that its value is known wherever it turns up. Writes are due at fixed times: a slow one
delays the next, and the backlog is worked off as fast as possible.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from django.db import OperationalError, connection, transaction
from django.db.models import F

from distcache_django.benchmark.orm.sql import read_sql
from distcache_django.benchmark.orm.stock.models import Item
from distcache_django.benchmark.orm.truth import Dataset
from distcache_django.benchmark.orm.verdicts import ROLLED_BACK_FROM
from distcache_django.benchmark.orm.ways import Plain

__all__ = ["Part", "Writer"]

#: How long COMMIT itself takes when it is slow, in seconds.
_SLOW_COMMIT = 0.12
_MOST_AT_ONCE = 5
_PAUSE = read_sql("pause")
#: Kinds of writes and how many of a thousand they are. SQL through a cursor is rare, as it is in sites: a cache that
#: cannot tell which rows it touched has to drop everything known of the table.
MIX = {
    "save": 350,
    "update": 180,
    "expression": 70,
    "group update": 30,
    "bulk_update": 25,
    "cursor": 5,
    "move": 90,
    "tags": 110,
    "rollback": 70,
    "savepoint": 50,
    "slow commit": 20,
}


@dataclass(frozen=True, slots=True)
class Part:
    """Which of the writers this is; only one writer tags an item, so that the order of its tags is known."""

    index: int
    writers: int

    def own(self, key: int, items: int) -> int:
        """Return the key of an item near another that is this writer's: each has every n-th."""
        mine = key + (self.index - (key - 1)) % self.writers
        return mine if mine <= items else mine - self.writers


class _Undo(Exception):
    """Roll a block back."""


class Writer:
    """Make random writes; half of them touch the hot items."""

    def __init__(self, way: Plain, dataset: Dataset, part: Part, rng: random.Random) -> None:
        self._way = way
        self._dataset = dataset
        self._part = part
        self._rng = rng
        self._kinds: dict[str, Any] = {
            "save": self._save,
            "update": self._update,
            "expression": self._expression,
            "group update": self._group_update,
            "bulk_update": self._bulk_update,
            "cursor": self._cursor,
            "move": self._move,
            "tags": self._tag,
            "rollback": self._roll_back,
            "savepoint": self._roll_savepoint_back,
            "slow commit": self._slow_commit,
        }
        self.done: Counter[str] = Counter()
        self.deadlocks = 0

    def write_until(self, start: int, end: int, per_second: float) -> None:
        """Write from one time to another, both in ``time.monotonic_ns``, its part of so many writes a second."""
        interval = int(self._part.writers / per_second * 1e9)
        due = start + interval * self._part.index // self._part.writers
        try:
            while due < end and time.monotonic_ns() < end:
                time.sleep(max(0.0, (due - time.monotonic_ns()) / 1e9))
                self.write()
                due += interval
        finally:
            connection.close()

    def write(self) -> None:
        """Make one write; a deadlock with another writer rolls it back, as if it had not been."""
        (kind,) = self._rng.choices(list(MIX), list(MIX.values()))
        try:
            self._kinds[kind]()
        except OperationalError:
            self.deadlocks += 1
        else:
            self.done[kind] += 1

    def _key(self) -> int:
        return self._rng.randint(1, self._dataset.hot if self._rng.random() < 0.5 else self._dataset.items)

    def _locked(self, key: int) -> Item:
        return Item.objects.select_for_update().get(pk=key)

    def _save(self) -> None:
        with transaction.atomic():
            item = self._locked(self._key())
            item.ver += 1
            self._way.save(item)

    def _update(self) -> None:
        """Update one row in autocommit."""
        self._way.update(Item.objects.filter(pk=self._key()), ver=F("ver") + 1)

    def _expression(self) -> None:
        """Save one field of an instance from the cache, in autocommit."""
        item = Item.objects.get(pk=self._key())
        item.ver = F("ver") + 1
        self._way.save(item, fields=["ver"])

    def _group_update(self) -> None:
        with transaction.atomic():
            self._way.update(Item.objects.filter(group=self._dataset.first_group(self._key())), ver=F("ver") + 1)

    def _bulk_update(self) -> None:
        group = self._dataset.first_group(self._key())
        with transaction.atomic():
            items = list(Item.objects.select_for_update().filter(group=group).order_by("pk")[:_MOST_AT_ONCE])
            for item in items:
                item.ver += 1
            self._way.bulk_update(items)

    def _cursor(self) -> None:
        """Execute SQL, every other time in a transaction."""
        if self._rng.random() < 0.5:
            with transaction.atomic():
                self._way.execute(self._key())
        else:
            self._way.execute(self._key())

    def _move(self) -> None:
        with transaction.atomic():
            item = self._locked(self._key())
            left = item.group_id
            item.group_id = self._rng.randint(1, self._dataset.groups)
            item.ver += 1
            self._way.save(item, old_group=left)

    def _tag(self) -> None:
        """Put a tag on an item of this writer's, or take it off."""
        tags = Item(pk=self._part.own(self._key(), self._dataset.items)).tags
        change = tags.add if self._rng.random() < 0.5 else tags.remove
        change(self._rng.randint(1, self._dataset.tags))

    def _roll_back(self) -> None:
        try:
            with transaction.atomic():
                self._save_what_never_commits()
                raise _Undo
        except _Undo:
            pass

    def _roll_savepoint_back(self) -> None:
        with transaction.atomic():
            item = self._locked(self._key())
            item.ver += 1
            self._way.save(item)
            try:
                with transaction.atomic():
                    self._save_what_never_commits()
                    raise _Undo
            except _Undo:
                pass

    def _slow_commit(self) -> None:
        with transaction.atomic():
            item = self._locked(self._key())
            item.ver += 1
            self._way.save(item)
            # Over psycopg's own cursor: the pause is the benchmark's, and nothing to invalidate.
            connection.connection.execute(_PAUSE, [_SLOW_COMMIT])

    def _save_what_never_commits(self) -> None:
        item = self._locked(self._key())
        item.ver += ROLLED_BACK_FROM
        self._way.save(item)
        self._way.item(item.pk)
