"""Write what many runs came to as a page of Markdown."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from statistics import median

from tests.failover.calls import Fault
from tests.failover.liveness import Summary

__all__ = ["write"]

#: Lines of one list.
_MOST = 40
_PROMISES = (
    "lost, older, undead, made up, refused and found, miscounted, two winners, two holders, a token that does not grow"
)
_UNEXCUSED = (
    "Failures that are due neither to another client at the same lock or `add` at the same time, nor to a machine that "
    "gave a process no time"
)


def write(runs: Sequence[Summary]) -> str:
    """Return the report."""
    faults = [Fault(*fault) for run in runs for fault in run.faults]
    broken = [f"seed {run.seed}: {': '.join(violation)}" for run in runs for violation in run.violations]
    unexcused = [f"seed {run.seed}: {call}" for run in runs for call in run.unexpected]
    paragraphs = [
        "# Failover: what a long run came to",
        _setting(runs, faults),
        f"**{len(broken)} broken promises** ({_PROMISES}).",
        "\n".join(_calls(runs)),
        f"{_UNEXCUSED}: {len(unexcused)}.",
        "\n".join(_faults(faults)),
        "\n".join(_failures(runs)),
        _lengths(runs),
        *_listed("Broken promises", broken),
        *_listed("Failures that nothing excuses", unexcused),
    ]
    return "\n\n".join(paragraphs) + "\n"


def _setting(runs: Sequence[Summary], faults: Sequence[Fault]) -> str:
    servers = ", ".join(dict.fromkeys(run.server for run in runs))
    calls = sum(sum(run.calls.values()) for run in runs)
    seconds = sum(run.seconds for run in runs)
    return (
        f"{len(faults)} faults in {len(runs)} runs on {servers}; {calls:,} calls by 3 client processes in "
        f"{seconds:,.0f} s. `REPLICATION_FACTOR` 3, quorums of 2, 4 nodes, one at fault at a time, the next only when "
        "all are whole."
    )


def _calls(runs: Sequence[Summary]) -> list[str]:
    calls: Counter[str] = Counter()
    failed: dict[str, Counter[str]] = defaultdict(Counter)
    for run in runs:
        calls.update(run.calls)
        for _, kind, state, count in run.failures:
            failed[kind][state] += count
    rows = [
        f"| {kind} | {count:,} | {failed[kind]['failed']} | {failed[kind]['in doubt']} |"
        for kind, count in sorted(calls.items())
    ]
    return ["| call | made | failed for certain | in doubt |", "|---|---|---|---|", *rows]


def _faults(faults: Sequence[Fault]) -> list[str]:
    rows = []
    for kind in sorted({fault.kind for fault in faults}):
        times = sorted(fault.recovery for fault in faults if fault.kind == kind)
        rows.append(f"| {kind} | {len(times)} | {median(times):.2f} s | {times[-1]:.2f} s |")
    return ["| fault | times | whole again after (median) | at most |", "|---|---|---|---|", *rows]


def _failures(runs: Sequence[Summary]) -> list[str]:
    counts: Counter[tuple[str, str, str]] = Counter()
    for run in runs:
        for fault, kind, state, count in run.failures:
            counts[fault, kind, state] += count
    rows = [f"| {fault} | {kind} | {state} | {count} |" for (fault, kind, state), count in sorted(counts.items())]
    return ["| during, or healing from | call | ended | times |", "|---|---|---|---|", *rows]


def _lengths(runs: Sequence[Summary]) -> str:
    answers = sorted(length for run in runs for length in run.first_answers)
    return (
        f"First answer on a key whose first owner was killed: median {_ms(median(answers))}, worst {_ms(answers[-1])} "
        f"({len(answers)} measured). Slowest call of all: {_ms(max(run.slowest for run in runs))}. Time that the "
        "machine did not give a client is taken off."
    )


def _listed(title: str, lines: Sequence[str]) -> list[str]:
    shown = [f"- `{line[:400]}`" for line in lines[:_MOST]] + (["- …"] if len(lines) > _MOST else [])
    return [f"## {title}", "\n".join(shown)] if lines else []


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
