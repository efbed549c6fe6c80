"""The demo's report: figures by phase, and each promise beside what was measured."""

from dataclasses import asdict, dataclass
from typing import Any

from example_project.demo.cluster import Lookups

STEADY, PAUSED, KILLED = "steady", "node paused", "node killed"
KEPT_SHARE = 0.75
# How far a hit ratio strays between phases of some hundred requests.
NOISE = 0.03
LONGEST_WAIT_MS = 300.0
LONGEST_RETURN_S = 2.0


@dataclass(frozen=True, slots=True)
class Check:
    """One figure beside its goal; those that are asserted decide the exit code."""

    name: str
    value: str
    goal: str
    ok: bool
    asserted: bool = False


def build(
    result: dict[str, Any],
    lookups: list[dict[str, Lookups]],
    *,
    returns: dict[str, float | None],
    lost_share: float,
    misplaced: int,
    keys_looked_at: int,
    setting: dict[str, Any],
) -> dict[str, Any]:
    """Join what the load generator and the nodes counted into one report."""
    phases = [{**phase, **_ratios(phase, nodes)} for phase, nodes in zip(result["phases"], lookups, strict=True)]
    total = {name: sum(phase[name] for phase in phases) for name in _SUMMED}
    outcome = {
        "setting": setting,
        "phases": phases,
        "total": {**total, "requests_per_second": round(total["requests"] / max(total["seconds"], 1e-9), 1)},
        "overall": result["overall"],
        "kinds": result["kinds"],
        "error_samples": result["error_samples"],
        "seconds_until_used_again": returns,
        "lost_node_share": round(lost_share, 4),
        "keys_moved": misplaced,
        "keys_looked_at": keys_looked_at,
    }
    checks = [*_assertions(outcome), *(_fault_figures(outcome) if returns else [])]
    outcome["checks"] = [asdict(check) for check in checks]
    outcome["ok"] = all(check.ok for check in checks if check.asserted)
    return outcome


_SUMMED = (
    "seconds",
    "requests",
    "errors",
    "writes",
    "uninvalidated",
    "price_reads",
    "stale",
    "waiting",
    "hits",
    "misses",
)


def _ratios(phase: dict[str, Any], nodes: dict[str, Lookups]) -> dict[str, Any]:
    hits, total = sum(node.hits for node in nodes.values()), sum(node.total for node in nodes.values())
    rows = phase["hits"] + phase["misses"]
    return {
        "row_hit_ratio": round(phase["hits"] / rows, 4) if rows else None,
        "node_hit_ratio": round(hits / total, 4) if total else None,
        "node_lookups": {name: node.total for name, node in nodes.items()},
    }


def _assertions(outcome: dict[str, Any]) -> list[Check]:
    total, phases = outcome["total"], by_name(outcome)
    steady, last = phases[STEADY]["row_hit_ratio"] or 0.0, outcome["phases"][-1]["row_hit_ratio"] or 0.0
    stale = f"{total['stale']} in {total['price_reads']:,} reads"
    moved = f"{outcome['keys_moved']} of {outcome['keys_looked_at']:,}"
    return [
        Check(
            "failed requests",
            f"{total['errors']} of {total['requests']:,}",
            "0",
            total["errors"] == 0,
            asserted=True,
        ),
        Check("prices older than the last invalidated", stale, "0", total["stale"] == 0, asserted=True),
        Check(
            "hit ratio at the end, of steady",
            percent(last / steady if steady else 0.0),
            f">= {KEPT_SHARE:.0%}",
            last >= KEPT_SHARE * steady > 0,
            asserted=True,
        ),
        Check("keys moved to another node", moved, "0", outcome["keys_moved"] == 0, asserted=True),
    ]


def _fault_figures(outcome: dict[str, Any]) -> list[Check]:
    phases, setting = by_name(outcome), outcome["setting"]
    steady = phases[STEADY]
    checks = []
    for name, node in ((PAUSED, setting["paused"]), (KILLED, setting["killed"])):
        checks += [_kept_hits(name, phases[name], steady, node), _kept_rate(name, phases[name], steady)]
    longest = steady["slowest_ms"] + LONGEST_WAIT_MS
    for name in (PAUSED, KILLED):
        slowest = phases[name]["slowest_ms"]
        goal = f"<= {longest:.0f} ms (steady + {LONGEST_WAIT_MS:.0f})"
        checks.append(Check(f"slowest request, {name}", f"{slowest:.0f} ms", goal, slowest <= longest))
    for name, seconds in outcome["seconds_until_used_again"].items():
        value = "not in this run" if seconds is None else f"{seconds:.2f} s"
        is_soon = seconds is not None and seconds <= LONGEST_RETURN_S
        checks.append(Check(f"{name} node serves again after", value, f"<= {LONGEST_RETURN_S:g} s", is_soon))
    return checks


def _kept_hits(name: str, phase: dict[str, Any], steady: dict[str, Any], node: str) -> Check:
    """Compare with 75 %, or with what the other nodes had served where the lost one was the busier."""
    served = steady["node_lookups"][node] / max(sum(steady["node_lookups"].values()), 1)
    least = min(KEPT_SHARE, 1 - served) - NOISE
    kept = (phase["row_hit_ratio"] or 0.0) / (steady["row_hit_ratio"] or 1.0)
    goal = f">= {least:.0%} ({node} served {served:.0%})"
    return Check(f"hit ratio, {name}, of steady", percent(kept), goal, kept >= least)


def _kept_rate(name: str, phase: dict[str, Any], steady: dict[str, Any]) -> Check:
    kept = phase["requests_per_second"] / max(steady["requests_per_second"], 1e-9)
    return Check(f"requests/s, {name}, of steady", percent(kept), f">= {KEPT_SHARE:.0%}", kept >= KEPT_SHARE)


def by_name(outcome: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Give the phases by their names."""
    return {phase["name"]: phase for phase in outcome["phases"]}


def percent(share: float | None) -> str:
    """Write a share as a percentage, and a dash where there is none."""
    return "-" if share is None else f"{share:.1%}"
