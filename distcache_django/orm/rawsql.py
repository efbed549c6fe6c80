"""Report statements that are a site's own text: cursors, ``raw()``, schema changes, COPY, procedures.

One wrapper per connection sees every statement that passes Django's cursors. What a compiler has accounted for is
let through; of the rest the text says which tables it writes, and the write is coarse, unless the text says which row
it is confined to. Where the text does not say
(a procedure, an anonymous block), every table of the installed models counts as written.

Not seen, because it does not pass Django: statements on the driver's own connection, what triggers and the
database's functions write, other programs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache, partial, wraps
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import connections
from django.db.backends import utils
from django.db.backends.signals import connection_created

from distcache_django.freshness import dependencies, transactions
from distcache_django.freshness.recording import note, recorder, spoil
from distcache_django.freshness.service import freshness
from distcache_django.orm import capture, changes
from distcache_django.orm import sql as text_analysis
from distcache_django.orm.sqlrows import OneRow, one_row
from distcache_django.orm.values import canonical_exact, is_refinable

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["install", "observe"]

# Texts are remembered up to this length: longer ones are data, and not seen twice.
_LONGEST_REMEMBERED = 4096
# The drivers' methods that Django hands out as they are; each takes the statement first.
_DRIVER_METHODS = ("copy", "executescript", "stream")
_installed = False
_NOTHING: AbstractContextManager[None] = nullcontext()


class Effect(NamedTuple):
    """Be what a text does: the tables it writes (``None``: any), and what it means for the transaction."""

    tables: frozenset[str] | None
    chooses_isolation: bool
    ends_transaction: bool
    #: The row that it is confined to, where the text says so.
    row: OneRow | None = None


_HARMLESS = Effect(frozenset(), chooses_isolation=False, ends_transaction=False)


def install() -> None:
    """See the statements of every connection of this process, open or yet to be opened; harmless when repeated."""
    global _installed  # noqa: PLW0603 - Django's classes are the process's too
    connection_created.connect(_on_connection, dispatch_uid="distcache_django.orm.rawsql")
    for connection in connections.all(initialized_only=True):
        _watch(connection)
    _watch_driver_methods(utils.CursorWrapper)
    if not _installed:
        _installed = True
        utils.CursorWrapper.callproc = _reporting_callproc(utils.CursorWrapper.callproc)  # type: ignore[method-assign]


def observe(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Mapping[str, Any]) -> Any:
    """Execute a statement and report what it writes; the entry of ``connection.execute_wrappers``.

    A statement that writes nothing costs a look-up by its text.
    """
    if not freshness().enabled:
        return execute(sql, params, many, context)
    connection = context["connection"]
    statement = capture.current_statement()
    if statement is not None and statement.owns(sql, connection):
        return statement.run(execute, sql, params, many, context)
    effect = _effect_of(sql, context["cursor"])
    loading = recorder()
    # By its text: psycopg's composed statements need not be hashable.
    if loading is not None and (text := _text(sql, context["cursor"])) not in loading.texts:
        _note_read(text, effect)
    if effect is _HARMLESS:
        return execute(sql, params, many, context)
    if effect.chooses_isolation:
        transactions.note_isolation(connection)
    with _reporting(connection, effect, None if many else params):
        return execute(sql, params, many, context)


def _note_read(sql: str, effect: Effect) -> None:
    """Tell the answer that is being loaded what a site's own statement reads."""
    reading = text_analysis.reading(sql)
    if effect is not _HARMLESS:
        spoil("it is loaded by SQL that writes")
    elif reading.doubt and sql.lstrip()[:6].upper() == "SELECT":
        spoil(f"SQL of the site's own: {reading.doubt}")
    else:
        note(sorted(changes.resolve_tables(reading.tables)))


def _on_connection(connection: BaseDatabaseWrapper, **_: Any) -> None:
    _watch(connection)
    _watch_driver_methods(utils.CursorWrapper)  # a backend's own wrappers are known now


def _watch(connection: BaseDatabaseWrapper) -> None:
    # First in the list is outermost: it sees the text by the identity that the compiler's statement has. Wrappers
    # that a site installs for a block are last, and taken off there.
    if observe not in connection.execute_wrappers:
        connection.execute_wrappers.insert(0, observe)


def _effect_of(sql: Any, cursor: Any) -> Effect:
    sql = _text(sql, cursor)
    return _remembered_effect(sql) if len(sql) <= _LONGEST_REMEMBERED else _effect(sql)


def _effect(sql: str) -> Effect:
    written = text_analysis.written(sql)
    effect = Effect(
        None if written.everything else written.tables,
        text_analysis.changes_isolation(sql),
        text_analysis.ends_transaction(sql),
        one_row(sql),
    )
    return _HARMLESS if effect == _HARMLESS else effect


