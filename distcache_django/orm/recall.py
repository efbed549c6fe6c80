"""Answer plain querysets without building their filters and SQL again.

What a query is in the cache (its key and its dependencies) is found once, from its SQL, and remembered by what was
asked: the model, the names and values of its filter, its order, and whatever else has a part in the SQL. Asked the
same again, a queryset needs no more than the look-up; instances and aggregates are made by Django's own code, from a
compiler that knows the columns. The answer is the same one, under the same key, as the usual way stores (``reads``).
Everything that is not certainly the same takes the usual way.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from django.conf import settings
from django.core.signals import setting_changed
from django.db import connections
from django.db.models import F
from django.db.models.expressions import Star
from django.db.models.sql.constants import MULTI, SINGLE

from distcache_django.orm.fingerprint import project_digest
from distcache_django.orm.instances import instances, is_alone
from distcache_django.orm.options import COMPILE_ONLY, AnyQuery, AnyQuerySet, choose, no_cache
from distcache_django.orm.plain import filters_of, is_plain, own_copy
from distcache_django.orm.reads import (
    Compiled,
    Identity,
    Rows,
    Unrun,
    compile_sql,
    identify,
    is_too_large,
    load_rows,
    may_ask,
    rows_of,
)
from distcache_django.orm.shapes import AGGREGATES, Shape, forget_shapes, is_fixed, shape_of

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models.sql.compiler import SQLCompiler

__all__ = ["fetch", "load_plain", "wrap_aggregate", "wrap_count", "wrap_exists"]

Method = Callable[..., Any]
#: How many questions are remembered, some 0.5 KiB each.
_MOST: Final = 16_384
#: Questions with a longer text among their values are not.
_LONGEST_TEXT: Final = 256


class _Known(NamedTuple):
    """Be what is known of a question: its form, its SQL, and what it is in the cache, where that is looked for."""

    shape: Shape
    compiled: Compiled
    identity: Identity | None

    def rows(self, using: str, result_type: str) -> Rows:
        """Return the rows from the database."""
        return load_rows(self.shape.compiler(using), self.compiled, result_type)


@dataclass(slots=True)
class _Question:
    """Be one question: ``known`` once somebody has asked, or else ``is_hopeless``, and to take the usual way."""

    known: _Known | None = None
    is_hopeless: bool = False


class _Found(NamedTuple):
    """Be the rows that answer, as they are stored, and what they can be read with."""

    shape: Shape
    using: str
    rows: Rows

    def converted(self) -> Iterable[Sequence[Any]]:
        """Return the rows after Django's converters."""
        return self.shape.converted(self.using, self.rows)


class _Asking(NamedTuple):
    """Be what is done to a queryset: which of ``ops``, what else tells it from others, and how it is compiled."""

    op: str
    result_type: str
    details: tuple[Any, ...]
    compile: Callable[[AnyQuery, str], SQLCompiler]


# ------------------------------------------------------------------ what querysets do


def fetch(queryset: AnyQuerySet, original: Callable[[Any], None]) -> None:
    """Be ``_fetch_all`` of a queryset that was not fetched yet."""
    stand_in = own_copy(queryset)
    found = _recall(stand_in, _FETCH)
    if found is None:
        stand_in = _usual(queryset, stand_in)
    elif found.shape.attnames is not None and is_alone(queryset):
        queryset._result_cache = instances(stand_in, found.using, found.shape.attnames, found.converted())
        return
    else:
        compiler, rows = found.shape.compiler(found.using), found.rows
        vars(compiler)["execute_sql"] = lambda **_: [rows] if rows else []
        stand_in.__dict__.update(_query=_Compiled(compiler), _deferred_filter=None)
    original(stand_in)
    queryset._result_cache = stand_in._result_cache


def wrap_count(original: Method) -> Method:
    """Return a ``QuerySet.count`` that needs no SQL for what was asked before."""

    @functools.wraps(original)
    def count(self: AnyQuerySet) -> Any:
        own = own_copy(self)
        found = _recall(own, _COUNT)
        return original(_usual(self, own)) if found is None else _aggregates(found)["__count"]

    return count


