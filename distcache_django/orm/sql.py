"""Read SQL text: the tables that a SELECT reads, what a statement may write, and what it does to the transaction.

Pure functions of the text, without Django and without a connection, whose results are kept for the texts that a site
repeats. They know no grammar, and err on one side: a table too many costs hits, and what is not certain is a doubt
(reads) or everything (writes). Names are returned without schema and quotes, as written; whoever compares them must
not look at case, which some databases fold and some ignore.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Final, TypeVar

from distcache_django.orm.lexer import STRING, Token, readings
from distcache_django.orm.sqlreads import Reading, reading_of
from distcache_django.orm.sqlwrites import NOTHING, Written, statements, written_by

__all__ = ["Reading", "Written", "changes_isolation", "ends_transaction", "reading", "tables_read", "written"]

R = TypeVar("R")

#: So many texts are remembered, none of them longer than this: bulk statements do not come again.
_REMEMBERED: Final = 2048
_LONGEST: Final = 8_192
# How many values a list has makes no difference to anything that is asked here.
_LIST = re.compile(r"%s(?:, %s)+")


def _remembered(function: Callable[[str], R]) -> Callable[[str], R]:
    known = lru_cache(maxsize=_REMEMBERED)(function)

    @wraps(function)
    def remember(sql: str) -> R:
        if "%s, %s" in sql:
            sql = _LIST.sub("%s", sql)
        return known(sql) if len(sql) <= _LONGEST else function(sql)

    return remember


@_remembered
def reading(sql: str) -> Reading:
    """Return what a SELECT reads, and whether its answer may depend on anything else."""
    return reading_of(sql)


def tables_read(sql: str) -> frozenset[str]:
    """Return every table that a SELECT names: in FROM, joins, subqueries and CTEs, whose own names are among them."""
    return frozenset(reading(sql).tables)


_START: Final = r"\A\s*+"
_QUOTED: Final = r"""(?:"([^".]+)"|`([^`.]+)`)"""
_SELECT_FROM = re.compile(_START + r"SELECT\b.*?\bFROM\s+[\"`]", re.DOTALL | re.IGNORECASE)
_WRITE_ONE = re.compile(
    _START
    + rf"(?:(?:INSERT(?:\s+OR\s+\w+)?|REPLACE)\s+INTO\s+{_QUOTED}\s*(?:\(|VALUES\b|DEFAULT\b)"
    + rf"|UPDATE\s+{_QUOTED}\s+SET\b|DELETE\s+FROM\s+{_QUOTED}\s*(?:\Z|WHERE\b))",
    re.IGNORECASE,
)
_HARMLESS = re.compile(_START + r"(?:SAVEPOINT|RELEASE|ROLLBACK|BEGIN|COMMIT(?!\s+PREPARED))\b", re.IGNORECASE)
# Whatever else could write, in a statement that starts harmlessly or with a write of one table.
_MORE = re.compile(
    r";|\b(?:INSERT|DELETE|MERGE|INTO|TRUNCATE|COPY|REFRESH|CALL|EXECUTE|REPLACE\s++(?!\())\b|(?<!\bDO)(?<!\bKEY)\s+UPDATE\b|\(\s*UPDATE\b",
    re.IGNORECASE,
)


@_remembered
def written(sql: str) -> Written:
    """Return what a statement, or several in one text, may write.

    What the database does by itself (cascades, triggers, rules, writes through a view) is not in a text. Costs a few
    microseconds for what Django makes, and nothing worth naming for a text that was asked for before.
    """
    one = _WRITE_ONE.match(sql)
    if one is not None and not _MORE.search(sql, one.end()):
        name = next(group for group in one.groups() if group)
        return Written(frozenset({name, name.lower()}))
    if one is None and (_SELECT_FROM.match(sql) or _HARMLESS.match(sql)) and not _MORE.search(sql):
        return NOTHING
    return written_by(sql)


_MENTIONS_ISOLATION = re.compile(
    r"isolation|characteristics|snapshot|read_uncommitted|\breset\b|\bdiscard\b", re.IGNORECASE
)
_SETS = frozenset({"SET", "BEGIN", "START", "PRAGMA", "RESET", "DISCARD"})


@_remembered
def changes_isolation(sql: str) -> bool:
    """Return whether a statement may change the isolation level of this or later transactions of its connection."""
    return _MENTIONS_ISOLATION.search(sql) is not None and any(map(_sets_isolation, _statements(sql)))


def _sets_isolation(statement: list[Token]) -> bool:
    if statement[0].upper in _SETS:
        return True
    return any(token.upper == "SET_CONFIG" for token in statement) and any(
        token.kind == STRING and "isolation" in token.text.lower() for token in statement
    )


_MENTIONS_END = re.compile(r"\b(?:commit|rollback|begin|start|end|abort|prepare|xa)\b", re.IGNORECASE)
_ENDS = frozenset({"COMMIT", "END", "ABORT", "BEGIN", "XA"})


@_remembered
def ends_transaction(sql: str) -> bool:
    """Return whether a statement begins or ends a transaction by hand: Django's own BEGIN on SQLite is one too.

    Savepoints do not.
    """
    if _MENTIONS_END.search(sql) is None:
        return False
    found = _statements(sql)
    is_trigger = any({"CREATE", "TRIGGER"} <= {token.upper for token in statement[:5]} for statement in found)
    return any(_ends(statement, is_trigger) for statement in found)


def _ends(statement: list[Token], is_trigger: bool) -> bool:
    words = [token.upper for token in statement[:3]]
    if words[0] == "ROLLBACK":
        return "TO" not in words
    if words == ["END"] and is_trigger:  # SQLite's triggers have statements in them
        return False
    return words[0] in _ENDS or words[:2] in (["START", "TRANSACTION"], ["PREPARE", "TRANSACTION"])


def _statements(sql: str) -> list[list[Token]]:
    return [statement for tokens in readings(sql) for statement in statements(tokens)]
