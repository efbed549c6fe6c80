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
NODES = ("cache-a", "cache-b", "cache-c", "cache-d")


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


def filled(stage: Stage) -> dict[str, int]:
    trial = stage.trial()
    for shape in SHAPES:
        stage.fill(shape, trial)
    return trial


def looks_by_new_process(stage: Stage, when: str, trial: dict[str, int]) -> list[Look]:
    """Look at every shape in a process that knows nothing of the nodes yet."""
    stage.fresh("witness")
    return [look for shape in SHAPES for look in stage.looks(when, shape, "update", trial)]


@pytest.mark.parametrize("victim", NODES)
def test_write_while_a_node_is_down_that_comes_back_with_its_old_data(
    proceeding: Stage, broken: LocalNodes, victim: str
) -> None:
    """N, ``proceed``; mutants: incarnation ignored, quarantine without voiding."""
    trial = filled(proceeding)
    save(broken[victim])
    broken[victim].kill()
    proceeding.actor("writer").call("write", kind="update", **trial)
    looks = looks_by_new_process(proceeding, "while the node is down", trial)
    broken[victim].start()
    looks += looks_by_new_process(proceeding, "when the node is back", trial)
    proceeding.await_cache()
    looks += looks_by_new_process(proceeding, "when the node votes again", trial)

    assert [look for look in looks if look.is_stale] == []


def test_nodes_that_restart_from_a_snapshot_older_than_the_write(refusing: Stage, broken: LocalNodes) -> None:
    """mutants: incarnation ignored, quarantine without voiding."""
    trials = [filled(refusing) for _ in range(3)]
    for node in broken.values():
        save(node)
    for trial in trials:
        refusing.actor("writer").call("write", kind="update", **trial)
    restart(broken)
    looks = [look for trial in trials for look in looks_by_new_process(refusing, "after the restart", trial)]
    refusing.await_cache()
    looks += [look for trial in trials for look in looks_by_new_process(refusing, "when the nodes vote", trial)]

    assert [look for look in looks if look.is_stale] == []


@pytest.mark.parametrize("how", ["kill", "pause"])
def test_write_is_refused_that_cannot_be_marked(refusing: Stage, broken: LocalNodes, how: str) -> None:
    """N, ``raise``; mutant: COMMIT without W marks."""
    trial = filled(refusing)
    before = refusing.truth("list", trial)
    for node in broken.values():
        getattr(node, how)()
    for atomic in (True, False):
        with pytest.raises(ActorFailed) as failure:
            refusing.actor("writer").call("write", kind="update", atomic=atomic, **trial)
        assert "DatabaseError" in failure.value.names
    assert refusing.truth("list", trial) == before
    for node in broken.values():
        node.resume()
    broken.start()
    refusing.await_cache()
    looks = looks_by_new_process(refusing, "after the refusal", trial)
    wait_until(lambda: succeeds(refusing, trial), seconds=10, what="the writer writes again")
    looks += looks_by_new_process(refusing, "after the write that followed", trial)

    assert [look for look in looks if look.is_stale] == []


def succeeds(stage: Stage, trial: dict[str, int]) -> bool:
    try:
        stage.actor("writer").call("write", kind="expression", **trial)
    except ActorFailed:
        return False
    return True


@pytest.mark.parametrize("victim", NODES)
def test_write_while_a_node_is_silent_that_then_goes_on(proceeding: Stage, broken: LocalNodes, victim: str) -> None:
    """N, ``proceed``, SIGSTOP: the node is back with its memory; the bump it is owed arrives, and that is that."""
    trial = filled(proceeding)
    broken[victim].pause()
    proceeding.actor("writer").call("write", kind="update", **trial)
    looks = looks_by_new_process(proceeding, "while the node is silent", trial)
    broken[victim].resume()

    def is_fresh() -> bool:
        return not any(look.is_stale for look in looks_by_new_process(proceeding, "owed", trial))

    wait_until(is_fresh, seconds=5, what="the owed bump")
    looks += looks_by_new_process(proceeding, "after the owed bump", trial)

    assert [look for look in looks if look.is_stale] == []


@pytest.mark.parametrize("victim", NODES)
def test_node_is_killed_between_mark_and_bump(refusing: Stage, broken: LocalNodes, victim: str) -> None:
    """The database has committed; the node's mark and memory are lost, or come back from a snapshot."""
    trial = filled(refusing)
    save(broken[victim])
    writer = refusing.actor("writer").begin("write", hold=["committed"], kind="update", **trial)
    assert writer.reached("committed")
    broken[victim].kill()
    looks = looks_by_new_process(refusing, "while the node is down", trial)
    broken[victim].start()
    looks += looks_by_new_process(refusing, "before the bump", trial)
    writer.go("committed").result()
    refusing.await_cache()
    looks += looks_by_new_process(refusing, "at the end", trial)

    assert [look for look in looks if look.is_stale] == []


@pytest.mark.parametrize("how", ["kill", "pause"])
def test_reads_are_right_and_prompt_with_every_node_away(proceeding: Stage, broken: LocalNodes, how: str) -> None:
    trial = filled(proceeding)
    looks_by_new_process(proceeding, "before", trial)
    for node in broken.values():
        getattr(node, how)()
    looks = [proceeding.look("first", "list", "update", trial)]
    looks += [proceeding.look("later", shape, "update", trial) for shape in SHAPES]
    slowest = proceeding.actor("writer").call("write", kind="update", **trial).seconds
    looks += [proceeding.look("after a write", shape, "update", trial) for shape in SHAPES]

    assert [look for look in looks if look.is_stale] == []
    assert looks[0].seconds < ONE_DEADLINE
    assert sum(look.seconds for look in looks[1:]) < ONE_DEADLINE
    assert slowest < DEADLINE + ONE_DEADLINE


def test_record_is_evicted_by_a_full_node(
    make_stage: Callable[..., Stage], make_nodes: Callable[..., LocalNodes]
) -> None:
    """mutant: marked record evicted; here by the server itself, at its limit of memory under ``volatile-lru``."""
    nodes = make_nodes(1, **{"maxmemory": "8mb", "maxmemory-policy": "volatile-lru"})
    stage = make_stage(nodes=nodes, mark_timeout=5.0)
    stage.await_cache()
    trial = filled(stage)
    writer = stage.actor("writer").begin("write", hold=["commit", "committed"], kind="update", **trial)
    assert writer.reached("commit")
    assert fill_memory(nodes["cache-a"], megabytes=16) > 100
    looks = [look for shape in SHAPES for look in stage.looks("before COMMIT", shape, "update", trial)]
    writer.go("commit")
    assert writer.reached("committed")
    looks += [look for shape in SHAPES for look in stage.looks("after COMMIT", shape, "update", trial)]
    writer.go("committed").result()
    looks += [look for shape in SHAPES for look in stage.looks("at the end", shape, "update", trial)]

    assert [look for look in looks if look.is_stale] == []
