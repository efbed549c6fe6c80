"""No write changes an answer without ending it: random queries and random row writes, on real databases."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from django.db import connections, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distcache_django.orm.sql import tables_read
from distcache_django.testing import LocalPostgres
from tests.support.zoo import queries, schema, trial

TRIALS = 80
POSTGRES_TRIALS = 15


@pytest.fixture(scope="module")
def zoo(django_db_setup: None, django_db_blocker) -> Iterator[None]:
    with django_db_blocker.unblock(), schema.installed():
        schema.create_tables()
        yield
        schema.drop_tables()


@pytest.fixture(scope="module")
def postgres(distcache_postgres: LocalPostgres, django_db_blocker) -> Iterator[str]:
    with django_db_blocker.unblock(), schema.installed():
        entry = connections.configure_settings({"default": {}, "zoo": distcache_postgres.django_settings()})["zoo"]
        connections.settings["zoo"] = entry
        schema.create_tables("zoo")
        yield "zoo"
        schema.drop_tables("zoo")
        connections["zoo"].close()
        del connections["zoo"], connections.settings["zoo"]


@settings(max_examples=TRIALS, deadline=None, print_blob=True, suppress_health_check=list(HealthCheck), database=None)
@given(st.integers(0, 2**32))
def test_a_write_that_changes_an_answer_ends_it(zoo: None, seed: int) -> None:
    trial.run(Random(seed))


def test_trials_are_worth_their_time(zoo: None) -> None:
    """Most queries can be cached, many are refined, answers change, and most writes leave them alone."""
    counts: Counter[str] = Counter()
    for seed in range(30):
        counts += trial.run(Random(seed))

    assert counts["cached"] > 20 * counts["uncacheable"]
    assert counts["refined"] > counts["cached"] / 5
    assert counts["changed"] > 30
    assert counts["kept"] > counts["ended"]


def tables_sqlite_reads(sql: str, params: Sequence[Any]) -> set[str]:
    """Ask SQLite itself, through what it lets an application authorize."""
    read: set[str] = set()

    def authorize(action: int, table: str | None, *_: object) -> int:
        if action == sqlite3.SQLITE_READ and table:
            read.add(table)
        return sqlite3.SQLITE_OK

    database = connections["default"].connection
    with connections["default"].cursor() as cursor:
        database.set_authorizer(authorize)
        try:
            cursor.execute(f"EXPLAIN {sql}", list(params))
        finally:
            database.set_authorizer(None)
    return read


def test_sqlite_reads_no_table_that_was_not_found_in_the_text(zoo: None) -> None:
    seed = Random().randrange(2**32)
    print("seed", seed)  # noqa: T201 - what a failure is repeated with
    several = 0
    for number in range(seed, seed + 100):
        rng = Random(number)
        with trial.recorded({}) as asked, suppress(*trial.REFUSALS), transaction.atomic():
            queries.ask(rng)
        for one in asked:
            with suppress(*trial.REFUSALS), transaction.atomic():
                read = tables_sqlite_reads(one.sql, one.params)
                several += len(read) > 1

                assert read <= tables_read(one.sql)
    assert several > 20


@pytest.mark.postgres
@pytest.mark.servers
def test_a_write_that_changes_an_answer_ends_it_on_postgresql(postgres: str) -> None:
    seed = Random().randrange(2**32)
    for number in range(seed, seed + POSTGRES_TRIALS):
        print("seed", number)  # noqa: T201 - what a failure is repeated with
        with trial.routed(postgres):
            trial.run(Random(number), postgres)
