"""Carry an attempt to commit through: marks before it, versions after it, and the right thing when it fails.

The rule that everything here serves: *an answer that was stored before a commit must never be taken for true after
it*. Marks say "ask the database" from before COMMIT is sent until the outcome is known. Then

* committed: new versions, and the attempt's own marks off, in one step; before any ``on_commit`` hook runs;
* rolled back, and known to be: own marks off, the old answers hold;
* ended, but perhaps with a part of it committed (a statement in autocommit that failed): as committed;
* unknown (link lost, interrupted): nothing. The marks expire into new versions. Taking them off, or giving new
  versions *before* the database commits after all, would let a reader store the old row for good.

Where there are no marks that could expire (``bounded``, or a node that could not be marked), an unknown outcome
gives new versions too: that takes nobody's mark off and is late at worst.
"""

from __future__ import annotations

import enum
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from django.db import DataError, IntegrityError, OperationalError
from django.db import Error as DjangoError

from distcache_django.exceptions import DistcacheError
from distcache_django.freshness import service as services
from distcache_django.freshness.isolation import is_open
from distcache_django.freshness.renewal import renewals

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["FreshnessUnavailable", "Outcome", "attempt", "outcome_of_commit", "outcome_of_statement", "tell"]

logger = logging.getLogger("distcache_django.freshness")

# Seconds between two log lines about commits without marks.
_LOG_INTERVAL = 10.0
# Classes of SQLSTATE after which nobody knows: the link, an operator's or a crash's intervention, the system and
# internal errors. A pooler reports a server it has lost so, on a link that lives.
_UNSURE_CLASSES = frozenset({"08", "57", "58", "XX"})
_UNSURE_STATES = frozenset({"40003"})  # statement_completion_unknown
# Deadlock (at COMMIT: a Galera cluster refuses it), ER_TRANSACTION_ROLLBACK_DURING_COMMIT.
_MYSQL_ROLLED_BACK = frozenset({1213, 3101})


class FreshnessUnavailable(DistcacheError, OperationalError):
    """Refuse a COMMIT, or a writing statement in autocommit, that cached answers could not be warned of.

    Raised under ``ON_MARK_FAILURE="raise"`` before anything is sent. A ``DatabaseError``, so that ``atomic()``
    rolls back and the connection stays usable; try again later.
    """


class Outcome(enum.Enum):
    """Say what became of an attempt."""

    COMMITTED = "committed"
    ENDED = "ended"
    ROLLED_BACK = "rolled_back"
    UNKNOWN = "unknown"


class _Marks:
    """Be the marks of one attempt, if any; ``are_complete`` if all its dependencies are marked."""

    __slots__ = ("are_complete", "attempt")

    def __init__(self, attempt: services.Attempt | None, *, are_complete: bool) -> None:
        self.attempt = attempt
        self.are_complete = are_complete


@contextmanager
def attempt(dependencies: tuple[str, ...], outcome_of: Callable[[Exception], Outcome]) -> Iterator[None]:
    """Mark, let the block send a COMMIT or a statement in autocommit, then settle; each time with a fresh token.

    One round trip to the nodes before and one after. What the block raises is passed on.

    :param outcome_of: tells from the block's exception what became of it; an interruption is always unknown.
    :raises FreshnessUnavailable: before the block, under ``ON_MARK_FAILURE="raise"``.
    """
    service = services.freshness()
    marks = _mark(service, dependencies)
    try:
        if marks.attempt is not None:
            renewals.hold(service, marks.attempt)
        yield
    except BaseException as error:
        outcome = outcome_of(error) if isinstance(error, Exception) else Outcome.UNKNOWN
        _settle(service, dependencies, marks, outcome)
        raise
    _settle(service, dependencies, marks, Outcome.COMMITTED)


def tell(dependencies: Collection[str]) -> None:
    """Give new versions to what was written without an attempt of its own; one round trip, never raises."""
    # Looked for only then: connections close also where the settings cannot work.
    if dependencies and (service := services.freshness()).enabled:
        _settle(service, tuple(dependencies), _Marks(None, are_complete=False), Outcome.ENDED)


