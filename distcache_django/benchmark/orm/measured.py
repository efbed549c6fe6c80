"""Take the times of what a connection does, count what it asks, and keep the ledger of what it committed.

All of it happens between Django and the server, in psycopg's connection and cursor: the times of a COMMIT are
taken around COMMIT itself and not around the hooks of whoever patches Django, and a library cannot move them.
What a transaction has written, the server says itself, in notices (``sql/schema.sql``); a savepoint that is
rolled back takes back what was noted since it was set.

A distance to the database is simulated by waiting: half of it before each statement, COMMIT and ROLLBACK, and
half after it. psycopg's BEGIN is not delayed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Self, TypeVar

import psycopg
from psycopg.errors import Diagnostic
from psycopg.pq import TransactionStatus

from distcache_django.benchmark.orm.truth import Commit

__all__ = ["Asked", "Book", "MeasuredCursor", "asked_by_this_thread", "measure", "statements_of_this_thread"]

_Result = TypeVar("_Result")
_SAVEPOINT, _ROLLBACK_TO = "SAVEPOINT ", "ROLLBACK TO SAVEPOINT "


class Asked:
    """How many statements one thread has sent to the database so far."""

    __slots__ = ("statements",)

    def __init__(self) -> None:
        self.statements = 0


class _Threads(threading.local):
    def __init__(self) -> None:
        self.asked = Asked()


_threads = _Threads()


def asked_by_this_thread() -> Asked:
    """Return the count of the thread that calls, which goes on counting; looked up once, it costs a read nothing."""
    return _threads.asked


def statements_of_this_thread() -> int:
    """Return how many statements this thread has sent to the database so far."""
    return _threads.asked.statements


class Book:
    """Note what one connection writes, and when its commits begin and return; used by one thread."""

    def __init__(self, raw: Any, commits: list[Commit], distance: float) -> None:
        self._raw = raw
        self._commits = commits
        self._half = distance / 2
        self._items: list[tuple[int, int, int]] = []
        self._tags: list[tuple[int, int, int]] = []
        self._savepoints: dict[str, tuple[int, int]] = {}

    def hear(self, notice: Diagnostic) -> None:
        """Note what the server says a statement has written."""
        kind, _, told = (notice.message_primary or "").partition(" ")
        noted = {"stock_item": self._items, "stock_tags": self._tags}.get(kind)
        if noted is not None:
            for entry in told.split():
                one, two, three = map(int, entry.split(":"))
                noted.append((one, two, three))

    def run(self, text: str, statement: Callable[[], _Result]) -> _Result:
        """Run one statement, which commits by itself where no transaction is open."""
        _threads.asked.statements += 1
        commits = self._raw.autocommit and self._raw.info.transaction_status == TransactionStatus.IDLE
        begun = time.monotonic_ns()
        try:
            result = self._at_distance(statement)
        except BaseException:
            if commits:
                self._forget()
            raise
        if commits:
            self._settle(begun)
        else:
            self._note_savepoint(text)
        return result

    def commit(self, original: Callable[[], None]) -> None:
        """Commit and note when that began and when it had returned; one that fails has written nothing."""
        begun = time.monotonic_ns()
        try:
            self._at_distance(original)
        except BaseException:
            self._forget()
            raise
        self._settle(begun)

    def rollback(self, original: Callable[[], None]) -> None:
        """Roll back; what the transaction wrote is forgotten."""
        self._at_distance(original)
        self._forget()

    def _at_distance(self, action: Callable[[], _Result]) -> _Result:
        if not self._half:
            return action()
        time.sleep(self._half)
        result = action()
        time.sleep(self._half)
        return result

    def _note_savepoint(self, text: str) -> None:
        if text.startswith(_SAVEPOINT):
            self._savepoints[text.removeprefix(_SAVEPOINT)] = len(self._items), len(self._tags)
        elif text.startswith(_ROLLBACK_TO):
            items, tags = self._savepoints[text.removeprefix(_ROLLBACK_TO)]
            del self._items[items:], self._tags[tags:]

    def _settle(self, begun: int) -> None:
        if self._items or self._tags:
            self._commits.append(Commit(begun, time.monotonic_ns(), tuple(self._items), tuple(self._tags)))
        self._forget()

    def _forget(self) -> None:
        self._items.clear()
        self._tags.clear()
        self._savepoints.clear()


class MeasuredCursor(psycopg.ClientCursor[Any]):
    """Be a cursor as Django makes it; the statements of a connection under measurement go through its book."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        """Execute a statement and note it."""
        statement = partial(super().execute, query, params, **options)
        book: Book | None = getattr(self.connection, "book", None)
        return statement() if book is None else book.run(str(query), statement)


def measure(commits: list[Commit], distance: float) -> Callable[..., None]:
    """Return a receiver of ``connection_created`` that puts each new connection under measurement.

    ``commits`` gets what they commit; ``distance`` is in seconds. The connection's cursors have to be
    ``MeasuredCursor``.
    """

    def begin(*, connection: Any, **_: Any) -> None:
        raw = connection.connection
        raw.book = book = Book(raw, commits, distance)
        raw.add_notice_handler(book.hear)
        raw.commit = partial(book.commit, raw.commit)
        raw.rollback = partial(book.rollback, raw.rollback)

    return begin
