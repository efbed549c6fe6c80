"""Name what a cached answer depends on, and place the names in a bounded number of version records.

A *dependency* is a plain string. Names are the same for every database alias and every process: a write on one
alias ends answers read on another, which costs hits and never correctness.

=============  ==========================  ==============================================
dependency     name                        changes with
=============  ==========================  ==============================================
row            ``shop_product:42``         a write of that row
field value    ``shop_product:brand_id=3``  a write of a row that has, or had, that value
epoch          ``shop_product:*``          a write of rows that are not known one by one
value epoch    ``shop_product:=:*``        the same, and a write of a row whose values are not known
table          ``shop_product``            every write of the table
tag            ``#pricelist``              ``invalidate("pricelist")``
=============  ==========================  ==============================================

An answer depends, for each table it reads, on rows and the epoch, or on field values and the value epoch, or else on
the table.

A dependency has one version record; an epoch, which nearly every answer depends on, has ``STRIPES`` of them, spread
over the nodes. A writer writes them all, so any one of them vouches for an answer: a reader takes one that is where
the answer is, and asks no second node. Which one it takes is nobody else's business, as long as the versions that an
answer was stored under are compared with those of the same records.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import mmh3

from distcache_django.core.freshness import RECORD_PREFIX

__all__ = [
    "STRIPES",
    "coarse",
    "epoch",
    "epochs",
    "field",
    "is_epoch",
    "record_key",
    "record_keys",
    "record_tag",
    "row",
    "table",
    "tag",
    "value_epoch",
]

#: How many version records an epoch has. Of sixteen one is at a given node of four 99 times in 100, of eight 88 times.
STRIPES = 16
_NULL = "\0"


def row(table: str, pk: str) -> str:
    """Return the dependency on one row; ``pk`` in its canonical form."""
    return f"{table}:{pk}"


def field(table: str, column: str, value: str | None) -> str:
    """Return the dependency on the rows that have one value (in its canonical form) in a declared column."""
    return f"{table}:{column}={_NULL if value is None else value}"


def table(name: str) -> str:
    """Return the dependency on every row of a table."""
    return name


def epoch(table: str) -> str:
    """Return the dependency on writes whose rows are not known one by one."""
    return f"{table}:*"


def value_epoch(table: str) -> str:
    """Return the dependency on writes of rows whose values, before or after, are not known."""
    return f"{table}:=:*"


def is_epoch(dependency: str) -> bool:
    """Return whether a dependency is one of a table's epochs, and neither a tag nor a row whose key looks like one."""
    is_like_one = dependency.endswith(":*") and not dependency.startswith("#")
    return is_like_one and ":" not in dependency[:-2].removesuffix(":=")


def tag(text: str) -> str:
    """Return the dependency on a name of the site's own."""
    return f"#{text}"


def coarse(tables: Iterable[str]) -> set[str]:
    """Return what a write bumps that may have touched any row of ``tables``."""
    tables = tuple(tables)
    return {*tables, *epochs(tables)}


def epochs(tables: Iterable[str]) -> Iterator[str]:
    """Yield what a write bumps, besides their tables, whose rows are not known one by one."""
    for each in tables:
        yield epoch(each)
        yield value_epoch(each)


def record_tag(dependency: str, buckets: int) -> str | None:
    """Return the bucket in which a dependency has its version record, ``None`` where it has one of its own.

    Names share ``buckets`` records by hash, so that no flood of distinct dependencies can fill a node; two names
    in one bucket end each other's answers, no more. Tables and epochs are few and have records of their own: each
    ends many answers, and must not do so for a stranger.
    """
    if is_epoch(dependency) or (":" not in dependency and not dependency.startswith("#")):
        return None
    return f"{mmh3.hash128(dependency.encode('utf-8', 'surrogatepass'), 0, True) % buckets:x}"


def record_key(prefix: str, dependency: str, buckets: int) -> str:
    """Return the key of a dependency's version record, an epoch's first one; ``prefix`` is that of the site."""
    return f"{RECORD_PREFIX}{prefix}:{{{record_tag(dependency, buckets) or dependency}}}"


def record_keys(prefix: str, dependency: str, buckets: int) -> tuple[str, ...]:
    """Return the keys of all version records of a dependency: one, or those of an epoch, the first one first."""
    first = record_key(prefix, dependency, buckets)
    if not is_epoch(dependency):
        return (first,)
    # No other dependency has such a name to itself: it neither lacks a colon nor ends with the asterisk.
    stripes = (f"{RECORD_PREFIX}{prefix}:{{{dependency}{number}}}" for number in range(1, STRIPES))
    return (first, *stripes)
