"""Try the analysis: run a random query, write random rows, and see whether each change of the answer was foreseen."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

from django.core.exceptions import EmptyResultSet, FieldError
from django.db import DatabaseError, NotSupportedError, connections, router, transaction
from django.db.models.sql.compiler import SQLCompiler

from distcache_django.orm import analysis
from tests.support.zoo.queries import ask
from tests.support.zoo.rows import Declared, Writer, declarable
from tests.support.zoo.schema import tables

#: What Django or a database answers to a query that makes no sense.
REFUSALS = (FieldError, NotSupportedError, DatabaseError, ValueError, TypeError, NotImplementedError)
QUERIES, WRITES = 5, 12


@dataclass(frozen=True, slots=True)
class Asked:
    """Be one statement of a query with what its answer is said to depend on, ``None`` if it is not to be cached."""

    sql: str
    params: tuple[Any, ...]
    dependencies: frozenset[str] | None
    why_not: str | None


@contextmanager
def recorded(declared: Declared) -> Iterator[list[Asked]]:
    """Record what Django's compilers run meanwhile."""
    asked: list[Asked] = []
    original = SQLCompiler.execute_sql

    def execute_sql(self: SQLCompiler, *args: Any, **kwargs: Any) -> Any:
        try:
            sql, params = self.as_sql()
        except EmptyResultSet:
            return original(self, *args, **kwargs)
        found = analysis.dependencies(self.query, sql, lambda table: declared.get(table, ()), self.connection.vendor)
        asked.append(Asked(sql, tuple(params), found, analysis.why_not(self.query, sql)))
        return original(self, *args, **kwargs)

    SQLCompiler.execute_sql = execute_sql  # type: ignore[method-assign]
    try:
        yield asked
    finally:
        SQLCompiler.execute_sql = original  # type: ignore[method-assign]


def run(rng: Random, using: str = "default") -> Counter[str]:
    """Run one trial in a transaction that is rolled back, and return what happened how often.

    :raises AssertionError: if a write changed an answer without bumping what the answer depends on.
    """
    counts: Counter[str] = Counter()
    declared = {
        table: tuple(declarable(model) if rng.random() < 0.85 else ()) for table, model in sorted(tables().items())
    }
    with transaction.atomic(using=using):
        Writer(rng, declared, using).fill(4)
        asked = [one for _ in range(QUERIES) for one in _ask(rng, declared, using, counts)]
        _write(rng, declared, using, asked, counts)
        transaction.set_rollback(True, using=using)
    return counts


def _ask(rng: Random, declared: Declared, using: str, counts: Counter[str]) -> list[Asked]:
    try:
        with recorded(declared) as asked, transaction.atomic(using=using):
            ask(rng)
    except REFUSALS as error:
        counts[f"refused: {type(error).__name__}"] += 1
        return []
    cached = [one for one in asked if one.dependencies is not None]
    counts["uncacheable"] += len(asked) - len(cached)
    counts["cached"] += len(cached)
    counts["refined"] += sum(any(":" in name for name in one.dependencies or ()) for one in cached)
    return cached


def _write(rng: Random, declared: Declared, using: str, cached: list[Asked], counts: Counter[str]) -> None:
    read = {name.partition(":")[0] for one in cached for name in one.dependencies or ()} & declared.keys()
    writer = Writer(rng, declared, using)
    before = [_answer(one, using) for one in cached]
    for _ in range(WRITES if read else 0):
        bumped = writer.write(read)
        for position, one in enumerate(cached):
            after = _answer(one, using)
            touched = bool(bumped & (one.dependencies or frozenset()))
            counts["ended"] += touched
            counts["kept"] += not touched
            if after != before[position]:
                counts["changed"] += 1
                assert touched, f"{one}\nbumped {sorted(bumped)}\nbefore {before[position]}\nafter  {after}"
            before[position] = after


def _answer(one: Asked, using: str) -> list[Any]:
    with connections[using].cursor() as cursor:
        cursor.execute(one.sql, one.params)
        rows = cursor.fetchall()
    # Without ORDER BY any order is right, and PostgreSQL's changes with every write.
    return rows if _IS_ORDERED.search(one.sql) else sorted(rows, key=repr)


_IS_ORDERED = re.compile(r"ORDER BY [^()]*$")


class _Router:
    def __init__(self, using: str) -> None:
        self.using = using

    def db_for_read(self, model: object, **hints: object) -> str:
        return self.using


@contextmanager
def routed(using: str) -> Iterator[None]:
    """Send the zoo's queries to another database meanwhile."""
    before = router.routers
    router.routers = [_Router(using)]
    try:
        yield
    finally:
        router.routers = before