def wrap_exists(original: Method) -> Method:
    """Return a ``QuerySet.exists`` that needs no SQL for what was asked before."""

    @functools.wraps(original)
    def exists(self: AnyQuerySet) -> Any:
        own = own_copy(self)
        found = _recall(own, _EXISTS)
        return original(_usual(self, own)) if found is None else bool(found.rows)

    return exists


def wrap_aggregate(original: Method) -> Method:
    """Return a ``QuerySet.aggregate`` that needs no SQL for what was asked before."""

    @functools.wraps(original)
    def aggregate(self: AnyQuerySet, *args: Any, **kwargs: Any) -> Any:
        if args or not kwargs or (details := _details_of(kwargs)) is None:
            return original(self, *args, **kwargs)
        own = own_copy(self)
        found = _recall(own, _Asking("aggregate", SINGLE, details, partial(_compile_aggregates, kwargs)))
        return original(_usual(self, own), **kwargs) if found is None or not found.rows else _aggregates(found)

    return aggregate


def _usual(queryset: AnyQuerySet, own: AnyQuerySet) -> AnyQuerySet:
    """Return what to take the usual way: the copy if a router has named its database, as the next may be another."""
    return queryset if own._db == queryset._db else own


def _aggregates(found: _Found) -> dict[str, Any]:
    (row,) = found.converted()
    return dict(zip(found.shape.query.annotation_select, row, strict=True))


# ------------------------------------------------------------------ remembering


def _recall(queryset: AnyQuerySet, asking: _Asking) -> _Found | None:
    """Return the rows that answer; ``None``: take the usual way.

    :param queryset: no other thread's; it learns which database was asked.
    """
    options = choose(queryset._query)
    if options is None or asking.op not in options.ops or queryset._result_cache is not None:
        return None
    filters = filters_of(queryset) if is_plain(queryset) else None
    order = _order_of(queryset._query)
    if filters is None or order is None:
        return None
    using = queryset._db = queryset.db
    connection = connections[using]
    if not may_ask(connection):
        return None
    names, types, values = filters
    form = (queryset.model, asking.op, asking.details, order, names, types, *_surroundings(connection))
    question = _question(form, types, values)
    if question.known is None and not question.is_hopeless:
        _learn(question, form, asking.compile(_query_of(queryset, names, values), using), asking.result_type)
    known = question.known
    if known is None or known.identity is None or is_too_large(known.identity.key):
        return None
    rows = rows_of(known.identity, partial(known.rows, using, asking.result_type), options)
    return _Found(known.shape, using, rows)


def load_plain(queryset: AnyQuerySet, lookups: Mapping[str, Any], limit: int) -> list[list[Any]]:
    """Return the converted rows that a plain queryset finds in the database by plain values; in no order."""
    using = queryset.db
    values = tuple(lookups.values())
    types = tuple(map(type, values))
    form = (queryset.model, "get", limit, tuple(lookups), types, *_surroundings(connections[using]))
    question = _question(form, types, values)
    if question.known is None:
        found = queryset.filter(**lookups).order_by()
        found.query.set_limits(high=limit)
        _learn(question, form, found.query.get_compiler(using), None)
        if question.known is None:  # Django knows without a query that there is none
            with no_cache():
                return list(map(list, found.query.get_compiler(using).results_iter()))
    known = question.known
    return list(map(list, known.shape.compiler(using).results_iter([cast("list[Any]", known.rows(using, MULTI))])))


def _learn(question: _Question, form: tuple[Any, ...], compiler: SQLCompiler, result_type: str | None) -> None:
    """Compile a query, which costs what the usual way does, and keep what is found of a question."""
    compiled = compile_sql(compiler)
    identity = identify(compiler, compiled, result_type) if compiled is not None and result_type is not None else None
    is_unknown = identity is None and result_type is not None
    question.is_hopeless = compiled is None or is_unknown or not is_fixed(compiler)
    if compiled is not None and not question.is_hopeless:
        sql, params = compiled
        question.known = _Known(shape_of(form, compiler), (sys.intern(sql), params), identity)


def _question(form: tuple[Any, ...], types: tuple[type, ...], values: tuple[Any, ...]) -> _Question:
    if str in types and any(type(value) is str and len(value) > _LONGEST_TEXT for value in values):
        return _Question()  # texts may come from anybody, and fill the memory
    return _remembered(form, values)


