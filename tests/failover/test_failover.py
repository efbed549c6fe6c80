"""RF 3, W 2, R 2, real processes, one node at fault at a time: nothing acknowledged is lost, and no call fails."""

from collections import Counter
from pathlib import Path

import pytest

from distcache_django.testing.processes import MissingServer
from distcache_django.testing.programs import ServerKind, server_program
from tests.failover.judge import judge
from tests.failover.liveness import first_answers, unexpected
from tests.failover.mutants import MUTANTS
from tests.failover.run import play, play_story
from tests.failover.stage import HEALED

pytestmark = [pytest.mark.servers, pytest.mark.slow]

#: A call may take 0.25 s, its ``DEADLINE``; the rest is for a machine that has other things to do.
FIRST_ANSWER = 0.3
WORST_CALL = 0.3 + 0.7
#: Of a thousand calls this many may fail on such a machine: where a second node is silent for half a deadline, it has
#: missed something, and has no vote until it is mended.
TOLERATED = 20


@pytest.mark.parametrize(("server", "cycles"), [("valkey", 10), ("redis", 3)])
def test_one_node_at_a_time_is_killed_paused_or_wiped(tmp_path: Path, server: ServerKind, cycles: int) -> None:
    try:
        server_program(server)
    except MissingServer:
        if server == "redis":
            pytest.skip("no redis-server")
        raise

    calls, faults = play(tmp_path, 1, cycles, server)

    assert judge(calls) == []
    made = Counter(call.kind for call in calls)
    assert made.keys() == {"get", "set", "delete", "incr", "add", "lock", "release"}
    assert len(calls) > 200 * cycles
    assert len(faults) == cycles
    assert max(fault.recovery for fault in faults) < HEALED
    failed = unexpected(calls)
    assert len(failed) <= TOLERATED * len(calls) / 1000, failed[:10]
    assert max(call.ended - call.began - call.lost for call in calls) <= WORST_CALL
    answers = sorted(first_answers(calls, faults))
    assert answers[len(answers) // 2] <= FIRST_ANSWER


@pytest.mark.parametrize("name", MUTANTS)
def test_careless_clients_are_caught(tmp_path: Path, name: str) -> None:
    assert judge(play_story(tmp_path, name, is_careless=True))


@pytest.mark.parametrize("name", MUTANTS)
def test_careful_clients_break_no_promise_in_the_same_story(tmp_path: Path, name: str) -> None:
    calls = play_story(tmp_path, name, is_careless=False)

    assert judge(calls) == []
    assert sum(call.is_acknowledged for call in calls) > 100
