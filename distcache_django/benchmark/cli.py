"""The command line of the benchmark: what it accepts, what it prints and writes, and with which status it
ends.
"""

from __future__ import annotations

import argparse
import json
import random
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from distcache_django.benchmark import faults, machine, ops, orm, rings, svg, table
from distcache_django.benchmark.channel import WorkerFailed
from distcache_django.benchmark.orm.subjects import SUBJECTS
from distcache_django.benchmark.scenarios import SCENARIOS
from distcache_django.testing.processes import MissingServer, ServerFailed

SCHEMA = "distcache-benchmark/1"
OK, DEGRADED, CRITICAL, USAGE = 0, 1, 2, 64
SUITES = ("ops", "faults", "ring", "orm")
_QUICK = {"rounds": 4, "seconds": 0.08, "runs": 1}
_RING_KEYS = {"quick": 10_000, "full": 1_000_000}
_FULL = {"rounds": 20, "seconds": 1.0, "runs": 5}
# A load needs time to fill the cache, and a trial of each subject ends with a second of silence.
_ORM_QUICK = {"rounds": 1, "seconds": 2.0}
_ORM_FULL = {"rounds": 3, "seconds": 20.0}


class BadUsage(Exception):
    """An option's value makes no sense here."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``distcache benchmark`` on its parser."""
    parser.add_argument("suite", nargs="?", choices=SUITES, default="ops", help="what to measure (default: ops)")
    parser.add_argument("--peers", action="store_true", help="measure the other clients beside this one")
    parser.add_argument("--nodes", type=int, default=4, help="nodes to start (default: 4)")
    parser.add_argument(
        "--rounds",
        type=int,
        help=f"interleaved rounds per scenario (default: {_FULL['rounds']}; orm: {_ORM_FULL['rounds']})",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        help="seconds per contender and scenario, per phase, or per trial "
        f"(default: {_FULL['seconds']:g}; orm: {_ORM_FULL['seconds']:g})",
    )
    parser.add_argument("--runs", type=int, help=f"times each fault is repeated (default: {_FULL['runs']})")
    parser.add_argument(
        "--pin",
        choices=(*machine.PINS, "both"),
        help="same: client and servers on one core; split: on two (default: both for ops, same for faults)",
    )
    parser.add_argument("--only", metavar="NAME,…", help="only these scenarios, or subjects of orm, by name")
    parser.add_argument("--writes", type=float, default=80.0, help="orm: writes a second (default: 80)")
    parser.add_argument("--db-ms", type=float, default=5.0, help="orm: ms to the database and back (default: 5)")
    parser.add_argument("--threads", type=int, default=4, help="orm: reading threads a process (default: 4)")
    parser.add_argument("--seed", type=int, help="seed of data and order (default: random; printed)")
    parser.add_argument("--quick", action="store_true", help="few and short rounds: shows that it runs, proves nothing")
    parser.add_argument(
        "--json", dest="json_file", metavar="FILE", help="write the report as JSON; - for standard output"
    )
    parser.add_argument("--svg", dest="svg_file", metavar="FILE", help="write a bar chart as SVG")


def run(options: Mapping[str, Any] | argparse.Namespace, stdout: TextIO, stderr: TextIO) -> int:
    """Measure, print and write; returns 0, 1 when a goal was missed, 2 when nothing was measured, 64 on bad
    usage.

    A ``--quick`` run is too short to judge: it prints verdicts and returns 0 all the same.
    """
    chosen = dict(vars(options) if isinstance(options, argparse.Namespace) else options)
    try:
        report = _measure(_complete(chosen), stderr)
    except (BadUsage, ValueError) as error:
        stderr.write(f"distcache benchmark: {error}\n")
        return USAGE
    except (MissingServer, ServerFailed, WorkerFailed) as error:
        stderr.write(f"distcache benchmark: {error}\n")
        return CRITICAL
    _publish(report, chosen, stdout)
    missed = "MISS" in _verdicts(report)
    return DEGRADED if missed and not chosen["quick"] else OK


def _complete(chosen: dict[str, Any]) -> dict[str, Any]:
    defaults = _QUICK if chosen["quick"] else _FULL
    if chosen["suite"] == "orm":
        defaults = defaults | (_ORM_QUICK if chosen["quick"] else _ORM_FULL)
    for name, value in defaults.items():
        if chosen[name] is None:
            chosen[name] = value
    if chosen["seed"] is None:
        chosen["seed"] = random.SystemRandom().randrange(1_000_000)
    for name in ("rounds", "seconds", "runs", "nodes", "writes", "threads"):
        if chosen[name] <= 0:
            raise BadUsage(f"--{name} must be above 0, not {chosen[name]}")
    if chosen["db_ms"] < 0:
        raise BadUsage(f"--db-ms must be 0 or above, not {chosen['db_ms']}")
    return chosen


