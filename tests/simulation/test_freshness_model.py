"""The model of the freshness protocol: what is built holds in all states, and each rule that is left out is caught.

The long configurations: `python -m docs.models.freshness`.
"""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from docs.models.freshness.configurations import BUILT, BUILT_MUTANTS, CONFIGS, LONG, MUTANTS
from docs.models.freshness.search import check

ROOT = Path(__file__).resolve().parents[2]
#: These take ten seconds and more.
SLOW = {"built-fine-1w", "rf1-fine-1w"}
QUICK_MUTANTS = ("filler-ignores-marks-plain-ttl", "marked-record-evicted-bumping-mark", "newest-small-stamp-rf1")
HOLDING = {**BUILT, **CONFIGS}


@pytest.mark.parametrize("name", sorted(HOLDING.keys() - SLOW))
def test_no_hit_is_stale(name: str) -> None:
    result = check(HOLDING[name])

    assert result.holds, "\n".join(result.trace)
    assert result.states > 200, "the readers and the adversary had something to do"


@pytest.mark.slow
def test_no_hit_is_stale_with_each_step_of_the_readers_separate() -> None:
    assert check(BUILT["built-fine-1w"]).holds


@pytest.mark.parametrize("name", [*BUILT_MUTANTS, *QUICK_MUTANTS])
def test_each_rule_that_is_left_out_has_a_counterexample(name: str) -> None:
    result = check({**BUILT_MUTANTS, **MUTANTS}[name])

    assert not result.holds
    assert "STALE HIT" in result.trace[-1]


@pytest.mark.parametrize("name", ["no-mark", "clear-without-bump", "voiding-without-quarantine"])
def test_counterexamples_do_not_depend_on_joined_steps(name: str) -> None:
    result = check(replace(BUILT_MUTANTS[name], readers="fine", writers=1))

    assert not result.holds
    assert result.trace[-1].endswith("HIT 0, begun at 1")


def test_trace_tells_the_shortest_story() -> None:
    trace = check(replace(BUILT_MUTANTS["no-mark"], evict="off", restart=False)).trace

    assert sorted(trace[:-1]) == [
        "W1 sends COMMIT",
        "the database commits W1",
        "the filler reads the version at node 0, loads 0, stores",
    ]
    assert trace[-1] == "the checker begins and reads the version at node 0: STALE HIT 0, begun at 1"


def test_mutants_of_the_documentation_are_those_of_the_model() -> None:
    page = (ROOT / "docs" / "explanation" / "freshness-model.md").read_text()
    named = {
        part for line in page.splitlines() if line.startswith("| `") for part in line.split("|")[1].split("`")[1::2]
    }

    assert named | {"marked-record-evicted-2deps"} == set(BUILT_MUTANTS)


def test_states_of_the_documentation_are_those_of_the_model() -> None:
    page = (ROOT / "docs" / "explanation" / "freshness-model.md").read_text()
    rows = {
        "| as built | 1, reduced | 2 |": "built",
        '| as built, `"proceed"` | 1, reduced | 2 |': "built-proceeds",
        '| as built, `"bounded"` | 1, reduced | 2 |': "built-bounded",
        "| three replicas, two of which have to agree | 3, reduced | 1 |": "rf3-1w",
    }

    for row, name in rows.items():
        result = check(HOLDING[name])
        assert f"{row} {result.states:,} | {result.steps:,} |" in page


def test_command_tells_the_trace_of_a_mutant_and_refuses_unknown_names() -> None:
    command = [sys.executable, "-m", "docs.models.freshness"]
    done = subprocess.run([*command, "no-mark"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    wrong = subprocess.run([*command, "no-marc"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0
    assert "VIOLATED" in done.stdout
    assert "    4. the checker begins" in done.stdout
    assert wrong.returncode == 2
    assert LONG.keys() <= set(wrong.stderr.replace(",", " ").split())
