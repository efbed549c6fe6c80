"""How calls fared while a node was at fault: which failed, how long they took, when all was well again."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from tests.failover.calls import IN_DOUBT, Call, Fault

__all__ = ["Summary", "first_answers", "summarise", "unexpected"]

#: Where a process was kept waiting by the machine for longer, a node may have been, too.
BUSY = 0.03
#: Two clients at the same key at the same time: one may not learn what became of its own attempt.
_CONTENDED = {"add", "lock", "release"}
QUIET = "quiet"


class Summary(NamedTuple):
    """Be what one run comes to, as the report needs it."""

    seed: int
    server: str
    seconds: float
    calls: dict[str, int]
    faults: list[Any]
    #: Calls that failed: fault, kind of call, how; and among them those that nothing excuses.
    failures: list[list[Any]]
    unexpected: list[str]
    first_answers: list[float]
    slowest: float
    violations: list[list[str]]


def phase(call: Call, faults: Sequence[Fault]) -> str:
    """Return the fault during which, or during the healing of which, a call was made."""
    return next((f.kind for f in faults if call.began <= f.whole and call.ended >= f.began), QUIET)


def failures(calls: Sequence[Call]) -> list[Call]:
    """Return the calls that were not acknowledged."""
    return [call for call in calls if not call.is_acknowledged]


def unexpected(calls: Sequence[Call]) -> list[Call]:
    """Return the calls that failed though, one node being at fault at a time, as many owners as they need were there.

    Left out is what a machine without time for a process accounts for, and attempts at ``add`` and locks that are in
    doubt because another client was at the same key at that time.
    """
    return [call for call in failures(calls) if call.lost < BUSY and not _is_contended(call, calls)]


def _is_contended(call: Call, calls: Sequence[Call]) -> bool:
    return (
        call.kind in _CONTENDED
        and call.state == IN_DOUBT
        and any(
            other.key == call.key and other.by != call.by and other.began < call.ended and other.ended > call.began
            for other in calls
            if other.kind in _CONTENDED
        )
    )


def first_answers(calls: Sequence[Call], faults: Sequence[Fault]) -> Iterator[float]:
    """Return, for each kill and each client, how long its first call after it took on a key whose first owner died."""
    for fault in faults:
        if not fault.kind.startswith("kill"):
            continue
        met: set[int] = set()
        for call in calls:
            is_first = call.by not in met and fault.began <= call.began < fault.ended
            if is_first and call.is_acknowledged and call.owners.split()[0] == fault.node:
                met.add(call.by)
                yield call.ended - call.began - call.lost


def summarise(
    seed: int, server: str, calls: Sequence[Call], faults: Sequence[Fault], violations: Sequence[Sequence[str]]
) -> Summary:
    """Return what a run comes to."""
    failed = Counter((phase(call, faults), call.kind, call.state) for call in failures(calls))
    return Summary(
        seed,
        server,
        calls[-1].ended - calls[0].began,
        dict(Counter(call.kind for call in calls)),
        [list(fault) for fault in faults],
        [[*key, count] for key, count in sorted(failed.items())],
        [f"{phase(call, faults)}: {call}" for call in unexpected(calls)],
        [round(length, 4) for length in first_answers(calls, faults)],
        round(max(call.ended - call.began - call.lost for call in calls), 4),
        [list(violation) for violation in violations],
    )
