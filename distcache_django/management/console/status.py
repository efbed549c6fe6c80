"""``distcache status``: one verdict with its reason, then a table of the nodes."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from distcache_django.cluster.inspection import NodeReport, inspect_nodes
from distcache_django.core.slots import SLOT_COUNT
from distcache_django.management.console.screen import (
    CRITICAL,
    DEGRADED,
    OK,
    Cell,
    Outcome,
    Screen,
    bar,
    count_text,
    duration_text,
    size_text,
)
from distcache_django.management.console.target import Target, open_target

__all__ = ["HELP", "add_arguments", "run"]

HELP = "Show how the nodes are: one verdict, then a table."
SCHEMA = "distcache-status/1"
_VERDICTS = {OK: ("OK", "SUCCESS"), DEGRADED: ("DEGRADED", "WARNING"), CRITICAL: ("CRITICAL", "ERROR")}
_STATES = {"up": "UN", "loading": "DR", "down": "DN"}
_LEGEND = "U/D up/down   N normal  R recovering"
_COLUMNS = [
    "--",
    "Node",
    "Address",
    ">Owns",
    "Load",
    ">Keys",
    ">Mem",
    ">Ops/s",
    ">Hit%",
    ">RTT ms",
    ">Up",
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare no options beyond those of every sub-command."""


def run(options: Mapping[str, Any], screen: Screen) -> Outcome:
    """Ask all nodes and show what they say: degraded when one does not serve, critical when none does."""
    target = open_target(options["using"])
    reports = inspect_nodes(target.cluster.endpoints)
    outcome = judge(reports)
    troubles = [text for report in reports for text in _troubles(report, target)]
    if options["json"]:
        screen.json(_described(target, reports, outcome, troubles))
    else:
        _show(target, reports, outcome, troubles, screen)
    return outcome


def judge(reports: Sequence[NodeReport]) -> Outcome:
    """Return the verdict on a set of nodes."""
    down = [report.name for report in reports if not report.up]
    if len(down) == len(reports):
        return Outcome(CRITICAL, "no node answers")
    if down:
        return Outcome(DEGRADED, f"{', '.join(down)} {_verb('do', down)} not answer")
    refusing = [report.name for report in reports if report.is_read_only or report.is_full]
    if refusing:
        return Outcome(DEGRADED, f"{', '.join(refusing)} {_verb('refuse', refusing)} writes")
    return Outcome(OK, "all nodes answer")


def _verb(plural: str, names: Sequence[str]) -> str:
    return plural if len(names) > 1 else f"{plural}es" if plural.endswith("o") else f"{plural}s"


def _owned(target: Target) -> Mapping[str, float]:
    return {name: count / SLOT_COUNT for name, count in Counter(target.topology.ring.owners).items()}


def _troubles(report: NodeReport, target: Target) -> list[str]:
    share = f"{_owned(target).get(report.name, 0.0):.1%} of the keys"
    if report.is_loading:
        return [f"{report.name} is loading its data; until it is done {share} are {target.consequence()}."]
    if not report.up:
        return [f"{report.name} does not answer: {report.error}. Its {share} are {target.consequence()}."]
    if report.is_read_only:
        return [f"{report.name} is a read-only replica: no write to its {share} succeeds."]
    if report.is_full:
        return [f"{report.name} is full and evicts nothing: no write to its {share} succeeds."]
    if report.denied:
        return [f"{report.name}: its user may not run {', '.join(report.denied)}; figures are missing."]
    return []


def hit_ratio(reports: Sequence[NodeReport]) -> float | None:
    """Return the share of look-ups that found something, over all servers since each started."""
    hits, misses = sum(r.hits or 0 for r in reports), sum(r.misses or 0 for r in reports)
    return hits / (hits + misses) if hits + misses else None


def _state(report: NodeReport) -> str:
    return "up" if report.up else "loading" if report.is_loading else "down"


def _described(
    target: Target, reports: Sequence[NodeReport], outcome: Outcome, troubles: Sequence[str]
) -> dict[str, Any]:
    ring, owned = target.topology.ring, _owned(target)
    return {
        "schema": SCHEMA,
        "alias": target.alias.name,
        "verdict": _VERDICTS[outcome.code][0].lower(),
        "reason": outcome.reason,
        "hit_ratio": hit_ratio(reports),
        "slots": SLOT_COUNT,
        "replication_factor": target.topology.replication_factor,
        "digest": target.topology.digest,
        "troubles": list(troubles),
        "nodes": [
            {
                "state": _state(report),
                "owns": owned.get(report.name, 0.0),
                "weight": ring.weights[report.name],
                "zone": ring.zones.get(report.name),
                "hit_ratio": report.hit_ratio,
                **asdict(report),
            }
            for report in reports
        ],
    }


def _show(
    target: Target, reports: Sequence[NodeReport], outcome: Outcome, troubles: Sequence[str], screen: Screen
) -> None:
    word, role = _VERDICTS[outcome.code]
    ratio = hit_ratio(reports)
    screen.line(
        f"Cluster {target.alias.name}   {screen.paint(word, role)}: {outcome.reason}   "
        f"{count_text(len(reports), 'node')} · {SLOT_COUNT} slots · RF {target.topology.replication_factor}   "
        f"hit {'-' if ratio is None else f'{ratio:.1%}'}"
    )
    owned, most = _owned(target), max((report.keys or 0 for report in reports), default=0)
    screen.table(_COLUMNS, [_row(report, owned.get(report.name, 0.0), most) for report in reports])
    screen.line(_LEGEND)
    for text in troubles:
        screen.line(screen.paint(f"! {text}", "ERROR"))


def _row(report: NodeReport, owns: float, most: int) -> list[str | Cell]:
    state = _state(report)
    ratio = report.hit_ratio
    return [
        Cell(_STATES[state], "SUCCESS" if report.up else "ERROR"),
        report.name,
        report.address,
        f"{owns:.1%}",
        bar((report.keys or 0) / most if most else 0.0),
        count_text(report.keys),
        size_text(report.memory_bytes),
        "-" if report.ops_per_second is None else count_text(report.ops_per_second),
        "-" if ratio is None else f"{100 * ratio:.1f}",
        "-" if report.rtt_ms is None else f"{report.rtt_ms:.2f}",
        duration_text(report.uptime_s),
    ]
