"""A site with the zoo in a real database, whose writes are reported to a recorder in place of the nodes."""

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from typing import Any

import pytest
from django.db import connection
from django.test import override_settings
from pytest_django import DjangoDbBlocker

from distcache_django.freshness import service as services
from distcache_django.freshness import transactions
from distcache_django.orm import capture, writes
from tests.integration.transactions.ground import Recorder
from tests.support import deeds
from tests.support.freshness import default_database
from tests.support.zoo import schema

#: What a test lets the database do, over what it can: older versions and other databases do less.
LIMITS = {
    "postgresql-17": capture.Abilities(returns=True, wraps=True, lock=" FOR NO KEY UPDATE"),
    "locking": capture.Abilities(lock=" FOR UPDATE"),
}


DATABASES = ["sqlite", *(pytest.param(name, marks=pytest.mark.postgres) for name in ("postgresql", *LIMITS))]
_databases = count()


@pytest.fixture(scope="module", params=DATABASES)
def database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, django_db_blocker: DjangoDbBlocker
) -> Iterator[str]:
    """A database with the tables of all deeds; the name says what it is, or is taken for."""
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("writes") / "zoo.sqlite3"
        entry: dict[str, Any] = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}
    else:
        server = request.getfixturevalue("distcache_postgres")
        # In random order the fixture may be made more than once.
        name = f"{request.module.__name__.rpartition('.')[2]}_{request.param}_{next(_databases)}"
        server.create_database(name)
        entry = server.django_settings(name)
    transactions.install()
    writes.install()
    with ExitStack() as stack:
        stack.enter_context(schema.installed())
        stack.enter_context(django_db_blocker.unblock())
        stack.enter_context(default_database(entry))
        schema.create_tables()
        with connection.schema_editor() as editor:
            for model in deeds.OWN:
                editor.create_model(model)
        stack.enter_context(override_settings(DISTCACHE={"ENABLED": False, "MODELS": deeds.MODELS}))
        if request.param in LIMITS:
            monkeypatch = stack.enter_context(pytest.MonkeyPatch.context())
            monkeypatch.setattr(capture, "abilities_of", lambda _: LIMITS[request.param])
        yield request.param


@pytest.fixture
def rows(database: str) -> None:
    """The rows that deeds start from; nothing is reported before a test asks for the recorder."""
    services.forget_service()
    deeds.refill()


@pytest.fixture
def recorder(rows: None, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """What the nodes are told from now on."""
    found = Recorder()
    monkeypatch.setattr(services, "_service", found)
    return found
