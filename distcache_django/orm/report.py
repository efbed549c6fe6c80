"""Run one statement of a compiler so that what it touches is reported, before anybody can see the change.

Three ways, the cheapest that is exact:

- *known*: everything is known before the statement runs. It runs as Django made it.
- *returned*: the statement returns the rows it wrote, and what they held before, along with what Django asks for.
- *locked*: the rows are read under a lock first, where the database cannot return what they held.

Where the rows are found only while the statement runs, it runs in a transaction of its own if there is none: rows are
marked between the statement and its COMMIT. Django's results, row counts and exceptions stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import Error, transaction

from distcache_django.freshness import dependencies, transactions
from distcache_django.orm import capture
from distcache_django.orm.changes import MAX_ROWS, Row, Target, touched
from distcache_django.orm.values import NotCanonical

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["Find", "Report", "run_known", "run_reported"]

R = TypeVar("R")
#: Parts what Django's method returned into that and the rows that were written, ``None`` where they are not known.
Find = Callable[[R], tuple[R, Iterable[Row] | None]]


@dataclass(slots=True)
class Report:
    """Be how one write is reported.

    ``known`` is what it touches if that is known beforehand. Else ``target`` is set, and ``returned`` are the columns
    that the statement is to return, ``condition`` that of the rows to read under a lock first; there is one of the
    two at least. ``also`` is touched besides: what the database changes in other tables.
    """

    connection: BaseDatabaseWrapper
    table: str
    abilities: capture.Abilities
    target: Target | None = None
    also: frozenset[str] = frozenset()
    known: set[str] | None = None
    returned: tuple[str, ...] = ()
    condition: tuple[str, tuple[Any, ...]] | None = None
    is_bounded: bool = False
    changes_declared: bool = False
    locked: list[Row] = field(default_factory=list)

    def coarse(self) -> set[str]:
        """Return what is touched when the rows are not known."""
        return dependencies.coarse({self.table}) | self.also

    def know_nothing(self) -> None:
        """Report coarsely, and leave the statement as it is."""
        self.known, self.returned, self.condition = self.coarse(), (), None

    def statement(self, *, is_returning: bool) -> capture.Statement:
        """Return the statement to run; Django reads what it returns if ``is_returning``."""
        fetches = bool(self.returned) and not is_returning
        return capture.Statement(self.connection, fetches=fetches, wraps=fetches and self._wraps())

    def text(self, sql: str, *, is_returning: bool) -> str:
        """Return Django's statement, made to return what it touches."""
        if not sql or not self.returned:
            return sql
        if is_returning:
            return f"{sql}, {', '.join(self.returned)}"
        sql = f"{sql} RETURNING {', '.join(self.returned)}"
        return capture.wrapped(sql, len(self.returned)) if self._wraps() else sql

    def _wraps(self) -> bool:
        return self.abilities.wraps and not self.is_bounded


def run_known(report: Report, touches: set[str], statement: capture.Statement, run: Callable[[], R]) -> R:
    """Run a statement that touches what is known beforehand; costs nothing but the report."""
    with transactions.writing(report.connection, touches | report.also), capture.executing(statement):
        return run()


def run_reported(
    report: Report,
    statement: capture.Statement,
    run: Callable[[], R],
    find: Find[R],
) -> R:
    """Run a statement, and report the rows that ``find`` tells from its result, with Django's part of the result."""
    with _transaction(report.connection):
        if report.condition is not None:
            _lock(report)
        with _report_unless_refused(report, statement), capture.executing(statement):
            result, rows = find(run())
            touches = _touched(report, rows)
        if touches:
            transactions.record_write(report.connection, touches)
    return result


def _lock(report: Report) -> None:
    """Read the rows under a lock. Too many of them: the write will be coarse, and need not return anything."""
    assert report.target is not None
    assert report.condition is not None
    condition, params = report.condition
    report.locked = capture.read_rows(report.connection, report.target, condition, params, report.abilities)
    if len(report.locked) > MAX_ROWS:
        report.returned = ()


def _touched(report: Report, rows: Iterable[Row] | None) -> set[str]:
    found = None if rows is None else list(rows)
    if found is None or report.target is None or max(len(found), len(report.locked)) > MAX_ROWS:
        return report.coarse()
    keys = {row[0] for row in report.locked}
    if report.condition is not None and not all(row[0] in keys for row in found):
        return report.coarse()  # a row that was not locked has an unknown past
    versions = [*report.locked, *found]
    try:
        return touched(report.target, versions) | report.also if versions else set()
    except NotCanonical:
        return report.coarse()


def _transaction(connection: BaseDatabaseWrapper) -> AbstractContextManager[Any]:
    """Return a transaction for one statement, or nothing where one is open already.

    A test's own transaction is as good as none: nobody else sees the row, so the report may follow the write.
    """
    if connection.in_atomic_block or not transactions.in_autocommit(connection):
        return nullcontext()
    return transaction.atomic(using=connection.alias, savepoint=False)


@contextmanager
def _report_unless_refused(report: Report, statement: capture.Statement) -> Iterator[None]:
    """Report coarsely what may be written when the block fails, for an open transaction may be committed still.

    An interruption (a task's time limit, say) comes at any moment; what a statement returned may be unreadable. Where
    the database refused the statement, nothing was written.
    """
    try:
        yield
    except BaseException as error:
        if statement.is_executed or not isinstance(error, Error):
            transactions.record_write(report.connection, report.coarse())
        raise
