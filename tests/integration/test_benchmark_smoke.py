"""The benchmark runs end to end on real nodes; nothing here asserts how fast anything was."""

from __future__ import annotations

import argparse
import io
import json
import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from distcache_django.benchmark import add_arguments, run
from distcache_django.benchmark.contenders import OURS_MANY, OURS_ONE
from distcache_django.benchmark.goals import SEQUENTIAL

pytestmark = [pytest.mark.servers, pytest.mark.timeout(240)]


def measure(*arguments: str) -> tuple[int, dict[str, Any], str]:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    out, err = io.StringIO(), io.StringIO()
    status = run(parser.parse_args([*arguments, "--json", "-"]), out, err)
    assert out.getvalue(), err.getvalue()
    return status, json.loads(out.getvalue()), err.getvalue()


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
        assert row["hit_ratio_before"] == 1.0
        assert row["stale"] == 0
        assert row["errors"] == 0
        assert row["back_s"] is not None
    if before is not None:
        assert set(os.sched_getaffinity(0)) == before
