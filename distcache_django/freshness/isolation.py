"""Know what the statements of a connection see: every commit there is, or an older state.

Answers are stored under versions read before their load. That is right only where each statement looks at the
database as it is when it begins. A transaction at REPEATABLE READ or above looks at the state of its first
statement, a database replica at one its primary has left behind: neither may store an answer or take one.

Drivers' modules are not imported: a site has the drivers of its own databases only.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from django.core.exceptions import SynchronousOnlyOperation
from django.db import Error

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["Session", "is_open"]

# libpq's PGTransactionStatusType: no transaction; in one; in one that has failed. What is not here (a command is
# being executed, the link is broken) leaves open what became of the transaction.
_STATUSES = {0: False, 2: True, 3: True}
# What psycopg 3 calls them: READ UNCOMMITTED, which PostgreSQL treats as READ COMMITTED, and READ COMMITTED.
_STATEMENT_LEVELS = frozenset({1, 2})
_STATEMENT_LEVEL_NAMES = frozenset({"read committed", "read uncommitted"})
# None of these takes a snapshot: a transaction may still choose its level after them.
_DEFAULT_LEVEL = "SHOW default_transaction_isolation"
_LEVEL = "SHOW transaction_isolation"
_STANDBY = "SHOW in_hot_standby"

# What the servers of this process's aliases said: whether the last one was a standby, and the level a
# transaction has where nobody chooses one. Written by any thread, each time with what was just found out.
_standbys: dict[str, bool] = {}
_asking = threading.RLock()  # connecting may ask again


def _unlock_after_fork() -> None:
    global _asking  # noqa: PLW0603 - another thread of the parent may have held it
    _asking = threading.RLock()


os.register_at_fork(after_in_child=_unlock_after_fork)
_default_levels: dict[tuple[object, ...], str] = {}


def is_open(connection: BaseDatabaseWrapper) -> bool | None:
    """Return whether the session is in a transaction; ``None`` where only the server knows. Asks nobody."""
    raw: Any = connection.connection
    if raw is None:
        return False
    if connection.vendor == "postgresql":
        try:
            return _STATUSES.get(raw.pgconn.transaction_status)
        except AttributeError:  # another driver than psycopg 3
            return None
    if connection.vendor == "sqlite":
        return bool(raw.in_transaction)
    return None


class Session:
    """Be what is known of what a connection's statements see; used by the connection's thread only."""

    __slots__ = ("_connection", "_is_noted", "_is_primary", "_is_standby", "_level", "_options_level")

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        settings: Any = connection.settings_dict
        level = settings.get("OPTIONS", {}).get("isolation_level", "read committed")
        self._connection = connection
        self._options_level = level.lower() if isinstance(level, str) else None
        # As far as the settings tell; what MySQL never committed must not be stored either.
        self._is_primary = not settings.get("TEST", {}).get("MIRROR") and not (
            connection.vendor == "mysql" and self._options_level == "read uncommitted"
        )
        # None: not known before the first session of this process.
        self._is_standby = _standbys.get(connection.alias) if connection.vendor == "postgresql" else False
        self._level: str | None = None
        self._is_noted = False

    def opened(self) -> None:
        """Forget the session before, and see whether this one is a standby's; on PostgreSQL 14+ no round trip."""
        self._level = None
        self._is_noted = False
        if self._connection.vendor == "postgresql":
            self._is_standby = _standbys[self._connection.alias] = self._find_standby()

    def transaction_ended(self) -> None:
        """Forget the level of the transaction that has ended."""
        self._level = None

    def note_isolation(self) -> None:
        """Know that a statement may have chosen a level: from now on the server is asked, once a transaction."""
        self._level = None
        self._is_noted = True

    def sees_last_commit(self) -> bool:
        """Return whether a statement outside any transaction sees every commit before it. Under 0.3 us.

        The first call for an alias in a process connects, where only the server tells that it is no standby.
        """
        if self._is_standby is not False:
            self._look_for_standby()
        if self._is_noted and self._connection.vendor == "mysql":
            return False  # it may be READ UNCOMMITTED
        return self._is_primary and self._is_standby is False

    def sees_last_commit_in_transaction(self) -> bool:
        """Return whether a statement in the open transaction, too, sees every commit before it.

        One round trip per alias and process, one per transaction after ``note_isolation``; on PostgreSQL only.
        """
        vendor = self._connection.vendor
        if vendor == "postgresql":
            return self._has_statement_level()
        return vendor == "mysql" and not self._is_noted and self._options_level == "read committed"

    def _has_statement_level(self) -> bool:
        raw: Any = self._connection.connection
        if self._is_noted or not hasattr(raw, "pgconn"):
            self._level = self._level or self._ask(_LEVEL)
        elif raw.isolation_level is not None:
            return raw.isolation_level in _STATEMENT_LEVELS
        else:
            self._level = self._level or self._find_default_level()
        return self._level in _STATEMENT_LEVEL_NAMES

    def _find_default_level(self) -> str | None:
        settings: Any = self._connection.settings_dict
        server = (self._connection.alias, *(settings.get(name) for name in ("HOST", "PORT", "NAME", "USER")))
        level = _default_levels.get(server)
        if level is None and (level := self._ask(_DEFAULT_LEVEL)):
            _default_levels[server] = level
        return level

    def _look_for_standby(self) -> None:
        """Connect where nothing is known yet; see a standby's promotion."""
        if self._connection.connection is None:
            if self._is_standby is None:
                # Held while connecting, on purpose: the threads of a new process must not all connect to ask the same.
                with _asking:
                    self._is_standby = _standbys.get(self._connection.alias)
                    if self._is_standby is None:
                        self._connect()
            return
        self._is_standby = _standbys[self._connection.alias] = self._find_standby()

    def _connect(self) -> None:
        try:
            self._connection.ensure_connection()  # opened() finds out
        except (Error, SynchronousOnlyOperation):
            return

    def _find_standby(self) -> bool:
        raw: Any = self._connection.connection
        # A connection pooler may keep the parameter from us.
        status = None if raw.closed else raw.info.parameter_status("in_hot_standby")
        return (status or self._ask(_STANDBY)) != "off"

    def _ask(self, question: str) -> str | None:
        """Ask the server on this session, unseen by Django's log of queries; ``None`` if it cannot answer now."""
        raw: Any = self._connection.connection
        if raw is None or self._connection.needs_rollback:
            return None
        try:
            with raw.cursor() as cursor:
                cursor.execute(question)
                return str(cursor.fetchone()[0])
        except self._connection.Database.Error:  # type: ignore[attr-defined]  # every backend names its driver so
            return None