def _mark(service: services.Freshness, dependencies: tuple[str, ...]) -> _Marks:
    if not service.is_strong:
        return _Marks(None, are_complete=False)
    try:
        marked = service.mark(dependencies)
    except services.MarkFailed as error:
        _refuse(service, error.attempt, error)
        return _Marks(error.attempt, are_complete=False)
    except Exception as error:
        # Out of commit() anything but a DatabaseError would leave atomic() and the connection broken.
        logger.exception("marking failed")
        _refuse(service, None, error)
        return _Marks(None, are_complete=False)
    age = time.monotonic() - marked.marked_at
    if age >= service.settings.mark_timeout / 2:
        service.tallies.add("mark_failures")
        _refuse(service, marked, DistcacheError(f"marking took {age:.3f} s: the marks may expire before COMMIT"))
        return _Marks(marked, are_complete=False)
    return _Marks(marked, are_complete=True)


_logged_at = -_LOG_INTERVAL


def _refuse(service: services.Freshness, marked: services.Attempt | None, error: Exception) -> None:
    """Do what ``ON_MARK_FAILURE`` says: raise, with what was marked taken off, or log and go on."""
    global _logged_at  # noqa: PLW0603 - two threads may log the same line
    if service.answers and service.settings.on_mark_failure == "raise":
        if marked is not None:
            service.unmark(marked)
        raise FreshnessUnavailable(str(error)) from error
    if time.monotonic() - _logged_at >= _LOG_INTERVAL:
        _logged_at = time.monotonic()
        logger.warning("a commit goes ahead without all of its marks, its bumps are owed: %s", error)


def _settle(service: services.Freshness, dependencies: tuple[str, ...], marks: _Marks, outcome: Outcome) -> None:
    """Tell the nodes the outcome. Never raises: the database has decided, and marks that stay expire."""
    try:
        if marks.attempt is not None:
            renewals.release(marks.attempt, is_settled=outcome is not Outcome.UNKNOWN)
        if outcome in {Outcome.COMMITTED, Outcome.ENDED}:
            service.bump(dependencies, marks.attempt)
        elif outcome is Outcome.ROLLED_BACK:
            if marks.attempt is not None:
                service.unmark(marks.attempt)
        elif not marks.are_complete:
            service.bump(dependencies)
            # The database may yet apply the commit, behind this bump; where all was marked, the marks expire instead.
            later = threading.Timer(service.settings.mark_timeout, service.bump, (dependencies,))
            later.daemon = True
            later.start()
    except Exception:
        logger.exception("the nodes were not told that a commit is %s", outcome.value)


# ---------------------------------------------------------------- what became of it


def outcome_of_commit(connection: BaseDatabaseWrapper, error: Exception) -> Outcome:
    """Return what became of a COMMIT that raised ``error``: rolled back, or still open, only where that is sure."""
    is_still_open = is_open(connection)
    if is_still_open:
        # Not sent, or refused with the transaction as it was (SQLite: busy, a deferred foreign key). It can be
        # committed later, by another attempt with marks of its own.
        return Outcome.ROLLED_BACK
    if connection.vendor == "postgresql" and is_still_open is False and _server_said_so(error, or_client=False):
        return Outcome.ROLLED_BACK
    if connection.vendor == "mysql" and error.args and error.args[0] in _MYSQL_ROLLED_BACK:
        return Outcome.ROLLED_BACK
    return Outcome.UNKNOWN


def outcome_of_statement(connection: BaseDatabaseWrapper, error: Exception) -> Outcome:
    """Return what became of a statement in autocommit that raised ``error``: ended, where that is sure.

    Never "rolled back": a procedure may commit before it fails, ``executemany`` on SQLite commits row by row, and
    MyISAM keeps the rows before the one that failed.
    """
    if connection.vendor == "postgresql":
        is_alive = is_open(connection) is not None and connection.connection is not None
        return Outcome.ENDED if is_alive and _server_said_so(error, or_client=True) else Outcome.UNKNOWN
    if connection.vendor == "sqlite" or isinstance(error, IntegrityError | DataError):
        return Outcome.ENDED
    return Outcome.UNKNOWN


def _server_said_so(error: Exception, *, or_client: bool) -> bool:
    """Return whether PostgreSQL answered with this error; ``or_client``: or it arose in this process."""
    state = getattr(error.__cause__, "sqlstate", None) if isinstance(error, DjangoError) else None
    if state is None:
        return or_client
    return state[:2] not in _UNSURE_CLASSES and state not in _UNSURE_STATES
