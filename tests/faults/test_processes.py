"""What processes keep of their sanity while a node is down: forks, signals, event loops, the end of the interpreter.

All of it runs in processes of its own with warnings as errors, and their standard error has to stay empty.
"""

import ast
import re
from typing import Any

import pytest

from tests.faults.ground import DEADLINE, VICTIM, Ground, keys_at, one_key_per_node, setting
from tests.faults.programs import run_together, start

pytestmark = pytest.mark.servers


def places(ground: Ground) -> tuple[list[str], list[str]]:
    """Return keys of the victim, and one of each healthy node."""
    cache = ground.cache()
    well = [key for node, key in one_key_per_node(cache, "well").items() if node != VICTIM]
    return keys_at(cache, 4), well


def run_one(ground: Ground, task: str, *, meanwhile: Any = None, **arguments: Any) -> Any:
    """Run a task in one process, which must not complain about anything."""
    complaints: list[str] = []
    (answer,) = run_together(
        task, setting(ground.urls), meanwhile=meanwhile or ground.victim.pause, errors=complaints, **arguments
    )
    assert complaints == [""]
    return answer


def test_forked_child_finds_out_alone_and_deadlocks_nowhere(sync_ground: Ground) -> None:
    keys, well = places(sync_ground)

    answer = run_one(sync_ground, "fork_while_down", keys=keys, well=well, resume=sync_ground.victim.pid)

    child = ast.literal_eval(answer["child"])
    assert child["waited"] == 1
    assert child["well"] is True
    # What the parent dropped before the fork is the parent's to delete; the child may be faster.
    assert child["after"] in (["old", None, "old", "old"], ["old"] * 4)
    assert answer["parent"] == ["old", None, "old", "old"]
    assert answer["well"] == "old"


def test_fork_while_other_threads_hold_locks(sync_ground: Ground) -> None:
    keys, well = places(sync_ground)

    answer = run_one(sync_ground, "fork_while_locks_are_held", keys=keys, well=well, meanwhile=sync_ground.victim.kill)

    assert answer == {"answers": ["(True, True)"]}


@pytest.mark.parametrize("kind", ["KeyboardInterrupt", "SystemExit", "TimeLimit"])
@pytest.mark.parametrize("call", ["get", "set", "get_many", "set_many"])
def test_interrupted_call_leaves_no_reply_behind(sync_ground: Ground, kind: str, call: str) -> None:
    keys, well = places(sync_ground)
    keys = [*keys[:2], *well]

    answer = run_one(sync_ground, "interrupt", keys=keys, kind=kind, call=call, victim=sync_ground.victim.pid)

    assert answer["raised"] == kind
    # A node whose answer to a write was cut off is put right first, and its keys are misses until then.
    assert answer["answers"][1] in (("mine", None) if call == "set_many" else ("mine",))
    assert answer["answers"][2] == "none"
    assert answer["answers"][0] in ("newer", None)
    assert answer["later"] == ["newest", 1, "none"]
    assert all(value in ("old", "new", "newest", None) for value in answer["batch"].values())


def test_calls_interrupted_at_any_point_answer_their_own_question(sync_ground: Ground) -> None:
    keys, well = places(sync_ground)

    complaints: list[str] = []
    (answer,) = run_together(
        "interrupt_at_random", setting(sync_ground.urls), errors=complaints, keys=[*keys, *well], seed=1
    )

    # Sockets that the exception's frames held are closed by the collector, which says so.
    assert set(re.findall(r"^(\w+(?:Error|Warning))", complaints[0], re.MULTILINE)) <= {"ResourceWarning"}
    assert answer["struck"] > 50
    assert answer["wrong"] == 0


def test_interrupted_write_replaces_the_old_value_or_loses_it(sync_ground: Ground) -> None:
    """A time limit strikes while a write waits, and the write itself is lost: the old value must not come back."""
    proxy = sync_ground.behind_proxy()
    keys, _ = places(sync_ground)
    child = start("interrupt_lost", setting(sync_ground.urls), key=keys[0])
    try:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        proxy.blackhole()
        child.stdin.write("go\n")
        child.stdin.flush()
        assert child.stdout.readline() == "paused\n"
        proxy.heal()
        out, complaints = child.communicate("healed\n", timeout=30)
    finally:
        child.kill()
        child.communicate()
    assert out.splitlines()[-1] in ('{"answer": "new"}', '{"answer": null}'), out + complaints


def test_cache_may_be_used_while_the_interpreter_ends(sync_ground: Ground) -> None:
    keys, _ = places(sync_ground)

    answer = run_one(sync_ground, "use_at_exit", key=keys[0], meanwhile=sync_ground.victim.kill)

    assert answer == "None False"


def test_hundred_tasks_fail_within_one_deadline_and_no_later_one_waits(sync_ground: Ground) -> None:
    keys, well = places(sync_ground)

    answer = run_one(sync_ground, "many_tasks", keys=keys, well=well)

    assert answer["unhandled"] == []
    assert answer["whole"] < 1.8 * DEADLINE
    assert answer["later"] < 0.8 * DEADLINE
    assert answer["well"] < 0.8 * DEADLINE
    assert answer["found"] == dict.fromkeys(well, "old")


def test_loops_of_two_threads_find_out_once_each(sync_ground: Ground) -> None:
    keys, well = places(sync_ground)

    answer = run_one(sync_ground, "two_loops", keys=keys, well=well)

    assert [entry["well"] for entry in answer["found"]] == [dict.fromkeys(well, "old")] * 2
    assert all(entry["waited"] <= 1 for entry in answer["found"])


def test_loop_that_ends_early_leaves_no_noise(sync_ground: Ground) -> None:
    keys, _ = places(sync_ground)

    answer = run_one(sync_ground, "loop_ends_early", keys=keys)

    # Tasks that were given up say nothing about a node.
    assert answer == {"up": True, "found": "none"}


def test_cancelled_write_is_not_forgotten(sync_ground: Ground) -> None:
    """The task is gone, the write may be lost: the old value must not come back with the node."""
    proxy = sync_ground.behind_proxy()
    keys, _ = places(sync_ground)
    child = start("cancelled_write", setting(sync_ground.urls), key=keys[0])
    try:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        proxy.blackhole()
        child.stdin.write("go\n")
        child.stdin.flush()
        assert child.stdout.readline() == "paused\n"
        proxy.heal()
        out, complaints = child.communicate("healed\n", timeout=30)
    finally:
        child.kill()
        child.communicate()
    assert '"answers": ["missed", null]' in out, out + complaints
