"""Get from the database which rows a statement wrote, and what they held before and after.

Old values are never an instance's: two writers that hold copies of one row would leave a group's list wrong. They
come from ``RETURNING``, or from a read of the same rows under a lock. What each database can do:

==================  =====================================  ==========================================
database            rows, new values; old ones at DELETE   old values at UPDATE
==================  =====================================  ==========================================
PostgreSQL 18       ``RETURNING``                          ``RETURNING old``
PostgreSQL 14-17    ``RETURNING``                          read ``FOR NO KEY UPDATE`` first
SQLite 3.35         ``RETURNING``                          read first, under the database's write lock
MySQL, MariaDB      read ``FOR UPDATE`` first              the same
others              every write is coarse
==================  =====================================  ==========================================

A statement of a compiler is known to the wrapper of ``rawsql`` by the identity of its text while it is *current*.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from distcache_django.orm.changes import MAX_ROWS, Row, Target

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = [
    "READING",
    "Abilities",
    "Statement",
    "abilities_of",
    "can_return_old",
    "current_statement",
    "executing",
    "read_keys",
    "read_rows",
    "returning",
    "wrapped",
]

_POSTGRES_WITH_OLD = 180000
# What PostgreSQL takes in RETURNING as the row before and after; a table of that name hides it.
_ROW_NAMES = frozenset({"old", "new"})


@dataclass(frozen=True, slots=True)
class Abilities:
    """Be what a database can say of its writes.

    ``returns``: ``RETURNING`` at UPDATE and DELETE. ``returns_old``: the values before as well. ``wraps``: a write
    may stand in ``WITH``, so that the server keeps what exceeds the limit. ``lock``: what a locking read ends with,
    ``None`` where there is none. ``locks_database``: a write must come before the read.
    """

    returns: bool = False
    returns_old: bool = False
    wraps: bool = False
    lock: str | None = None
    locks_database: bool = False


_POSTGRES = Abilities(returns=True, wraps=True, lock=" FOR NO KEY UPDATE")
_POSTGRES_18 = Abilities(returns=True, returns_old=True, wraps=True, lock=" FOR NO KEY UPDATE")
_SQLITE = Abilities(returns=True, lock="", locks_database=True)
_MYSQL = Abilities(lock=" FOR UPDATE")
_NONE = Abilities()


def abilities_of(connection: BaseDatabaseWrapper) -> Abilities:
    """Return what the database behind a connection can do; connects if it is not connected, as the write would."""
    if connection.vendor == "postgresql":
        if connection.connection is None:
            connection.cursor().close()  # asking for the version of a closed connection would close it again
        return _POSTGRES_18 if cast("Any", connection).pg_version >= _POSTGRES_WITH_OLD else _POSTGRES
    if connection.vendor == "sqlite":
        return _SQLITE if connection.features.can_return_columns_from_insert else _NONE
    return _MYSQL if connection.vendor == "mysql" and connection.features.has_select_for_update else _NONE


class Statement:
    """Be one writing statement: its text, by identity, and the rows that it returned beyond what Django asks for.

    ``rows`` stays ``None`` where nothing was returned, or nothing could be read; it holds at most one row more than
    a write may have that is not coarse. ``count`` is the number of rows where the cursor would give another.
    """

    __slots__ = ("_connection", "_fetches", "_texts", "_wraps", "count", "is_executed", "rows")

    def __init__(self, connection: BaseDatabaseWrapper, *, fetches: bool = False, wraps: bool = False) -> None:
        self.rows: list[Row] | None = None
        self.count: int | None = None
        self.is_executed = False
        self._connection = connection
        self._fetches = fetches
        self._wraps = wraps
        self._texts: list[str] = []

    def named(self, sql: str) -> str:
        """Return ``sql``, by whose identity this statement is known from now on."""
        self._texts.append(sql)
        return sql

    def owns(self, sql: object, connection: BaseDatabaseWrapper) -> bool:
        """Return whether a text that is about to be executed is this statement."""
        return connection is self._connection and any(sql is text for text in self._texts)

    def run(self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Mapping[str, Any]) -> Any:
        """Execute the statement, and read what it returns if Django is not going to."""
        result = execute(sql, params, many, context)
        self.is_executed = True
        if self._fetches:
            self._fetch(context["cursor"])
        return result

    def _fetch(self, cursor: Any) -> None:
        if cursor.description is None:  # a wrapper of the site's own did not execute it
            return
        rows: list[Row] = cursor.fetchmany(MAX_ROWS + 1)
        if self._wraps:
            self.count = rows[0][-1] if rows else 0
            rows = [row[:-1] for row in rows]
        elif self._connection.vendor == "sqlite":
            while cursor.fetchmany(1000):  # its row count is right only once all is read
                pass
        self.rows = [*(self.rows or ()), *rows]


class _Reading:
    """Be a read of a compiler, whose text need not be looked at: so long as it is one, that is."""

    __slots__ = ()

    def owns(self, sql: object, connection: BaseDatabaseWrapper) -> bool:
        return type(sql) is str and sql.startswith(("SELECT", "(SELECT"))

    def run(self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Mapping[str, Any]) -> Any:
        return execute(sql, params, many, context)


READING = _Reading()

_current: ContextVar[Statement | _Reading | None] = ContextVar("distcache_statement", default=None)


def current_statement() -> Statement | _Reading | None:
    """Return the statement that a compiler is executing, if any, in this thread or task."""
    return _current.get()


class executing:  # noqa: N801 - reads like a function, and costs a third of a generator's context manager
    """Let a statement be current in this block."""

    __slots__ = ("_statement", "_token")

    def __init__(self, statement: Statement | _Reading) -> None:
        self._statement = statement

    def __enter__(self) -> None:
        """Let it be current."""
        self._token = _current.set(self._statement)

    def __exit__(self, *_: object) -> None:
        """Let what was current before be so again."""
        _current.reset(self._token)


def returning(connection: BaseDatabaseWrapper, target: Target, *, with_old: bool) -> tuple[str, ...]:
    """Return the columns that say what a row's write touches, for ``RETURNING``."""
    columns = _columns(connection, target, target.columns)
    if with_old:
        quote = connection.ops.quote_name
        columns += [f"old.{quote(column)}" for column in target.columns[1:]]
    return tuple(columns)


