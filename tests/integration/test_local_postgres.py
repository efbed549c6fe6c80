"""A real PostgreSQL serves a suite and goes with it."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from django.db import connections
from django.db.backends.postgresql.base import DatabaseWrapper
from pytest_django import DjangoDbBlocker

from distcache_django.testing import LocalPostgres, MissingServer, ServerFailed, postgres
from distcache_django.testing.processes import reserve_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.postgres


@pytest.fixture
def own_postgres(distcache_postgres: LocalPostgres) -> LocalPostgres:
    """Give a server that is not started; depends on the shared one to skip where there is none."""
    return LocalPostgres()


def fetch(dsn: str, query: str) -> object:
    with psycopg.connect(dsn) as link:
        row = link.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def test_server_answers_on_loopback_only(distcache_postgres: LocalPostgres) -> None:
    assert fetch(distcache_postgres.dsn, "select current_database()") == "distcache"
    assert fetch(distcache_postgres.dsn, "show listen_addresses") == "127.0.0.1"
    assert fetch(distcache_postgres.dsn, "show unix_socket_directories") == ""
    assert fetch(distcache_postgres.dsn, "show server_encoding") == "UTF8"


def test_login_needs_the_password(distcache_postgres: LocalPostgres) -> None:
    settings = distcache_postgres.django_settings()

    assert str(settings["PASSWORD"]) in distcache_postgres.dsn
    assert str(settings["PASSWORD"]) not in repr(distcache_postgres)
    with pytest.raises(psycopg.OperationalError, match="authentication"):
        psycopg.connect(distcache_postgres.dsn, password="wrong")


def test_django_connects_with_its_settings(
    distcache_postgres: LocalPostgres, django_db_blocker: DjangoDbBlocker
) -> None:
    distcache_postgres.create_database("django's own")
    entry = distcache_postgres.django_settings("django's own")
    complete = connections.configure_settings({"default": entry})["default"]

    wrapper = DatabaseWrapper(complete, "ours")
    with django_db_blocker.unblock(), closing(wrapper), wrapper.cursor() as cursor:
        cursor.execute("select current_database()")
        assert cursor.fetchone() == ("django's own",)


def test_database_that_exists_is_not_made_again(distcache_postgres: LocalPostgres) -> None:
    with pytest.raises(ServerFailed, match="already exists"):
        distcache_postgres.create_database("distcache")


def test_data_and_port_outlast_stop_restart_and_crash(own_postgres: LocalPostgres) -> None:
    with own_postgres as server:
        port = server.port
        with psycopg.connect(server.dsn) as link:
            link.execute("create table kept (n int); insert into kept values (1)")
        server.stop()
        with pytest.raises(psycopg.OperationalError, match="refused"):
            psycopg.connect(server.dsn)
        server.start()
        assert fetch(server.dsn, "select n from kept") == 1
        server.restart()
        server.kill()
        assert not server.is_running()
        server.start()
        assert fetch(server.dsn, "select n from kept") == 1
        assert server.port == port


def test_options_reach_the_server(own_postgres: LocalPostgres) -> None:
    with LocalPostgres(database="postgres", options={"max_connections": "17"}) as server:
        assert fetch(server.dsn, "show max_connections") == "17"


def test_wrong_option_shows_the_log(own_postgres: LocalPostgres) -> None:
    server = LocalPostgres(options={"no_such_option": "1"})

    with pytest.raises(ServerFailed, match="no_such_option"):
        server.start()

    assert not server.is_running()


def test_close_removes_the_data_and_frees_the_port(own_postgres: LocalPostgres) -> None:
    with own_postgres as server:
        assert server._scratch is not None
        data = server._scratch.path
        assert data.exists()

    assert not data.exists()
    server.close()
    with pytest.raises(ServerFailed, match="no port"):
        _ = server.port


def test_first_start_leaves_a_taken_port_to_its_owner(
    own_postgres: LocalPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = reserve_port()
    listener = socket.socket(fileno=os.dup(taken.fileno()))
    listener.listen()
    reservations = [taken]
    monkeypatch.setattr(postgres, "reserve_port", lambda: reservations.pop() if reservations else reserve_port())

    with listener, own_postgres as server:
        assert reservations == []
        assert server.port != listener.getsockname()[1]
        assert fetch(server.dsn, "select 1") == 1


@pytest.mark.parametrize("ending", [LocalPostgres.stop, LocalPostgres.kill])
def test_busy_backends_end_with_the_server(
    ending: Callable[[LocalPostgres], None], own_postgres: LocalPostgres
) -> None:
    with own_postgres as server, closing(psycopg.connect(server.dsn)) as link:
        backend = link.info.backend_pid
        link.pgconn.send_query(b"do $$ begin loop end loop; end $$")
        active = f"select state = 'active' from pg_stat_activity where pid = {backend}"
        wait_until(lambda: fetch(server.dsn, active), what="the backend at work")

        ending(server)

        wait_until(lambda: not Path(f"/proc/{backend}").exists(), what="the end of the backend")


def test_shared_memory_is_given_back(own_postgres: LocalPostgres) -> None:
    def keys() -> set[str]:
        return {line.split()[0] for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]}

    with own_postgres as server:
        key = server_key(server)
        assert key in keys()
        server.kill()

        assert key not in keys()


def server_key(server: LocalPostgres) -> str:
    """Return the key of the server's shared memory segment: line 7 of postmaster.pid begins with it."""
    assert server._scratch is not None
    lines = (server._scratch.path / "data" / "postmaster.pid").read_text().splitlines()
    return lines[6].split()[0]


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root hands the server to nobody")


@needs_root
def test_root_runs_the_server_as_nobody_and_changes_nothing_above_it(
    tmp_path: Path, own_postgres: LocalPostgres
) -> None:
    with own_postgres as server:
        assert server._scratch is not None
        owner = Path(f"/proc/{server.pid}").stat().st_uid

        assert owner == server._scratch.path.stat().st_uid != 0
        assert stat.S_IMODE(server._scratch.path.stat().st_mode) == 0o700


@needs_root
def test_closed_folder_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_postgres: LocalPostgres
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr("tempfile.tempdir", str(closed))

    with pytest.raises(MissingServer, match=r"nobody.*may not enter.*Run as another user") as caught:
        own_postgres.start()

    assert str(tmp_path.parents[1]) in str(caught.value)
    assert list(closed.iterdir()) == []
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
