"""Answer the ORM's reads from the cache, below Django's converters.

``SQLCompiler.execute_sql`` is where every queryset reads rows. It is compiled here as always, so that the compiler
knows its columns, converters and annotations; only the rows come from the cache. Everything above (converters, model
instances, signals, prefetching, named tuples) is Django's own and cannot tell the difference.

A query goes to the database as ever when it is not to be cached, when what it depends on cannot be known, when it
locks or explains, when it streams (``iterator()``), and while the connection's transaction has written or looks at an
older state than the versions do.
"""

from __future__ import annotations

import time
from asyncio import _get_running_loop
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from django.core.exceptions import EmptyResultSet
from django.db.models import Value
from django.db.models.sql.constants import GET_ITERATOR_CHUNK_SIZE, MULTI, SINGLE

from distcache_django.freshness.recording import account, note, recorder, spoil
from distcache_django.freshness.service import freshness
from distcache_django.freshness.transactions import may_use_cache
from distcache_django.orm import analysis, fingerprint
from distcache_django.orm.options import COMPILE_ONLY, AnyQuery, QueryOptions, choose, lifetime, no_cache
from distcache_django.orm.profiles import Profile, declared_columns

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models.sql.compiler import SQLCompiler

__all__ = [
    "MAX_ROWS",
    "Compiled",
    "Identity",
    "Rows",
    "Unrun",
    "compile_sql",
    "identify",
    "is_too_large",
    "load_rows",
    "may_ask",
    "rows_of",
    "wrap_execute_sql",
]

#: Answers of more rows than this are not stored: they would cost the nodes more than they save the database.
MAX_ROWS = 10_000
# A query with too large an answer is not asked for again for this many seconds: its readers would all wait for the
# one who loads, and then load themselves.
_TOO_LARGE_FOR = 60.0
_MAX_REMEMBERED = 1024
_UNKNOWN = "what a query depends on is not known"

Rows = list[tuple[Any, ...]]
Compiled = tuple[str, Sequence[Any]]


class Identity(NamedTuple):
    """Be what a query is in the cache: its key, and what its answer depends on, in order."""

    key: str
    dependencies: tuple[str, ...]


class Unrun(Exception):
    """Carry the compiler of a query that was to be compiled only (``COMPILE_ONLY``)."""

    def __init__(self, compiler: SQLCompiler) -> None:
        super().__init__()
        self.compiler = compiler


class _TooLarge(Exception):
    """Carry an answer past the cache that is not to be stored."""

    def __init__(self, rows: Rows) -> None:
        super().__init__()
        self.rows = rows