_remembered_effect = lru_cache(maxsize=4096)(_effect)


def _text(sql: Any, cursor: Any) -> str:
    """Return the text of a statement; drivers take bytes too, and psycopg's composed statements."""
    if type(sql) is str:
        return sql
    if isinstance(sql, (bytes, bytearray)):
        return sql.decode(errors="replace")
    if hasattr(sql, "as_string"):
        return str(sql.as_string(getattr(cursor, "cursor", cursor)))
    return str(sql)


@contextmanager
def _reporting(connection: BaseDatabaseWrapper, effect: Effect, params: Any = None) -> Iterator[None]:
    """Report one statement, which runs in the block."""
    touches = _touches(connection, effect, params)
    with (
        transactions.writing(connection, touches) if touches else _NOTHING,
        transactions.committing(connection) if effect.ends_transaction else _NOTHING,
    ):
        yield
    if effect.ends_transaction and touches and not transactions.in_autocommit(connection):
        # A text that has begun a transaction and written in it: it is yet to be committed.
        transactions.record_write(connection, touches)


def _touches(connection: BaseDatabaseWrapper, effect: Effect, params: Any) -> set[str]:
    """Return what a statement touches: one row, whose other values are not known, or any row of its tables."""
    tables = changes.all_tables() if effect.tables is None else changes.resolve_tables(effect.tables)
    if effect.row is not None and len(tables) == 1:
        (table,) = tables
        key = _key(connection, table, effect.row, params)
        if key is not None:
            return {dependencies.row(table, key), dependencies.value_epoch(table), table}
    return dependencies.coarse(tables)


def _key(connection: BaseDatabaseWrapper, table: str, row: OneRow, params: Any) -> str | None:
    """Return the canonical primary key that a parameter names, ``None`` where that is not certain."""
    target = changes.target_named(table)
    # A name that differs in case may be another column's: quoted, in another table's place.
    if target is None or target.columns[0] != row.column or not is_refinable(target.pk, connection.vendor):
        return None
    try:
        return canonical_exact(target.pk, params[row.parameter])
    except (LookupError, TypeError):  # the database will say what is wrong
        return None


# ---------------------------------------------------------------- past execute()


class _DriverMethod:
    """Be a method of the driver's cursor that ``CursorWrapper`` would hand out, reporting what it writes.

    There is no such attribute where the driver has none, as before. ``own`` is the method that a subclass of the
    wrapper has in its place.
    """

    def __init__(self, name: str, own: Any = None) -> None:
        self.name = name
        self.own = own

    def __get__(self, cursor: Any, owner: type | None = None) -> Any:
        if cursor is None:
            return self
        method = getattr(cursor.cursor, self.name) if self.own is None else self.own.__get__(cursor)
        return partial(_call_driver, self.name, cursor, method)


def _watch_driver_methods(wrapper: type) -> None:
    for name in _DRIVER_METHODS:
        own = vars(wrapper).get(name)
        if not isinstance(own, _DriverMethod) and (own is not None or wrapper is utils.CursorWrapper):
            setattr(wrapper, name, _DriverMethod(name, own))
    subclasses: list[type] = wrapper.__subclasses__()
    for subclass in subclasses:
        _watch_driver_methods(subclass)


def _call_driver(name: str, cursor: Any, method: Callable[..., Any], sql: Any, *args: Any, **kwargs: Any) -> Any:
    effect = _effect_of(sql, cursor) if freshness().enabled else _HARMLESS
    if effect is _HARMLESS:
        return method(sql, *args, **kwargs)
    if name == "copy":  # a context manager of psycopg: the rows are written when it ends
        return _copy(cursor.db, effect, method(sql, *args, **kwargs))
    if name == "stream":
        return _stream(cursor.db, effect, method(sql, *args, **kwargs))
    with _reporting(cursor.db, effect):
        return method(sql, *args, **kwargs)


@contextmanager
def _copy(connection: BaseDatabaseWrapper, effect: Effect, copy: Any) -> Iterator[Any]:
    with _reporting(connection, effect), copy as opened:
        yield opened


def _stream(connection: BaseDatabaseWrapper, effect: Effect, rows: Iterable[Any]) -> Iterator[Any]:
    with _reporting(connection, effect):
        yield from rows


def _reporting_callproc(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def callproc(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not freshness().enabled:
            return original(self, *args, **kwargs)
        with _reporting(self.db, Effect(None, chooses_isolation=False, ends_transaction=False)):
            return original(self, *args, **kwargs)

    return callproc
