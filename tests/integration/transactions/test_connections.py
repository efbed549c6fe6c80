"""Requests, several databases, copies, threads and tasks: what is written is the connection's."""

from pathlib import Path

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.handlers.base import BaseHandler
from django.db import connections, transaction
from django.http import HttpResponse

from distcache_django.freshness import transactions
from tests.integration.transactions.ground import (
    COMMITTED,
    POSTGRES,
    ROW,
    Database,
    database,
    in_thread,
    rolled_back,
)


def test_atomic_requests(base: Database) -> None:
    connections.settings["things"]["ATOMIC_REQUESTS"] = True

    def view(request: object) -> HttpResponse:
        base.write()
        assert base.take() == []
        return HttpResponse()

    BaseHandler().make_view_atomic(view)(None)

    assert base.take() == COMMITTED


def test_two_databases_at_once(base: Database, tmp_path: Path) -> None:
    entry: dict[str, object] = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "others.db")}
    with database("others", entry, base.recorder) as other:
        other.take()
        with rolled_back():
            base.write(("thing:1",))
            with transaction.atomic("others"):
                other.write(("other:1",))
                assert not transactions.may_use_cache("things")
            assert other.take() == COMMITTED

    assert base.recorder.bumped == [(frozenset({"other:1"}), base.recorder.marked[0].token)]


@pytest.mark.parametrize("base", [POSTGRES], indirect=True)
def test_copies_and_threads_have_transactions_of_their_own(base: Database) -> None:
    base.execute("INSERT INTO thing VALUES (2, 0)")
    base.take()
    copy = base.connection.copy()

    def elsewhere() -> bool:
        with transaction.atomic("things"):
            return transactions.may_use_cache("things")

    with transaction.atomic("things"):
        base.write()
        with in_thread(elsewhere) as result:
            assert result.result(10) is True
        copy.set_autocommit(False)
        transactions.record_write(copy, ("thing:2",))
        with copy.cursor() as cursor:
            cursor._execute("UPDATE thing SET n = 7 WHERE id = 2", ())
        copy.commit()
        assert base.recorder.bumped[-1][0] == {"thing:2"}
        copy.close()
        base.take()
    assert base.take() == COMMITTED
    assert base.recorder.bumped[-1][0] == set(ROW)


def test_state_follows_the_connection_through_sync_to_async(base: Database) -> None:
    """The ORM's threads: a connection's state is the connection's, whatever task asks."""

    def work() -> list[str]:
        with transaction.atomic("things"):
            base.write()
            assert not transactions.may_use_cache("things")
        return base.take()

    async def tasks() -> list[str]:
        assert await sync_to_async(work)() == COMMITTED
        if base.vendor == "sqlite":  # its trace is the first connection's
            return COMMITTED
        return await sync_to_async(elsewhere, thread_sensitive=False)()

    def elsewhere() -> list[str]:
        try:
            return work()
        finally:
            base.connection.close()

    assert async_to_sync(tasks)() == COMMITTED
    assert base.number() == (1 if base.vendor == "sqlite" else 2)