def _measure(chosen: dict[str, Any], stderr: TextIO) -> dict[str, Any]:
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "suite": chosen["suite"],
        "command": _command(chosen),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": chosen["seed"],
        "quick": chosen["quick"],
        "revision": machine.git_revision(Path(__file__).parent),
        "machine": machine.describe_machine(),
    }
    stderr.write(f"benchmark {chosen['suite']}, seed {chosen['seed']}\n")
    suites = {"ops": _run_ops, "faults": _run_faults, "ring": _run_rings, "orm": _run_orm}
    body = suites[chosen["suite"]](chosen, stderr)
    return report | body | {"load_average_after": machine.load_average()}


def _command(chosen: dict[str, Any]) -> str:
    """Return the command that repeats this run: every option spelt out, the seed drawn included."""
    words = ["distcache", "benchmark", chosen["suite"], *(["--peers"] if chosen["peers"] else [])]
    loads = ("writes", "db_ms", "threads") if chosen["suite"] == "orm" else ()
    for name in ("nodes", "rounds", "seconds", "runs", "pin", "only", "seed", *loads):
        if chosen[name] is not None:
            words += [f"--{name.replace('_', '-')}", str(chosen[name])]
    return shlex.join(words)


def _run_ops(chosen: dict[str, Any], stderr: TextIO) -> dict[str, Any]:
    if chosen["nodes"] != 4:
        raise BadUsage("ops compares with a rival on the same 4 nodes: --nodes must be 4")
    return ops.run(
        ops.Options(
            peers=chosen["peers"],
            nodes=chosen["nodes"],
            rounds=chosen["rounds"],
            seconds=chosen["seconds"],
            seed=chosen["seed"],
            pins=_pins(chosen["pin"], stderr),
            scenarios=_only(chosen["only"], tuple(scenario.name for scenario in SCENARIOS)),
        ),
        stderr,
    )


def _run_faults(chosen: dict[str, Any], stderr: TextIO) -> dict[str, Any]:
    if chosen["pin"] == "both":
        raise BadUsage("faults are measured under one placement: --pin same, split or none")
    preferred: machine.Pin = "same" if machine.available_cores() else "none"
    return faults.run(
        faults.Options(
            faults=_only(chosen["only"], tuple(faults.FAULTS)),
            runs=chosen["runs"],
            seconds=chosen["seconds"],
            seed=chosen["seed"],
            nodes=chosen["nodes"],
            pin=chosen["pin"] or preferred,
        ),
        stderr,
    )


def _run_rings(chosen: dict[str, Any], stderr: TextIO) -> dict[str, Any]:
    cores = machine.available_cores()
    machine.pin_self(cores[-1:])
    try:
        return rings.run(chosen["rounds"], chosen["seed"], _RING_KEYS["quick" if chosen["quick"] else "full"], stderr)
    finally:
        machine.pin_self(cores)


def _run_orm(chosen: dict[str, Any], stderr: TextIO) -> dict[str, Any]:
    if chosen["pin"] not in (None, "none"):
        raise BadUsage("orm leaves its processes to the scheduler: --pin none, or no --pin")
    return orm.run(
        orm.Options(
            peers=chosen["peers"],
            nodes=chosen["nodes"],
            rounds=chosen["rounds"],
            seconds=chosen["seconds"],
            seed=chosen["seed"],
            load=orm.Load(writes=chosen["writes"], distance_ms=chosen["db_ms"], reader_threads=chosen["threads"]),
            only=_only(chosen["only"], tuple(each.contender.alias for each in SUBJECTS)),
            is_quick=chosen["quick"],
        ),
        stderr,
    )


def _pins(wanted: str | None, stderr: TextIO) -> tuple[machine.Pin, ...]:
    cores = len(machine.available_cores())
    if wanted in ("same", "split", "none"):
        return (wanted,)  # type: ignore[return-value]  # narrowed by the test above; mypy keeps str
    if not cores:
        stderr.write("this system cannot pin processes: figures will jump\n")
        return ("none",)
    if cores == 1:
        stderr.write("one core: nothing to split\n")
        return ("same",)
    return ("same", "split")


def _only(wanted: str | None, known: tuple[str, ...]) -> tuple[str, ...]:
    if wanted is None:
        return known
    names = tuple(name.strip() for name in wanted.split(",") if name.strip())
    if unknown := [name for name in names if name not in known]:
        raise BadUsage(f"--only {', '.join(unknown)}: known are {', '.join(known)}")
    return names


def _verdicts(report: dict[str, Any]) -> list[str]:
    rows = [row["verdict"] for place in report.get("placements", ()) for row in place["comparisons"]]
    rows += [row["verdict"] for row in report.get("comparisons", ())]
    return rows + [verdict for row in report.get("faults", ()) for verdict in row["verdicts"].values()]


def _publish(report: dict[str, Any], chosen: dict[str, Any], stdout: TextIO) -> None:
    text = json.dumps(report, indent=1, sort_keys=True) + "\n"
    if chosen["json_file"] == "-":
        stdout.write(text)
    else:
        stdout.write(table.render(report) + "\n")
        if chosen["json_file"]:
            Path(chosen["json_file"]).write_text(text, encoding="utf-8")
    if chosen["svg_file"]:
        Path(chosen["svg_file"]).write_text(svg.render(report), encoding="utf-8")