@lru_cache(_MOST)
def _remembered(form: tuple[Any, ...], values: tuple[Any, ...]) -> _Question:
    return _Question()


def _surroundings(connection: BaseDatabaseWrapper) -> tuple[Any, ...]:
    """Return what else the SQL, and the key, are made of: as ``fingerprint.query_key`` and its caller say."""
    place = connection.settings_dict
    schema = getattr(connection, "schema_name", None)
    return (
        connection.alias, connection.vendor, place["NAME"], place["HOST"], place["PORT"], schema,
        connection.timezone_name, settings.USE_TZ, project_digest(),
    )  # fmt: skip


def _order_of(query: AnyQuery) -> tuple[Any, ...] | None:
    """Return how a plain query is ordered, ``None`` where that is more than names."""
    if query.extra_order_by or not query.default_cols or not all(type(each) is str for each in query.order_by):
        return None
    return query.order_by, query.default_ordering, query.standard_ordering


# ------------------------------------------------------------------ compiling


class _Compiled:
    """Stand for a query whose compiler has its rows already."""

    def __init__(self, compiler: SQLCompiler) -> None:
        self._compiler = compiler

    def get_compiler(self, using: str) -> SQLCompiler:
        """Return that compiler."""
        return self._compiler


def _query_of(queryset: AnyQuerySet, names: tuple[str, ...], values: tuple[Any, ...]) -> AnyQuery:
    """Return a query of one's own, filtered by values: a lookup keeps what it was made of, an instance too."""
    if names:
        queryset._deferred_filter = False, (), dict(zip(names, values, strict=True))
    return queryset.query.clone()


def _compile_rows(query: AnyQuery, using: str) -> SQLCompiler:
    compiler: SQLCompiler = query.get_compiler(using)
    return compiler


def _compile_exists(query: AnyQuery, using: str) -> SQLCompiler:
    compiler: SQLCompiler = query.exists().get_compiler(using)
    return compiler


def _compile_count(query: AnyQuery, using: str) -> SQLCompiler:
    return _unrun(query, lambda: query.get_count(using))


def _compile_aggregates(aggregates: Mapping[str, Any], query: AnyQuery, using: str) -> SQLCompiler:
    return _unrun(query, lambda: query.get_aggregation(using, dict(aggregates)))


def _unrun(query: AnyQuery, run: Callable[[], Any]) -> SQLCompiler:
    """Return the compiler of the query that Django makes of another and would run."""
    said, query.distcache = query.distcache, COMPILE_ONLY
    try:
        run()
    except Unrun as unrun:
        compiler = unrun.compiler
        compiler.query.distcache = said  # type: ignore[attr-defined]  # see install
        return compiler
    raise AssertionError("an aggregate runs one query")


_FETCH: Final = _Asking("fetch", MULTI, (), _compile_rows)
_EXISTS: Final = _Asking("exists", SINGLE, (), _compile_exists)
_COUNT: Final = _Asking("count", SINGLE, (), _compile_count)

#: What an aggregate of one column has for attributes; one with more is not certainly like all others.
_USUAL: Final = frozenset({
    "_constructor_args", "distinct", "filter", "default", "order_by", "source_expressions", "extra",
})  # fmt: skip


def _details_of(aggregates: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Return what tells plain aggregates from all others, ``None`` where they are not plain."""
    details = []
    for alias, each in aggregates.items():
        if type(each) not in AGGREGATES or not _USUAL.issuperset(given := vars(each)):
            return None
        of, *others = each.source_expressions
        name = getattr(of, "name", None) if type(of) is F else "*" if type(of) is Star else None
        if name is None or others or each.extra or not _is_bare(given):
            return None
        details.append((alias, type(each), name, bool(each.distinct)))
    return tuple(details)


def _is_bare(given: Mapping[str, Any]) -> bool:
    return given.get("filter") is None and given.get("default") is None and given.get("order_by") is None


def _forget(**kwargs: Any) -> None:
    """Learn everything anew; receiver of ``setting_changed``."""
    _remembered.cache_clear()
    forget_shapes()


setting_changed.connect(_forget, dispatch_uid="distcache_django.orm.recall")
