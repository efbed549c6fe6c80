"""Processes and connections end where it hurts; what is read is what the database has, then and later."""

from collections.abc import Callable, Iterator

import pytest

from distcache_django.testing import FaultProxy
from tests.freshness.rows import KINDS, SHAPES, target
from tests.freshness.stage import ActorFailed, Look, Stage
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.servers, pytest.mark.postgres]
MARK_TIMEOUT = 1.0
#: A COMMIT that takes as long as ``stock.commit_takes`` says: a deferred trigger runs inside it.
SLOW_COMMIT = """
CREATE OR REPLACE FUNCTION stock_slow_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(coalesce(nullif(current_setting('stock.commit_takes', true), ''), '0')::float);
    PERFORM set_config('stock.commit_takes', '0', true);
    RETURN NULL;
END $$;
DROP TRIGGER IF EXISTS slow_commit ON stock_item;
CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT OR UPDATE OR DELETE ON stock_item
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION stock_slow_commit();
"""
Trials = list[tuple[str, dict[str, int]]]


@pytest.fixture(scope="module")
def stage(make_stage: Callable[..., Stage]) -> Stage:
    """A site whose marks expire soon."""
    found = make_stage(mark_timeout=MARK_TIMEOUT, options={"DEADLINE": 0.25})
    found.sql(SLOW_COMMIT)
    return found


@pytest.fixture
def database(stage: Stage) -> Iterator[FaultProxy]:
    """A proxy between the writer and PostgreSQL; the writer is started anew behind it."""
    with FaultProxy(stage.postgres.port) as proxy:
        behind = {**stage.databases["default"], "PORT": str(proxy.port)}
        stage.fresh("writer", databases={"default": behind})
        yield proxy
    stage.fresh("writer")


def trials_of(stage: Stage, kinds: tuple[str, ...]) -> Trials:
    """Make a trial for each kind, and fill the cache with its answers in every shape."""
    found: Trials = []
    for kind in kinds:
        trial = stage.trial()
        trial["at"] = target(kind, trial)
        stage.fill_all(trial)
        found.append((kind, trial))
    return found


def stale_until_cached(stage: Stage, trials: Trials) -> list[Look]:
    """Look at the trials over and over until each is cached again; return what was stale."""
    stale: list[Look] = []

    def are_cached() -> bool:
        looks = [stage.look("later", shape, kind, trial) for kind, trial in trials for shape in SHAPES]
        stale.extend(look for look in looks if look.is_stale)
        return all(look.loads == 0 for look in looks)

    wait_until(are_cached, seconds=10 * MARK_TIMEOUT, what="all answers are cached again")
    return stale


def kill_at(stage: Stage, points: list[str], trials: Trials, *, late_fill: bool = False) -> list[Look]:
    """Let a writer for each trial come to the last of the points, and kill it there; return what was then stale."""
    looks: list[Look] = []
    for kind, trial in trials:
        writer = stage.fresh("victim").begin("write", hold=points, kind=kind, **trial)
        for point in points:
            assert writer.reached(point)
            if late_fill or point == points[-1]:
                looks += stage.all_looks(f"at {point}", kind, trial)
            if point != points[-1]:
                writer.go(point)
        writer.kill()
    return [look for look in looks if look.is_stale]


def test_killed_between_commit_and_invalidation(stage: Stage) -> None:
    """K; mutant: silent expiry (the mark goes, and the answer from before the commit is valid again)."""
    trials = trials_of(stage, KINDS)
    stale = kill_at(stage, ["committed"], trials)

    assert stale + stale_until_cached(stage, trials) == []


def test_killed_between_commit_and_invalidation_after_a_late_fill(stage: Stage) -> None:
    """K, and somebody fills the cache just before COMMIT; mutants: checker ignores marks, silent expiry."""
    trials = trials_of(stage, KINDS)
    stale = kill_at(stage, ["commit", "committed"], trials, late_fill=True)

    assert stale + stale_until_cached(stage, trials) == []


