"""Watch what a connection's transactions say to the nodes, and when, between the statements of a real database."""

import itertools
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar

import psycopg
import pytest
from django.db import connections, transaction

from distcache_django.conf.distcache import DistcacheSettings, parse_distcache
from distcache_django.exceptions import NodeUnreachable
from distcache_django.freshness.service import Attempt, MarkFailed
from distcache_django.freshness.tallies import Tallies
from distcache_django.freshness.transactions import record_write, writing
from tests.support.waiting import wait_until

T = TypeVar("T")
ROW = ("thing:1", "thing")
POSTGRES = pytest.param("postgresql", marks=pytest.mark.postgres)
COMMITTED = ["mark", "commit", "bump"]


def settings_with(**changes: Any) -> DistcacheSettings:
    """Return DISTCACHE's defaults, switched on, with changes."""
    settings, problems = parse_distcache({"ENABLED": False}, {})
    assert settings is not None, problems
    return replace(settings, enabled=True, **changes)


HELD = 4711
TRIGGER = f"""
CREATE OR REPLACE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_xact_lock({HELD}); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER held AFTER UPDATE ON thing DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION hold();
"""


class Recorder:
    """Stand where the service of a process stands, and note what it is told, in one log with the statements.

    ``events`` is that log: ``mark``, ``commit``, ``bump``, ``unmark`` and what the test adds.
    """

    def __init__(self) -> None:
        self.configure()
        self.enabled = True
        self.answers = True
        self.tallies = Tallies()
        self.events: list[str] = []
        self.marked: list[Attempt] = []
        self.bumped: list[tuple[frozenset[str], bytes | None]] = []
        self.unmarked: list[bytes] = []
        self.renewed: list[bytes] = []
        self.fails = False
        self.bug: Exception | None = None
        self.age = 0.0
        self._tokens = itertools.count()

    def configure(self, **settings: Any) -> None:
        """Let DISTCACHE be its defaults with changes."""
        self.settings = settings_with(**settings)
        self.is_strong = self.settings.freshness == "strong"

    def mark(self, dependencies: Collection[str]) -> Attempt:
        self.events.append("mark")
        if self.bug is not None:
            raise self.bug
        token = b"%d" % next(self._tokens)
        attempt = Attempt(token, tuple(dependencies), time.monotonic() - self.age)
        self.marked.append(attempt)
        if self.fails:
            raise MarkFailed(attempt, {"cache-a": NodeUnreachable("cache-a", "it is down")})
        return attempt

    def bump(self, dependencies: Collection[str], attempt: Attempt | None = None) -> None:
        self.events.append("bump")
        if self.bug is not None:
            raise self.bug
        self.bumped.append((frozenset(dependencies), attempt.token if attempt else None))

    def unmark(self, attempt: Attempt) -> None:
        self.events.append("unmark")
        self.unmarked.append(attempt.token)

    def renew(self, attempt: Attempt) -> bool:
        self.renewed.append(attempt.token)
        return True

    def take(self) -> list[str]:
        """Return what happened since the last look."""
        taken, self.events[:] = list(self.events), []
        return taken


