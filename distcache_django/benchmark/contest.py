"""Run contenders against each other, interleaved in one process: every round in a new random order.

Interleaving lets a slow spell of the machine fall on all contenders alike; the shuffled order keeps one of
them from always running in the shadow of the same rival. Slices are of equal *time*, so that a slow
contender neither starves nor dominates the run.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from distcache_django.benchmark import direct
from distcache_django.benchmark.calls import CompilerMissing, CRunner, Runner, compile_c_client
from distcache_django.benchmark.contenders import C_CLIENT, OURS_MANY, Contender
from distcache_django.benchmark.figures import Round, Summary, summarize
from distcache_django.benchmark.goals import SEQUENTIAL
from distcache_django.benchmark.scenarios import (
    FANOUT,
    KEYS,
    SIZE,
    Scenario,
    batches,
    build_data,
    one_after_another,
)

logger = logging.getLogger(__name__)
_LEAST_CALLS = 5


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and in which order: rounds, seconds per contender and scenario, seed of data and order."""

    rounds: int
    seconds: float
    seed: int

    @property
    def slice_ns(self) -> float:
        """Length of one slice in nanoseconds."""
        return self.seconds / self.rounds * 1e9


@dataclass(frozen=True, slots=True)
class Field:
    """Who has come to run: caches by contender name, in one list; nodes; where the C client may be
    compiled.
    """

    contenders: Sequence[Contender]
    open_cache: Callable[[Contender], Any]
    urls: dict[str, str]
    scratch: Path
    loop: asyncio.AbstractEventLoop


def calibrate(runner: Runner, plan: Plan) -> int:
    """Warm a runner up for at least one slice and return how many calls fill one."""
    calls = _LEAST_CALLS
    while True:
        done = runner.run(calls)
        fitting = round(plan.slice_ns * done.calls / done.wall_ns)
        if done.wall_ns >= plan.slice_ns:
            return max(_LEAST_CALLS, fitting)
        calls = max(calls * 2, min(fitting + 1, calls * 20))


def interleave(runners: Mapping[str, Runner], plan: Plan) -> dict[str, Summary]:
    """Warm all runners up, then run ``plan.rounds`` rounds in seeded random order."""
    order = random.Random(plan.seed)
    calls = {name: calibrate(runner, plan) for name, runner in runners.items()}
    rounds: dict[str, list[Round]] = {name: [] for name in runners}
    names = list(runners)
    for _ in range(plan.rounds):
        order.shuffle(names)
        for name in names:
            rounds[name].append(runners[name].run(calls[name]))
    return {name: summarize(done) for name, done in rounds.items()}


def run_scenario(scenario: Scenario, field: Field, plan: Plan) -> tuple[dict[str, Summary], dict[str, str]]:
    """Return the summaries of one scenario and, for those that could not run it, why not."""
    runners: dict[str, Runner] = {}
    failures: dict[str, str] = {}
    data = build_data(plan.seed)
    for contender in field.contenders:
        if not contender.takes_part_in(scenario.name) or (scenario.name == FANOUT and contender.name != OURS_MANY):
            continue
        try:
            cache = field.open_cache(contender)
            runners[contender.name] = scenario.runner(cache, data, field.loop)
            if scenario.name == FANOUT:
                runners[SEQUENTIAL] = _sequential(cache, data, field.urls)
        except Exception as error:
            logger.warning("%s cannot run %s", contender.name, scenario.name, exc_info=True)
            failures[contender.name] = f"failed: {type(error).__name__}: {error}"
    if not scenario.has_c_client:
        return interleave(runners, plan), failures
    try:
        program = compile_c_client(field.scratch)
    except CompilerMissing as error:
        return interleave(runners, plan), failures | {C_CLIENT: str(error)}
    with _c_client(program, next(iter(field.urls.values()))) as c_client:
        return interleave({**runners, C_CLIENT: c_client}, plan), failures


def _c_client(program: Path, url: str) -> CRunner:
    direct.store(url, {f"bench:c:{number:03d}": "x" * SIZE for number in range(KEYS)})
    return CRunner(program, urlsplit(url).port or 6379, KEYS)


def _sequential(cache: Any, data: dict[str, str], urls: Mapping[str, str]) -> Runner:
    stored = {cache.make_key(key): key for key in data}
    shares = [{stored[key] for key in direct.held(url, list(stored))} for url in urls.values()]
    groups = [[[key for key in batch if key in share] for share in shares] for batch in batches(list(data))]
    return one_after_another(cache, [[part for part in parts if part] for parts in groups], data)
