"""What happens to marks while COMMIT is on its way: other writers, time, eviction, lost memory."""

import time
from collections.abc import Callable

import pytest

from distcache_django.testing import LocalNodes
from tests.freshness.nodes import count_keys, evict, flush, restart
from tests.freshness.rows import SHAPES
from tests.freshness.stage import ActorFailed, Look, Stage
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.servers, pytest.mark.postgres]
MARK_TIMEOUT = 1.0
GROUPS = ("list", "sum", "table")


@pytest.fixture(scope="module")
def stage(make_stage: Callable[..., Stage], make_nodes: Callable[..., object]) -> Stage:
    """A site on nodes that may be broken, whose marks expire soon."""
    return make_stage(nodes=make_nodes(), mark_timeout=MARK_TIMEOUT, options={"DEADLINE": 0.25})


def overlap(stage: Stage, shape: str, end_second: Callable[[Stage, dict[str, int]], None]) -> list[Look]:
    """Two writers write two rows of a group; the second ends while the first waits for its COMMIT."""
    trial = stage.trial()
    stage.fill(shape, trial)
    first = stage.actor("writer").begin("write", hold=["commit", "committed"], kind="update", **trial)
    assert first.reached("commit")
    end_second(stage, {**trial, "pk": trial["mate"]})
    looks = stage.looks("before the first COMMIT", shape, "update", trial)
    first.go("commit")
    assert first.reached("committed")
    looks += stage.looks("after the first COMMIT", shape, "update", trial)
    first.go("committed").result()
    looks += stage.looks("at the end", shape, "update", trial)
    assert looks[-1].loads == 0
    return looks


def commit_second(stage: Stage, trial: dict[str, int]) -> None:
    stage.actor("second writer").call("write", kind="update", **trial)


def fail_second(stage: Stage, trial: dict[str, int]) -> None:
    with pytest.raises(ActorFailed) as failure:
        stage.actor("second writer").call("write_and_break_commit", kind="update", **trial)
    assert "IntegrityError" in failure.value.names


@pytest.mark.parametrize("shape", GROUPS)
def test_other_writer_commits_meanwhile(stage: Stage, shape: str) -> None:
    """mutant: a bump clears all marks."""
    assert [look for look in overlap(stage, shape, commit_second) if look.is_stale] == []


@pytest.mark.parametrize("shape", GROUPS)
def test_other_writer_is_rolled_back_by_its_commit_meanwhile(stage: Stage, shape: str) -> None:
    """mutant: one mark slot or a reused token."""
    assert [look for look in overlap(stage, shape, fail_second) if look.is_stale] == []


def test_commit_that_the_database_refuses(stage: Stage) -> None:
    """The server said ROLLBACK: the marks go at once, and the answer from before is still right."""
    trial = stage.trial()
    stage.fill_all(trial)
    with pytest.raises(ActorFailed):
        stage.actor("writer").call("write_and_break_commit", kind="update", **trial)
    looks = stage.all_looks("after the refusal", "update", trial)

    assert [look for look in looks if look.is_stale] == []
    assert [look.loads for look in looks[1::2]] == [0, 0, 0, 0]


def looks_for(stage: Stage, seconds: float, trial: dict[str, int]) -> list[Look]:
    """Look until some seconds have passed."""
    looks: list[Look] = []
    ends = time.monotonic() + seconds

    def is_over() -> bool:
        looks.extend(stage.all_looks("before COMMIT", "update", trial))
        return time.monotonic() > ends

    wait_until(is_over, seconds=10 * seconds, what="time passes")
    return looks


def looks_around_commit(stage: Stage, event: Callable[[dict[str, int]], list[Look] | None]) -> list[Look]:
    """Let something happen while a COMMIT is about to be sent; look before it, after it and at the end."""
    trial = stage.trial()
    stage.fill_all(trial)
    writer = stage.actor("writer").begin("write", hold=["commit", "committed"], kind="update", **trial)
    assert writer.reached("commit")
    looks = event(trial) or []
    looks += stage.all_looks("before COMMIT", "update", trial)
    writer.go("commit")
    assert writer.reached("committed")
    looks += stage.all_looks("after COMMIT", "update", trial)
    writer.go("committed").result()
    return looks + stage.all_looks("at the end", "update", trial)


def test_commit_that_takes_longer_than_marks_live(stage: Stage) -> None:
    """mutant: expiry during COMMIT (nobody renews the mark)."""
    looks = looks_around_commit(stage, lambda trial: looks_for(stage, 2.2 * MARK_TIMEOUT, trial))

    assert [look for look in looks if look.is_stale] == []
    assert looks[-1].loads == 0


def test_everything_evictable_is_evicted_while_marked(stage: Stage) -> None:
    """mutant: marked record evicted."""
    looks = looks_around_commit(stage, lambda _: evict(stage.nodes))

    assert [look for look in looks if look.is_stale] == []
    assert looks[-1].loads == 0


@pytest.mark.parametrize("event", [flush, restart], ids=["emptied", "restarted"])
def test_nodes_lose_their_memory_between_mark_and_commit(stage: Stage, event: Callable[[LocalNodes], None]) -> None:
    """mutant: voiding without quarantine."""
    looks = looks_around_commit(stage, lambda _: event(stage.nodes))
    stage.await_cache()

    assert [look for look in looks if look.is_stale] == []


@pytest.mark.parametrize("shape", SHAPES)
def test_version_records_are_evicted(stage: Stage, shape: str) -> None:
    """mutants: fixed mint value, missing counts as a vote. Records go before and after a write; answers stay."""
    trial = stage.trial()
    shapes = [shape, *(other for other in SHAPES if other != shape)]
    stage.fill_all(trial)
    assert count_keys(stage.nodes, "dc:v:*") > 0
    evict(stage.nodes, "dc:v:*")
    stage.actor("writer").call("write", kind="update", **trial)
    evict(stage.nodes, "dc:v:*")
    looks = [look for one in shapes for look in stage.looks("after the eviction", one, "update", trial)]

    assert [look for look in looks if look.is_stale] == []

    def loads() -> int:
        return sum(stage.looks("later", one, "update", trial)[1].loads for one in shapes)

    # Not at once on a starved machine: a request that runs into its deadline takes its node away for a moment.
    wait_until(lambda: loads() == 0, what="answers that are cached again")


def test_writer_sleeps_between_marking_and_commit(stage: Stage) -> None:
    """mutant: age of the mark unchecked. The writer's process is stopped for longer than its marks live."""
    trial = stage.trial()
    stage.fill_all(trial)
    writer = stage.fresh("sleeper").begin("write_with_gate_at_mark", hold=["marked", "committed"], **trial)
    assert writer.reached("marked")
    writer.stop()
    looks = looks_for(stage, 1.3 * MARK_TIMEOUT, trial)
    writer.resume()
    if writer.go("marked").reached("committed"):
        looks += stage.all_looks("after COMMIT", "update", trial)
        writer.go("committed").result()
    else:
        with pytest.raises(ActorFailed) as failure:
            writer.result()
        assert "DatabaseError" in failure.value.names
    looks += stage.all_looks("at the end", "update", trial)

    assert [look for look in looks if look.is_stale] == []
