"""A row moves between groups, and the writer is wrong about where it was: the lists of all groups are right."""

from collections.abc import Callable

import pytest

from tests.freshness.stage import Look, Stage

pytestmark = [pytest.mark.servers, pytest.mark.postgres]
HOWS = ("save", "save_fields", "bulk_update", "update", "delete", "update_of_batch")
GROUPS = ("shelf", "other", "third")


@pytest.fixture(scope="module", params=[0, 170000], ids=["newest", "17"])
def stage(make_stage: Callable[..., Stage], request: pytest.FixtureRequest) -> Stage:
    """A site with the product, on a PostgreSQL that returns old values and on one that does not."""
    return make_stage(postgres_version=request.param)


def trial_with_third(stage: Stage) -> dict[str, int]:
    return {**stage.trial(), "third": stage.trial()["other"]}


def fill_groups(stage: Stage, trial: dict[str, int]) -> None:
    for group in GROUPS:
        for shape in ("list", "sum"):
            stage.fill(shape, {**trial, "shelf": trial[group]})


def look_at_groups(stage: Stage, when: str, how: str, trial: dict[str, int]) -> list[Look]:
    return [
        look
        for group in GROUPS
        for shape in ("list", "sum")
        for look in stage.looks(f"{when}, {group}", shape, how, {**trial, "shelf": trial[group]})
    ]


def unlocked_writers(stage: Stage, how: str, *, atomic: bool) -> list[Look]:
    """L: A moves the row from 1 to 2; B, whose instance still says 1, moves it to 3."""
    trial = trial_with_third(stage)
    stage.actor("second writer").call("load_stale_instance", **trial)
    stage.actor("writer").call("write", kind="move", **trial)
    fill_groups(stage, trial)
    stage.actor("second writer").call("move_stale_instance", how=how, atomic=atomic, **trial)
    return look_at_groups(stage, "after the second move", how, trial)


@pytest.mark.parametrize("atomic", [True, False], ids=["atomic", "autocommit"])
@pytest.mark.parametrize("how", HOWS)
def test_moved_by_stale_instance(stage: Stage, how: str, atomic: bool) -> None:
    """mutant: old value taken from the instance."""
    looks = unlocked_writers(stage, how, atomic=atomic)

    assert [look for look in looks if look.is_stale] == []
    assert looks[-1].loads == 0


@pytest.mark.parametrize("how", HOWS)
def test_moved_while_another_move_is_committing(stage: Stage, how: str) -> None:
    """mutant: old value read without a lock. B looks where the row is while A's move waits for its COMMIT."""
    trial = trial_with_third(stage)
    second = stage.actor("second writer")
    second.call("load_stale_instance", **trial)
    first = stage.actor("writer").begin("write", hold=["commit"], kind="move", **trial)
    assert first.reached("commit")
    second.begin("move_stale_instance", hold=["commit"], how=how, atomic=True, **trial)
    stage.await_lock()
    first.go("commit").result()
    assert second.reached("commit")
    fill_groups(stage, trial)
    second.go("commit").result()

    assert [look for look in look_at_groups(stage, "after both moves", how, trial) if look.is_stale] == []


def test_careless_cache_keeps_the_row_in_two_groups(make_stage: Callable[..., Stage]) -> None:
    assert any(look.is_stale for look in unlocked_writers(make_stage(subject="careless"), "save", atomic=True))
