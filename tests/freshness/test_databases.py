"""Two databases, and processes that differ in how they reach them: nothing is mixed up, nothing is stale."""

from collections.abc import Callable, Iterator

import psycopg
import pytest

from distcache_django.testing import LocalPostgres
from tests.freshness.rows import SHAPES
from tests.freshness.stage import Look, Stage

pytestmark = [pytest.mark.servers, pytest.mark.postgres]


@pytest.fixture(scope="module")
def stage(make_stage: Callable[..., Stage], postgres: LocalPostgres) -> Iterator[Stage]:
    """A site with two databases that have the same tables."""
    postgres.create_database("second")
    databases = {"default": postgres.django_settings(), "second": postgres.django_settings("second")}
    found = make_stage(databases=databases)
    found.actor("writer").call("create_tables")
    yield found
    found.close()


@pytest.fixture
def second(stage: Stage, postgres: LocalPostgres) -> Iterator[Stage]:
    """What the second database says, by its own connection."""
    dsn = postgres.dsn.rpartition("/")[0] + "/second"
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield stage.beside(connection)


def same_rows(stage: Stage, second: Stage) -> dict[str, int]:
    """Make rows of the same numbers in both databases, and other prices in the second."""
    trial = stage.trial()
    second.sql('INSERT INTO "stock_shelf" (id, name) VALUES (%s, %s)', trial["shelf"], "a")
    for pk, price in ((trial["pk"], 100), (trial["mate"], 200)):
        row = 'INSERT INTO "stock_item" (id, shelf_id, price, batch) VALUES (%s, %s, %s, %s)'
        second.sql(row, pk, trial["shelf"], price, trial["batch"])
    return trial


def look(stage: Stage, second: Stage, when: str, trial: dict[str, int]) -> list[Look]:
    looks = []
    for shape in SHAPES:
        for alias, judge in (("default", stage), ("second", second)):
            for again in ("", ", again"):
                seen = stage.actor("witness").call("read", shape=shape, using=alias, **trial)
                truth = judge.truth(shape, trial)
                looks.append(Look(f"{when}, {alias}{again}", shape, "", seen.value, truth, seen.loads))
    return looks


@pytest.mark.parametrize("kind", ["save", "update", "delete", "raw"])
@pytest.mark.parametrize("alias", ["default", "second"])
def test_write_in_one_of_two_databases(stage: Stage, second: Stage, alias: str, kind: str) -> None:
    trial = same_rows(stage, second)
    looks = look(stage, second, "before", trial)
    writer = stage.actor("writer").begin("write", hold=["committed"], kind=kind, using=alias, **trial)
    assert writer.reached("committed")
    looks += look(stage, second, "between COMMIT and invalidation", trial)
    writer.go("committed").result()
    looks += look(stage, second, "after", trial)

    assert [one for one in looks if one.is_stale] == []
    assert looks[-1].loads == 0


@pytest.mark.parametrize("fails", ["default", "second"])
def test_one_commits_and_the_other_rolls_back(stage: Stage, second: Stage, fails: str) -> None:
    trial = same_rows(stage, second)
    looks = look(stage, second, "before", trial)
    stage.actor("writer").call("write_in_two_databases", fails=fails, **trial)
    looks += look(stage, second, "after", trial)

    assert [one for one in looks if one.is_stale] == []
    assert looks[-1].loads == 0
