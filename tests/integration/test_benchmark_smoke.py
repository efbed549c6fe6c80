"""The benchmark runs end to end on real nodes; nothing here asserts how fast anything was."""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from distcache_django.benchmark import add_arguments, cli, rings, run
from distcache_django.benchmark.contenders import OURS_MANY, OURS_ONE
from distcache_django.benchmark.goals import SEQUENTIAL

pytestmark = pytest.mark.timeout(240)


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(arguments)


def measure(*arguments: str) -> tuple[int, dict[str, Any], str]:
    out, err = io.StringIO(), io.StringIO()
    status = run(parse(*arguments, "--json", "-"), out, err)
    assert out.getvalue(), err.getvalue()
    return status, json.loads(out.getvalue()), err.getvalue()


@pytest.mark.servers
def test_every_operation_is_measured_against_djangos_own_backend(tmp_path: Path) -> None:
    picture = tmp_path / "figures.svg"
    status, report, progress = measure(
        "ops",
        "--rounds",
        "2",
        "--seconds",
        "0.01",
        "--quick",
        "--pin",
        "none",
        "--seed",
        "3",
        "--svg",
        str(picture),
    )
    assert status == 0
    assert "seed 3" in progress
    (place,) = report["placements"]
    assert place["unusable"] == {}
    assert {name: failed for name, failed in place["failures"].items() if set(failed) - {"C client"}} == {}
    assert set(place["results"]) == {
        "get",
        "set",
        "get_many",
        "set_many",
        "aget",
        "incr",
        "add",
        "delete",
        "fan-out",
    }
    for scenario in ("get", "set", "get_many", "set_many", "aget", "incr", "add", "delete"):
        assert {OURS_ONE, OURS_MANY, "Django RedisCache"} <= set(place["results"][scenario])
    assert set(place["results"]["fan-out"]) == {OURS_MANY, SEQUENTIAL}
    assert all(one["samples"] >= 10 for each in place["results"].values() for one in each.values())
    assert report["server"].split()[0] in ("valkey", "redis")
    assert all(each["versions"]["redis"] for each in report["contenders"])
    assert ET.parse(picture).getroot().tag.endswith("svg")


@pytest.mark.servers
def test_a_stopped_node_is_measured_with_both_policies() -> None:
    before = set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    status, report, _ = measure(
        "faults", "--quick", "--seconds", "0.3", "--only", "sigstop", "--pin", "none", "--seed", "3"
    )
    assert status == 0
    assert {(row["policy"], row["threads"]) for row in report["faults"]} == {
        ("miss", 1), ("miss", 4), ("redirect", 1), ("redirect", 4),
    }  # fmt: skip
    for row in report["faults"]:
        assert row["hit_ratio_before"] > 0.5
        assert row["stale"] == 0
        assert row["errors"] == 0
        assert row["back_s"] is not None
    if before is not None:
        assert set(os.sched_getaffinity(0)) == before


def test_ring_suite_writes_a_complete_report() -> None:
    out, err = io.StringIO(), io.StringIO()
    status = run(parse("ring", "--quick", "--seed", "5", "--json", "-"), out, err)
    report = json.loads(out.getvalue())
    assert status == cli.OK
    assert report["schema"] == cli.SCHEMA
    assert report["seed"] == 5
    assert report["command"] == "distcache benchmark ring --nodes 4 --rounds 4 --seconds 0.08 --runs 1 --seed 5"
    assert {
        "suite",
        "command",
        "started",
        "revision",
        "machine",
        "look_ups",
        "balance",
        "comparisons",
    } <= set(report)
    assert {"cpu", "cores", "kernel", "python", "django"} <= set(report["machine"])


def test_options_of_a_management_command_do_as_well() -> None:
    options = vars(parse("ring", "--quick", "--seed", "5")) | {"verbosity": 1}
    out = io.StringIO()
    assert run(options, out, io.StringIO()) == cli.OK
    assert "seed 5" in out.getvalue()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["ops", "--only", "gte"], "gte"),
        (["ops", "--nodes", "3"], "--nodes"),
        (["ops", "--rounds", "0"], "--rounds"),
        (["faults", "--pin", "both"], "--pin"),
        (["faults", "--only", "flood"], "flood"),
    ],
)
def test_bad_usage_is_named_before_anything_starts(arguments: list[str], word: str) -> None:
    err = io.StringIO()
    assert run(parse(*arguments), io.StringIO(), err) == cli.USAGE
    assert word in err.getvalue()


def test_a_missed_goal_shows_in_the_status_unless_the_run_was_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    missed: dict[str, Any] = {
        "comparisons": [rings._row("look-up", "x", 1.0, at_least=2.0)],
        "look_ups": [],
        "rivals": [],
        "builds": [],
    }
    missed |= {"balance": [], "nodes": 1, "keys": 1}
    monkeypatch.setattr(rings, "run", lambda *_: missed)
    assert run(parse("ring"), io.StringIO(), io.StringIO()) == cli.DEGRADED
    assert run(parse("ring", "--quick"), io.StringIO(), io.StringIO()) == cli.OK


def test_module_runs_without_a_project() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "distcache_django.benchmark", "--nonsense"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == cli.USAGE
    assert "--nonsense" in done.stderr
