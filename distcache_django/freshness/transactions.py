"""Tell the nodes of every write, around the COMMIT that makes it visible.

What a transaction writes is collected on its connection. The instance's ``_commit``, ``_rollback``,
``_set_autocommit``, ``close`` and what handles savepoints are wrapped once: these are the methods through which
Django ends a transaction, however it was begun. A statement in autocommit never commits by them and is wrapped
itself (``writing``). What is sent behind Django's back (two-phase commit, the driver's own ``commit()``, another
process's SQL) is not seen here.

Inside ``TestCase`` nothing ever commits: there its own atomic blocks count as autocommit. What is written in them
is told at once, and once more when they are rolled back, for then it changes again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from django.db import connections
from django.db.backends.signals import connection_created
from django.utils.connection import ConnectionProxy

from distcache_django.freshness import service as services
from distcache_django.freshness.commits import attempt, outcome_of_commit, outcome_of_statement, tell
from distcache_django.freshness.dependencies import coarse
from distcache_django.freshness.isolation import Session, is_open

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    Using: TypeAlias = str | BaseDatabaseWrapper

__all__ = [
    "committing",
    "in_autocommit",
    "install",
    "may_use_cache",
    "note_isolation",
    "record_write",
    "writing",
]

_ATTRIBUTE = "_distcache_writer"
_NOTHING: AbstractContextManager[None] = nullcontext()
# A transaction that wrote more names than this is told of table by table: marking takes a deadline at most.
_MANY = 1000
# Where a rollback undoes everything. Elsewhere some tables and statements take no part in transactions.
_UNDOES_ALL = frozenset({"postgresql", "sqlite"})


def install() -> None:
    """Watch every connection of this process, those that are open too; harmless when done twice."""
    connection_created.connect(_opened, dispatch_uid="distcache_django.freshness")
    for connection in connections.all(initialized_only=True):
        _writer_of(connection)


def record_write(using: Using, dependencies: Iterable[str]) -> None:
    """Know that the open transaction of a connection writes these; to be called before the statement.

    They are marked just before COMMIT, also those of a savepoint that is rolled back. Costs no round trip; in
    (effective) autocommit, where ``writing`` belongs, one: the new versions.
    """
    if services.freshness().enabled:
        _writer_of(using).record(dependencies)


def writing(using: Using, dependencies: Iterable[str]) -> AbstractContextManager[None]:
    """Return what to put around one writing statement.

    In a transaction it records the write. In (effective) autocommit it marks before the statement and gives new
    versions after it: two round trips to the nodes.

    :raises FreshnessUnavailable: before the statement, in autocommit, under ``ON_MARK_FAILURE="raise"``.
    """
    if not services.freshness().enabled:
        return _NOTHING
    return _writer_of(using).writing(tuple(dependencies))


def committing(using: Using) -> AbstractContextManager[None]:
    """Return what to put around a COMMIT that is sent as the text of a statement, which Django does not know of.

    :raises FreshnessUnavailable: before COMMIT, under ``ON_MARK_FAILURE="raise"``.
    """
    if not services.freshness().enabled:
        return _NOTHING
    return _writer_of(using).committing()


def in_autocommit(using: Using) -> bool:
    """Return whether a statement sent now commits by itself; the atomic blocks of ``TestCase`` count as if so."""
    return _writer_of(using).in_autocommit()


def may_use_cache(using: Using) -> bool:
    """Return whether an answer for this connection may be taken from the cache and stored there, right now.

    Not while its transaction has written, nor where its statements see an older state than the last commit's:
    REPEATABLE READ and above, any transaction on SQLite, a database replica. No query outside transactions, and half
    a microsecond; Django's look-up of an alias takes another one, which the connection in its place saves.
    """
    return services.freshness().answers and _writer_of(using).may_use_cache()


def note_isolation(using: Using) -> None:
    """Know that a statement may have chosen an isolation level for the connection's transaction or session."""
    _writer_of(using).session.note_isolation()


def _opened(connection: BaseDatabaseWrapper, **_: Any) -> None:
    _writer_of(connection).opened()


def _writer_of(using: Using) -> Writer:
    connection: Any = connections[using] if isinstance(using, str) else using
    writer: Writer | None = connection.__dict__.get(_ATTRIBUTE)
    if writer is None and isinstance(connection, ConnectionProxy):
        return _writer_of(connection.alias)
    return _watch(connection) if writer is None else writer


def _watch(connection: BaseDatabaseWrapper) -> Writer:
    writer = Writer(connection)
    # On the instance: every backend, its subclasses and what others wrapped before stay as they are.
    vars(connection).update(
        {
            _ATTRIBUTE: writer,
            "_commit": writer.commit,
            "_rollback": writer.rollback,
            "_set_autocommit": writer.set_autocommit,
            "_savepoint": writer.open_savepoint,
            "_savepoint_commit": writer.release_savepoint,
            "_savepoint_rollback": writer.roll_back_savepoint,
            "close": writer.close,
        }
    )
    if connection.connection is not None:
        writer.opened()
    return writer


