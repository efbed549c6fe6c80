"""Read and write as a site does that caches in one way or another.

The libraries patch the ORM, so their sites read with plain querysets. Hand-written caching is what most sites
do: look the key up, load and store on a miss, and delete the keys of what was written, either at once from
the signal or once the transaction has committed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

from django.core.cache import cache
from django.db import connection, transaction
from django.db.models import Count, QuerySet, Sum
from django.db.models.signals import m2m_changed, post_save

from distcache_django.benchmark.orm.sql import read_sql
from distcache_django.benchmark.orm.stock.models import Item
from distcache_django.benchmark.orm.subjects import TIMEOUT
from distcache_django.benchmark.orm.verdicts import Shape

__all__ = ["WAYS", "Cacheops", "ForgetNow", "ForgetOnCommit", "Plain"]

_BUMP = read_sql("bump")
_Value = TypeVar("_Value")


class Plain:
    """Use the ORM as if there were no cache: whatever caches does so by itself."""

    def __init__(self) -> None:
        self._reads: dict[str, Callable[[int], tuple[Any, ...]]] = {
            "item": self.item,
            "group": self.group,
            "total": self.total,
            "tags": self.tags,
        }

    def read(self, shape: Shape, key: int) -> tuple[Any, ...]:
        """Return the answer to the query of a shape, in the form in which it is judged."""
        return self._reads[shape](key)

    def item(self, key: int) -> tuple[Any, ...]:
        """Get an item by its primary key: its version and group."""
        item = self.load_item(key)
        return item.ver, item.group_id

    def group(self, key: int) -> tuple[Any, ...]:
        """List the items of a group: key and version of each."""
        return tuple(sorted((item.pk, item.ver) for item in self.load_group(key)))

    def total(self, key: int) -> tuple[Any, ...]:
        """Sum the versions in a group up and count its items."""
        found = self.load_total(key)
        return found["total"] or 0, found["rows"]

    def tags(self, key: int) -> tuple[Any, ...]:
        """List the tags of an item, through the many-to-many table."""
        return tuple(sorted(tag.pk for tag in self.load_tags(key)))

    def load_item(self, key: int) -> Item:
        """Query an item."""
        return Item.objects.get(pk=key)

    def load_group(self, key: int) -> Sequence[Item]:
        """Query the items of a group."""
        return list(Item.objects.filter(group=key))

    def load_total(self, key: int) -> dict[str, Any]:
        """Query the sum of a group."""
        return Item.objects.filter(group=key).aggregate(total=Sum("ver"), rows=Count("pk"))

    def load_tags(self, key: int) -> Sequence[Any]:
        """Query the tags of an item."""
        return list(Item(pk=key).tags.all())

    def save(self, item: Item, old_group: int | None = None, fields: Sequence[str] | None = None) -> None:
        """Save an item, which was in ``old_group`` if that is given."""
        item.save(update_fields=fields)

    def update(self, rows: QuerySet[Item], **values: Any) -> None:
        """Update rows with one statement."""
        rows.update(**values)

    def bulk_update(self, items: Sequence[Item]) -> None:
        """Update the versions of items with one statement."""
        Item.objects.bulk_update(items, ["ver"])

    def execute(self, key: int) -> None:
        """Add 1 to the version of an item by SQL through Django's cursor."""
        with connection.cursor() as cursor:
            cursor.execute(_BUMP, [key])


