"""What became of a commit, database by database; marks in flight are renewed; and what looking costs."""

import os
import threading
import time
import timeit
from collections.abc import Callable, Mapping
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
from django.db import DataError, IntegrityError, InterfaceError, OperationalError, connection, connections

from distcache_django.freshness import renewal, transactions
from distcache_django.freshness import service as services
from distcache_django.freshness.commits import Outcome, outcome_of_commit, outcome_of_statement
from distcache_django.freshness.isolation import Session, is_open
from distcache_django.freshness.renewal import Renewals
from distcache_django.freshness.service import Attempt
from tests.support.waiting import wait_until

IDLE, ACTIVE, IN_TRANSACTION, FAILED, BROKEN = range(5)


def wrapper(vendor: str, status: int = IDLE, options: Mapping[str, object] = MappingProxyType({})) -> Any:
    """Return what these functions look at of a connection whose driver says it is in this state."""
    raw = SimpleNamespace(pgconn=SimpleNamespace(transaction_status=status), in_transaction=status != IDLE)
    settings = {"OPTIONS": options, "TEST": {"MIRROR": None}}
    return SimpleNamespace(vendor=vendor, connection=raw, alias="things", settings_dict=settings)


def answered(state: str | None, kind: type[Exception] = OperationalError) -> Exception:
    """Return Django's error about an error of PostgreSQL with this SQLSTATE, or of the client without one."""
    error = kind("refused")
    error.__cause__ = type("DriverError", (Exception,), {"sqlstate": state})()
    return error


# ---------------------------------------------------------------- what became of it


@pytest.mark.parametrize(
    ("status", "state", "expected"),
    [
        (IDLE, "23503", Outcome.ROLLED_BACK),
        (IDLE, "40001", Outcome.ROLLED_BACK),
        (IDLE, "40P01", Outcome.ROLLED_BACK),
        (IDLE, "P0001", Outcome.ROLLED_BACK),
        (IN_TRANSACTION, None, Outcome.ROLLED_BACK),  # not sent: it is open still
        (IDLE, None, Outcome.UNKNOWN),
        (IDLE, "08006", Outcome.UNKNOWN),  # a pooler has lost its server
        (IDLE, "57P01", Outcome.UNKNOWN),
        (IDLE, "58000", Outcome.UNKNOWN),
        (IDLE, "XX000", Outcome.UNKNOWN),
        (IDLE, "40003", Outcome.UNKNOWN),
        (BROKEN, "57P01", Outcome.UNKNOWN),
        (BROKEN, "23503", Outcome.UNKNOWN),
        (BROKEN, None, Outcome.UNKNOWN),
        (ACTIVE, None, Outcome.UNKNOWN),
    ],
)
def test_commit_refused_by_postgresql_is_known_only_where_the_server_said_so_and_lives(
    status: int, state: str | None, expected: Outcome
) -> None:
    assert outcome_of_commit(wrapper("postgresql", status), answered(state)) is expected


def test_errors_that_are_not_the_databases_say_nothing_about_a_commit() -> None:
    assert outcome_of_commit(wrapper("postgresql"), ValueError("a wrapper of somebody's")) is Outcome.UNKNOWN
    assert outcome_of_commit(wrapper("sqlite"), ValueError("a wrapper of somebody's")) is Outcome.UNKNOWN


def test_commit_refused_by_sqlite_is_open_still_or_unknown() -> None:
    assert outcome_of_commit(wrapper("sqlite", IN_TRANSACTION), OperationalError("locked")) is Outcome.ROLLED_BACK
    assert outcome_of_commit(wrapper("sqlite", IDLE), OperationalError("disk I/O error")) is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("vendor", "number", "expected"),
    [
        ("mysql", 1213, Outcome.ROLLED_BACK),
        ("mysql", 3101, Outcome.ROLLED_BACK),
        ("mysql", 1180, Outcome.UNKNOWN),
        ("mysql", 2013, Outcome.UNKNOWN),
        ("oracle", 1213, Outcome.UNKNOWN),
    ],
)
def test_commit_refused_by_others(vendor: str, number: int, expected: Outcome) -> None:
    assert outcome_of_commit(wrapper(vendor), OperationalError(number, "refused")) is expected
    assert outcome_of_commit(wrapper(vendor), OperationalError()) is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("vendor", "status", "error", "expected"),
    [
        ("postgresql", IDLE, answered("23505", IntegrityError), Outcome.ENDED),
        ("postgresql", IN_TRANSACTION, answered("23505", IntegrityError), Outcome.ENDED),
        ("postgresql", IDLE, answered(None, InterfaceError), Outcome.ENDED),  # not sent
        ("postgresql", IDLE, ValueError("after the statement"), Outcome.ENDED),
        ("postgresql", IDLE, answered("08006"), Outcome.UNKNOWN),
        ("postgresql", BROKEN, answered("57P01"), Outcome.UNKNOWN),
        ("postgresql", ACTIVE, ValueError(), Outcome.UNKNOWN),
        ("sqlite", IDLE, OperationalError("locked"), Outcome.ENDED),
        ("mysql", IDLE, IntegrityError(1062, "duplicate"), Outcome.ENDED),
        ("mysql", IDLE, DataError(1264, "out of range"), Outcome.ENDED),
        ("mysql", IDLE, OperationalError(2013, "lost"), Outcome.UNKNOWN),
        ("mysql", IDLE, ValueError(), Outcome.UNKNOWN),
    ],
)
def test_failed_statement_in_autocommit(vendor: str, status: int, error: Exception, expected: Outcome) -> None:
    assert outcome_of_statement(wrapper(vendor, status), error) is expected


