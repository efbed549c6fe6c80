"""Report statements that are a site's own text: cursors, ``raw()``, schema changes, COPY, procedures.

One wrapper per connection sees every statement that passes Django's cursors. What a compiler has accounted for is
let through; of the rest the text says which tables it writes, and the write is coarse. Where the text does not say
(a procedure, an anonymous block), every table of the installed models counts as written.

Not seen, because it does not pass Django: statements on the driver's own connection, what triggers and the
database's functions write, other programs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from django.db import connections
from django.db.backends import utils
from django.db.backends.signals import connection_created

from distcache_django.freshness import dependencies, transactions
from distcache_django.freshness.service import freshness
from distcache_django.orm import capture, changes
from distcache_django.orm import sql as text_analysis

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["install", "observe"]

# Texts are remembered up to this length: longer ones are data, and not seen twice.
_LONGEST_REMEMBERED = 4096
# The drivers' methods that Django hands out as they are; each takes the statement first.
_DRIVER_METHODS = ("copy", "copy_expert", "executescript", "stream")

Effect = tuple[frozenset[str] | None, bool]


def install() -> None:
    """See the statements of every connection of this process, open or yet to be opened; harmless when repeated."""
    connection_created.connect(_on_connection, dispatch_uid="distcache_django.orm.rawsql")
    for connection in connections.all(initialized_only=True):
        _watch(connection)
    for name in _DRIVER_METHODS:
        if not isinstance(vars(utils.CursorWrapper).get(name), _DriverMethod):
            setattr(utils.CursorWrapper, name, _DriverMethod(name))
    if not getattr(utils.CursorWrapper.callproc, "_distcache_patched", False):
        utils.CursorWrapper.callproc = _reporting_callproc(utils.CursorWrapper.callproc)  # type: ignore[method-assign]


def observe(
    execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Mapping[str, Any]
) -> Any:
    """Execute a statement and report what it writes; the entry of ``connection.execute_wrappers``.

    A statement that writes nothing costs a look-up by its text.
    """
    if not freshness().enabled:
        return execute(sql, params, many, context)
    connection = context["connection"]
    statement = capture.current_statement()
    if statement is not None and statement.owns(sql, connection):
        return statement.run(execute, sql, params, many, context)
    tables, chooses_isolation = _effect_of(sql, context["cursor"])
    if chooses_isolation:
        transactions.note_isolation(connection.alias)
    if tables is not None and not tables:
        return execute(sql, params, many, context)
    with _reporting(connection, tables):
        return execute(sql, params, many, context)


def _on_connection(connection: BaseDatabaseWrapper, **_: Any) -> None:
    _watch(connection)


def _watch(connection: BaseDatabaseWrapper) -> None:
    # First in the list is outermost: it sees the text by the identity that the compiler's statement has. Wrappers
    # that a site installs for a block are last, and taken off there.
    if observe not in connection.execute_wrappers:
        connection.execute_wrappers.insert(0, observe)


def _effect_of(sql: Any, cursor: Any) -> Effect:
    if type(sql) is not str:
        sql = _as_text(sql, cursor)
    return _remembered_effect(sql) if len(sql) <= _LONGEST_REMEMBERED else _effect(sql)


def _effect(sql: str) -> Effect:
    """Return the tables that a text writes, ``None`` for all there may be; and whether it chooses an isolation."""
    written = text_analysis.written(sql)
    tables = None if written.everything else frozenset(written.tables)
    return tables, text_analysis.changes_isolation(sql)


_remembered_effect = lru_cache(maxsize=4096)(_effect)


def _as_text(sql: Any, cursor: Any) -> str:
    """Return the text of what drivers take besides text: bytes, and psycopg's composed statements."""
    if isinstance(sql, (bytes, bytearray)):
        return sql.decode(errors="replace")
    if hasattr(sql, "as_string"):
        return str(sql.as_string(getattr(cursor, "cursor", cursor)))
    return str(sql)


def _reporting(connection: BaseDatabaseWrapper, tables: Iterable[str] | None) -> AbstractContextManager[None]:
    """Return the block in which one statement runs that writes these tables, ``None`` for all."""
    written = changes.all_tables() if tables is None else changes.resolve_tables(tables)
    if not written or connection.alias not in connections:  # one that makes a test's database has no alias
        return _nothing()
    return transactions.writing(connection.alias, dependencies.coarse(written))


@contextmanager
def _nothing() -> Iterator[None]:
    yield


# ---------------------------------------------------------------- past execute()


class _DriverMethod:
    """Be a method of the driver's cursor that ``CursorWrapper`` would hand out, reporting what it writes.

    There is no such attribute where the driver has none, as before.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, cursor: Any, owner: type | None = None) -> Any:
        if cursor is None:
            raise AttributeError(self.name)
        return partial(_call_driver, cursor, getattr(cursor.cursor, self.name))


def _call_driver(cursor: Any, method: Callable[..., Any], sql: Any, *args: Any, **kwargs: Any) -> Any:
    tables = _effect_of(sql, cursor)[0] if freshness().enabled else frozenset()
    if tables is not None and not tables:
        return method(sql, *args, **kwargs)
    if method.__name__ == "copy":  # psycopg 3: a context manager; the rows are written when it ends
        return _copy(cursor.db, tables, method(sql, *args, **kwargs))
    with _reporting(cursor.db, tables):
        return method(sql, *args, **kwargs)


@contextmanager
def _copy(connection: BaseDatabaseWrapper, tables: Iterable[str] | None, copy: Any) -> Iterator[Any]:
    with _reporting(connection, tables), copy as opened:
        yield opened


def _reporting_callproc(original: Callable[..., Any]) -> Callable[..., Any]:
    def callproc(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not freshness().enabled:
            return original(self, *args, **kwargs)
        with _reporting(self.db, None):
            return original(self, *args, **kwargs)

    callproc._distcache_patched = True  # type: ignore[attr-defined]  # so that installing again changes nothing
    return callproc
