"""When an answer may be taken from the cache and stored there: only where statements see the last commit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from asgiref.sync import async_to_sync
from django.db import IntegrityError, connections, transaction
from pytest_django import DjangoDbBlocker

from distcache_django.freshness import isolation, transactions
from distcache_django.testing import LocalPostgres, postgres
from tests.integration.transactions.ground import POSTGRES, Database, Recorder, database, in_thread, rolled_back

only_postgres = pytest.mark.parametrize("base", [POSTGRES], indirect=True)


@pytest.fixture(autouse=True)
def forget_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "_standbys", {})
    monkeypatch.setattr(isolation, "_default_levels", {})


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is sent to PostgreSQL as statements."""
    queries: list[str] = []
    execute = psycopg.Cursor.execute

    def noted(self: psycopg.Cursor[Any], query: Any, *args: Any, **options: Any) -> Any:
        queries.append(str(query))
        return execute(self, query, *args, **options)

    monkeypatch.setattr(psycopg.Cursor, "execute", noted)
    return queries


def in_transaction() -> bool:
    with transaction.atomic("things"):
        return transactions.may_use_cache("things")


def test_outside_transactions_without_asking_anybody(base: Database, sent: list[str]) -> None:
    assert transactions.may_use_cache("things")
    assert transactions.may_use_cache(base.connection)

    assert sent == []
    assert base.take() == []


def test_not_while_the_transaction_has_written(base: Database) -> None:
    with rolled_back():
        base.write()
        assert not transactions.may_use_cache("things")
        with rolled_back():
            assert not transactions.may_use_cache("things")
        assert not transactions.may_use_cache("things")
    assert transactions.may_use_cache("things")


def test_transactions_see_the_last_commit_on_postgresql_but_not_on_sqlite(base: Database) -> None:
    assert in_transaction() == (base.vendor == "postgresql")
    transaction.set_autocommit(False, "things")
    assert transactions.may_use_cache("things") == (base.vendor == "postgresql")
    transaction.rollback("things")
    transaction.set_autocommit(True, "things")


@only_postgres
def test_the_default_level_is_asked_for_once(base: Database, sent: list[str]) -> None:
    assert [in_transaction() for _ in range(3)] == [True] * 3

    assert sent == ["SHOW default_transaction_isolation"]


@only_postgres
def test_asking_leaves_the_choice_of_the_level_open(base: Database) -> None:
    """The level cannot be set after a statement that took a snapshot."""
    with transaction.atomic("things"):
        transactions.may_use_cache("things")
        base.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        transactions.note_isolation("things")
        assert not transactions.may_use_cache("things")
        base.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        transactions.note_isolation("things")
        assert transactions.may_use_cache("things")


@only_postgres
def test_a_level_that_a_statement_chose_holds_for_its_transaction(base: Database) -> None:
    for level, expected in [("REPEATABLE READ", False), ("SERIALIZABLE", False), ("READ UNCOMMITTED", True)]:
        with transaction.atomic("things"):
            base.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
            transactions.note_isolation("things")
            assert transactions.may_use_cache("things") == expected
            assert transactions.may_use_cache("things") == expected
        assert transactions.may_use_cache("things")
        assert in_transaction()


