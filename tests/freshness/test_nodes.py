"""Nodes are down or silent while somebody writes, and come back with what they knew before."""

from collections.abc import Callable

import pytest

from distcache_django.testing import LocalNodes
from tests.freshness.nodes import fill_memory, restart, save
from tests.freshness.rows import SHAPES
from tests.freshness.stage import ActorFailed, Look, Stage
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.servers, pytest.mark.postgres]
DEADLINE = 0.25
#: What a call may take that waits for one deadline: the rest is the machine's.
ONE_DEADLINE = DEADLINE + 0.6
#: Of so many answers some depend on any one node.
TRIALS = 4


@pytest.fixture(scope="module")
def broken(make_nodes: Callable[..., LocalNodes]) -> LocalNodes:
    """Four nodes that the tests below break and mend."""
    return make_nodes()


def make(make_stage: Callable[..., Stage], broken: LocalNodes, policy: str) -> Stage:
    failure = {"ON_MARK_FAILURE": policy}
    return make_stage(nodes=broken, mark_timeout=1.0, options={"DEADLINE": DEADLINE}, distcache=failure)


@pytest.fixture(scope="module")
def refusing(make_stage: Callable[..., Stage], broken: LocalNodes) -> Stage:
    """A site that refuses what it cannot mark."""
    return make(make_stage, broken, "raise")


@pytest.fixture(scope="module")
def proceeding(make_stage: Callable[..., Stage], broken: LocalNodes) -> Stage:
    """A site that writes on."""
    return make(make_stage, broken, "proceed")


@pytest.fixture(autouse=True)
def mended(broken: LocalNodes, refusing: Stage) -> None:
    """All nodes run, are used, and take part."""
    for node in broken.values():
        node.resume()
    broken.start()
    for name in refusing.names():
        refusing.fresh(name)
    refusing.await_cache()


def filled(stage: Stage) -> list[dict[str, int]]:
    """Make trials whose answers are cached."""
    trials = [stage.trial() for _ in range(TRIALS)]
    for trial in trials:
        stage.fill_all(trial)
    return trials


def write(stage: Stage, trials: list[dict[str, int]]) -> None:
    for trial in trials:
        stage.actor("writer").call("write", kind="update", **trial)


def stale(stage: Stage, when: str, trials: list[dict[str, int]]) -> list[Look]:
    """Return what is stale of all that a process reads which knows nothing of the nodes yet."""
    stage.fresh("witness")
    return [look for trial in trials for look in stage.all_looks(when, "update", trial) if look.is_stale]


def test_write_while_a_node_is_down_that_comes_back_with_its_old_data(proceeding: Stage, broken: LocalNodes) -> None:
    """N, ``proceed``; mutants: incarnation ignored, quarantine without voiding."""
    trials, victim = filled(proceeding), broken["cache-a"]
    save(victim)
    victim.kill()
    write(proceeding, trials)
    found = stale(proceeding, "while the node is down", trials)
    victim.start()
    found += stale(proceeding, "when the node is back", trials)
    proceeding.await_cache()
    found += stale(proceeding, "when the node votes again", trials)

    assert found == []


def test_nodes_that_restart_from_a_snapshot_older_than_the_write(refusing: Stage, broken: LocalNodes) -> None:
    """mutants: incarnation ignored, quarantine without voiding."""
    trials = filled(refusing)
    for node in broken.values():
        save(node)
    write(refusing, trials)
    restart(broken)
    found = stale(refusing, "after the restart", trials)
    refusing.await_cache()
    found += stale(refusing, "when the nodes vote again", trials)

    assert found == []


