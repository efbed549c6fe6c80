"""`benchmark ring`: what a look-up costs, how long a ring takes to build, how even it is and what a new
node moves.

Look-ups are timed in loops over many keys, all rings interleaved, loop included. Evenness and movement are
counts and come out the same on every machine; they are measured on keys, not on slots, so the noise of
hashing is part of them.
"""

from __future__ import annotations

import gc
import importlib
import importlib.metadata
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from distcache_django.benchmark.figures import quartiles, ratio
from distcache_django.benchmark.goals import judge
from distcache_django.core.ring import HashRing

NODES = 10
LOOKUP_KEYS = 5000
BALANCE_NODES = (3, 4, 10, 30, 100)
OURS = "distcache HashRing"

LookUp = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Rival:
    """A ring of another package: how to build one over names."""

    name: str
    package: str
    module: str
    attribute: str

    def build(self, names: Sequence[str]) -> LookUp:
        """Return the look-up of a new ring; raises ImportError where the package is missing."""
        ring = getattr(importlib.import_module(self.module), self.attribute)
        look_up: LookUp = ring(list(names)).get_node
        return look_up


RIVALS = (
    Rival("uhashring HashRing", "uhashring", "uhashring", "HashRing"),
    Rival("django-redis HashRing", "django-redis", "django_redis.hash_ring", "HashRing"),
    Rival("django-valkey HashRing", "django-valkey", "django_valkey.hash_ring", "HashRing"),
)
GOALS: dict[str, float] = {"uhashring HashRing": 5.5}
PEAK_GOAL = 1.03
# With fewer keys the noise of counting them hides how even the ring is.
PEAK_GOAL_KEYS = 1_000_000


def names(count: int) -> list[str]:
    """Return node names that look like addresses."""
    return [f"10.0.{number // 250}.{number % 250 + 1}:6379" for number in range(count)]


def run(rounds: int, seed: int, keys: int, progress: TextIO) -> dict[str, Any]:
    """Measure and return the body of the report."""
    look_ups: dict[str, LookUp] = {OURS: HashRing(names(NODES)).get_node}
    status = []
    for rival in RIVALS:
        try:
            look_ups[rival.name] = rival.build(names(NODES))
            status.append(
                {
                    "name": rival.name,
                    "version": importlib.metadata.version(rival.package),
                    "status": "measured",
                }
            )
        except ImportError as error:
            status.append({"name": rival.name, "version": "-", "status": f"not installed: {error}"})
    progress.write("  look-ups\n")
    timed = time_look_ups(look_ups, rounds, seed)
    progress.write("  balance and movement\n")
    balance = [_balance(count, keys) for count in BALANCE_NODES]
    return {
        "rivals": status,
        "nodes": NODES,
        "keys": keys,
        "look_ups": timed,
        "builds": [_build(count) for count in BALANCE_NODES],
        "balance": balance,
        "comparisons": [*_comparisons(timed), *_even(balance, keys)],
    }


def time_look_ups(look_ups: dict[str, LookUp], rounds: int, seed: int) -> list[dict[str, Any]]:
    """Return nanoseconds per look-up of each ring, interleaved in seeded random order."""
    order = random.Random(seed)
    keys = [f":1:catalogue:product:{order.randrange(10**8)}" for _ in range(LOOKUP_KEYS)]
    samples: dict[str, list[float]] = {name: [] for name in look_ups}
    turns = list(look_ups)
    for _ in range(rounds + 1):
        order.shuffle(turns)
        for name in turns:
            samples[name].append(_time_loop(look_ups[name], keys))
    rows = []
    for name, values in samples.items():
        low, middle, high = quartiles(values[1:])
        rows.append({"name": name, "ns": middle, "low": low, "high": high, "rounds": len(values) - 1})
    return rows


def _time_loop(look_up: LookUp, keys: Sequence[str]) -> float:
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter_ns()
        for key in keys:
            look_up(key)
        return (time.perf_counter_ns() - start) / len(keys)
    finally:
        gc.enable()


def _build(count: int) -> dict[str, Any]:
    def once(nodes: int) -> float:
        start = time.perf_counter_ns()
        HashRing(names(nodes))
        return (time.perf_counter_ns() - start) / 1e6

    ring = HashRing(names(count))
    start = time.perf_counter_ns()
    ring.add_node("10.9.9.9:6379")
    added = (time.perf_counter_ns() - start) / 1e6
    return {
        "nodes": count,
        "build_ms": statistics.median(once(count) for _ in range(5)),
        "add_node_ms": added,
    }


def _balance(count: int, keys: int) -> dict[str, Any]:
    ring = HashRing(names(count))
    larger = ring.add_node("10.9.9.9:6379")
    plan = ring.rebalance(larger)
    shares = ring.get_load_distribution(_keys(keys))
    by_slots = Counter(ring.owners)
    return {
        "nodes": count,
        "peak_to_mean": max(shares.values()) * count,
        "least_to_mean": min(shares.values()) * count,
        "slots_peak_to_mean": max(by_slots.values()) * count / len(ring.owners),
        "moved": plan.fraction,
        "share": 1 / (count + 1),
        "slots_off": len(plan.moves) - len(ring.owners) / (count + 1),
        "modulo_moved": count / (count + 1),
    }


def _keys(count: int) -> Iterable[str]:
    return (f":1:item:{number}" for number in range(count))


def _comparisons(timed: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    found = {row["name"]: row for row in timed}
    rows = []
    for rival in RIVALS:
        theirs = found.get(rival.name)
        value = None if theirs is None else ratio(theirs["ns"], found[OURS]["ns"])
        rows.append(_row("look-up", rival.name, value, at_least=GOALS.get(rival.name)))
    return rows


def _even(balance: Sequence[dict[str, Any]], keys: int) -> list[dict[str, Any]]:
    peak_goal = PEAK_GOAL if keys >= PEAK_GOAL_KEYS else None
    rows = []
    for each in balance:
        rows.append(_row(f"{each['nodes']} nodes", "peak/mean of keys", each["peak_to_mean"], at_most=peak_goal))
        rows.append(_row(f"{each['nodes']} nodes", "slots moved off its share", abs(each["slots_off"]), at_most=1))
    return rows


def _row(
    scenario: str,
    rival: str,
    value: float | None,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
) -> dict[str, Any]:
    return {
        "scenario": scenario,
        "ours": OURS,
        "rival": rival,
        "value": value,
        "low": None,
        "high": None,
        "beyond_floor": None,
        "ceiling": None,
        "at_least": at_least,
        "at_most": at_most,
        "verdict": judge(value, at_least=at_least, at_most=at_most),
    }
