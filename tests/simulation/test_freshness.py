"""P1 under every order of steps and every fault that a seed can think of: a hit is never older than promised.

A failure prints its seed; ``python -m tests.simulation story SEED`` tells what happened. The long form is
``python -m tests.simulation histories --count 1000000``.
"""

import pytest

from tests.simulation.history import History, play
from tests.simulation.mutants import MUTANTS
from tests.simulation.world import StaleHit

HISTORIES = 2500
CHUNK = 500
#: Every mutant, the rule that it breaks, and a seed that caught it: the search begins there, and goes on if the code
#: has changed since. ``python -m tests.simulation mutants`` finds new ones.
CAUGHT = {
    "no_mark": (1, "COMMIT is sent when every dependency is marked"),
    "commit_without_all_marks": (35, "COMMIT is sent when every dependency is marked"),
    "clear_without_bump": (24, "after COMMIT: new version and own mark off, in one script"),
    "unknown_outcome_clears": (115, "outcome unknown: neither; the marks expire"),
    "bump_clears_all_marks": (18, "a bump takes off its own mark only"),
    "token_used_again": (32, "a fresh random token per commit attempt; a record holds a set of marks"),
    "silence_taken_for_success": (1025, "what a node without a fence answers is no acknowledgement"),
    "owed_bumps_forgotten": (119, "what is owed is delivered before this process uses the node again"),
    "silent_expiry": (20, "a mark expires into a new version"),
    "expiry_during_commit": (142, "a commit must not follow its mark's expiry"),
    "marked_record_evicted": (185, "a marked record has no TTL"),
    "fixed_mint_value": (7, "a version is never used twice"),
    "mint_starts_anew": (95, "a missing record is minted with a version never used"),
    "incarnation_ignored": (878, "after a restart older records are void, and there is no vote for MARK_TIMEOUT"),
    "quarantine_without_voiding": (3767, "after a restart older records are void"),
    "voiding_without_quarantine": (205, "after a restart the node has no vote for MARK_TIMEOUT"),
    "void_record_survives_a_bump": (45, "a bump ends an answer for those too who trust the old incarnation"),
    "new_run_not_noticed": (822, "every connection checks the incarnation before its first reply is used"),
    "checker_ignores_marks": (1, "a marked record is no vote"),
    "missing_counts_as_a_vote": (30, "a missing record is never a vote and never version zero"),
    "load_before_versions": (23, "versions are read before the load"),
    "lagging_database_replica": (1, "a replica's answer is not stored unless it has replayed the versions"),
}


@pytest.mark.parametrize("first", range(0, HISTORIES, CHUNK))
def test_no_hit_is_older_than_promised(first):
    hits = commits = 0
    for seed in range(first, first + CHUNK):
        history = History(seed)
        try:
            world = history.play()
        except AssertionError as error:
            pytest.fail(f"seed {seed}: {error}\n{history.world.story()}")
        hits += history.hits
        commits += sum(world.rows.values())
    assert min(hits, commits) > CHUNK


def test_a_seed_replays_its_history():
    assert play(7).story(10_000) == play(7).story(10_000)
    assert play(7).story(10_000) != play(8).story(10_000)


@pytest.mark.parametrize("name", CAUGHT)
def test_a_broken_rule_is_caught(name):
    seed, rule = CAUGHT[name]
    with MUTANTS[name]():
        caught = next((found for found in (seed, *range(20_000)) if is_stale(found)), None)

    assert caught is not None, f"nothing caught a mutant that breaks: {rule}"


def test_every_mutant_is_in_the_table():
    assert set(CAUGHT) == set(MUTANTS)


def is_stale(seed):
    """Return whether a history had a hit that was too old; mutants may also end it otherwise."""
    try:
        play(seed)
    except StaleHit:
        return True
    except AssertionError:
        return False
    return False
