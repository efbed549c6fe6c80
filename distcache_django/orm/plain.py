"""Know querysets of which no more is asked than that columns have values, and let their filter wait.

Building a filter is a third of what a cached answer costs. ``filter(brand=3)`` on a queryset that nothing was done to
is put off, by the means that Django has for the managers of relations: it is built as soon as anybody looks at
``queryset.query``. Until then the arguments say all that there is (``recall`` answers by them alone). Only what cannot
fail is put off, so no error comes later than it used to.
"""

from __future__ import annotations

import datetime
import functools
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from django.core.signals import setting_changed
from django.db.models import Model, QuerySet
from django.db.models.query import ModelIterable
from django.db.models.sql import Query

from distcache_django.orm.options import AnyQuery, AnyQuerySet, choose
from distcache_django.orm.values import canonical_exact, is_refinable

if TYPE_CHECKING:
    from typing import TypeAlias

    _FieldOf: TypeAlias = Any  # a column's; the stubs do not know relations' parts

__all__ = ["Column", "Filters", "columns_of", "filters_of", "is_plain", "own_copy", "wrap_filter", "wrap_query"]

#: Names, types and values of what is asked for.
Filters = tuple[tuple[str, ...], tuple[type, ...], tuple[Any, ...]]

#: What a query may know and be plain: its order, which get() clears, and our options.
_HARMLESS: Final = frozenset(
    {"model", "alias_cols", "distcache", "order_by", "extra_order_by", "used_aliases", "filter_is_sticky"}
)
#: Methods that plain reads rely on: where a class has one of its own, it may filter.
_RELIED_ON: Final = (
    "filter", "_filter_or_exclude", "_filter_or_exclude_inplace", "order_by", "_chain", "_clone", "_fetch_all",
    "__len__", "__iter__", "iterator", "using", "query",
)  # fmt: skip
#: Types whose values do not change, and are equal only if every database takes them for the same.
_SCALARS: Final = frozenset({int, bool, str, uuid.UUID, datetime.date})


class _Waiting(tuple[bool, tuple[()], dict[str, Any]]):
    """Be a filter that this module lets wait. As long as one does, nobody has seen its query, which stays plain."""

    __slots__ = ()

    def __reduce__(self) -> tuple[type[tuple[Any, ...]], tuple[tuple[Any, ...]]]:
        """Be copied and pickled as what Django knows: of the copy's query this module knows nothing."""
        return tuple, (tuple(self),)


@dataclass(frozen=True, slots=True)
class Column:
    """Be a column that a plain filter may name."""

    name: str
    field: _FieldOf
    is_key: bool


def is_plain(queryset: AnyQuerySet) -> bool:
    """Return whether nothing was done to a queryset of instances, but for an order and filters that still wait."""
    return (
        queryset._iterable_class is ModelIterable
        and not queryset._prefetch_related_lookups
        and not queryset._for_write
        and queryset._fields is None
        and _is_plain_class(queryset.__class__, queryset.model)
        and (type(queryset._deferred_filter) is _Waiting or _is_plain_query(queryset._query))
    )


def _is_plain_query(query: AnyQuery) -> bool:
    # Whatever is set on a query and is neither empty nor the class's default has a meaning: one that a later
    # version of Django adds too.
    if type(query) is not Query:
        return False
    for name, value in query.__dict__.copy().items():  # a thread that shares the query may be compiling it
        if value and name not in _HARMLESS and value != getattr(Query, name, None):
            return False
    return True


@functools.cache
def _is_plain_class(queryset_class: Any, model: Any) -> bool:
    # A field of a site's own may select what the present language, say, tells it.
    own = {type(field).select_format.__module__ for field in model._meta.concrete_fields}
    return all(each.startswith("django.") for each in own) and all(
        getattr(queryset_class, name) is getattr(QuerySet, name) for name in _RELIED_ON
    )


# ------------------------------------------------------------------ columns


@functools.cache
def columns_of(model: type[Model], vendor: str | None = None) -> Mapping[str, Column]:
    """Return the lookups that are plain equality of a column of a model, in all of their spellings.

    :param vendor: of the database that compares; without it, of any.
    """
    meta = model._meta
    columns = dict(_columns(meta.concrete_fields, vendor))
    if meta.pk.attname in columns:
        columns["pk"] = columns[meta.pk.attname]
    return columns