class ForgetNow(Plain):
    """Look keys up by hand and delete them as soon as something is written."""

    def __init__(self) -> None:
        super().__init__()
        post_save.connect(self._saved, sender=Item)
        m2m_changed.connect(self._tagged, sender=Item.tags.through)

    def load_item(self, key: int) -> Item:
        """Return an item, from the cache if it is there."""
        return self._cached(f"item:{key}", partial(super().load_item, key))

    def load_group(self, key: int) -> Sequence[Item]:
        """Return the items of a group, from the cache if they are there."""
        return self._cached(f"group:{key}", partial(super().load_group, key))

    def load_total(self, key: int) -> dict[str, Any]:
        """Return the sum of a group, from the cache if it is there."""
        return self._cached(f"total:{key}", partial(super().load_total, key))

    def load_tags(self, key: int) -> Sequence[Any]:
        """Return the tags of an item, from the cache if they are there."""
        return self._cached(f"tags:{key}", partial(super().load_tags, key))

    def save(self, item: Item, old_group: int | None = None, fields: Sequence[str] | None = None) -> None:
        """Save an item; the signal deletes its keys, and the keys of the group it left go with them."""
        super().save(item, old_group, fields)
        if old_group is not None:
            self.delete(_keys_of([], [old_group]))

    def update(self, rows: QuerySet[Item], **values: Any) -> None:
        """Update rows, and delete the keys of all that were found before."""
        found = list(rows.values_list("pk", "group_id"))
        super().update(rows, **values)
        self.delete(_keys_of((pk for pk, _ in found), {group for _, group in found}))

    def bulk_update(self, items: Sequence[Item]) -> None:
        """Update items and delete their keys."""
        super().bulk_update(items)
        self.delete(_keys_of((item.pk for item in items), {item.group_id for item in items}))

    def execute(self, key: int) -> None:
        """Add 1 to the version of an item, and delete its keys."""
        super().execute(key)
        group = Item.objects.values_list("group_id", flat=True).get(pk=key)
        self.delete(_keys_of([key], [group]))

    def delete(self, keys: Sequence[str]) -> None:
        """Delete keys at once, whether a transaction is open or not."""
        cache.delete_many(keys)

    def _cached(self, key: str, load: Callable[[], _Value]) -> _Value:
        value: _Value | None = cache.get(key)
        if value is None:
            value = load()
            cache.set(key, value, TIMEOUT)
        return value

    def _saved(self, instance: Item, **_: Any) -> None:
        self.delete(_keys_of([instance.pk], [instance.group_id]))

    def _tagged(self, instance: Item, action: str, **_: Any) -> None:
        if action.startswith("post_"):
            self.delete([f"tags:{instance.pk}"])


class ForgetOnCommit(ForgetNow):
    """Look keys up by hand and delete them once the write has committed."""

    def delete(self, keys: Sequence[str]) -> None:
        """Delete keys after the commit, or at once where no transaction is open."""
        transaction.on_commit(partial(super().delete, keys))


class Cacheops(Plain):
    """Write as the documentation of django-cacheops asks for: what it cannot see, it is told."""

    def __init__(self) -> None:
        super().__init__()
        self._invalidate_obj = importlib.import_module("cacheops").invalidate_obj

    def update(self, rows: QuerySet[Item], **values: Any) -> None:
        """Update rows with the method that invalidates too; it reads them before and after."""
        rows.invalidated_update(**values)  # type: ignore[attr-defined]  # django-cacheops adds it

    def bulk_update(self, items: Sequence[Item]) -> None:
        """Update items and say which."""
        super().bulk_update(items)
        self._tell(items)

    def execute(self, key: int) -> None:
        """Execute SQL and say which item it changed."""
        super().execute(key)
        self._tell(Item.objects.nocache().filter(pk=key))  # type: ignore[attr-defined]  # django-cacheops adds it

    def _tell(self, items: Iterable[Item]) -> None:
        for item in items:
            self._invalidate_obj(item)


WAYS: dict[str, Callable[[], Plain]] = {
    "plain": Plain,
    "forget now": ForgetNow,
    "forget on commit": ForgetOnCommit,
    "cacheops": Cacheops,
}


def _keys_of(items: Iterable[int], groups: Iterable[int]) -> list[str]:
    return [f"item:{pk}" for pk in items] + [key for group in groups for key in (f"group:{group}", f"total:{group}")]
