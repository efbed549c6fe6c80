"""The ground of these tests: databases of their own, and a recorder in the place of the service."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django import DjangoDbBlocker

from distcache_django.freshness import service as services
from distcache_django.freshness import transactions
from distcache_django.testing import LocalPostgres
from tests.integration.transactions.ground import POSTGRES, Database, Recorder, database, watch_psycopg


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """The service of the process, for the test."""
    transactions.install()
    recorder = Recorder()
    monkeypatch.setattr(services, "_service", recorder)
    watch_psycopg(monkeypatch, recorder)
    return recorder


@pytest.fixture(params=["sqlite", POSTGRES])
def base(
    request: pytest.FixtureRequest, tmp_path: Path, recorder: Recorder, django_db_blocker: DjangoDbBlocker
) -> Iterator[Database]:
    """A database under the alias ``things``: one test on each engine."""
    entry: dict[str, object] = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "things.db")}
    if request.param == "postgresql":
        server: LocalPostgres = request.getfixturevalue("distcache_postgres")
        entry = server.django_settings()
    with django_db_blocker.unblock(), database("things", entry, recorder) as found:
        found.take()
        yield found