def test_a_statement_on_no_connection_is_unknown() -> None:
    closed = wrapper("postgresql")
    closed.connection = None

    assert outcome_of_statement(closed, OperationalError()) is Outcome.UNKNOWN


def test_only_the_server_knows_where_the_driver_does_not() -> None:
    assert is_open(wrapper("mysql")) is None
    assert is_open(wrapper("postgresql", ACTIVE)) is None
    assert is_open(wrapper("postgresql", BROKEN)) is None
    other_driver = wrapper("postgresql")
    del other_driver.connection.pgconn
    assert is_open(other_driver) is None


# ---------------------------------------------------------------- what MySQL's statements see


@pytest.mark.parametrize(
    ("level", "outside", "inside"),
    [
        ({}, True, True),  # Django sets READ COMMITTED
        ({"isolation_level": "Read Committed"}, True, True),
        ({"isolation_level": "repeatable read"}, True, False),
        ({"isolation_level": "serializable"}, True, False),
        ({"isolation_level": "read uncommitted"}, False, True),
        ({"isolation_level": None}, True, False),  # the server's own, which nobody told us
    ],
)
def test_levels_of_mysql(level: dict[str, object], outside: bool, inside: bool) -> None:
    session = Session(wrapper("mysql", options=level))
    session.opened()

    assert session.sees_last_commit() == outside
    assert (session.sees_last_commit() and session.sees_last_commit_in_transaction()) == (outside and inside)


def test_a_level_that_a_statement_chose_on_mysql_is_not_known_until_the_session_ends() -> None:
    session = Session(wrapper("mysql"))
    session.note_isolation()
    assert not session.sees_last_commit()
    assert not session.sees_last_commit_in_transaction()

    session.opened()

    assert session.sees_last_commit_in_transaction()


def test_other_databases_are_cached_outside_transactions_only() -> None:
    session = Session(wrapper("oracle"))

    assert session.sees_last_commit()
    assert not session.sees_last_commit_in_transaction()


# ---------------------------------------------------------------- many names


def test_many_names_are_told_table_by_table() -> None:
    rows = {f"thing:{number}" for number in range(5000)}

    told = transactions._by_table(rows | {"thing", "#tag:1", "other:1"})

    assert told == {"thing", "thing:*", "thing:=:*", "#tag:1", "other:1"}


# ---------------------------------------------------------------- renewals


class Service:
    """Note what is renewed and taken off, with times; ``during`` runs in a renewal."""

    def __init__(self, mark_timeout: float) -> None:
        self.settings = SimpleNamespace(mark_timeout=mark_timeout)
        self.renewed: list[float] = []
        self.unmarked: list[bytes] = []
        self.during: Callable[[], object] = lambda: None

    def renew(self, attempt: Attempt) -> bool:
        self.renewed.append(time.monotonic())
        self.during()
        return True

    def unmark(self, attempt: Attempt) -> None:
        self.unmarked.append(attempt.token)


def an_attempt(token: bytes = b"t", age: float = 0.0) -> Attempt:
    return Attempt(token, ("thing",), time.monotonic() - age)


@pytest.fixture
def renewals() -> Renewals:
    return Renewals()


def as_service(service: Service) -> Any:
    return service


def test_an_attempt_in_flight_is_renewed_when_a_third_of_its_life_is_over(renewals: Renewals) -> None:
    service = Service(0.6)
    began = time.monotonic()
    attempt = an_attempt()
    renewals.hold(as_service(service), attempt)
    wait_until(lambda: len(service.renewed) >= 2, what="two renewals")
    renewals.release(attempt, is_settled=True)

    first, second = service.renewed[:2]
    assert first - began >= 0.2
    assert second - began >= 0.4


