"""Write what many runs came to as a page of Markdown."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from statistics import median

from tests.failover.calls import Fault
from tests.failover.liveness import Summary

__all__ = ["write"]

#: Lines of one list.
_MOST = 40


def write(runs: Sequence[Summary]) -> str:
    """Return the report."""
    faults = [Fault(*fault) for run in runs for fault in run.faults]
    calls: Counter[str] = Counter()
    for run in runs:
        calls.update(run.calls)
    servers = ", ".join(dict.fromkeys(run.server for run in runs))
    answers = sorted(length for run in runs for length in run.first_answers)
    parts = [
        "# Failover: what a long run came to",
        "",
        f"{len(faults)} faults in {len(runs)} runs on {servers}; {sum(calls.values()):,} calls by 3 client processes in "
        f"{sum(run.seconds for run in runs):,.0f} s. `REPLICATION_FACTOR` 3, quorums of 2, 4 nodes, one at fault at a "
        "time, and the next only when all are whole.",
        "",
        f"**{sum(len(run.violations) for run in runs)} broken promises** (lost, older, undead, miscounted, two winners, "
        "two holders, a token that does not grow, a refused write that was found).",
        "",
        *_calls(runs, calls),
        "",
        *_faults(faults),
        "",
        f"First answer on a key whose first owner was killed: median {_ms(median(answers))}, worst {_ms(answers[-1])} "
        f"({len(answers)} measured). Slowest call of all: {_ms(max(run.slowest for run in runs))}. Times that the machine "
        "did not give a client are taken off.",
        "",
        *_listed("Broken promises", [f"seed {run.seed}: {': '.join(v)}" for run in runs for v in run.violations]),
        *_listed(
            "Failures that nothing excuses", [f"seed {run.seed}: {call}" for run in runs for call in run.unexpected]
        ),
    ]
    return "\n".join(parts)


def _calls(runs: Sequence[Summary], calls: Counter[str]) -> list[str]:
    failed: dict[str, Counter[str]] = defaultdict(Counter)
    for run in runs:
        for _, kind, state, count in run.failures:
            failed[kind][state] += count
    rows = [
        f"| {kind} | {count:,} | {failed[kind]['failed']} | {failed[kind]['in doubt']} |"
        for kind, count in sorted(calls.items())
    ]
    unexcused = sum(len(run.unexpected) for run in runs)
    return [
        "| call | made | failed for certain | in doubt |",
        "|---|---|---|---|",
        *rows,
        "",
        f"Of the failures, {unexcused} are neither due to another client at the same lock or `add` at the same time, nor "
        "to a machine that gave a process no time.",
    ]


def _faults(faults: Sequence[Fault]) -> list[str]:
    rows = []
    for kind in sorted({fault.kind for fault in faults}):
        times = sorted(fault.recovery for fault in faults if fault.kind == kind)
        rows.append(f"| {kind} | {len(times)} | {median(times):.2f} s | {times[-1]:.2f} s |")
    return ["| fault | times | whole again after (median) | at most |", "|---|---|---|---|", *rows]


def _listed(title: str, lines: Sequence[str]) -> list[str]:
    shown = [f"- `{line[:400]}`" for line in lines[:_MOST]]
    return [f"## {title}", "", *shown, *(["- …"] if len(lines) > _MOST else []), ""] if lines else []


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