def can_return_old(abilities: Abilities, target: Target) -> bool:
    """Return whether ``returning(with_old=True)`` works for a table."""
    return abilities.returns_old and target.table.lower() not in _ROW_NAMES


def wrapped(sql: str, width: int) -> str:
    """Return a statement around a write that returns rows: it gives the first of them, and how many there were."""
    names = ", ".join(f"c{position}" for position in range(width))
    return (
        f"WITH distcache_written ({names}) AS ({sql}) "  # noqa: S608 - the compiler's own statement
        f"SELECT *, (SELECT COUNT(*) FROM distcache_written) FROM distcache_written LIMIT {MAX_ROWS + 1}"
    )


def read_rows(
    connection: BaseDatabaseWrapper, target: Target, condition: str, params: Sequence[Any], abilities: Abilities
) -> list[Row]:
    """Return the rows of a condition, as ``touched`` wants them, locked until the transaction ends.

    At most one row more than a write may have that is not coarse. One query; on SQLite two, as a transaction that
    reads before it writes fails when another one writes in between.
    """
    table = connection.ops.quote_name(target.table)
    if abilities.locks_database:
        _run(connection, f"DELETE FROM {table} WHERE 0", ())  # noqa: S608 - quoted name of a model's table
    columns = ", ".join(_columns(connection, target, target.columns))
    sql = f"SELECT {columns} FROM {table} WHERE {condition} LIMIT {MAX_ROWS + 1}{abilities.lock}"  # noqa: S608 - see above
    return _run(connection, sql, params)


def read_keys(connection: BaseDatabaseWrapper, target: Target, keys: Sequence[Any], abilities: Abilities) -> list[Row]:
    """Return the rows of some primary keys, as ``read_rows`` does; no query where there are none."""
    if not keys:
        return []
    column = f"{connection.ops.quote_name(target.table)}.{connection.ops.quote_name(target.columns[0])}"
    condition = f"{column} IN ({', '.join(['%s'] * len(keys))})"
    return read_rows(connection, target, condition, keys, abilities)


def _columns(connection: BaseDatabaseWrapper, target: Target, columns: Sequence[str]) -> list[str]:
    quote = connection.ops.quote_name
    return [f"{quote(target.table)}.{quote(column)}" for column in columns]


def _run(connection: BaseDatabaseWrapper, sql: str, params: Sequence[Any]) -> list[Row]:
    statement = Statement(connection)
    with executing(statement), connection.cursor() as cursor:
        cursor.execute(statement.named(sql), params)
        return cursor.fetchall() if cursor.description is not None else []
