"""Add trials up, judge them, and write them as text."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from distcache_django.benchmark.figures import percentile, quartiles, ratio
from distcache_django.benchmark.goals import judge
from distcache_django.benchmark.layout import columns, comparisons, number, span
from distcache_django.benchmark.orm.subjects import CACHALOT, CACHEOPS, NONE, OURS, STRONG

__all__ = ["combine", "compare", "render", "summarize", "summarize_hits"]

_OLD_MS = 100.0
_SUMMED = ("reads", "hits", "fresh", "stale", "rolled_back", "impossible", "checked", "wrong")
_ADDED = (*_SUMMED, "older_100ms", "failed", "writes", "deadlocks", "commits", "row_writes", "bumps")

_NEVER = {
    "rolled back values": "rolled_back",
    "impossible answers": "impossible",
    "wrong when quiet": "wrong",
    "failed reads": "failed",
}
_RATE_GOALS = {(STRONG, CACHEOPS): 2.5, (STRONG, CACHALOT): 10.0}

Row = dict[str, Any]


def combine(writers: Sequence[Mapping[str, Any]], readers: Sequence[Mapping[str, Any]]) -> Row:
    """Return what the processes of one trial did together. All readers were given the same ledger."""
    trial: Row = {name: sum(each[name] for each in readers) for name in _SUMMED}
    ages = sorted(age for each in readers for age in each["ages_ms"])
    failures = _add_up(each["failures"] for each in readers)
    return trial | {
        "ages_ms": _describe_ages(ages),
        "older_100ms": sum(age > _OLD_MS for age in ages),
        "reads_by_shape": _add_up(each["reads_by_shape"] for each in readers),
        "hits_by_shape": _add_up(each["hits_by_shape"] for each in readers),
        "failures": failures,
        "failed": sum(failures.values()),
        "writes": sum(each["writes"] for each in writers),
        "deadlocks": sum(each["deadlocks"] for each in writers),
        "kinds": _add_up(each["kinds"] for each in writers),
        "commits": readers[0]["commits"],
        "row_writes": readers[0]["row_writes"],
        "bumps": sum(each["counters"].get("bumps", 0) for each in writers),
        "counted_by_readers": _add_up(each["counters"] for each in readers),
        "counted_by_writers": _add_up(each["counters"] for each in writers),
    }


def _describe_ages(ages: Sequence[float]) -> Row:
    if not ages:
        return {"p50": None, "p99": None, "max": None}
    return {"p50": percentile(ages, 0.5), "p99": percentile(ages, 0.99), "max": ages[-1]}


def _add_up(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(total)


def summarize(trials: Sequence[Row]) -> dict[str, Row]:
    """Return what each subject did in all rounds: counts added up, the rate of the median round."""
    rows: dict[str, Row] = {}
    for subject in dict.fromkeys(trial["subject"] for trial in trials):
        runs = [trial for trial in trials if trial["subject"] == subject]
        row: Row = {name: sum(trial[name] for trial in runs) for name in _ADDED}
        rates = {str(trial["round"]): trial["reads"] / trial["seconds"] for trial in runs}
        low, middle, high = quartiles(list(rates.values()))
        oldest = [trial["ages_ms"]["max"] for trial in runs if trial["ages_ms"]["max"] is not None]
        row |= {"rounds": len(runs), "rates": rates, "reads_per_s": middle, "rate_low": low, "rate_high": high}
        row["hit_ratio_by_shape"] = _ratios_by_shape(runs)
        row |= {"hit_ratio": row["hits"] / max(1, row["reads"]), "counted_hit_ratio": _counted(runs)}
        rows[subject] = row | {"max_age_ms": max(oldest, default=None)}
    return rows


def _ratios_by_shape(runs: Sequence[Row]) -> dict[str, float]:
    hits = _add_up(trial["hits_by_shape"] for trial in runs)
    reads = _add_up(trial["reads_by_shape"] for trial in runs)
    return {shape: hits.get(shape, 0) / number_of for shape, number_of in sorted(reads.items())}


def _counted(runs: Sequence[Row]) -> float | None:
    """Return the hit ratio by the library's own counters, where it has some: of queries, not of reads."""
    total = _add_up(trial["counted_by_readers"] for trial in runs)
    asked = sum(total.get(name, 0) for name in ("hits", "misses", "bypasses"))
    return total.get("hits", 0) / asked if asked else None


def summarize_hits(results: Mapping[str, Row]) -> dict[str, Row]:
    """Return microseconds of processor and wall time for a cached get, medians of the slices."""
    rows: dict[str, Row] = {}
    for subject, result in results.items():
        cpu = [entry["cpu_ns"] / entry["calls"] / 1e3 for entry in result["slices"]]
        wall = [entry["wall_ns"] / entry["calls"] / 1e3 for entry in result["slices"]]
        low, middle, high = quartiles(cpu)
        figures = {"cpu_us": middle, "cpu_low_us": low, "cpu_high_us": high, "wall_us": statistics.median(wall)}
        rows[subject] = figures | {"asked": result["misses"] / result["calls"], "calls": result["calls"]}
    return rows


