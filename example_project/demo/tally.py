"""What the load generator measured, phase by phase."""

from __future__ import annotations

import math
import threading
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

KEPT_SAMPLES = 10


@dataclass(frozen=True, slots=True)
class Answer:
    """One request and how it ended; `is_free`: without a query.

    `error`, `stale` and `suspended` say what was wrong, and are empty otherwise.
    """

    kind: str
    seconds: float
    error: str = ""
    is_write: bool = False
    is_free: bool = False
    is_checked: bool = False
    is_of_written: bool = False
    stale: str = ""
    suspended: str = ""


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
            http_writes=answer.is_write,
            free=answer.is_free,
            checked=answer.is_checked,
            of_written=answer.is_of_written,
            stale=bool(answer.stale),
            suspended=bool(answer.suspended),
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
    "http_writes",
    "free",
    "checked",
    "of_written",
    "stale",
    "suspended",
    "hits",
    "misses",
)


_NOT_COUNTED = {"pid", "warned", "settled"}


class SiteCounts:
    """What the site's processes have counted of their caches, as far as they have said; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _last
        self._last: dict[int, dict[str, int]] = {}

    def saw(self, counts: Mapping[str, int]) -> None:
        """Take note of what a process says of itself; of two answers the later one may come first."""
        with self._lock:
            known = self._last.setdefault(counts["pid"], {})
            for name in counts.keys() - _NOT_COUNTED:
                known[name] = max(counts[name], known.get(name, 0))

    def totals(self) -> Counter[str]:
        """Add up what all processes have counted."""
        with self._lock:
            total: Counter[str] = Counter()
            for counts in self._last.values():
                total.update(counts)
            return total


class Tally:
    """Collect answers by phase; threads may share it."""

    def __init__(self, phases: list[str]) -> None:
        self.site = SiteCounts()
        self._lock = threading.Lock()  # guards what follows
        self._phases = [PhaseTally(name) for name in phases]
        self._begun = -1
        self._before: Counter[str] = Counter()
        self._samples: dict[str, list[str]] = {"error": [], "stale": [], "suspended": []}

    def begin(self, phase: int, now: float) -> None:
        """End the phase before and begin this one."""
        with self._lock:
            self._end(now)
            self._begun = phase
            self._phases[phase].started = now

    def end(self, now: float) -> None:
        """End the last phase that was begun."""
        with self._lock:
            self._end(now)

    def _end(self, now: float) -> None:
        totals = self.site.totals()
        if self._begun >= 0:
            phase = self._phases[self._begun]
            phase.ended = now
            phase.counts["hits"] = totals["hits"] - self._before["hits"]
            missed = (totals[name] - self._before[name] for name in ("misses", "bypasses"))
            phase.counts["misses"] = sum(missed)
        self._before = totals

    def add(self, phase: int, answer: Answer) -> None:
        """Count an answer to a request that began in a phase."""
        with self._lock:
            self._phases[phase].add(answer)
            for name, samples in self._samples.items():
                text = getattr(answer, name)
                if text and len(samples) < KEPT_SAMPLES:
                    samples.append(f"{self._phases[phase].name}: {answer.kind}: {text}")

    @property
    def count(self) -> int:
        """Give the number of answers so far."""
        with self._lock:
            return sum(phase.counts["requests"] for phase in self._phases)

    def as_json(self) -> dict[str, Any]:
        """Give the figures of all phases, of the whole, and the first of what was wrong."""
        with self._lock:
            everything = array("d", [value for phase in self._phases for value in phase.seconds])
            kinds = sum((phase.kinds for phase in self._phases), Counter[str]())
            return {
                "phases": [phase.as_json() for phase in self._phases],
                "overall": percentiles(everything),
                "kinds": dict(kinds.most_common()),
                "site": dict(self.site.totals()),
                **{f"{name}_samples": list(samples) for name, samples in self._samples.items()},
            }


def percentiles(seconds: array[float]) -> dict[str, float]:
    """Give the nearest-rank percentiles in milliseconds; zeros for no value."""
    ordered = sorted(seconds)

    def at(share: float) -> float:
        index = math.ceil(share * len(ordered)) - 1
        return round(ordered[max(index, 0)] * 1000, 2) if ordered else 0.0

    return {"p50_ms": at(0.5), "p95_ms": at(0.95), "p99_ms": at(0.99), "slowest_ms": at(1.0)}
