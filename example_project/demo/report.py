"""The demo's report: figures by phase, and each promise beside what was measured."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

STEADY, PAUSED, BACK, KILLED = "steady", "node paused", "node back", "node killed"
KEPT_SHARE = 0.75
# What depended on the node that has lost its memory has to be loaded again, all of it.
RECOVERED_SHARE = 1 / 3
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
    writers: list[dict[str, Any]],
    *,
    returns: dict[str, float | None],
    lost_share: float,
    misplaced: int,
    keys_looked_at: int,
    setting: dict[str, Any],
) -> dict[str, Any]:
    """Join what the load generator and the writers counted into one report."""
    phases = [{**phase, **_ratios(phase)} for phase in result["phases"]]
    total = {name: sum(phase[name] for phase in phases) for name in _SUMMED}
    outcome = {
        "setting": setting,
        "phases": phases,
        "total": {**total, "requests_per_second": round(total["requests"] / max(total["seconds"], 1e-9), 1)},
        "overall": result["overall"],
        "kinds": result["kinds"],
        "written": _written(writers, result["site"]),
        **{name: result[name] for name in ("error_samples", "stale_samples", "suspended_samples")},
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
    "http_writes",
    "free",
    "checked",
    "of_written",
    "stale",
    "suspended",
    "hits",
    "misses",
)


def _written(writers: list[dict[str, Any]], site: dict[str, int]) -> dict[str, Any]:
    """Add up what the writers did, and the version bumps of all processes."""
    counts = sum((Counter(writer["counts"]) for writer in writers), Counter[str]())
    other = {name: counts.pop(name, 0) for name in ("rows", "undone", "failed", "unwarned")}
    return {
        "kinds": dict(counts.most_common()),
        **other,
        "bumps": site.get("bumps", 0) + sum(writer["cache"]["bumps"] for writer in writers),
        "error_samples": [sample for writer in writers for sample in writer["error_samples"]],
    }


def _ratios(phase: dict[str, Any]) -> dict[str, Any]:
    answers, reads = phase["hits"] + phase["misses"], phase["requests"] - phase["http_writes"] - phase["errors"]
    return {
        "hit_ratio": round(phase["hits"] / answers, 4) if answers else None,
        "free_ratio": round(phase["free"] / reads, 4) if reads else None,
    }


def _assertions(outcome: dict[str, Any]) -> list[Check]:
    total, phases = outcome["total"], by_name(outcome)
    steady, last = phases[STEADY]["hit_ratio"] or 0.0, outcome["phases"][-1]["hit_ratio"] or 0.0
    stale = f"{total['stale']} in {total['checked']:,} reads"
    failed = outcome["written"]["failed"]
    writes = sum(outcome["written"]["kinds"].values()) + failed
    moved = f"{outcome['keys_moved']} of {outcome['keys_looked_at']:,}"
    return [
        Check(
            "failed requests",
            f"{total['errors']} of {total['requests']:,}",
            "0",
            total["errors"] == 0,
            asserted=True,
        ),
        Check("failed writes", f"{failed} of {writes:,}", "0", failed == 0, asserted=True),
        Check("stale answers", stale, "0", total["stale"] == 0 < total["checked"], asserted=True),
        Check(
            "hit ratio at the end, of steady",
            percent(last / steady if steady else 0.0),
            f">= {RECOVERED_SHARE:.0%}",
            last >= RECOVERED_SHARE * steady > 0,
            asserted=True,
        ),
        Check("keys moved to another node", moved, "0", outcome["keys_moved"] == 0, asserted=True),
    ]


def _fault_figures(outcome: dict[str, Any]) -> list[Check]:
    phases = by_name(outcome)
    steady = phases[STEADY]
    checks = []
    for name in (PAUSED, KILLED):
        checks += [_kept_rate(name, phases[name], steady)]
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


def _kept_rate(name: str, phase: dict[str, Any], steady: dict[str, Any]) -> Check:
    kept = phase["requests_per_second"] / max(steady["requests_per_second"], 1e-9)
    return Check(f"requests/s, {name}, of steady", percent(kept), f">= {KEPT_SHARE:.0%}", kept >= KEPT_SHARE)


def by_name(outcome: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Give the phases by their names."""
    return {phase["name"]: phase for phase in outcome["phases"]}


def percent(share: float | None) -> str:
    """Write a share as a percentage, and a dash where there is none."""
    return "-" if share is None else f"{share:.1%}"
