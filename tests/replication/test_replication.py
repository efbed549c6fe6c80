"""P2 under every order of steps and every fault that a seed can think of.

No acknowledged write is lost, no read returns an older value than the last acknowledged, nothing that was deleted or
has ended comes back; no increment is lost or counted twice; ``add`` has one winner, a lock one holder. And when all is
well again, all nodes become whole by themselves. A failure prints its seed; ``python -m tests.replication story SEED``
tells what happened. The long form is ``python -m tests.replication histories --first 0 --count 1000000``.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.replication.__main__ import is_caught
from tests.replication.history import History
from tests.replication.mutants import MUTANTS

ROOT = Path(__file__).resolve().parents[2]
HISTORIES = 2000
CHUNK = 250
#: A seed that caught each mutant: the search begins there, and goes on if the code has changed since.
#: ``python -m tests.replication mutants`` finds new ones.
CAUGHT = {
    "hint_counts_for_w": 24,
    "older_counts_as_stored": 38,
    "no_not_after": 149,
    "tombstones_live_too_short": 144,
    "writes_ignore_promises": 6,
    "touch_rewrites_the_payload": 2,
    "clear_by_deletion": 2,
    "actor_kept_over_fork": 873,
    "nobody_is_behind": 15,
    "missing_counts_as_a_vote": 14,
    "one_vote_is_enough": 3,
    "recovery_from_one_peer": 797,
    "replay_from_a_node_that_is_behind": 344,
    "state_not_in_the_fence": 3,
    "incarnation_used_again": 1226,
    "add_by_a_look_and_a_write": 9,
    "recovering_node_promises": 758,
    "retried_under_another_field": 0,
    "evicted_counter_begins_anew": 0,
    "fields_survive_a_new_base": 2,
    "another_base_counts_as_raised": 2,
    "promise_does_not_block_raises": 0,
    "fold_says_nothing_of_fields": 5,
    "fold_forgets_older_folds": 5,
    "base_believed_at_once": 1218,
}


@pytest.mark.parametrize("first", range(0, HISTORIES, CHUNK))
def test_promises_are_kept(first):
    calls = acknowledged = 0
    for seed in range(first, first + CHUNK):
        history = History(seed)
        try:
            history.play()
        except AssertionError as error:
            pytest.fail(f"seed {seed}: {error}\n{history.world.story()}")
        calls += len(history.ledger.calls)
        acknowledged += sum(call.is_acknowledged for call in history.ledger.calls)
    # A simulation in which nothing is ever acknowledged, or nothing ever fails, shows nothing.
    assert calls > 20 * CHUNK
    assert 0.5 < acknowledged / calls < 0.95


@pytest.mark.parametrize("name", CAUGHT)
def test_a_broken_rule_is_caught(name):
    seeds = (CAUGHT[name], *range(20_000))
    caught = next((seed for seed in seeds if is_caught(name, seed)), None)

    assert caught is not None, f"nothing caught mutant {MUTANTS[name].number}, {name}"


def test_every_mutant_is_in_the_table():
    assert set(CAUGHT) == set(MUTANTS)


def test_a_seed_replays_its_history_in_any_process():
    told = [
        subprocess.run(
            [sys.executable, "-m", "tests.replication", "histories", "--first", "40", "--count", "25"],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]

    assert told[0] == told[1]
    assert "25 histories" not in told[0]
    assert "0 broke a promise" in told[0]
