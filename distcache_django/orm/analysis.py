"""Find out what the answer of a query depends on.

Theory. An answer is a function of the rows of the tables that its SQL names. If a table occurs once, and every row
that can take part has ``column = value``, then the answer is a function of those rows alone: a write of a row that
neither had nor gets that value cannot change it. So the answer may depend on that value (a row's name, or a declared
field's) and on one of the table's epochs, which stand for writes of unknown rows and of unknown values, instead of
on the whole table.

Which rows can take part is read from the conditions that must all hold (AND, not negated):

- ``column = v``, ``column IN (…)`` confine the rows of their alias, also where it is reached by an outer join: a row
  of NULLs made up by the join is not equal to anything, and does not survive.
- ``column IS NULL`` confines the rows of an alias that no outer join can make up.
- OR confines an alias that every branch confines, to the rows of any branch.
- What confines one side of a join's equality confines the other. From the inner to the outer side of a LEFT JOIN
  this holds only for conditions of WHERE, not for what was itself derived from the outer side.
- HAVING, windows, negations, transforms, expressions and other lookups confine nothing.

A table that occurs several times (self joins, subqueries, unions) is a function of the rows of all its occurrences,
so each of them must be confined. How often a table occurs is counted in the SQL itself, which knows of subqueries
wherever they hide; Python objects only say what confines the occurrences that they are known for.
"""

from __future__ import annotations

from collections.abc import Mapping

from django.apps import apps
from django.db.models.sql import AggregateQuery, Query

from distcache_django.freshness import dependencies as names
from distcache_django.orm import sql as sqltext
from distcache_django.orm.confinement import Declared, Guards, guards_of
from distcache_django.orm.profiles import untracked_tables
from distcache_django.orm.suspicion import suspicion
from distcache_django.orm.values import NotCanonical, canonical, canonical_exact, canonical_from_db, is_refinable

__all__ = [
    "NotCanonical",
    "canonical",
    "canonical_exact",
    "canonical_from_db",
    "dependencies",
    "is_refinable",
    "why_not",
]


def dependencies(query: Query, sql: str, declared: Declared, vendor: str = "") -> frozenset[str] | None:
    """Return what the answer of a query depends on, or ``None`` where it must not be cached (see ``why_not``).

    :param query: the very object that was compiled to ``sql``: compiling adds joins to it.
    :param declared: gives the columns of a table whose values have dependencies of their own.
    :param vendor: of the database; without it only values that are equal alike in all of them are named.

    Takes 10 to 20 µs for a simple filter, and some hundred more for a text that was not seen before.
    """
    reading = sqltext.reading(sql)
    if reading.doubt or not reading.tables or suspicion(query):
        return None
    guards = _guards(query, reading, declared, vendor)
    found: set[str] = set()
    named: set[str] = set()
    for name, occurrences in reading.tables.items():
        for table in _tables_named(name):
            named.add(table)
            guard = guards.of_table(table, occurrences) if table == name else None
            found.update(guard or (names.table(table),))
    # What the query certainly reads, and its text names in a way that is not known.
    found.update(names.table(table) for table in guards.used if table not in named)
    return None if named & untracked_tables() else frozenset(found)


def why_not(query: Query, sql: str) -> str | None:
    """Return why the answer of a query must not be cached, in words for a developer; ``None`` if it may be."""
    reading = sqltext.reading(sql)
    untracked = {table for name in reading.tables for table in _tables_named(name)} & untracked_tables()
    return (
        reading.doubt
        or suspicion(query)
        or (f"writes of {', '.join(sorted(untracked))} are not tracked" if untracked else None)
        or (None if reading.tables else "it reads no table")
    )


def _guards(query: Query, reading: sqltext.Reading, declared: Declared, vendor: str) -> Guards:
    """Return what stands for the aliases of the query's parts, and how far they explain the text."""
    parts: list[Query] = []
    wrappers = _unwrap(query, parts)
    guards = Guards()
    for part in parts:
        guards_of(part, declared, vendor, guards)
    guards.is_single = len(parts) == 1 and wrappers >= 0
    # All SELECTs of the text are known: there is no subquery, and no operand of a union was left out.
    guards.is_complete = reading.groups == 1 + wrappers and reading.operands - reading.groups == len(parts) - 1
    return guards


class _Registry:
    """Hold the tables of all models by the name that a text gives them: without schema, in lower case."""

    models: object = None
    tables: Mapping[str, tuple[str, ...]] = {}


def _tables_named(name: str) -> tuple[str, ...]:
    """Return the tables that a name in a text may mean: itself, if no model has it."""
    # The registry of models keeps this list until it changes, so its identity says whether ours is still right.
    models = apps.get_models(include_auto_created=True, include_swapped=True)
    if _Registry.models is not models:
        tables: dict[str, set[str]] = {}
        for model in models:
            table = model._meta.db_table
            tables.setdefault(_bare(table), set()).add(table)
        _Registry.tables = {bare: tuple(same) for bare, same in tables.items()}
        _Registry.models = models
    return _Registry.tables.get(name.lower(), (name,))


def _bare(table: str) -> str:
    return table.rpartition(".")[2].strip('"`[]').lower()


def _unwrap(query: Query, parts: list[Query]) -> int:
    """Collect the queries with tables of their own; return how many SELECTs stand around them, -1 if unknown."""
    if type(query) is Query and not query.combinator:
        parts.append(query)
        return 0
    if type(query) is AggregateQuery:
        inner = _unwrap(query.inner_query, parts)
        return inner if inner < 0 else inner + 1
    parts.extend(query.combined_queries or (query,))
    return 0 if type(query) is Query and all(_is_simple(part) for part in query.combined_queries) else -1


def _is_simple(query: Query) -> bool:
    return type(query) is Query and not query.combinator