def test_an_attempt_that_is_old_already_is_renewed_at_once(renewals: Renewals) -> None:
    """Also when the thread sleeps for younger ones."""
    service = Service(60)
    renewals.hold(as_service(service), an_attempt(b"young"))
    assert renewals._thread is not None
    wait_until(lambda: renewals._wakes_at < float("inf"))
    renewals.hold(as_service(service), an_attempt(b"old", age=25))

    wait_until(lambda: service.renewed, seconds=5, what="the renewal")


def test_commits_that_are_quick_are_not_renewed_and_leave_the_thread_asleep(renewals: Renewals) -> None:
    service = Service(3.0)
    for number in range(50):
        attempt = an_attempt(b"%d" % number)
        renewals.hold(as_service(service), attempt)
        renewals.release(attempt, is_settled=True)

    wait_until(lambda: renewals._wakes_at == float("inf"), what="an idle thread")
    assert service.renewed == []
    assert renewals._held == {}


@pytest.mark.parametrize("is_settled", [True, False])
def test_a_renewal_that_comes_too_late_is_taken_back_if_the_commit_is_settled(
    renewals: Renewals, is_settled: bool
) -> None:
    """Marks of an unknown outcome stay, and expire."""
    service = Service(0.06)
    attempt = an_attempt()
    service.during = lambda: renewals.release(attempt, is_settled=is_settled)
    renewals.hold(as_service(service), attempt)
    wait_until(lambda: service.renewed, what="the renewal")
    wait_until(lambda: renewals._wakes_at == float("inf"), what="an idle thread")

    assert service.unmarked == ([b"t"] if is_settled else [])
    assert len(service.renewed) == 1


def test_a_failed_renewal_is_logged_and_the_next_one_is_tried(
    renewals: Renewals, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("a bug")

    service = Service(0.06)
    service.during = fail
    attempt = an_attempt()
    renewals.hold(as_service(service), attempt)
    wait_until(lambda: len(service.renewed) >= 2, what="two renewals")
    renewals.release(attempt, is_settled=False)

    assert "were not renewed" in caplog.text


def test_a_commit_goes_on_where_no_thread_can_be_started(renewals: Renewals, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the interpreter ends."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        renewals.hold(as_service(Service(5)), an_attempt())
    service = Service(0.06)
    renewals.hold(as_service(service), an_attempt(b"next"))
    wait_until(lambda: service.renewed, what="a thread")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_holds_nothing_and_has_a_thread_of_its_own(renewals: Renewals) -> None:
    parents = Service(60)
    renewals.hold(as_service(parents), an_attempt(b"parent"))
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            held = len(renewals._held)
            service = Service(0.06)
            renewals.hold(as_service(service), an_attempt(b"child"))
            wait_until(lambda: service.renewed)
            os.write(writing, b"%d" % held)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        assert told.read() == b"0"
    assert list(renewals._held) == [b"parent"]


def test_one_thread_for_all(renewals: Renewals) -> None:
    before = sum(thread.name == "distcache-renewals" for thread in threading.enumerate())
    for number in range(20):
        renewals.hold(as_service(Service(60)), an_attempt(b"%d" % number))

    after = sum(thread.name == "distcache-renewals" for thread in threading.enumerate())
    assert after - before == 1
    assert renewal.renewals is not renewals


# ---------------------------------------------------------------- cost


@pytest.fixture
def enabled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "_service", SimpleNamespace(enabled=request.param, answers=request.param))


def microseconds(function: Callable[[], object]) -> float:
    """Return what a call costs where nothing disturbs it."""
    return min(timeit.repeat(function, number=2000, repeat=20)) / 2000 * 1e6


@pytest.mark.parametrize("enabled", [False], indirect=True)
def test_disabled_costs_nothing_to_speak_of(enabled: None) -> None:
    """A fifth of a microsecond is the aim; the bound leaves room for slow machines."""
    assert microseconds(lambda: transactions.record_write("default", ())) < 0.5
    assert microseconds(lambda: transactions.writing("default", ())) < 0.5
    assert microseconds(lambda: transactions.may_use_cache("default")) < 0.5


@pytest.mark.django_db
@pytest.mark.parametrize("enabled", [True], indirect=True)
def test_a_look_outside_transactions_costs_about_a_microsecond(enabled: None) -> None:
    connection = connections["default"]

    assert microseconds(lambda: transactions.may_use_cache(connection)) < 2


@pytest.mark.django_db
@pytest.mark.parametrize("enabled", [True], indirect=True)
def test_a_proxy_is_as_good_as_its_connection(enabled: None) -> None:
    assert transactions.may_use_cache(connection)

    assert transactions._writer_of(connection) is transactions._writer_of("default")