def _columns(fields: Any, vendor: str | None) -> Iterator[tuple[str, Column]]:
    for field in fields:
        lookup = field.get_lookup("exact")
        if lookup is None or not lookup.__module__.startswith("django.db.") or not is_refinable(field, vendor):
            continue
        column = Column(field.column, field, field.primary_key)
        yield field.attname, column
        yield field.name, column
        if field.remote_field is not None:  # as the other side of a one-to-one relation asks
            yield f"{field.name}__{field.target_field.name}", column


# ------------------------------------------------------------------ filters that wait


def wrap_filter(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a ``QuerySet._filter_or_exclude`` that lets plain filters of cached models wait."""

    @functools.wraps(original)
    def _filter_or_exclude(self: AnyQuerySet, negate: bool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not negate and not args and _may_wait(self) and (plain := _values(self.model, kwargs)) is not None:
            clone = self._chain()
            clone._deferred_filter = _Waiting((False, (), plain))
            return clone
        return original(self, negate, args, kwargs)

    return _filter_or_exclude


def wrap_query(original: Any) -> Any:
    """Return a property ``QuerySet.query`` that adds a filter that waits once, also where threads share a queryset.

    Django adds it in place, which is right for the managers of relations: nobody shares what they return. Querysets
    that a site filters are shared, as attributes of classes. So whoever reads ``_query`` and ``_deferred_filter`` at
    the same time (see ``own_copy``) finds a query without the filter that waits, or one with it and none that waits.
    """

    def query(self: AnyQuerySet) -> AnyQuery:
        if self._deferred_filter:
            own = own_copy(self)
            if own._deferred_filter:
                own._query = own._query.clone()
                self.__dict__.update(_query=original.fget(own), _deferred_filter=None)
        return self._query

    def replace(self: AnyQuerySet, value: AnyQuery) -> None:
        original.fset(self, value)
        self._deferred_filter = None  # it was the other query's

    return property(query, replace)


def own_copy(queryset: AnyQuerySet) -> AnyQuerySet:
    """Return a queryset with the same query and all else: other threads may look at the original, and change it."""
    copy: AnyQuerySet = object.__new__(queryset.__class__)
    copy.__dict__.update(queryset.__dict__)  # all at once
    return copy


def _may_wait(queryset: AnyQuerySet) -> bool:
    return (
        not queryset._deferred_filter
        and not queryset._defer_next_filter
        and choose(queryset._query) is not None
        and is_plain(queryset)
    )


def _values(model: type[Model], given: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what is asked for, an instance as its key is now; ``None`` where it needs a conversion, or an error."""
    columns = columns_of(model)
    values = {}
    for name, value in given.items():
        column = columns.get(name)
        if column is None:
            return None
        plain = value if type(value) in _SCALARS or "__" in name else _key_of(column.field, value)
        if canonical_exact(column.field, plain) is None:
            return None
        values[name] = plain
    return values or None


def _key_of(field: _FieldOf, value: Any) -> Any:
    """Return the value in a relation's column that stands for an instance, ``None`` if it is none of the relation."""
    relation = field.remote_field
    return getattr(value, field.target_field.attname) if relation and type(value) is relation.model else None


def _scalar(column: Column | None, value: Any) -> Any:
    return value if column is None or type(value) in _SCALARS else _key_of(column.field, value)


def filters_of(queryset: AnyQuerySet) -> Filters | None:
    """Return what a plain queryset still has to be filtered by, ``None`` where that is more than plain values."""
    if not queryset._deferred_filter:
        return (), (), ()
    negate, args, kwargs = queryset._deferred_filter
    if negate or args:
        return None
    values = tuple(kwargs.values())
    if not _SCALARS.issuperset(map(type, values)):  # the manager of a relation has the instance itself
        columns = columns_of(queryset.model)
        values = tuple(_scalar(columns.get(name), value) for name, value in kwargs.items())
        if not _SCALARS.issuperset(map(type, values)):
            return None
    return tuple(kwargs), tuple(map(type, values)), values


def _forget(**kwargs: Any) -> None:
    """Look at the columns anew at the next use; receiver of ``setting_changed``."""
    if kwargs.get("setting") in {"INSTALLED_APPS", "DATABASES"}:
        columns_of.cache_clear()


setting_changed.connect(_forget, dispatch_uid="distcache_django.orm.plain")