@pytest.mark.parametrize("how", ["kill", "pause"])
def test_write_is_refused_that_cannot_be_marked(refusing: Stage, broken: LocalNodes, how: str) -> None:
    """N, ``raise``; mutant: COMMIT without W marks."""
    trials = filled(refusing)
    before = refusing.truth("list", trials[0])
    for node in broken.values():
        getattr(node, how)()
    for atomic in (True, False):
        with pytest.raises(ActorFailed) as failure:
            refusing.actor("writer").call("write", kind="update", atomic=atomic, **trials[0])
        assert "DatabaseError" in failure.value.names
    assert refusing.truth("list", trials[0]) == before
    for node in broken.values():
        node.resume()
    broken.start()
    refusing.await_cache()
    found = stale(refusing, "after the refusal", trials)
    wait_until(lambda: succeeds(refusing, trials[0]), what="the writer writes again")

    assert found + stale(refusing, "after the write that followed", trials) == []


def succeeds(stage: Stage, trial: dict[str, int]) -> bool:
    try:
        stage.actor("writer").call("write", kind="expression", **trial)
    except ActorFailed:
        return False
    return True


def test_write_while_a_node_is_silent_that_then_goes_on(proceeding: Stage, broken: LocalNodes) -> None:
    """N, ``proceed``, SIGSTOP: the node is back with its memory; the bump it is owed arrives, and that is that."""
    trials = filled(proceeding)
    broken["cache-b"].pause()
    write(proceeding, trials)
    found = stale(proceeding, "while the node is silent", trials)
    broken["cache-b"].resume()
    wait_until(lambda: not stale(proceeding, "owed", trials), what="the owed bumps")
    proceeding.await_cache()

    assert found + stale(proceeding, "after the owed bumps", trials) == []


def test_node_is_killed_between_mark_and_bump(refusing: Stage, broken: LocalNodes) -> None:
    """The database has committed; the node's mark and memory are lost, and what it knew before comes back."""
    trials, victim = filled(refusing), broken["cache-c"]
    save(victim)
    writers = [refusing.fresh(f"writer {number}") for number in range(TRIALS)]
    for writer, trial in zip(writers, trials, strict=True):
        assert writer.begin("write", hold=["committed"], kind="update", **trial).reached("committed")
    victim.kill()
    found = stale(refusing, "while the node is down", trials)
    victim.start()
    found += stale(refusing, "before the bump", trials)
    for writer in writers:
        writer.go("committed").result()
    refusing.await_cache()

    assert found + stale(refusing, "at the end", trials) == []


@pytest.mark.parametrize("how", ["kill", "pause"])
def test_reads_are_right_and_prompt_with_every_node_away(proceeding: Stage, broken: LocalNodes, how: str) -> None:
    trial = filled(proceeding)[0]
    proceeding.all_looks("before", "update", trial)
    for node in broken.values():
        getattr(node, how)()
    looks = [proceeding.look("first", "list", "update", trial)]
    looks += [proceeding.look("later", shape, "update", trial) for shape in SHAPES]
    written = proceeding.actor("writer").call("write", kind="update", **trial).seconds
    looks += [proceeding.look("after a write", shape, "update", trial) for shape in SHAPES]

    assert [look for look in looks if look.is_stale] == []
    assert looks[0].seconds < ONE_DEADLINE
    assert sum(look.seconds for look in looks[1:]) < ONE_DEADLINE
    assert written < DEADLINE + ONE_DEADLINE


def test_record_is_evicted_by_a_full_node(
    make_stage: Callable[..., Stage], make_nodes: Callable[..., LocalNodes]
) -> None:
    """mutant: marked record evicted; here by the server itself, at its limit of memory under ``volatile-lru``."""
    nodes = make_nodes(1, **{"maxmemory": "8mb", "maxmemory-policy": "volatile-lru"})
    stage = make_stage(nodes=nodes, mark_timeout=2.0)
    trial = filled(stage)[0]
    writer = stage.actor("writer").begin("write", hold=["commit", "committed"], kind="update", **trial)
    assert writer.reached("commit")
    assert fill_memory(nodes["cache-a"], megabytes=16) > 100
    looks = stage.all_looks("before COMMIT", "update", trial)
    writer.go("commit")
    assert writer.reached("committed")
    looks += stage.all_looks("after COMMIT", "update", trial)
    writer.go("committed").result()
    looks += stage.all_looks("at the end", "update", trial)

    assert [look for look in looks if look.is_stale] == []
