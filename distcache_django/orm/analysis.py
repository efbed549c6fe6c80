"""Find out what the answer of a query depends on.

Theory. An answer is a function of the rows of the tables that its SQL names. If a table occurs once, and every row
that can take part has ``column = value``, then the answer is a function of those rows alone: a write of a row that
neither had nor gets that value cannot change it. So the answer may depend on that value (a row's name, or a declared
field's) and on the table's epoch, which stands for writes of unknown rows, instead of on the whole table.

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

from typing import Final

from django.db.models.sql import AggregateQuery, Query

from distcache_django.freshness import dependencies as names
from distcache_django.orm import sql as sqltext
from distcache_django.orm.confinement import Declared, Guards, guards_of
from distcache_django.orm.suspicion import suspicion
from distcache_django.orm.values import NotCanonical, canonical, canonical_exact, canonical_from_db, is_refinable, spell

__all__ = [
    "NotCanonical",
    "canonical",
    "canonical_exact",
    "canonical_from_db",
    "dependencies",
    "is_refinable",
    "spell",
    "why_not",
]

_KNOWN_QUERIES: Final = frozenset({Query, AggregateQuery})


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
    for table in reading.tables:
        guard = guards.pop(table, None)
        if guard:
            found.update(guard)
            found.add(names.epoch(table))
        else:
            found.add(names.table(table))
    # What is left has a name that is spelled differently in SQL, such as one with a schema in it.
    found.update(map(names.table, guards))
    return frozenset(found)


def why_not(query: Query, sql: str) -> str | None:
    """Return why the answer of a query must not be cached, in words for a developer; ``None`` if it may be."""
    reading = sqltext.reading(sql)
    return reading.doubt or suspicion(query) or (None if reading.tables else "it reads no table")


def _guards(
    query: Query, reading: sqltext.Reading, declared: Declared, vendor: str
) -> dict[str, frozenset[str] | None]:
    """Return by table the dependencies that stand for it, ``None`` where only the table itself does."""
    parts: list[Query] = []
    wrappers = _unwrap(query, parts)
    if wrappers is None:
        return {}
    found = Guards()
    for part in parts:
        guards_of(part, declared, vendor, found)
    # All SELECTs of the text are known: there is no subquery, and no operand of a union was left out.
    is_complete = reading.groups == 1 + wrappers and reading.operands - reading.groups == len(parts) - 1
    return {
        table: _of_table(found, table, reading.tables.get(table, 0), is_complete, is_single=len(parts) == 1)
        for table in found.tables
    }


def _unwrap(query: Query, parts: list[Query]) -> int | None:
    """Collect the queries with tables of their own; return how many SELECTs stand around them, ``None`` if unknown."""
    if type(query) not in _KNOWN_QUERIES:
        return None
    if isinstance(query, AggregateQuery):
        inner = _unwrap(query.inner_query, parts)
        return None if inner is None else inner + 1
    if not query.combinator:
        parts.append(query)
        return 0
    if any(part.combinator or type(part) is not Query for part in query.combined_queries):
        return None
    parts.extend(query.combined_queries)
    return 0


def _of_table(
    found: Guards,
    table: str,
    occurrences: int,
    is_complete: bool,
    is_single: bool,  # noqa: FBT001
) -> frozenset[str] | None:
    """Return the union of the guards of all occurrences of a table, ``None`` unless each has one.

    Aliases that are in use are certainly in the text. Others may be there (joins that compiling added), so they
    count only if nothing else can be what the text names.
    """
    used, unused = found.used.get(table, ()), found.unused.get(table, ())
    if occurrences == len(used) and (is_complete or is_single):
        relevant = used
    elif is_complete and is_single and occurrences <= len(used) + len(unused):
        relevant = (*used, *unused)
    else:
        return None
    guards = [guard for guard in relevant if guard]
    return frozenset().union(*guards) if guards and len(guards) == len(relevant) else None
