"""`benchmark orm`: put every subject under the same load, one after another, and judge each of its answers.

One PostgreSQL and the nodes are kept by this process. First all subjects time cached gets, a slice each in
turn, without writers. Then the subjects are put under load, one trial each a round, in a new random order; a
trial starts its writers and readers anew, on fresh tables.

This package runs on nodes of its own, which are never emptied: each trial has a new key prefix. A node that
has lost its memory, as by FLUSHALL, serves no answers for the life of a mark; a run of seconds would be about
nothing else. What can use one server only, gets one that is emptied before each trial.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TextIO

import psycopg

from distcache_django.benchmark import contenders, direct
from distcache_django.benchmark.channel import WorkerFailed
from distcache_django.benchmark.orm import outcome, subjects
from distcache_django.benchmark.orm.crew import Meeting, Turns, run_crew
from distcache_django.benchmark.orm.sql import read_sql
from distcache_django.benchmark.orm.subjects import Subject
from distcache_django.benchmark.orm.truth import Dataset
from distcache_django.testing.postgres import LocalPostgres
from distcache_django.testing.servers import LocalNodes

__all__ = ["Load", "Options", "run"]

#: Two writers wait for each other's rows now and then; the server is to notice soon.
_POSTGRES = {"deadlock_timeout": "50ms"}
_HIT_ROUNDS, _HIT_SECONDS = 10, 0.3


@dataclass(frozen=True, slots=True)
class Load:
    """How much is read and written: ``writes`` a second by all writers together, ``distance_ms`` to the database.

    Enough ``reader_threads`` for others to read while some wait for the database: what is counted is work then.
    """

    writers: int = 2
    writer_threads: int = 4
    readers: int = 2
    reader_threads: int = 4
    writes: float = 80.0
    distance_ms: float = 5.0


@dataclass(frozen=True, slots=True)
class Options:
    """What `benchmark orm` was asked for; ``only`` names subjects by their aliases."""

    peers: bool
    nodes: int
    rounds: int
    seconds: float
    seed: int
    load: Load = field(default_factory=Load)
    dataset: Dataset = field(default_factory=Dataset)
    only: tuple[str, ...] = tuple(each.contender.alias for each in subjects.SUBJECTS)
    is_quick: bool = False


def run(options: Options, progress: TextIO) -> dict[str, Any]:
    """Measure and return the body of the report; starts and ends its own servers, touches no others.

    Raises WorkerFailed when this package cannot be measured; a peer that cannot is listed with the reason.
    """
    chosen = [each for each in subjects.select(options.peers) if each.contender.alias in options.only]
    found = {each.name: contenders.probe(each.contender) for each in chosen}
    usable = [each for each in chosen if found[each.name].is_usable]
    with LocalPostgres(options=_POSTGRES) as postgres, LocalNodes(options.nodes) as nodes, LocalNodes(1) as single:
        bench = Bench(postgres, nodes, single, options, progress)
        hits = bench.time_hits(usable)
        trials = bench.put_under_load(usable)
        body = {
            "server": f"{direct.server_version(next(iter(nodes.urls.values())))}, {bench.postgres_version}",
            "contenders": [_describe(each, found[each.name], bench.failures) for each in chosen],
            "failures": bench.failures,
        }
    loads = outcome.summarize(trials)
    timed = outcome.summarize_hits(hits)
    return body | {
        "nodes": options.nodes,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "load": asdict(options.load),
        "dataset": asdict(options.dataset),
        "trials": trials,
        "loads": loads,
        "hits": timed,
        "comparisons": outcome.compare(loads, timed),
    }


class Bench:
    """The servers, and what is measured on them; ``failures`` says which peers could not be, and why."""

    def __init__(
        self, postgres: LocalPostgres, nodes: LocalNodes, single: LocalNodes, options: Options, progress: TextIO
    ) -> None:
        self._postgres = postgres
        self._nodes = nodes
        self._single = single
        self._options = options
        self._progress = progress
        self._rng = random.Random(options.seed)
        self.failures: dict[str, str] = {}
        with psycopg.connect(postgres.dsn) as connection:
            connection.execute(read_sql("schema"))
            number = connection.info.server_version
            self.postgres_version = f"postgresql {number // 10_000}.{number % 10_000}"

    def put_under_load(self, chosen: Sequence[Subject]) -> list[dict[str, Any]]:
        """Return the trials of all rounds."""
        trials = []
        for number in range(self._options.rounds):
            order = [each for each in chosen if each.name not in self.failures]
            self._rng.shuffle(order)
            for subject in order:
                self._progress.write(f"  round {number + 1}: {subject.name}\n")
                if (trial := self._attempt(subject, number)) is not None:
                    trials.append(trial)
        return trials

    def _attempt(self, subject: Subject, number: int) -> dict[str, Any] | None:
        try:
            return self._try_out(subject, number)
        except WorkerFailed as error:
            if not subject.is_peer:
                raise
            self.failures[subject.name] = f"failed: {error}"
            return None

    def _try_out(self, subject: Subject, number: int) -> dict[str, Any]:
        load, seconds = self._options.load, self._options.seconds
        self._reset()
        to_write = {"writers": load.writers, "writer_threads": load.writer_threads, "per_second": load.writes}
        jobs = [self._job(subject, "write", index, number) | to_write for index in range(load.writers)]
        to_read = {"threads": load.reader_threads}
        jobs += [self._job(subject, "read", index, number) | to_read for index in range(load.readers)]

        def times() -> dict[str, int]:
            start = time.monotonic_ns()
            return {"start": start, "end": start + int(seconds * 1e9)}

        done = run_crew(jobs, self._progress, Meeting(len(jobs), times, seconds))
        parts = {"writers": done[: load.writers], "readers": done[load.writers :]}
        return {"subject": subject.name, "round": number, "seconds": seconds} | outcome.combine(**parts)

    def time_hits(self, chosen: Sequence[Subject]) -> dict[str, Any]:
        """Return the slices of cached gets of each subject."""
        if not chosen:
            return {}
        self._reset()
        self._progress.write("  processor time of a hit\n")
        rounds = 2 if self._options.is_quick else _HIT_ROUNDS
        order = [number for _ in range(rounds) for number in self._rng.sample(range(len(chosen)), len(chosen))]
        slices = {"seconds": _HIT_SECONDS, "distance_ms": 0.0}
        jobs = [self._job(subject, "hit", number, -1) | slices for number, subject in enumerate(chosen)]
        done = run_crew(jobs, self._progress, Turns(order))
        return {subject.name: result for subject, result in zip(chosen, done, strict=True)}

    def _job(self, subject: Subject, role: str, index: int, number: int) -> dict[str, Any]:
        alone = subject.contender.nodes < 2
        return {
            "role": role,
            "subject": subject.name,
            "index": index,
            "urls": (self._single if alone else self._nodes).urls,
            "prefix": f"{subject.contender.alias} {number}",
            "database": self._postgres.django_settings(),
            "dataset": asdict(self._options.dataset),
            "distance_ms": self._options.load.distance_ms,
            "seed": f"{self._options.seed} {number}",
        }

    def _reset(self) -> None:
        """Empty the single node and bring the tables back to their beginning."""
        for node in self._single.values():
            node.flush()
        with psycopg.connect(self._postgres.dsn, cursor_factory=psycopg.ClientCursor) as connection:
            connection.execute(read_sql("reset"), asdict(self._options.dataset))


def _describe(subject: Subject, found: contenders.Availability, failures: Mapping[str, str]) -> dict[str, Any]:
    return {
        "name": subject.name,
        "nodes": subject.contender.nodes,
        "settings": subject.contender.note,
        "versions": dict(found.versions),
        "status": found.reason or failures.get(subject.name, "measured"),
    }
