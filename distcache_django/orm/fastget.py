"""Answer ``Model.objects.get(pk=…)`` without compiling SQL.

Building a queryset and its SQL is most of what a cached ``get`` would cost. For the plain case, that is equality of
columns on a queryset that nothing was done to, the key and the dependencies follow from the arguments alone. What is
stored are the row's values in the order of the model's columns, after Django's converters, or that there is no row;
the instance is made as ``Model.from_db`` makes it. Everything else takes the usual way (see ``reads``), and so does
whatever is not certainly the same: other lookups, types of values that Django would convert, querysets and fields
with methods of their own.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from django.conf import settings
from django.core.signals import setting_changed
from django.db import connections
from django.db.models import Model
from django.db.models.query import MAX_GET_RESULTS
from django.db.models.query_utils import Q

from distcache_django.freshness import dependencies
from distcache_django.freshness.service import freshness
from distcache_django.orm import fingerprint
from distcache_django.orm.instances import instances, is_alone
from distcache_django.orm.options import (
    AnyQuerySet,
    QueryOptions,
    is_forbidden,
    lifetime,
    said_by,
    with_options,
)
from distcache_django.orm.plain import Column, columns_of, is_plain, own_copy
from distcache_django.orm.profiles import Profile, declared_columns, profile_of
from distcache_django.orm.reads import may_ask
from distcache_django.orm.recall import load_plain
from distcache_django.orm.values import canonical_exact

if TYPE_CHECKING:
    from typing import TypeAlias

    from django.db.backends.base.base import BaseDatabaseWrapper

    _FieldOf: TypeAlias = Any  # a column's; the stubs do not know relations' parts

__all__ = ["wrap_get"]

Get = Callable[..., Any]
#: What is stored of a get(): the row's values, or how many rows there were where it wants one.
_Outcome = list[Any] | int


@dataclass(frozen=True, slots=True)
class _Plan:
    """Be what a get() of one model through one alias needs to know."""

    table: str
    prefix: str
    attnames: tuple[str, ...]
    columns: Mapping[str, Column]
    declared: frozenset[str]


def wrap_get(original: Get) -> Get:
    """Return a ``QuerySet.get`` that answers the plain case of cached models without compiling SQL.

    A ``get`` that is not cached costs about a microsecond more; a cached one makes one round trip to the nodes.
    """

    @functools.wraps(original)
    def get(self: AnyQuerySet, *args: Any, **kwargs: Any) -> Any:
        own = said_by(self.query)
        if own is None and self._hints:
            own = _inherited(self._hints)
        profile = profile_of(self.model)
        options = profile if own is None else own.within(profile)
        if options is None or is_forbidden():
            return original(self, *args, **kwargs)
        if "get" in options.ops:
            lookups = _lookups(args, kwargs)
            if lookups is not None and _is_plain(self):
                # A router may name another database at each question: key, load and the usual way are of this one.
                self = own_copy(self)
                self._db = self.db
                asked = _ask(self, lookups)
                if asked is not None:
                    return _get(self, asked, options, own, functools.partial(_rows, self, lookups))
        return original(_ready(self, own, options), *args, **kwargs)

    return get


def _inherited(hints: Mapping[str, Any]) -> QueryOptions | None:
    """Return the options of the queryset that made the instance whose relation is followed."""
    instance = hints.get("instance")
    return getattr(instance._state, "distcache", None) if isinstance(instance, Model) else None


def _ready(queryset: AnyQuerySet, own: QueryOptions | None, options: QueryOptions | Profile) -> AnyQuerySet:
    """Return the queryset to get from the usual way, where a get() is a fetch of at most 21 rows."""
    if "get" in options.ops and "fetch" not in options.ops:
        own = QueryOptions(options.timeout, options.ops | {"fetch"})
    return queryset if own is None or own is queryset.query.distcache else with_options(queryset, own)


def _lookups(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the lookups of a get() as a mapping, ``None`` where they are more than equalities joined by AND."""
    if not args:
        return kwargs or None
    if kwargs or len(args) != 1:
        return None
    condition = args[0]
    if type(condition) is not Q or condition.negated or condition.connector != Q.AND:
        return None
    found = {child[0]: child[1] for child in condition.children if type(child) is tuple}
    return found if found and len(found) == len(condition.children) else None


class _Asked(NamedTuple):
    """Be a get() that the cache can answer: through which alias, under which key, and what the answer depends on."""

    using: str
    plan: _Plan
    key: str
    dependencies: tuple[str, ...]