class Writer:
    """Be what a connection has written and not yet committed; lives on it, used by its thread only."""

    def __init__(self, connection: Any) -> None:
        self.session = Session(connection)
        self._connection = connection
        self._commit = connection._commit
        self._rollback = connection._rollback
        self._set_autocommit = connection._set_autocommit
        self._savepoint = connection._savepoint
        self._savepoint_commit = connection._savepoint_commit
        self._savepoint_rollback = connection._savepoint_rollback
        self._close = connection.close
        self._pending: set[str] = set()
        # What was written under each of TestCase's own atomic blocks, the outermost first.
        self._tested: list[set[str]] = []
        # The savepoint that is a transaction of its own.
        self._outermost: str | None = None

    # ------------------------------------------------------------------ for the ORM

    def in_autocommit(self) -> bool:
        """Return whether a statement sent now commits by itself, effectively."""
        connection = self._connection
        if connection.in_atomic_block:
            blocks = connection.atomic_blocks
            return bool(blocks) and blocks[-1]._from_testcase
        if connection.connection is None:
            return bool(connection.settings_dict["AUTOCOMMIT"])
        # A transaction may have been begun by the text of a statement.
        return connection.autocommit and not is_open(connection)

    def may_use_cache(self) -> bool:
        """Return whether answers may be taken and stored now."""
        if self.in_autocommit():
            if self._pending:
                self._settle_unseen()
            return self.session.sees_last_commit()
        return not self._pending and self.session.sees_last_commit() and self.session.sees_last_commit_in_transaction()

    def record(self, dependencies: Iterable[str]) -> None:
        """Add to what the open transaction has written."""
        written = set(dependencies)
        if self.in_autocommit():
            tell(written)
        else:
            self._pending |= written
            if len(self._pending) > _MANY:
                self._pending = _by_table(self._pending)
            if not self._testcase_blocks():
                return
            # Seen by nobody but the test, and by it at once.
            tell(written)
        self._note_tested(written)

    def writing(self, dependencies: tuple[str, ...]) -> AbstractContextManager[None]:
        """Return what to put around one statement that writes these."""
        if not dependencies:
            return _NOTHING
        if not self.in_autocommit():
            self.record(dependencies)
            return _NOTHING
        if self._pending:
            self._settle_unseen()
        self._note_tested(dependencies)
        return attempt(dependencies, partial(outcome_of_statement, self._connection))

    def committing(self) -> AbstractContextManager[None]:
        """Return what to put around a COMMIT."""
        return self._attempt() if self._pending and services.freshness().enabled else _NOTHING

    # ------------------------------------------------------------------ in place of the connection's methods

    def commit(self) -> None:
        """Commit, with marks before and new versions after; before ``on_commit`` hooks, which Django runs later."""
        with self.committing():
            self._commit()
        self._ended()

    def rollback(self) -> None:
        """Roll back; what was written did not happen."""
        self._rollback()
        self._undone()

    def set_autocommit(self, autocommit: bool) -> None:
        """Change autocommit; to switch it on in an open transaction commits that one, where the driver lets it."""
        may_commit = autocommit and is_open(self._connection) is not False
        with self.committing() if may_commit else _NOTHING:
            self._set_autocommit(autocommit)

    def open_savepoint(self, sid: str) -> None:
        """Open a savepoint. On SQLite the first one, without BEGIN, is a transaction, and its release the COMMIT.

        Django does so for ``atomic()`` after ``set_autocommit(False)``.
        """
        is_outermost = self._connection.vendor == "sqlite" and not is_open(self._connection)
        self._savepoint(sid)
        if is_outermost:
            self._outermost = sid

    def release_savepoint(self, sid: str) -> None:
        """Release a savepoint; its writes are the transaction's."""
        with self.committing() if sid == self._outermost else _NOTHING:
            self._savepoint_commit(sid)

    def roll_back_savepoint(self, sid: str) -> None:
        """Roll back to a savepoint. In ``TestCase`` this undoes what answers may have been stored of."""
        self._savepoint_rollback(sid)
        blocks = self._testcase_blocks()
        if self._tested and self.in_autocommit():
            # The test's own block has ended, and with it the list's last; or a savepoint within it.
            undone = self._tested[blocks:] or self._tested[blocks - 1 :]
            del self._tested[blocks:]
            tell(set().union(*undone))

    def close(self) -> None:
        """Close the connection; an open transaction is rolled back by that. SQLite in memory stays open."""
        try:
            self._close()
        finally:
            if self._connection.connection is None or self._connection.closed_in_transaction:
                self._undone()

    def opened(self) -> None:
        """Start anew with a new session."""
        self._undone()
        self.session.opened()

    # ------------------------------------------------------------------

    @contextmanager
    def _attempt(self) -> Iterator[None]:
        try:
            with attempt(tuple(self._pending), partial(outcome_of_commit, self._connection)):
                yield
        except BaseException:
            # Kept where the transaction may be open still: it can be committed, or rolled back, later.
            if is_open(self._connection) is False:
                self._ended()
            raise
        self._ended()

    def _ended(self) -> None:
        self._pending.clear()
        self.session.transaction_ended()

    def _undone(self) -> None:
        changed = set().union(*self._tested)
        if self._connection.vendor not in _UNDOES_ALL:
            changed |= self._pending
        self._tested.clear()
        self._ended()
        tell(changed)

    def _settle_unseen(self) -> None:
        """Tell of a transaction that has ended unseen: the text of a statement did it, or it is TestCase's."""
        unseen = set(self._pending)
        self._ended()
        tell(unseen)

    def _testcase_blocks(self) -> int:
        return sum(block._from_testcase for block in self._connection.atomic_blocks)

    def _note_tested(self, dependencies: Iterable[str]) -> None:
        blocks = self._testcase_blocks()
        if blocks:
            self._tested.extend(set() for _ in range(blocks - len(self._tested)))
            self._tested[blocks - 1].update(dependencies)


def _by_table(dependencies: set[str]) -> set[str]:
    """Return the same and more in fewer names: whatever is named of a table that is named itself, as any row."""
    tables = {name for name in dependencies if ":" not in name and name[:1] != "#"}
    return coarse(tables) | {name for name in dependencies if name.partition(":")[0] not in tables}
