"""Read as fast as possible, note every answer, and compare with the database once the writers have stopped."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.db import connection

from distcache_django.benchmark.orm.measured import Asked, asked_by_this_thread
from distcache_django.benchmark.orm.sql import read_sql
from distcache_django.benchmark.orm.truth import Dataset
from distcache_django.benchmark.orm.verdicts import Answer, Shape
from distcache_django.benchmark.orm.ways import Plain

__all__ = ["MIX", "Reader", "audit"]

#: Shapes of queries and how many of a hundred they are.
MIX: dict[Shape, int] = {"item": 60, "group": 20, "tags": 5, "total": 15}
_DRAWN_AT_ONCE = 1000
_TRUE = {shape: read_sql(shape) for shape in MIX}


@dataclass
class Reader:
    """Read random things on one thread; half of the reads are of the hot items, or of their groups.

    What a read costs beside the way it takes is the same for all subjects, and hides what sets them apart. So
    questions are drawn many at once, and answers are kept as they are until all is over.
    """

    way: Plain
    dataset: Dataset
    rng: random.Random
    hits: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    _told: list[tuple[Shape, int, int, int, tuple[Any, ...]]] = field(default_factory=list)
    #: Equal answers are kept once: most are.
    _known: dict[tuple[Any, ...], tuple[Any, ...]] = field(default_factory=dict)

    def read_until(self, start: int, end: int) -> None:
        """Read from one time to another, both in ``time.monotonic_ns``, and close the connection."""
        time.sleep(max(0.0, (start - time.monotonic_ns()) / 1e9))
        asked = asked_by_this_thread()
        try:
            while time.monotonic_ns() < end:
                for shape, key in self.draw(_DRAWN_AT_ONCE):
                    if self.read(shape, key, asked) >= end:
                        break
        finally:
            connection.close()

    def draw(self, number: int) -> list[tuple[Shape, int]]:
        """Return the next questions: shapes and keys. The same seed draws the same ones."""
        draw, hot, items = self.rng.random, self.dataset.hot, self.dataset.items
        shapes = self.rng.choices(list(MIX), list(MIX.values()), k=number)
        keys = [1 + int(draw() * (hot if draw() < 0.5 else items)) for _ in shapes]
        group = self.dataset.first_group
        return [
            (shape, group(key) if shape in ("group", "total") else key) for shape, key in zip(shapes, keys, strict=True)
        ]

    def read(self, shape: Shape, key: int, asked: Asked) -> int:
        """Read once and return when that ended; a hit is a read for which the database was asked nothing.

        :param asked: the count of the thread.
        """
        before = asked.statements
        begun = time.monotonic_ns()
        try:
            value = self.way.read(shape, key)
        except Exception as error:  # noqa: BLE001 - whatever a library raises is counted, and stands in the report
            self.failures[f"{shape}: {type(error).__name__}: {error}"] += 1
            return time.monotonic_ns()
        ended = time.monotonic_ns()
        if asked.statements == before:
            self.hits[shape] += 1
        self._told.append((shape, key, begun, ended, self._known.setdefault(value, value)))
        return ended

    def answers(self) -> Iterator[Answer]:
        """Yield what was read, to be judged."""
        return map(Answer._make, self._told)


def audit(way: Plain, dataset: Dataset) -> tuple[dict[tuple[str, int], tuple[Any, ...]], int]:
    """Return the database's answers to all queries of the data, and to how many of them the cache's is another.

    The database is asked past Django and every cache. Nobody may be writing.
    """
    wanted: list[tuple[Shape, int]] = [("item", key) for key in range(1, dataset.items + 1)]
    wanted += [("tags", key) for key in range(1, dataset.items + 1)]
    wanted += [("group", key) for key in range(1, dataset.groups + 1)]
    wanted += [("total", key) for key in range(1, dataset.groups + 1)]
    connection.ensure_connection()
    true = {(str(shape), key): _true_answer(shape, key) for shape, key in wanted}
    return true, sum(way.read(shape, key) != true[shape, key] for shape, key in wanted)


def _true_answer(shape: Shape, key: int) -> tuple[Any, ...]:
    rows = connection.connection.execute(_TRUE[shape], [key]).fetchall()
    if shape == "group":
        return tuple(rows)
    return tuple(rows[0]) if shape != "tags" else tuple(tag for (tag,) in rows)