def compare(loads: Mapping[str, Row], hits: Mapping[str, Row]) -> list[Row]:
    """Return every comparison this run allows, each with its verdict; the control comes first."""
    rows = _judge(NONE, loads, {"stale reads": "stale", "impossible answers": "impossible"})
    for ours in OURS:
        fresh = {"stale reads": "stale"} if ours == STRONG else {"older than 100 ms": "older_100ms"}
        rows += _judge(ours, loads, fresh | _NEVER)
        rows += [_figure(ours, "hit ratio", loads[ours]["hit_ratio"], at_least=0.95)] if ours in loads else []
        rows += [_figure(ours, "hit, cpu us", hits[ours]["cpu_us"], at_most=170)] if ours in hits else []
        rows += _judge(ours, hits, {"statements a hit": "asked"})
    rivals = [name for name in loads if name not in OURS]
    return rows + [_rates(ours, rival, loads) for ours in OURS if ours in loads for rival in rivals]


def _judge(subject: str, rows: Mapping[str, Row], figures: Mapping[str, str]) -> list[Row]:
    """Return figures that have to be 0, of a subject that was measured."""
    if subject not in rows:
        return []
    return [_figure(subject, text, float(rows[subject][name]), at_most=0) for text, name in figures.items()]


def _figure(
    subject: str,
    figure: str,
    value: float | None,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Row:
    row = {"scenario": "load", "ours": subject, "rival": None, "figure": figure, "value": value}
    row |= {"low": None, "high": None, "ceiling": None, "beyond_floor": None}
    row |= {"at_least": at_least, "at_most": at_most}
    return row | {"verdict": judge(value, at_least=at_least, at_most=at_most)}


def _rates(ours: str, rival: str, loads: Mapping[str, Row]) -> Row:
    mine, theirs = loads[ours], loads[rival]
    pairs = [ratio(mine["rates"][one], rate) for one, rate in theirs["rates"].items() if one in mine["rates"]]
    low, value, high = quartiles(pairs) if pairs else (None, None, None)
    row = _figure(ours, "reads/s", value, at_least=_RATE_GOALS.get((ours, rival)))
    return row | {"rival": f"reads/s of {rival}", "low": low, "high": high}


_NOTES = (
    "stale: reads that lack a write whose COMMIT had returned before they began; oldest: for how long it had.",
    "rolled back: reads of a value whose transaction or savepoint was rolled back; impossible: of what never was.",
    "wrong: answers that are not the database's a second after the last write, of all items, tags, lists and sums.",
    "hits: share of reads for which the database was asked nothing; counted: hits by the library's own count.",
)


def render(report: Row) -> str:
    """Return the whole outcome as text."""
    load, data = report["load"], report["dataset"]
    head = (
        f"{load['writers']} writers of {load['writer_threads']} threads, {load['writes']:g} writes/s together; "
        f"{load['readers']} readers of {load['reader_threads']} threads, as fast as they can; "
        f"database {load['distance_ms']:g} ms away; "
        f"{data['items']} items in {data['groups']} groups, {data['hot']} of them hot; "
        f"{report['rounds']} round(s) of {report['seconds']:g} s"
    )
    parts = [head, _loads(report["loads"]), "\n".join(_NOTES), _shapes(report["loads"])]
    failed = [
        f"{trial['subject']}: {text} ({times} times)"
        for trial in report["trials"]
        for text, times in trial["failures"].items()
    ]
    parts += ["\n".join(failed[:20])] if failed else []
    parts += ["get(pk=…) of one cached item, nobody writing, database on this machine", _hits(report["hits"])]
    return "\n\n".join([*parts, "comparisons (ours / the rival's)\n" + comparisons(report["comparisons"])])


def _loads(rows: Mapping[str, Row]) -> str:
    header = ["", "reads", "reads/s", "spread", "hits", "counted", "stale", ">100 ms", "oldest ms", "rolled back"]
    header += ["impossible", "failed", "wrong", "writes", "rows", "bumps"]
    return columns(header, [[name, *_load(row)] for name, row in rows.items()])


def _shapes(rows: Mapping[str, Row]) -> str:
    shapes = sorted({shape for row in rows.values() for shape in row["hit_ratio_by_shape"]})
    lines = [
        [name, *(f"{row['hit_ratio_by_shape'].get(each, 0):.3f}" for each in shapes)] for name, row in rows.items()
    ]
    return columns(["hits by shape", *shapes], lines)


def _load(row: Row) -> list[str]:
    return [
        f"{row['reads']:,}",
        number(row["reads_per_s"]),
        span(row["rate_low"], row["rate_high"]),
        f"{row['hit_ratio']:.3f}",
        "-" if row["counted_hit_ratio"] is None else f"{row['counted_hit_ratio']:.3f}",
        f"{row['stale']:,}",
        f"{row['older_100ms']:,}",
        number(row["max_age_ms"]),
        f"{row['rolled_back']:,}",
        f"{row['impossible']:,}",
        f"{row['failed']:,}",
        f"{row['wrong']:,} of {row['checked']:,}",
        f"{row['writes']:,}",
        f"{row['row_writes']:,}",
        f"{row['bumps']:,}" if row["bumps"] else "-",
    ]


def _hits(rows: Mapping[str, Row]) -> str:
    header = ["", "cpu us", "spread", "wall us", "statements"]
    ordered = sorted(rows.items(), key=lambda item: float(item[1]["cpu_us"]))
    return columns(
        header,
        [
            [
                name,
                number(row["cpu_us"]),
                span(row["cpu_low_us"], row["cpu_high_us"]),
                number(row["wall_us"]),
                f"{row['asked']:.2f}",
            ]
            for name, row in ordered
        ],
    )
