"""One fault, measured from the inside: threads that use the cache, a clock, and a node that breaks and is
mended.

Each thread walks over the same keys in its own order, nine gets to a set, and stores anew what it misses,
as a site does. Every node holds as many of the keys as every other, so that with one of four gone exactly
three quarters can be hit. Meanwhile keys of the broken node are overwritten and deleted: whatever the node
still remembers of them when it is back must not be served.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Self

from distcache_django.benchmark import direct
from distcache_django.benchmark.channel import Channel
from distcache_django.benchmark.figures import percentile, ratio

HIT, MISS, STORED, NOT_STORED, FAILED = range(5)
KEYS_PER_NODE = 100
WATCHED = 50
SET_EVERY = 10
WAITED_NS = 100_000_000
_VALUE = "v" * 100
_TIMEOUT = 600
_GIVE_UP = 10.0
_WAITS_SHOWN = 20
_POLL = 0.01


@dataclass(slots=True)
class Log:
    """What one thread did: start and duration of each call in nanoseconds, and its outcome."""

    starts: array[int] = field(default_factory=lambda: array("Q"))
    durations: array[int] = field(default_factory=lambda: array("Q"))
    outcomes: bytearray = field(default_factory=bytearray)
    error: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a log."""

    start: int
    duration: int
    outcome: int


class Load:
    """Threads that use a cache until they are stopped; a context manager that stops them."""

    def __init__(self, cache: Callable[[], Any], keys: Sequence[str], threads: int, seed: int) -> None:
        self._open = cache
        self._stop = threading.Event()
        self.logs = [Log() for _ in range(threads)]
        self._threads = [
            threading.Thread(target=self._work, args=(log, self._order(keys, seed + number)))
            for number, log in enumerate(self.logs)
        ]

    @staticmethod
    def _order(keys: Sequence[str], seed: int) -> list[str]:
        order = list(keys)
        random.Random(seed).shuffle(order)
        return order

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self, log: Log, keys: list[str]) -> None:
        cache, turn = self._open(), 0
        while not self._stop.is_set():
            key = keys[turn % len(keys)]
            turn += 1
            missed = self._timed(log, _get, cache, key) == MISS
            if missed or not turn % SET_EVERY:
                self._timed(log, _set, cache, key)

    @staticmethod
    def _timed(log: Log, call: Callable[[Any, str], int], cache: Any, key: str) -> int:
        start = time.monotonic_ns()
        try:
            outcome = call(cache, key)
        except Exception as error:  # noqa: BLE001  # counted and shown: a load has nobody to raise to
            outcome, log.error = FAILED, f"{type(error).__name__}: {error}"
        log.starts.append(start)
        log.durations.append(time.monotonic_ns() - start)
        log.outcomes.append(outcome)
        return outcome


def _get(cache: Any, key: str) -> int:
    return MISS if cache.get(key) is None else HIT


def _set(cache: Any, key: str) -> int:
    return NOT_STORED if cache.set(key, _VALUE, _TIMEOUT) is False else STORED


class Pulse:
    """A thread that only sleeps, and notes by how much it overslept; a context manager that stops it.

    Where it overslept as long as a call waited, the machine gave this process no time, and the call is no
    witness against the cache.
    """

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._beats = array("Q")
        self._thread = threading.Thread(target=self._beat)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(_POLL):
            self._beats.append(time.monotonic_ns())

    def longest_gap_ms(self, since: int) -> float:
        """Return the longest time between two beats from ``since`` on, less the sleep that was asked for."""
        beats = [beat for beat in self._beats if beat >= since]
        gaps = [later - earlier for earlier, later in pairwise(beats)]
        return max(0.0, max(gaps, default=0) / 1e6 - _POLL * 1e3)


@dataclass(frozen=True, slots=True)
class Setting:
    """What a trial works on: the cache, the fault, and the victim's own address, past any proxy."""

    open_cache: Callable[[], Any]
    urls: dict[str, str]
    victim: str
    fault: str
    threads: int
    seconds: float
    seed: int

    @property
    def victim_url(self) -> str:
        """Where the broken node itself is."""
        return self.urls[self.victim]


def run_trial(setting: Setting, channel: Channel) -> dict[str, Any]:
    """Break the victim for twice ``seconds`` under load, mend it, and return the figures of this one run."""
    cache = setting.open_cache()
    shares = _share_out(cache, setting.urls)
    watched = _watched(cache, setting)
    for key in watched:
        cache.set(key, "old", _TIMEOUT)
    keys = [key for share in shares.values() for key in share]
    with Pulse() as pulse, Load(setting.open_cache, keys, setting.threads, setting.seed) as load:
        time.sleep(setting.seconds)
        broken = time.monotonic_ns()
        channel.request("break", fault=setting.fault)
        time.sleep(setting.seconds)
        _change(cache, watched[:-1])
        time.sleep(max(0.0, setting.seconds * 2 - (time.monotonic_ns() - broken) / 1e9))
        mended = time.monotonic_ns()
        channel.request("mend")
        back = _time_until_back(cache, setting, watched[-1])
        stale = _count_stale(cache, watched[:-1])
    return _figures(load.logs, setting, broken, mended) | {
        "back_s": back,
        "stale": stale,
        "stall_ms": pulse.longest_gap_ms(broken),
    }


