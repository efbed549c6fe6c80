"""What the load generator measured, phase by phase."""

from __future__ import annotations

import math
import threading
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

KEPT_ERRORS = 10


@dataclass(frozen=True, slots=True)
class Answer:
    """One request and how it ended; `error` is empty for a success."""

    kind: str
    seconds: float
    error: str = ""
    hits: int = 0
    misses: int = 0
    is_write: bool = False
    is_uninvalidated: bool = False
    is_checked: bool = False
    is_stale: bool = False
    is_waiting: bool = False


@dataclass(slots=True)
class PhaseTally:
    """The answers of one phase."""

    name: str
    counts: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    seconds: array[float] = field(default_factory=lambda: array("d"))
    slowest: tuple[float, str] = (0.0, "")
    started: float = 0.0
    ended: float = 0.0

    def add(self, answer: Answer) -> None:
        """Count one answer."""
        self.kinds[answer.kind] += 1
        self.seconds.append(answer.seconds)
        self.slowest = max(self.slowest, (answer.seconds, answer.kind))
        self.counts.update(
            requests=1,
            errors=bool(answer.error),
            hits=answer.hits,
            misses=answer.misses,
            writes=answer.is_write,
            uninvalidated=answer.is_uninvalidated,
            price_reads=answer.is_checked,
            stale=answer.is_stale,
            waiting=answer.is_waiting,
        )

    def as_json(self) -> dict[str, Any]:
        """Give the phase's figures."""
        duration = max(self.ended - self.started, 1e-9)
        return {
            "name": self.name,
            "seconds": round(duration, 3),
            **{name: self.counts[name] for name in _COUNTED},
            "requests_per_second": round(self.counts["requests"] / duration, 1),
            **percentiles(self.seconds),
            "slowest_kind": self.slowest[1],
        }


_COUNTED = (
    "requests",
    "errors",
    "hits",
    "misses",
    "writes",
    "uninvalidated",
    "price_reads",
    "stale",
    "waiting",
)


class Tally:
    """Collect answers by phase; threads may share it."""

    def __init__(self, phases: list[str]) -> None:
        self._lock = threading.Lock()  # guards what follows
        self._phases = [PhaseTally(name) for name in phases]
        self._errors: list[str] = []

    def begin(self, phase: int, now: float) -> None:
        """End the phase before and begin this one."""
        with self._lock:
            if phase:
                self._phases[phase - 1].ended = now
            self._phases[phase].started = now

    def end(self, now: float) -> None:
        """End the last phase that was begun."""
        with self._lock:
            begun = [phase for phase in self._phases if phase.started]
            begun[-1].ended = now

    def add(self, phase: int, answer: Answer) -> None:
        """Count an answer to a request that began in a phase."""
        with self._lock:
            self._phases[phase].add(answer)
            if answer.error and len(self._errors) < KEPT_ERRORS:
                self._errors.append(f"{self._phases[phase].name}: {answer.kind}: {answer.error}")

    @property
    def count(self) -> int:
        """Give the number of answers so far."""
        with self._lock:
            return sum(phase.counts["requests"] for phase in self._phases)

    def as_json(self) -> dict[str, Any]:
        """Give the figures of all phases, of the whole, and the first errors."""
        with self._lock:
            everything = array("d", [value for phase in self._phases for value in phase.seconds])
            kinds = sum((phase.kinds for phase in self._phases), Counter[str]())
            return {
                "phases": [phase.as_json() for phase in self._phases],
                "overall": percentiles(everything),
                "kinds": dict(kinds.most_common()),
                "error_samples": list(self._errors),
            }


def percentiles(seconds: array[float]) -> dict[str, float]:
    """Give the nearest-rank percentiles in milliseconds; zeros for no value."""
    ordered = sorted(seconds)

    def at(share: float) -> float:
        index = math.ceil(share * len(ordered)) - 1
        return round(ordered[max(index, 0)] * 1000, 2) if ordered else 0.0

    return {"p50_ms": at(0.5), "p95_ms": at(0.95), "p99_ms": at(0.99), "slowest_ms": at(1.0)}
