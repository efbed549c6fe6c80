"""Write what faults cost and what a ring is worth as text."""

from __future__ import annotations

from typing import Any

from distcache_django.benchmark.layout import columns, comparisons, number, span

_NOTES = (
    "Worst of {runs} runs: slowest call; longest time for which the machine did not let this process run;",
    "calls that waited 100 ms or more (and the most of one thread); failed calls; old values served; p99 once",
    "settled over p99 before; seconds from the mending to the first value stored there.",
    "Median: hit ratio and calls a second before > during, and the share kept.",
    "Goals: slowest 300 ms, one waiting call a thread, no errors, none stale, 75 % kept, back in 2 s.",
)


def faults(report: dict[str, Any]) -> str:
    """Return what each fault cost, then what the columns mean and which goals were missed."""
    header = ["fault", "ON_NODE_DOWN", "threads", "slowest ms", "stall ms", "waited", "errors", "stale"]
    header += ["hits", "kept", "calls/s", "kept", "p99 x", "back s", "verdict"]
    table = columns(header, [_fault(row) for row in report["faults"]], left=frozenset({0, 1, 14}))
    notes = [line.format(runs=report["runs"]) for line in _NOTES]
    meanings = [f"{fault}: {text}" for fault, text in report["descriptions"].items()]
    return "\n".join([table, "", *notes, *meanings])


def _fault(row: dict[str, Any]) -> list[str]:
    missed = [name for name, verdict in row["verdicts"].items() if verdict == "MISS"]
    return [
        row["fault"],
        row["policy"],
        str(row["threads"]),
        number(row["slowest_ms"]),
        number(row["stall_ms"]),
        f"{row['waited']} ({row['waited_per_thread']})",
        str(row["errors"]),
        str(row["stale"]),
        f"{row['hit_ratio_before']:.1%} > {row['hit_ratio_during']:.1%}",
        f"{row['hit_kept']:.0%}",
        f"{number(row['ops_before'])} > {number(row['ops_during'])}",
        f"{row['ops_kept']:.0%}",
        number(row["p99_ratio"]),
        "never" if row["back_s"] is None else number(row["back_s"]),
        f"MISS: {', '.join(missed)}" if missed else "ok",
    ]


def ring(report: dict[str, Any]) -> str:
    """Return look-ups, building, evenness and movement of the ring."""
    look_ups = [[row["name"], number(row["ns"]), span(row["low"], row["high"])] for row in report["look_ups"]]
    absent = [f"{row['name']}: {row['status']}" for row in report["rivals"] if row["status"] != "measured"]
    builds = [[str(row["nodes"]), number(row["build_ms"]), number(row["add_node_ms"])] for row in report["builds"]]
    even = ["nodes", "peak/mean", "least/mean", "slots", "moved", "its share", "slots off", "modulo"]
    parts = [
        f"look-up of a key among {report['nodes']} nodes",
        "\n".join([columns(["", "ns", "spread"], look_ups), *absent]),
        "building a ring, and adding a node to it",
        columns(["nodes", "ms", "add ms"], builds),
        f"evenness over {report['keys']:,} keys, and what one node more moves",
        columns(even, [_evenness(row) for row in report["balance"]]),
        "comparisons (the rival's time / ours; counts as they are)",
        comparisons(report["comparisons"]),
    ]
    return "\n".join(part + "\n" * (position % 2) for position, part in enumerate(parts)).rstrip()


def _evenness(row: dict[str, Any]) -> list[str]:
    return [
        str(row["nodes"]),
        f"{row['peak_to_mean']:.4f}",
        f"{row['least_to_mean']:.4f}",
        f"{row['slots_peak_to_mean']:.4f}",
        f"{row['moved']:.2%}",
        f"{row['share']:.2%}",
        f"{row['slots_off']:+.2f}",
        f"{row['modulo_moved']:.2%}",
    ]
