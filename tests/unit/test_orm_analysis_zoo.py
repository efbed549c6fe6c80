"""No write changes an answer without ending it: random queries and random row writes, on real databases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest
from django.db import connections
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distcache_django.testing import LocalPostgres
from tests.support.zoo import schema, trial

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


@pytest.mark.postgres
@pytest.mark.servers
def test_a_write_that_changes_an_answer_ends_it_on_postgresql(postgres: str) -> None:
    seed = Random().randrange(2**32)
    for number in range(seed, seed + POSTGRES_TRIALS):
        print("seed", number)  # noqa: T201 - what a failure is repeated with
        with trial.routed(postgres):
            trial.run(Random(number), postgres)