def _ask(queryset: AnyQuerySet, lookups: Mapping[str, Any]) -> _Asked | None:
    using = queryset.db
    connection = connections[using]
    # The name of the database: a test runner changes it under the alias.
    plan = _plan(queryset.model, using, connection.settings_dict["NAME"])
    if plan is None or not may_ask(connection):
        return None
    parts: list[str] = []
    depends = None
    for name, value in lookups.items():
        column = plan.columns.get(name)
        spelling = None if column is None else canonical_exact(column.field, value)
        if column is None or spelling is None:
            return None
        parts.append(f"{column.name}={value!r}")
        if column.is_key:
            depends = dependencies.row(plan.table, spelling), dependencies.epoch(plan.table)
        elif depends is None and column.name in plan.declared:
            named = dependencies.field(plan.table, column.name, spelling)
            depends = named, dependencies.value_epoch(plan.table)
    if depends is None:
        return None
    parts.sort()
    return _Asked(using, plan, _digest(plan.prefix + "&".join(parts)), depends)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _get(
    queryset: AnyQuerySet,
    asked: _Asked,
    options: QueryOptions | Profile,
    own: QueryOptions | None,
    load: Callable[[], _Outcome],
) -> Any:
    values = freshness().answer(asked.key, asked.dependencies, load, lifetime(options))
    if isinstance(values, int):
        raise _failure(queryset.model, values)
    (instance,) = instances(queryset, asked.using, asked.plan.attnames, (values,))
    if own is not None:
        vars(instance._state)["distcache"] = own
    return instance


def _failure(model: Any, number: int) -> Exception:
    """Return what get() raises for a number of rows; the words are Django's, and a part of what callers see."""
    name = model._meta.object_name
    if not number:
        kind, words = model.DoesNotExist, f"{name} matching query does not exist."
    else:
        many = number if number < MAX_GET_RESULTS else f"more than {MAX_GET_RESULTS - 1}"
        kind, words = model.MultipleObjectsReturned, f"get() returned more than one {name} -- it returned {many}!"
    failure: Exception = kind(words)
    return failure


def _rows(queryset: AnyQuerySet, lookups: Mapping[str, Any]) -> _Outcome:
    """Return the values of the one row that a plain get() finds in the database, or how many rows there are."""
    rows = load_plain(queryset, lookups, MAX_GET_RESULTS)
    return rows[0] if len(rows) == 1 else len(rows)


# ------------------------------------------------------------------ plain querysets


def _is_plain(queryset: AnyQuerySet) -> bool:
    """Return whether nothing was done to a queryset that a get() would see."""
    return is_plain(queryset) and is_alone(queryset)


# ------------------------------------------------------------------ plans


@functools.cache
def _plan(model: type[Model], using: str, database: object) -> _Plan | None:
    """Return what is known of a model in a database, ``None`` where its instances need the usual way."""
    meta = model._meta
    concrete = meta.concrete_model
    if concrete is None or concrete._meta.parents or len(meta.pk_fields) > 1:
        return None
    if not all(map(_is_stock, meta.concrete_fields)):
        return None
    connection = connections[using]
    columns = columns_of(model, connection.vendor)
    return _Plan(
        meta.db_table,
        _prefix(model, connection, database),
        tuple(field.attname for field in meta.concrete_fields),
        columns,
        frozenset(declared_columns(meta.db_table)),
    )


def _prefix(model: type[Model], connection: BaseDatabaseWrapper, database: object) -> str:
    """Return what the keys of a model's rows in a database begin with: all that makes their values what they are."""
    place = connection.settings_dict
    parts = (
        "get", connection.alias, connection.vendor, place["HOST"], place["PORT"], database, model._meta.label,
        fingerprint.schema_digest(model), settings.USE_TZ, connection.timezone_name,
    )  # fmt: skip
    return f"{parts!r}:"


def _is_stock(field: _FieldOf) -> bool:
    """Return whether a value is read as Django reads it: others may decrypt it, or return what cannot be stored."""
    convert = getattr(type(field), "from_db_value", None)
    return convert is None or convert.__module__.startswith("django.")


def _forget(**kwargs: Any) -> None:
    """Plan anew at the next use; receiver of ``setting_changed``."""
    if kwargs.get("setting") in {"CACHES", "DATABASES", "DISTCACHE", "INSTALLED_APPS", "TIME_ZONE", "USE_TZ"}:
        _plan.cache_clear()


setting_changed.connect(_forget, dispatch_uid="distcache_django.orm.fastget")
