"""COMMITs of which nobody knows what became: the marks stay, and nothing else is said.

A deferred trigger holds COMMIT in the server for as long as the test wants: there the server's process is killed,
or the link to it is lost, before or after the database has committed.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from django.db import Error, OperationalError, transaction
from pytest_django import DjangoDbBlocker

from distcache_django.freshness import transactions
from distcache_django.testing import FaultProxy, LocalPostgres
from tests.integration.transactions.ground import (
    COMMITTED,
    POSTGRES,
    ROW,
    TRIGGER,
    Database,
    Recorder,
    Server,
    database,
    in_thread,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.postgres


@pytest.fixture
def proxy(distcache_postgres: LocalPostgres, distcache_proxy: Callable[..., FaultProxy]) -> FaultProxy:
    """What Django reaches the server through."""
    return distcache_proxy(distcache_postgres.port)


@pytest.fixture
def far(
    distcache_postgres: LocalPostgres, proxy: FaultProxy, recorder: Recorder, django_db_blocker: DjangoDbBlocker
) -> Iterator[Database]:
    entry = {**distcache_postgres.django_settings(), "PORT": str(proxy.port)}
    with django_db_blocker.unblock(), database("things", entry, recorder) as found:
        found.execute(TRIGGER)
        found.take()
        yield found


@pytest.fixture
def server(distcache_postgres: LocalPostgres, far: Database) -> Iterator[Server]:
    with closing(Server(distcache_postgres.dsn)) as found:
        yield found


def write(base: Database) -> list[str]:
    """Write in a transaction of this thread, to fail in COMMIT; return what was said, also by the next one."""
    with pytest.raises(OperationalError), transaction.atomic("things"):
        base.write()
    said = base.take()
    base.execute("DROP TRIGGER held ON thing")
    with transaction.atomic("things"):
        base.write(("thing:2",))
    assert base.take() == COMMITTED
    assert base.recorder.bumped[-1] == (frozenset({"thing:2"}), base.recorder.marked[-1].token)
    return said


def test_server_process_killed_in_commit_mutant_unknown_outcome_clears(
    far: Database, server: Server, proxy: FaultProxy
) -> None:
    """Mutant: an unknown outcome clears."""
    with server.holding_commits(), in_thread(lambda: write(far)) as said:
        server.end(server.wait_for_commit())

        assert said.result(20) == ["mark", "commit"]
    assert server.number() == 1  # of the transaction after it


def test_link_lost_after_the_database_committed_mutant_unknown_outcome_clears(
    far: Database, server: Server, proxy: FaultProxy
) -> None:
    """Mutant: an unknown outcome clears."""

    def lose_the_reply() -> None:
        with server.holding_commits():
            server.wait_for_commit()
            proxy.blackhole()
        wait_until(lambda: server.number() == 1, what="the commit")
        proxy.heal()  # which closes the links that lost bytes

    with in_thread(lambda: write(far)) as said:
        lose_the_reply()

        assert said.result(20) == ["mark", "commit"]
    assert server.number() == 2


def test_link_lost_and_the_database_rolled_back_mutant_unknown_outcome_clears(
    far: Database, server: Server, proxy: FaultProxy
) -> None:
    """Mutant: an unknown outcome clears. The server says so to nobody: the same as above, seen from here."""
    with server.holding_commits(), in_thread(lambda: write(far)) as said:
        pid = server.wait_for_commit()
        proxy.blackhole()
        server.end(pid)
        proxy.heal()

        assert said.result(20) == ["mark", "commit"]
    assert server.number() == 1


def test_bounded_bumps_after_an_unknown_outcome_for_no_mark_will_expire(
    far: Database, server: Server, proxy: FaultProxy
) -> None:
    """And once more, for the database may apply the commit after the first one."""
    far.recorder.configure(freshness="bounded", mark_timeout=1.0)

    def write() -> None:
        with pytest.raises(OperationalError), transaction.atomic("things"):
            far.write()

    with server.holding_commits(), in_thread(write) as done:
        server.end(server.wait_for_commit())
        done.result(20)

    assert far.take() == ["commit", "bump"]
    wait_until(lambda: far.take() == ["bump"], what="the second bump")


def test_owed_bumps_are_told_after_an_unknown_outcome_and_take_no_mark_off(
    far: Database, server: Server, proxy: FaultProxy
) -> None:
    far.recorder.fails = True

    def write() -> None:
        with pytest.raises(OperationalError), transaction.atomic("things"):
            far.write()

    with server.holding_commits(), in_thread(write) as done:
        server.end(server.wait_for_commit())
        done.result(20)

    assert far.take() == COMMITTED
    assert far.recorder.bumped == [(frozenset(ROW), None)]


def test_statement_in_autocommit_whose_link_is_lost_leaves_its_marks(
    far: Database, server: Server, proxy: FaultProxy
) -> None:
    def write() -> None:
        with pytest.raises(OperationalError):
            far.write_alone()

    with server.holding_commits(), in_thread(write) as done:
        wait_until(lambda: server.ask("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'"))
        server.end(server.ask("SELECT pid FROM pg_stat_activity WHERE wait_event = 'advisory'"))
        done.result(20)

    assert far.take() == ["mark"]


# ---------------------------------------------------------------- interruptions


@pytest.mark.parametrize("base", [POSTGRES], indirect=True)
@pytest.mark.parametrize("is_sent", [False, True])
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_interrupted_commit_leaves_its_marks_mutant_unknown_outcome_clears(
    base: Database, monkeypatch: pytest.MonkeyPatch, interruption: type[BaseException], is_sent: bool
) -> None:
    """Mutant: an unknown outcome clears. After COMMIT was answered, the driver's next ROLLBACK does nothing."""
    commit = psycopg.Connection.commit

    def interrupted(link: psycopg.Connection[Any]) -> None:
        if is_sent:
            commit(link)
        raise interruption

    transaction.set_autocommit(False, "things")
    base.write()
    with monkeypatch.context() as patched:
        patched.setattr(psycopg.Connection, "commit", interrupted)
        with pytest.raises(interruption):
            transaction.commit("things")
    transaction.rollback("things")
    transaction.set_autocommit(True, "things")

    assert base.number() == is_sent
    assert base.recorder.bumped == []
    assert base.recorder.unmarked == []
    assert transactions.may_use_cache("things")
    assert "bump" not in base.take()


@pytest.mark.parametrize("base", [POSTGRES], indirect=True)
def test_interrupted_atomic_block_leaves_no_private_state(base: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(link: psycopg.Connection[Any]) -> None:
        raise KeyboardInterrupt

    def write() -> None:
        with transaction.atomic("things"):
            base.write()

    with monkeypatch.context() as patched:
        patched.setattr(psycopg.Connection, "commit", interrupted)
        with pytest.raises((KeyboardInterrupt, Error)):
            write()
    first = base.recorder.marked[0].token
    base.connection.close()
    base.take()

    write()

    assert base.take() == COMMITTED
    assert first not in base.recorder.unmarked
    assert first not in [token for _, token in base.recorder.bumped]
    assert base.number() == 1
