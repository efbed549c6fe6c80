"""Play one part of a load or of the hits, in a process that is set up for one subject.

Imported by the worker once Django is configured. All meet twice: before they begin, and when the writers have
handed their ledgers over.
"""

from __future__ import annotations

import importlib
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.apps import apps
from django.db.backends.signals import connection_created

from distcache_django.benchmark.channel import Channel
from distcache_django.benchmark.orm.measured import measure, statements_of_this_thread
from distcache_django.benchmark.orm.readers import Reader, audit
from distcache_django.benchmark.orm.truth import Commit, Dataset, Truth
from distcache_django.benchmark.orm.verdicts import Judge, tally
from distcache_django.benchmark.orm.ways import WAYS, Plain
from distcache_django.benchmark.orm.writes import Part, Writer

__all__ = ["ROLES"]

_QUIET = 1.0
#: Seconds in which a cache may become warm: new nodes of this package need the life of a mark.
_PATIENCE = 8.0
#: The items whose hits are timed: where a key and what it depends on live is another matter for each.
_TIMED = range(1, 51)


@dataclass
class Stage:
    """What every part needs: the job, the way to its parent, and how its subject reads and writes."""

    job: dict[str, Any]
    channel: Channel
    way: Plain
    dataset: Dataset
    commits: list[Commit]
    rng: random.Random
    counts: Callable[[], dict[str, int]]


def set_stage(job: dict[str, Any], channel: Channel) -> Stage:
    """Prepare a part: connections made from now on are measured."""
    commits: list[Commit] = []
    begin = measure(commits, job["distance_ms"] / 1e3)
    connection_created.connect(begin, weak=False)
    rng = random.Random(f"{job['seed']} {job['role']} {job['index']}")
    return Stage(job, channel, WAYS[job["way"]](), Dataset(**job["dataset"]), commits, rng, count_of_its_own())


def write(stage: Stage) -> dict[str, Any]:
    """Write until the end, on several threads, and hand the ledger over."""
    job = stage.job
    threads = job["writer_threads"]
    parts = [Part(job["index"] * threads + number, job["writers"] * threads) for number in range(threads)]
    writers = [Writer(stage.way, stage.dataset, part, random.Random(stage.rng.random())) for part in parts]
    times = stage.channel.request("meet")
    run_threads([partial(each.write_until, times["start"], times["end"], job["per_second"]) for each in writers])
    stage.channel.request("meet", ledger=stage.commits)
    return {
        "writes": sum(writer.done.total() for writer in writers),
        "deadlocks": sum(writer.deadlocks for writer in writers),
        "kinds": dict(sum((writer.done for writer in writers), Counter())),
        "counters": stage.counts(),
    }


def read(stage: Stage) -> dict[str, Any]:
    """Read until the end, wait until all is quiet, compare with the database, and judge every answer."""
    job = stage.job
    readers = [Reader(stage.way, stage.dataset, random.Random(stage.rng.random())) for _ in range(job["threads"])]
    times = stage.channel.request("meet")
    run_threads([partial(reader.read_until, times["start"], times["end"]) for reader in readers])
    counted = stage.counts()
    ledger = stage.channel.request("meet", ledger=[])
    truth = Truth(stage.dataset, [Commit(*entry) for entry in ledger])
    time.sleep(max(0.0, (max(truth.last_return, times["end"]) - time.monotonic_ns()) / 1e9) + _QUIET)
    true, wrong = audit(stage.way, stage.dataset)
    truth.check_end(true)
    judge = Judge(truth)
    reads = Counter(answer.shape for reader in readers for answer in reader.answers())
    verdicts = tally(judge.judge(answer) for reader in readers for answer in reader.answers())
    return verdicts | {
        "reads": sum(reads.values()),
        "hits": sum(reader.hits.total() for reader in readers),
        "hits_by_shape": dict(sum((reader.hits for reader in readers), Counter())),
        "reads_by_shape": dict(reads),
        "checked": len(true),
        "wrong": wrong,
        "commits": len(ledger),
        "row_writes": truth.row_writes,
        "failures": dict(sum((reader.failures for reader in readers), Counter())),
        "counters": counted,
    }


def hit(stage: Stage) -> dict[str, Any]:
    """Take slices of cached gets, one at each turn, until there are no more turns."""
    slices, misses = [], 0
    warm_up(stage.way)
    while stage.channel.request("turn"):
        asked = statements_of_this_thread()
        slices.append(_time_gets(stage.way.load_item, stage.job["seconds"]))
        misses += statements_of_this_thread() - asked
    calls = sum(entry["calls"] for entry in slices)
    return {"slices": slices, "misses": misses, "calls": calls, "counters": stage.counts()}


def run_threads(tasks: Sequence[Callable[[], None]]) -> None:
    """Run each task on a thread of its own; raises what the first of them raised."""
    with ThreadPoolExecutor(len(tasks)) as pool:
        for done in [pool.submit(task) for task in tasks]:
            done.result()


def warm_up(way: Plain) -> None:
    """Get the items until the database is not asked for any, or, where there is no cache, until that is plain."""
    end = time.monotonic() + _PATIENCE
    asked = -1
    while asked < statements_of_this_thread() and time.monotonic() < end:
        asked = statements_of_this_thread()
        for key in _TIMED:
            way.load_item(key)
        time.sleep(0.05)


def _time_gets(load: Callable[[int], object], seconds: float) -> dict[str, Any]:
    """Get the same items again and again; processor time of the whole process, wall time and calls."""
    calls, begun, cpu = 0, time.monotonic_ns(), time.process_time_ns()
    end = begun + int(seconds * 1e9)
    while time.monotonic_ns() < end:
        for key in _TIMED:
            load(key)
        calls += len(_TIMED)
    return {"calls": calls, "cpu_ns": time.process_time_ns() - cpu, "wall_ns": time.monotonic_ns() - begun}


def count_of_its_own() -> Callable[[], dict[str, int]]:
    """Return what reads the subject's own counters in this process; a library that has none counts nothing."""
    if apps.is_installed("cacheops"):
        return listen_to_cacheops()
    if apps.is_installed("distcache_django"):
        # Imported here only: in the process of another subject it would be one more library.
        return importlib.import_module("distcache_django.freshness.service").freshness().counts  # type: ignore[no-any-return]
    return dict


def listen_to_cacheops() -> Callable[[], dict[str, int]]:
    """Count the hits and misses that django-cacheops signals."""
    told: Counter[str] = Counter()

    def count(hit: bool, **_: Any) -> None:
        told["hits" if hit else "misses"] += 1

    importlib.import_module("cacheops.signals").cache_read.connect(count, weak=False)
    return partial(dict, told)


ROLES: dict[str, Callable[[Stage], dict[str, Any]]] = {"write": write, "read": read, "hit": hit}