def test_killed_when_a_write_without_transaction_has_become_visible(stage: Stage) -> None:
    trials = trials_of(stage, KINDS)
    looks: list[Look] = []
    for kind, trial in trials:
        points = ["write", "written", "commit", "committed"]
        writer = stage.fresh("victim").begin("write", hold=points, kind=kind, atomic=False, **trial)
        before = stage.truth("list", trial)
        while stage.truth("list", trial) == before:
            point = writer.next_point()
            assert point is not None, "the write was over before it could be caught in the act"
            looks += stage.all_looks(f"at {point}", kind, trial)
            if stage.truth("list", trial) == before:
                writer.go(point)
        writer.kill()

    assert [look for look in looks if look.is_stale] + stale_until_cached(stage, trials) == []


def test_killed_before_commit(stage: Stage) -> None:
    trials = trials_of(stage, ("save", "update", "create", "delete", "raw"))
    stale = kill_at(stage, ["commit"], trials)

    assert stale + stale_until_cached(stage, trials) == []


@pytest.mark.parametrize("kind", ["save", "update", "delete", "create", "raw"])
def test_connection_lost_in_commit_that_happens(stage: Stage, database: FaultProxy, kind: str) -> None:
    """mutant: unknown outcome clears. The client hears nothing; the database commits a moment later."""
    ((_, trial),) = trials = trials_of(stage, (kind,))
    before = stage.truth("list", trial)
    writer = stage.actor("writer").begin("write_with_slow_commit", hold=["commit"], kind=kind, seconds=0.5, **trial)
    assert writer.reached("commit")
    writer.go("commit")
    stage.await_commit()
    database.cut()
    with pytest.raises(ActorFailed) as failure:
        writer.result()
    looks = stage.all_looks("after the failure", kind, trial)
    wait_until(lambda: stage.truth("list", trial) != before, what="the commit")
    looks += stage.all_looks("after the commit", kind, trial)

    assert "DatabaseError" in failure.value.names
    assert [look for look in looks if look.is_stale] + stale_until_cached(stage, trials) == []


@pytest.mark.parametrize("kind", ["save", "raw"])
def test_connection_lost_in_commit_that_never_happens(stage: Stage, database: FaultProxy, kind: str) -> None:
    ((_, trial),) = trials = trials_of(stage, (kind,))
    writer = stage.actor("writer").begin("write", hold=["commit"], kind=kind, **trial)
    assert writer.reached("commit")
    database.cut()
    with pytest.raises(ActorFailed):
        writer.go("commit").result()
    looks = stage.all_looks("after the failure", kind, trial)

    assert [look for look in looks if look.is_stale] + stale_until_cached(stage, trials) == []


def test_failed_atomic_block_leaves_nothing_behind(stage: Stage, database: FaultProxy) -> None:
    """The database refuses the connection, then is back; the writer's process invalidates and caches as before."""
    for shape in SHAPES:
        trial = stage.trial()
        stage.fill(shape, trial)
        database.cut()
        stage.actor("writer").call("close_connections")
        for _ in range(2):
            with pytest.raises(ActorFailed) as failure:
                stage.actor("writer").call("write", kind="save", **trial)
            assert "OperationalError" in failure.value.names
        database.heal()
        looks = [stage.look("in the writer's process", shape, "save", trial, actor="writer") for _ in range(2)]
        stage.actor("writer").call("write", kind="update", **trial)
        looks += [stage.look("in the writer's process", shape, "update", trial, actor="writer") for _ in range(2)]
        looks += stage.looks("after the write", shape, "update", trial)

        assert [look for look in looks if look.is_stale] == []
        assert [look.loads for look in looks[1::2]] == [0, 0, 0]


def test_connection_that_broke_in_a_transaction_leaves_nothing_behind(stage: Stage, database: FaultProxy) -> None:
    ((_, trial),) = trials = trials_of(stage, ("save",))
    writer = stage.actor("writer").begin("write", hold=["written"], kind="save", **trial)
    assert writer.reached("written")
    database.cut()
    with pytest.raises(ActorFailed):
        writer.go("written").result()
    database.heal()
    writer.call("close_connections")
    stale = stale_until_cached(stage, trials)  # COMMIT was tried, so nobody knows: the marks have to expire
    looks = [stage.look("in the writer's process", "list", "save", trial, actor="writer") for _ in range(2)]
    writer.call("write", kind="save", **trial)
    looks += stage.all_looks("after the write", "save", trial)

    assert stale + [look for look in looks if look.is_stale] == []
    assert looks[1].loads == looks[-1].loads == 0