def _share_out(cache: Any, urls: dict[str, str]) -> dict[str, list[str]]:
    """Store keys until every node holds enough of them, and return as many of each node."""
    candidates = {cache.make_key(f"load:{number}"): f"load:{number}" for number in range(KEYS_PER_NODE * len(urls) * 2)}
    for key in candidates.values():
        cache.set(key, _VALUE, _TIMEOUT)
    return {
        name: [candidates[raw] for raw in sorted(direct.held(url, list(candidates)))][:KEYS_PER_NODE]
        for name, url in urls.items()
    }


def _watched(cache: Any, setting: Setting) -> list[str]:
    """Return keys of the victim that the load does not touch; the last one is the probe."""
    raw = {
        cache.make_key(f"watched:{number}"): f"watched:{number}" for number in range(WATCHED * len(setting.urls) * 2)
    }
    for key in raw.values():
        cache.set(key, "old", _TIMEOUT)
    return [raw[key] for key in sorted(direct.held(setting.victim_url, list(raw)))][: WATCHED + 1]


def _change(cache: Any, watched: Sequence[str]) -> None:
    for number, key in enumerate(watched):
        if number % 2:
            cache.set(key, "new", _TIMEOUT)
        else:
            cache.delete(key)


def _count_stale(cache: Any, watched: Sequence[str]) -> int:
    answers = [(number, cache.get(key)) for number, key in enumerate(watched)]
    return sum(answer is not None and not (answer == "new" and number % 2) for number, answer in answers)


def _time_until_back(cache: Any, setting: Setting, probe: str) -> float | None:
    """Return the seconds until a value stored through the cache is on the victim itself; None when it never
    is.
    """
    start = time.monotonic()
    raw = cache.make_key(probe)
    while time.monotonic() - start < _GIVE_UP:
        with contextlib.suppress(OSError):
            direct.remove(setting.victim_url, raw)
            cache.set(probe, "probe", _TIMEOUT)
            if direct.held(setting.victim_url, [raw]):
                return time.monotonic() - start
        time.sleep(_POLL)
    return None


def _figures(logs: Sequence[Log], setting: Setting, broken: int, mended: int) -> dict[str, Any]:
    calls = [[Call(*each) for each in zip(log.starts, log.durations, log.outcomes, strict=True)] for log in logs]
    everything = [call for thread in calls for call in thread]
    half = round(setting.seconds * 1e9)
    before = [call for call in everything if broken - half <= call.start < broken]
    during = [call for call in everything if broken <= call.start < mended]
    settled = [call for call in during if call.start >= broken + half]
    # A call that was under way when the node broke is hit as well.
    later = [[call for call in thread if call.start + call.duration >= broken] for thread in calls]
    waits = [sum(call.duration >= WAITED_NS for call in thread) for thread in later]
    ops_before = len(before) / (half / 1e9)
    ops_during = len(during) / ((mended - broken) / 1e9)
    return {
        "fault": setting.fault,
        "threads": setting.threads,
        "slowest_ms": max(call.duration for thread in later for call in thread) / 1e6,
        "waited": sum(waits),
        "waited_per_thread": max(waits),
        "waits": _describe_waits(later, broken),
        "outage_s": (mended - broken) / 1e9,
        "errors": sum(call.outcome == FAILED for call in everything),
        "error": next((log.error for log in logs if log.error), ""),
        "not_stored": sum(call.outcome == NOT_STORED for call in during),
        "ops_before": ops_before,
        "ops_during": ops_during,
        "ops_kept": ratio(ops_during, ops_before),
        "hit_ratio_before": _hit_ratio(before),
        "hit_ratio_during": _hit_ratio(during),
        "hit_kept": ratio(_hit_ratio(during), _hit_ratio(before)),
        "p99_ratio": ratio(_p99(settled), _p99(before)) if settled and before else None,
    }


def _describe_waits(threads: Sequence[Sequence[Call]], broken: int) -> list[dict[str, float]]:
    """Return the first calls that waited: which thread, how long after the fault they began, how long they
    took.
    """
    found = [
        {"thread": number, "at_s": (call.start - broken) / 1e9, "took_ms": call.duration / 1e6}
        for number, thread in enumerate(threads)
        for call in thread
        if call.duration >= WAITED_NS
    ]
    return sorted(found, key=lambda wait: wait["at_s"])[:_WAITS_SHOWN]


def _hit_ratio(calls: Sequence[Call]) -> float:
    hits = sum(call.outcome == HIT for call in calls)
    gets = hits + sum(call.outcome == MISS for call in calls)
    return hits / gets if gets else 0.0


def _p99(calls: Sequence[Call]) -> float:
    return percentile(sorted(call.duration for call in calls), 0.99)