class Database:
    """A database of the test's own under an alias, with a table ``thing``; ``take`` is its recorder's."""

    def __init__(self, alias: str, recorder: Recorder) -> None:
        self.alias = alias
        self.recorder = recorder
        self.vendor = connections[alias].vendor

    @property
    def connection(self) -> Any:
        return connections[self.alias]

    def take(self) -> list[str]:
        return self.recorder.take()

    def execute(self, sql: str, *params: object) -> None:
        """Execute a statement past the ORM cache's own hook: what is written is said here by the tests."""
        with self.connection.cursor() as cursor:
            cursor._execute(sql, params)

    def executemany(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Execute a statement for each of the rows, as ``execute`` does."""
        with self.connection.cursor() as cursor:
            cursor._executemany(sql, rows)

    def number(self, pk: int = 1) -> int | None:
        """Return what this connection sees in a row."""
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT n FROM thing WHERE id = %s", [pk])
            row = cursor.fetchone()
        return row[0] if row else None

    def write(self, dependencies: tuple[str, ...] = ROW) -> None:
        """Add one to row 1, in the open transaction."""
        record_write(self.alias, dependencies)
        self.execute("UPDATE thing SET n = n + 1 WHERE id = 1")

    def write_alone(self, sql: str = "UPDATE thing SET n = n + 1 WHERE id = 1") -> None:
        """Send one writing statement in whatever mode the connection is."""
        with writing(self.alias, ROW):
            self.execute(sql)

    def watch(self) -> None:
        """Note in the log when COMMIT is sent; on PostgreSQL ``watch_psycopg`` does."""
        if self.vendor == "sqlite":
            self.connection.ensure_connection()
            self.connection.connection.set_trace_callback(self._note)

    def _note(self, sql: str) -> None:
        if sql == "COMMIT":
            self.recorder.events.append("commit")


@contextmanager
def database(alias: str, entry: dict[str, object], recorder: Recorder) -> Iterator[Database]:
    """Make ``entry`` a database of Django's under ``alias``, for all threads, until the block ends."""
    connections.settings[alias] = connections.configure_settings({"default": {}, alias: entry})[alias]
    try:
        found = Database(alias, recorder)
        found.execute("DROP TABLE IF EXISTS thing")
        found.execute("CREATE TABLE thing (id integer PRIMARY KEY, n integer)")
        found.execute("INSERT INTO thing VALUES (1, 0)")
        found.watch()
        yield found
    finally:
        connections[alias].close()
        del connections[alias]
        del connections.settings[alias]


def watch_psycopg(monkeypatch: Any, recorder: Recorder) -> None:
    """Note in the log when COMMIT is sent to PostgreSQL for an open transaction."""
    commit = psycopg.Connection.commit

    def noted(self: psycopg.Connection[Any]) -> None:
        if self.pgconn.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            recorder.events.append("commit")
        commit(self)

    monkeypatch.setattr(psycopg.Connection, "commit", noted)


@contextmanager
def in_thread(function: Callable[[], T]) -> Iterator[Future[T]]:
    """Run a function in a thread, which has connections of its own; they are closed behind it."""

    def run() -> T:
        try:
            return function()
        finally:
            for connection in connections.all(initialized_only=True):
                connection.close()

    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(run)


class Undo(Exception):
    """End a block that is to be rolled back."""


@contextmanager
def rolled_back(using: str = "things") -> Iterator[None]:
    """Run the block in an atomic one that an exception ends."""
    with suppress(Undo), transaction.atomic(using):
        yield
        raise Undo


class Server:
    """See and steer the server over a link of its own."""

    def __init__(self, dsn: str) -> None:
        self._link = psycopg.connect(dsn, autocommit=True)

    def ask(self, query: str) -> Any:
        row = self._link.execute(query.encode()).fetchone()
        return row[0] if row else None

    @contextmanager
    def holding_commits(self) -> Iterator[None]:
        """Hold every COMMIT that has updated a thing until the block ends."""
        self.ask(f"SELECT pg_advisory_lock({HELD})")
        try:
            yield
        finally:
            self.ask(f"SELECT pg_advisory_unlock({HELD})")

    def held(self) -> int | None:
        """Return the process of the server that is held in COMMIT."""
        found: int | None = self.ask(
            "SELECT pid FROM pg_stat_activity WHERE wait_event = 'advisory' AND query = 'COMMIT'"
        )
        return found

    def wait_for_commit(self) -> int:
        wait_until(self.held, what="a COMMIT")
        pid = self.held()
        assert pid is not None
        return pid

    def end(self, pid: int) -> None:
        self.ask(f"SELECT pg_terminate_backend({pid})")
        wait_until(lambda: self.ask(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}") == 0)

    def number(self) -> Any:
        return self.ask("SELECT n FROM thing WHERE id = 1")

    def close(self) -> None:
        self._link.close()
