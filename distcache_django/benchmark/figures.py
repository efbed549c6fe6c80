"""Turn timed samples into figures: percentiles, medians of rounds, ratios and verdicts.

A figure is made of *rounds*: one contender's slice of calls, run between slices of its rivals. Percentiles
are taken over all samples of all rounds; the rate is the median of the rounds' rates, and the spread of a
figure is the range between the first and the third quartile of its rounds, so that one disturbed round
moves neither.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Round:
    """One slice of one contender: its samples in nanoseconds, the wall and processor time it took, calls it
    made.
    """

    samples: Sequence[int]
    wall_ns: int
    cpu_ns: int | None
    calls: int

    @property
    def calls_per_second(self) -> float:
        """Calls per second of wall time, the gaps between samples included."""
        return self.calls / (self.wall_ns / 1e9)


@dataclass(frozen=True, slots=True)
class Summary:
    """What a contender did in a scenario; times in microseconds, rates per second."""

    samples: int
    rounds: int
    p50_us: float
    p50_low_us: float
    p50_high_us: float
    p95_us: float
    p99_us: float
    max_us: float
    ops_per_s: float
    ops_low: float
    ops_high: float
    cpu_us: float | None
    round_p50_us: tuple[float, ...] = field(repr=False, default=())


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """Return the nearest-rank percentile of ascending ``ordered``; raises ValueError when it is empty."""
    if not ordered:
        raise ValueError("a percentile needs at least one sample")
    if not 0.0 <= fraction <= 1.0:
        raise ValueError(f"a percentile's fraction lies between 0 and 1, not at {fraction}")
    return float(ordered[max(0, math.ceil(fraction * len(ordered)) - 1)])


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the first quartile, the median and the third quartile; of one value, three times that value."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def summarize(rounds: Sequence[Round]) -> Summary:
    """Condense the rounds of one contender in one scenario; raises ValueError when no call was timed."""
    ordered = sorted(sample for one in rounds for sample in one.samples)
    medians = tuple(statistics.median(one.samples) / 1e3 for one in rounds if one.samples)
    p50_low, _, p50_high = quartiles(medians) if medians else (0.0, 0.0, 0.0)
    ops_low, ops, ops_high = quartiles([one.calls_per_second for one in rounds])
    cpu = [one.cpu_ns / one.calls / 1e3 for one in rounds if one.cpu_ns is not None]
    return Summary(
        samples=len(ordered),
        rounds=len(rounds),
        p50_us=percentile(ordered, 0.50) / 1e3,
        p50_low_us=p50_low,
        p50_high_us=p50_high,
        p95_us=percentile(ordered, 0.95) / 1e3,
        p99_us=percentile(ordered, 0.99) / 1e3,
        max_us=ordered[-1] / 1e3,
        ops_per_s=ops,
        ops_low=ops_low,
        ops_high=ops_high,
        cpu_us=statistics.median(cpu) if cpu else None,
        round_p50_us=medians,
    )


def ratio(theirs: float, ours: float) -> float:
    """Return how many times as long theirs takes as ours; infinity where ours took no time at all."""
    return theirs / ours if ours > 0 else math.inf
