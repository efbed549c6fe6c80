"""Every write that passes Django reports exactly what it touches, and is otherwise what it is without us."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from django.core.management.color import no_style
from django.db import connection
from django.test import override_settings
from pytest_django import DjangoDbBlocker

from distcache_django.freshness import service as services
from distcache_django.freshness import transactions
from distcache_django.orm import capture, writes
from tests.integration.transactions.ground import Recorder
from tests.support import deeds
from tests.support.deeds import DEEDS, OWN, changed_rows, rows_of, unreported
from tests.support.freshness import default_database
from tests.support.zoo import schema

pytestmark = pytest.mark.postgres

#: What the tests let the database do, over what it can: other versions and other databases do less.
LIMITS: dict[str, capture.Abilities | None] = {
    "sqlite": None,
    "postgresql": None,
    "postgresql-17": capture.Abilities(returns=True, wraps=True, lock=" FOR NO KEY UPDATE"),
    "locking": capture.Abilities(lock=" FOR UPDATE"),
}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, django_db_blocker: DjangoDbBlocker
) -> Iterator[str]:
    """A database with the zoo's tables; its writes are reported from now on, in this process."""
    if request.param == "sqlite":
        entry: dict[str, Any] = {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(tmp_path_factory.mktemp("writes") / "zoo.sqlite3"),
        }
    else:
        server = request.getfixturevalue("distcache_postgres")
        server.create_database("writes")
        entry = server.django_settings("writes")
    transactions.install()
    writes.install()
    with ExitStack() as stack:
        stack.enter_context(schema.installed())
        stack.enter_context(django_db_blocker.unblock())
        stack.enter_context(default_database(entry))
        schema.create_tables()
        with connection.schema_editor() as editor:
            for model in OWN:
                editor.create_model(model)
        stack.enter_context(override_settings(DISTCACHE={"ENABLED": False, "MODELS": deeds.MODELS}))
        yield request.param


def tables() -> list[str]:
    return [*schema.tables(), *(model._meta.db_table for model in OWN)]


def refill() -> None:
    """Put the rows back that deeds start from, unreported."""
    connection.ops.execute_sql_flush(connection.ops.sql_flush(no_style(), tables(), reset_sequences=True))
    deeds.populate()
    for sql in connection.ops.sequence_reset_sql(no_style(), [*schema.tables().values(), *OWN]):
        with connection.cursor() as cursor:
            cursor.execute(sql)


@pytest.fixture
def recorder(database: str, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    services.forget_service()
    refill()
    found = Recorder()
    monkeypatch.setattr(services, "_service", found)
    return found


def told(recorder: Recorder) -> set[str]:
    """Return what was bumped, each part of it marked before."""
    marked = {attempt.token: set(attempt.dependencies) for attempt in recorder.marked}
    for names, token in recorder.bumped:
        assert token is not None
        assert marked[token] == names
    return set().union(*(names for names, _ in recorder.bumped))


def outcome_of(deed: Callable[[], Any]) -> Any:
    try:
        return deed()
    except Exception as error:  # noqa: BLE001 - whatever Django raises
        return type(error), str(error)


@pytest.mark.parametrize("name", DEEDS)
def test_a_write_reports_exactly_what_it_touches(recorder: Recorder, name: str) -> None:
    before = rows_of(tables())

    _, expected = DEEDS[name]()

    assert told(recorder) == expected
    assert unreported(changed_rows(before, rows_of(tables())), expected) == []