@only_postgres
def test_a_level_that_a_statement_chose_for_the_session_holds_until_it_ends(base: Database) -> None:
    base.execute("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    transactions.note_isolation("things")
    assert transactions.may_use_cache("things")
    assert not in_transaction()
    assert not in_transaction()

    base.connection.close()

    assert in_transaction()


@only_postgres
def test_a_level_set_on_the_driver_holds(base: Database) -> None:
    base.connection.connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    assert not in_transaction()
    base.connection.connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    assert in_transaction()


@pytest.mark.postgres
@pytest.mark.parametrize(
    "options",
    [
        {"isolation_level": psycopg.IsolationLevel.REPEATABLE_READ},
        {"isolation_level": psycopg.IsolationLevel.SERIALIZABLE},
        {"options": "-c default_transaction_isolation=serializable"},
    ],
)
def test_levels_of_the_settings_and_of_the_server(
    distcache_postgres: LocalPostgres,
    recorder: Recorder,
    django_db_blocker: DjangoDbBlocker,
    options: dict[str, object],
) -> None:
    entry = {**distcache_postgres.django_settings(), "OPTIONS": options}
    with django_db_blocker.unblock(), database("things", entry, recorder):
        assert transactions.may_use_cache("things")
        assert not in_transaction()


@only_postgres
def test_a_failed_transaction_cannot_be_asked(base: Database) -> None:
    transaction.set_autocommit(False, "things")
    with pytest.raises(IntegrityError):
        base.execute("INSERT INTO thing VALUES (1, 1)")
    assert not transactions.may_use_cache("things")
    transaction.rollback("things")
    assert transactions.may_use_cache("things")
    transaction.rollback("things")
    transaction.set_autocommit(True, "things")


# ---------------------------------------------------------------- replicas


def test_a_replica_in_the_settings_is_never_cached(base: Database) -> None:
    connections.settings["things"]["TEST"]["MIRROR"] = "default"
    base.connection.close()
    del connections["things"]

    assert not transactions.may_use_cache("things")
    assert not in_transaction()


@pytest.fixture
def standby(distcache_postgres: LocalPostgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalPostgres]:
    """Give a server in recovery; nobody sends it anything."""

    def is_up(status: Path, pid: int) -> bool:
        lines = status.read_text().splitlines() if status.exists() else []
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() in {"ready", "standby"}

    with LocalPostgres() as server:
        with psycopg.connect(server.dsn, autocommit=True) as link:
            link.execute("CREATE TABLE thing (id integer PRIMARY KEY, n integer)")
            link.execute("INSERT INTO thing VALUES (1, 0)")
        server.stop()
        assert server._scratch is not None
        (server._scratch.path / "data" / "standby.signal").touch()
        monkeypatch.setattr(postgres, "_is_ready", is_up)
        server.start()
        yield server


@pytest.mark.postgres
def test_a_standby_is_not_cached_until_it_is_promoted(
    standby: LocalPostgres, recorder: Recorder, django_db_blocker: DjangoDbBlocker
) -> None:
    """The first look connects, once for the process: nothing but the server tells that it is a standby."""
    entry = connections.configure_settings({"default": {}, "things": standby.django_settings()})["things"]
    connections.settings["things"] = entry
    base = Database("things", recorder)
    try:
        with django_db_blocker.unblock():
            assert not transactions.may_use_cache("things")
            assert not in_transaction()
            base.connection.close()
            with in_thread(lambda: (transactions.may_use_cache("things"), base.connection.connection)) as found:
                assert found.result(10) == (False, None)

            base.execute("SELECT pg_promote()")

            assert transactions.may_use_cache("things")
            assert in_transaction()
    finally:
        base.connection.close()
        del connections["things"], connections.settings["things"]


@only_postgres
def test_the_first_look_connects_once_for_all_threads(base: Database) -> None:
    def look() -> tuple[bool, bool]:
        return transactions.may_use_cache("things"), base.connection.connection is None

    with in_thread(look) as first:
        assert first.result(10) == (True, True)  # this thread has been connected already
    isolation._standbys.clear()
    with in_thread(look) as second:
        assert second.result(10) == (True, False)
    with in_thread(look) as third:
        assert third.result(10) == (True, True)


@only_postgres
def test_a_first_look_that_cannot_connect_bypasses(base: Database) -> None:
    async def look() -> bool:
        return transactions.may_use_cache(copy)

    base.connection.close()
    isolation._standbys.clear()
    copy = base.connection.copy()
    copy.settings_dict["PORT"] = "1"
    assert not transactions.may_use_cache(copy)
    assert not async_to_sync(look)()  # Django does not connect on an event loop
