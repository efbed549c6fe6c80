"""Transactions of a real PostgreSQL, answers on real nodes: what readers are given while a writer commits."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from django.db import OperationalError, transaction
from pytest_django import DjangoDbBlocker

from distcache_django.freshness import transactions
from distcache_django.freshness.commits import FreshnessUnavailable
from distcache_django.freshness.service import freshness
from distcache_django.testing import FaultProxy, LocalNodes, LocalPostgres
from tests.integration.transactions.ground import TRIGGER, Database, Recorder, Server, database, in_thread, rolled_back
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.postgres, pytest.mark.servers]

MARK_TIMEOUT = 2.0
READ = ("thing:1", "thing:*")


@pytest.fixture(scope="module")
def nodes() -> Iterator[LocalNodes]:
    with LocalNodes(2) as found:
        yield found


@pytest.fixture
def site(nodes: LocalNodes, settings: Any, request: pytest.FixtureRequest) -> None:
    transactions.install()
    settings.CACHES = {
        "default": {
            "BACKEND": "distcache_django.DistributedCache",
            "LOCATION": nodes.urls,
            "KEY_PREFIX": request.node.name,  # and so no need to empty the nodes, which answer nothing for a while then
            "OPTIONS": {"DEADLINE": 0.5},
        }
    }
    settings.DISTCACHE = {"MARK_TIMEOUT": MARK_TIMEOUT, "ON_MARK_FAILURE": "raise"}


@pytest.fixture
def proxy(distcache_postgres: LocalPostgres, distcache_proxy: Callable[..., FaultProxy]) -> FaultProxy:
    return distcache_proxy(distcache_postgres.port)


@pytest.fixture
def base(
    site: None, distcache_postgres: LocalPostgres, proxy: FaultProxy, django_db_blocker: DjangoDbBlocker
) -> Iterator[Database]:
    entry = {**distcache_postgres.django_settings(), "PORT": str(proxy.port)}
    with django_db_blocker.unblock(), database("things", entry, Recorder()) as found:
        found.execute(TRIGGER)
        yield found


class Reader:
    """Read row 1 as another process of the site does; count the loads."""

    def __init__(self, server: Server) -> None:
        self.loads = 0
        self._server = server

    def __call__(self) -> object:
        return freshness().answer("thing", READ, self._load, 60)

    def _load(self) -> object:
        self.loads += 1
        return self._server.number()

    def is_cached(self) -> bool:
        """Return whether a read is a hit."""
        before = self.loads
        self()
        return self.loads == before


@pytest.fixture
def server(distcache_postgres: LocalPostgres, base: Database) -> Iterator[Server]:
    with closing(Server(distcache_postgres.dsn)) as found:
        yield found


@pytest.fixture
def read(server: Server) -> Reader:
    """A reader whose answer is stored: fresh nodes store nothing for a while."""
    reader = Reader(server)
    wait_until(reader.is_cached, what="a hit")
    return reader


def test_a_commit_ends_answers_and_a_rollback_does_not(base: Database, read: Reader) -> None:
    with rolled_back():
        base.write()
    assert read.is_cached()

    with transaction.atomic("things"):
        base.write()
    assert read() == 1
    assert read.is_cached()

    base.write_alone()
    assert read() == 2


def test_while_commit_runs_readers_ask_the_database_and_store_nothing(
    base: Database, server: Server, read: Reader
) -> None:
    def write() -> None:
        with transaction.atomic("things"):
            base.write()

    with in_thread(write) as done:
        with server.holding_commits():
            server.wait_for_commit()
            assert [read.is_cached() for _ in range(3)] == [False] * 3
        done.result(20)
    assert read() == 1
    assert read.is_cached()


def test_marks_are_renewed_while_commit_runs(base: Database, server: Server, read: Reader) -> None:
    """Mutant: expiry during COMMIT. A fill under an expired mark would be served between COMMIT and bump."""

    def write() -> None:
        with transaction.atomic("things"):
            base.write()

    with in_thread(write) as done:
        with server.holding_commits():
            server.wait_for_commit()
            end = time.monotonic() + 1.5 * MARK_TIMEOUT
            wait_until(lambda: read.is_cached() or time.monotonic() > end, what="the end of the marks' first lives")
            assert not read.is_cached()
        done.result(20)
    assert read() == 1


def test_an_unknown_outcome_serves_nothing_old_mutant_unknown_outcome_clears(
    base: Database, server: Server, read: Reader, proxy: FaultProxy
) -> None:
    """Mutant: an unknown outcome clears. The link is lost, the writer has given up, and then the database commits."""

    def write() -> None:
        with pytest.raises(OperationalError), transaction.atomic("things"):
            base.write()

    with in_thread(write) as done:
        with server.holding_commits():
            server.wait_for_commit()
            proxy.cut()
            done.result(20)
            assert not read.is_cached()
            proxy.heal()
        wait_until(lambda: server.number() == 1, what="the commit")
    assert read() == 1
    wait_until(read.is_cached, what="the end of the marks")
    assert read() == 1


def test_a_node_away_refuses_the_commit_and_the_next_one_goes_through(
    base: Database, server: Server, nodes: LocalNodes
) -> None:
    def write() -> None:
        with transaction.atomic("things"):
            base.write()

    for name in nodes.urls:
        nodes[name].kill()
    with pytest.raises(FreshnessUnavailable):
        write()
    assert server.number() == 0

    nodes.restore()
    reader = Reader(server)
    wait_until(reader.is_cached, what="a hit")
    write()
    assert reader() == 1