def wrap_execute_sql(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return an ``execute_sql`` that takes rows from the cache where it may, and calls ``original`` elsewhere.

    A query that is not cached costs half a microsecond more; a cached answer one round trip to the nodes, in
    parallel. With the nodes down the original runs, after at most one deadline.
    """

    def execute_sql(
        self: SQLCompiler,
        result_type: str = MULTI,
        chunked_fetch: bool = False,
        chunk_size: int = GET_ITERATOR_CHUNK_SIZE,
    ) -> Any:
        if not chunked_fetch and result_type in _READS:
            options = choose(self.query)
            if options is COMPILE_ONLY:
                raise Unrun(self)
            if options is not None and _op(self.query, result_type) in options.ops and _may_answer(self):
                return _answer(partial(original, self, result_type, False, chunk_size), self, result_type, options)
        if recorder() is not None:
            _note(self, result_type)
        return original(self, result_type, chunked_fetch, chunk_size)

    return execute_sql


_READS = (MULTI, SINGLE)


def _op(query: AnyQuery, result_type: str) -> str:
    """Return which of ``ops`` a query is; a ``get()`` makes itself a fetch (see fastget)."""
    if result_type == MULTI:
        return "fetch"
    annotations = query.annotation_select
    if len(annotations) == 1:
        name, expression = next(iter(annotations.items()))
        if name == "__count":
            return "count"
        if name == "a" and isinstance(expression, Value):  # what Query.exists() selects
            return "exists"
    return "aggregate"


def _may_answer(compiler: SQLCompiler) -> bool:
    query = compiler.query
    if query.select_for_update or query.explain_info is not None:
        return False
    # An UPDATE over several tables first selects the keys of its rows: what a write is based on is never cached.
    return "related_updates" not in query.__dict__ and may_ask(compiler.connection)


def may_ask(connection: BaseDatabaseWrapper) -> bool:
    """Return whether an answer for this connection may come from the cache, or go there, right now.

    In a transaction that must be rolled back, and on an event loop, Django refuses to query; so it shall.
    """
    return not connection.needs_rollback and _get_running_loop() is None and may_use_cache(connection)


def _answer(run: Callable[[], Any], compiler: SQLCompiler, result_type: str, options: QueryOptions | Profile) -> Any:
    compiled = compile_sql(compiler)
    if compiled is None:
        return run()
    dependencies = _dependencies(compiler, compiled)
    if dependencies is None:
        spoil(_UNKNOWN)
        return _run(run, compiler, compiled)
    ordered = _in_order(dependencies)
    key = _key(compiler, compiled, result_type)
    if key is None or is_too_large(key):
        note(ordered)
        return _run(run, compiler, compiled)
    identity = Identity(key, ordered)
    rows = rows_of(identity, lambda: _rows(_run(run, compiler, compiled), result_type), options)
    if result_type == SINGLE:
        return rows[0] if rows else None
    return [rows] if rows else []


def rows_of(identity: Identity, load: Callable[[], Rows], options: QueryOptions | Profile) -> Rows:
    """Return the rows of a query, from the cache or by ``load``."""
    try:
        return freshness().answer(identity.key, identity.dependencies, load, lifetime(options))
    except _TooLarge as answer:
        _remember(identity.key)
        return answer.rows


def identify(compiler: SQLCompiler, compiled: Compiled, result_type: str) -> Identity | None:
    """Return what a compiled query is in the cache, ``None`` where it must not be cached."""
    dependencies = _dependencies(compiler, compiled)
    key = None if dependencies is None else _key(compiler, compiled, result_type)
    return None if dependencies is None or key is None else Identity(key, _in_order(dependencies))


def load_rows(compiler: SQLCompiler, compiled: Compiled, result_type: str) -> Rows:
    """Return the rows of a compiled query from the database."""
    account(compiled[0])
    with no_cache():
        run: Callable[[], Any] = partial(cast("Any", compiler.execute_sql), result_type)
        return _rows(_run(run, compiler, compiled), result_type)


def _note(compiler: SQLCompiler, result_type: str) -> None:
    """Tell the answer that is being loaded what it depends on, before a query that is not cached itself."""
    if result_type not in _READS:
        spoil("it is loaded by code that writes")
    elif not _may_answer(compiler):
        spoil("a query cannot be cached in this transaction, or locks rows")
    elif (compiled := compile_sql(compiler)) is not None:
        dependencies = _dependencies(compiler, compiled)
        if dependencies is None:
            spoil(_UNKNOWN)
        else:
            note(_in_order(dependencies))


def compile_sql(compiler: SQLCompiler) -> Compiled | None:
    """Return SQL and parameters, ``None`` where Django knows without a query that there are no rows."""
    try:
        sql, params = compiler.as_sql()
    except EmptyResultSet:
        return None
    account(sql)
    return (sql, params) if sql else None


def _dependencies(compiler: SQLCompiler, compiled: Compiled) -> frozenset[str] | None:
    return analysis.dependencies(compiler.query, compiled[0], declared_columns, compiler.connection.vendor)


def _in_order(dependencies: Collection[str]) -> tuple[str, ...]:
    """Return dependencies in the same order in every process, those of rows and values before their tables'."""
    return tuple(sorted(dependencies, reverse=True))


def _key(compiler: SQLCompiler, compiled: Compiled, result_type: str) -> str | None:
    """Return the answer's key, ``None`` where a parameter has no form that tells it from all others."""
    place = compiler.connection.settings_dict
    # How many of the columns are the answer is not in the SQL: DISTINCT adds those that it is ordered by. A test
    # runner changes the database under its alias.
    extra = (result_type, compiler.col_count, str(place["NAME"]), place["HOST"], str(place["PORT"]))
    try:
        return fingerprint.query_key(compiler, *compiled, *extra)
    except fingerprint.NoKey:
        return None


def _run(run: Callable[[], Any], compiler: SQLCompiler, compiled: Compiled) -> Any:
    """Run the original ``execute_sql`` on what is compiled already, which is faster and cannot differ."""
    vars(compiler)["as_sql"] = lambda: compiled
    try:
        return run()
    finally:
        del vars(compiler)["as_sql"]


def _rows(result: Any, result_type: str) -> Rows:
    if result_type == SINGLE:
        return [result] if result else []
    rows = [row for chunk in cast("Iterable[Rows]", result) for row in chunk]
    if len(rows) > MAX_ROWS:
        raise _TooLarge(rows)
    return rows


_too_large: dict[str, float] = {}


def is_too_large(key: str) -> bool:
    """Return whether an answer was found to have too many rows a short while ago."""
    return _too_large.get(key, 0.0) > time.monotonic()


def _remember(key: str) -> None:
    if len(_too_large) >= _MAX_REMEMBERED:
        _too_large.clear()
    _too_large[key] = time.monotonic() + _TOO_LARGE_FOR
