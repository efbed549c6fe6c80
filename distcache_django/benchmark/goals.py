"""The figures to reach, and the verdict on each.

Ratios are of medians: the peer's divided by ours, both from one run (`at_least`), or ours divided by the
floor's (`at_most`). A goal is judged under the placement it was set for: processor time on one core
(``same``), overlap of round trips on two (``split``).

Where the C client ran, a ratio comes with a second one, of what each side adds to the C client's time. A
ratio of whole calls shrinks where a round trip is slow, whatever the clients do; the second does not, and
says more about them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from distcache_django.benchmark.contenders import C_CLIENT, OURS_MANY, OURS_ONE
from distcache_django.benchmark.figures import Summary, quartiles, ratio
from distcache_django.benchmark.machine import Pin
from distcache_django.benchmark.scenarios import FANOUT

Verdict = Literal["ok", "MISS", "n/a", "-"]
SEQUENTIAL = "distcache 4 nodes, one by one"


@dataclass(frozen=True, slots=True)
class RatioGoal:
    """Ours against a rival's median in one scenario; with neither bound the ratio is only shown."""

    scenario: str
    ours: str
    rival: str
    at_least: float | None = None
    at_most: float | None = None
    pin: Pin = "same"


@dataclass(frozen=True, slots=True)
class FigureGoal:
    """An absolute bound on one figure of ours."""

    scenario: str
    ours: str
    figure: str
    at_least: float | None = None
    at_most: float | None = None
    pin: Pin = "same"


_SHARD, _REDIS, _VCACHE = "django-redis shard", "django-redis", "django-vcache"

RATIO_GOALS: tuple[RatioGoal, ...] = (
    RatioGoal("get", OURS_ONE, _REDIS, at_least=2.5),
    RatioGoal("get", OURS_ONE, "django-valkey", at_least=1.7),
    RatioGoal("get", OURS_ONE, _VCACHE, at_least=1.25),
    RatioGoal("get", OURS_ONE, "Django RedisCache", at_least=7.5),
    RatioGoal("get", OURS_ONE, C_CLIENT, at_most=1.9),
    RatioGoal("get", OURS_MANY, _SHARD, at_least=2.8),
    RatioGoal("set", OURS_MANY, _SHARD, at_least=2.8),
    RatioGoal("get_many", OURS_MANY, _SHARD, at_least=25),
    RatioGoal("get_many", OURS_MANY, _REDIS, at_least=2.5),
    RatioGoal("get_many", OURS_MANY, _VCACHE, at_least=1.2),
    RatioGoal("set_many", OURS_MANY, _SHARD, at_least=25),
    RatioGoal("set_many", OURS_MANY, _REDIS, at_least=5.5),
    RatioGoal("set_many", OURS_MANY, _VCACHE, at_least=1.2),
    RatioGoal("aget", OURS_ONE, _REDIS, at_least=28),
    RatioGoal("aget", OURS_ONE, "django-cachex", at_least=14),
    RatioGoal("aget", OURS_ONE, _VCACHE, at_least=3.2),
    RatioGoal(FANOUT, OURS_MANY, SEQUENTIAL, at_least=1.7, pin="split"),
)

FIGURE_GOALS: tuple[FigureGoal, ...] = (
    FigureGoal("aget", OURS_ONE, "ops_per_s", at_least=100_000),
    FigureGoal("aget", OURS_ONE, "p50_us", at_most=1000),
    FigureGoal("aget", OURS_ONE, "p99_us", at_most=2000),
)


def judge(value: float | None, *, at_least: float | None, at_most: float | None) -> Verdict:
    """Compare a figure with its bounds: n/a without a figure, ``-`` without a bound; equality is reached."""
    if value is None:
        return "n/a"
    if at_least is None and at_most is None:
        return "-"
    reached = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
    return "ok" if reached else "MISS"


Results = Mapping[str, Mapping[str, Summary]]


def compare(results: Results, pin: Pin) -> list[dict[str, Any]]:
    """Return every comparison this run allows, those with a goal for ``pin`` first, each with its verdict.

    ``results`` maps scenario to contender to summary. Rivals without a goal are compared with ours on as
    many nodes.
    """
    rows = [_ratio_row(goal, results) for goal in RATIO_GOALS if goal.pin == pin and goal.scenario in results]
    rows += [_figure_row(goal, results) for goal in FIGURE_GOALS if goal.pin == pin and goal.scenario in results]
    named = {(row["scenario"], row["rival"]) for row in rows}
    for scenario, summaries in results.items():
        for rival in summaries:
            ours = OURS_MANY if rival in (_SHARD, SEQUENTIAL) else OURS_ONE
            if rival not in (OURS_ONE, OURS_MANY) and (scenario, rival) not in named and ours in summaries:
                rows.append(_ratio_row(RatioGoal(scenario, ours, rival, pin=pin), results))
    return rows


def _ratio_row(goal: RatioGoal, results: Results) -> dict[str, Any]:
    summaries = results[goal.scenario]
    ours, theirs = summaries.get(goal.ours), summaries.get(goal.rival)
    value = low = high = None
    if ours is not None and theirs is not None:
        upside_down = goal.rival == C_CLIENT
        pairs = _pairs(theirs, ours)
        value = ratio(ours.p50_us, theirs.p50_us) if upside_down else ratio(theirs.p50_us, ours.p50_us)
        low, high = _spread([1 / one if upside_down else one for one in pairs])
    beyond = _beyond_floor(summaries, ours, theirs) if goal.rival != C_CLIENT else None
    row = asdict(goal) | {"kind": "ratio", "figure": "p50", "value": value, "low": low, "high": high}
    row["beyond_floor"] = beyond
    row["ceiling"] = _ceiling(summaries, theirs) if goal.rival != C_CLIENT else None
    return row | {"verdict": judge(value, at_least=goal.at_least, at_most=goal.at_most)}


def _beyond_floor(summaries: Mapping[str, Summary], ours: Summary | None, theirs: Summary | None) -> float | None:
    """Return the ratio of what both add to the C client's time, which a slow kernel does not level out."""
    floor = summaries.get(C_CLIENT)
    if floor is None or ours is None or theirs is None or ours.p50_us <= floor.p50_us:
        return None
    return ratio(theirs.p50_us - floor.p50_us, ours.p50_us - floor.p50_us)


def _ceiling(summaries: Mapping[str, Summary], theirs: Summary | None) -> float | None:
    """Return the ratio the C client itself reaches: no client that asks a server can reach more here."""
    floor = summaries.get(C_CLIENT)
    return None if floor is None or theirs is None else ratio(theirs.p50_us, floor.p50_us)


def _pairs(theirs: Summary, ours: Summary) -> list[float]:
    rounds = zip(theirs.round_p50_us, ours.round_p50_us, strict=False)
    return [ratio(their, our) for their, our in rounds if their > 0]


def _spread(values: Sequence[float]) -> tuple[float | None, float | None]:
    low, _, high = quartiles(values) if values else (None, None, None)
    return low, high


def _figure_row(goal: FigureGoal, results: Results) -> dict[str, Any]:
    summary = results[goal.scenario].get(goal.ours)
    value = None if summary is None else float(getattr(summary, goal.figure))
    row = asdict(goal) | {"kind": "figure", "rival": None, "value": value, "low": None, "high": None}
    row["beyond_floor"] = row["ceiling"] = None
    return row | {"verdict": judge(value, at_least=goal.at_least, at_most=goal.at_most)}
