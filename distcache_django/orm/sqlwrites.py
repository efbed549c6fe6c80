"""Find out what a statement may write.

Every word that starts a write is looked for wherever it stands, so that writing CTEs, EXPLAIN ANALYZE and several
statements at once are found too. What cannot be known (procedures, functions called for their effect, cascades that
the database follows by itself) may write everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from distcache_django.orm.lexer import NAME, WORD, Token, readings
from distcache_django.orm.sqlnames import NOT_FUNCTIONS, is_harmless
from distcache_django.orm.sqlreads import name_at, read_tokens

__all__ = ["NOTHING", "Written", "statements", "written_by"]


@dataclass(frozen=True, slots=True)
class Written:
    """Be what a statement may write: tables as it names them, without schema, or everything."""

    tables: frozenset[str] = frozenset()
    everything: bool = False


NOTHING = Written()
_EVERYTHING = Written(everything=True)

_HARMLESS = frozenset(
    """
    ABORT ANALYSE ANALYZE BEGIN CHECK CHECKPOINT CLOSE CLUSTER COMMENT COMMIT DEALLOCATE DESC DESCRIBE DISCARD
    END FETCH
    FLUSH GRANT KILL LISTEN LOCK MOVE NOTIFY OPTIMIZE PRAGMA REASSIGN REINDEX RELEASE RESET REVOKE ROLLBACK
    SAVEPOINT
    SECURITY SET SHOW START UNLISTEN UNLOCK USE VACUUM
    """.split()
)
_ROWS = frozenset(
    """
    COPY DECLARE DELETE EXPLAIN INSERT LOAD MERGE PREPARE REFRESH REPLACE SELECT TABLE TRUNCATE UPDATE VALUES WITH
    """.split()
)
_SCHEMA = frozenset({"ALTER", "CREATE", "DROP", "RENAME"})
# Between a verb and the table.
_FILLERS = frozenset(
    """
    ABORT CONCURRENTLY DELAYED EXISTS EXTERNAL FAIL FOREIGN GLOBAL HIGH_PRIORITY IF IGNORE INTO LOCAL LOW_PRIORITY
    MATERIALIZED NOT ONLY OR OVERWRITE QUICK RECURSIVE REPLACE ROLLBACK TABLE TEMP TEMPORARY UNIQUE UNLOGGED
    VIEW VIRTUAL
    """.split()
)
_HOLDS_ROWS = frozenset({"TABLE", "VIEW"})
_HOLDS_NO_ROWS = frozenset(
    """
    AGGREGATE CAST COLLATION CONVERSION DATABASE DOMAIN EVENT EXTENSION FUNCTION INDEX LANGUAGE OPERATOR POLICY
    PROCEDURE
    PUBLICATION ROLE ROUTINE SCHEMA SEQUENCE SERVER STATISTICS SUBSCRIPTION TABLESPACE TRIGGER TYPE USER
    """.split()
)
# Rows go with these when they are dropped, and look different when they are altered.
_MATTERS_LATER = frozenset({"DATABASE", "DOMAIN", "EXTENSION", "SCHEMA", "TYPE", "COLLATION"})
# "FOR UPDATE", "FOR NO KEY UPDATE", "ON DUPLICATE KEY UPDATE", "DO UPDATE", "ON DELETE CASCADE" and MERGE's "THEN
# UPDATE" write nothing more.
_NO_VERB_AFTER = frozenset({"FOR", "KEY", "DO", "ON", "THEN"})
_END = Token("end", "", "")


def statements(tokens: list[Token]) -> list[list[Token]]:
    """Return the statements of a text, without the semicolons."""
    found: list[list[Token]] = [[]]
    for token in tokens:
        if token.text == ";":
            found.append([])
        else:
            found[-1].append(token)
    return [statement for statement in found if statement]


def written_by(sql: str) -> Written:
    """Return what any statement of ``sql`` may write, however its text is read."""
    ways = readings(sql)
    if not ways:  # it has no end: an error for the database, unless it knows a quote that we do not
        return _EVERYTHING
    found = [_of_statement(statement) for tokens in ways for statement in statements(tokens)]
    return Written(_union(one.tables for one in found), any(one.everything for one in found))


def _union(sets: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset().union(*sets)


def _of_statement(tokens: list[Token]) -> Written:
    verb = next((token.upper for token in tokens if token.text != "("), "")
    words = {token.upper for token in tokens}
    if verb in _SCHEMA:
        return _of_schema(tokens, words)
    if verb == "COMMIT" and "PREPARED" in words:
        return _EVERYTHING  # what it wrote is known to the connection that prepared it
    if verb in _HARMLESS or (verb == "EXPLAIN" and not words & {"ANALYZE", "ANALYSE"}):
        return NOTHING
    if verb not in _ROWS or (verb == "TRUNCATE" and "CASCADE" in words):
        return _EVERYTHING
    tables = _union(_at_verb(tokens, index) for index, token in enumerate(tokens) if token.upper in _VERBS)
    return Written(tables, everything=not tables and _calls_unknown(tokens))


def _of_schema(tokens: list[Token], words: set[str]) -> Written:
    kind = next((token.upper for token in tokens if token.upper in _HOLDS_ROWS | _HOLDS_NO_ROWS), "")
    if kind in _HOLDS_ROWS:
        names = _names(tokens, _after_fillers(tokens, 1))
        renamed = [index + 1 for index, token in enumerate(tokens) if token.upper == "TO"]
        return Written(names.union(*(_name(tokens, index) for index in renamed)))
    if kind in _HOLDS_NO_ROWS and not (kind in _MATTERS_LATER and "CREATE" not in words):
        return NOTHING
    return _EVERYTHING


def _after_fillers(tokens: list[Token], index: int) -> int:
    while index < len(tokens) and tokens[index].upper in _FILLERS:
        index += 1
    return index


def _at(tokens: list[Token], index: int) -> Token:
    return tokens[index] if 0 <= index < len(tokens) else _END


def _name(tokens: list[Token], index: int) -> frozenset[str]:
    """Return the table named at ``index``: a bare name means what is in lower case for most databases."""
    if _at(tokens, index).kind not in {WORD, NAME}:
        return frozenset()
    name = name_at(tokens, index)[1]
    return frozenset({name, name.lower()})


def _names(tokens: list[Token], index: int) -> frozenset[str]:
    """Return the tables of a list with commas that starts at ``index``."""
    names = _name(tokens, index)
    while names and (comma := _end_of_name(tokens, index)) < len(tokens) and tokens[comma].text == ",":
        index = _after_fillers(tokens, comma + 1)
        names |= _name(tokens, index)
        if _at(tokens, index).kind not in {WORD, NAME}:
            break
    return names


def _end_of_name(tokens: list[Token], index: int) -> int:
    index = name_at(tokens, index)[2]
    return index + (_at(tokens, index).text == "*")


def _at_verb(tokens: list[Token], index: int) -> frozenset[str]:
    """Return the tables that the verb at ``index`` writes, none if it is part of something else."""
    verb, before, after = tokens[index].upper, _at(tokens, index - 1), _at(tokens, index + 1)
    if before.upper in _NO_VERB_AFTER or before.text == "." or (after.text == "(" and verb != "INTO"):
        return frozenset()
    start = _after_fillers(tokens, index + 1)
    if verb == "UPDATE":
        return _of_update(tokens, start)
    if verb == "DELETE":
        return _of_delete(tokens, start)
    if verb == "TRUNCATE":
        return _names(tokens, start)
    if verb == "COPY":
        return _name(tokens, start) if any(token.upper == "FROM" for token in tokens[start:]) else frozenset()
    return _name(tokens, start)


_VERBS = frozenset("INSERT REPLACE UPDATE DELETE MERGE TRUNCATE COPY REFRESH INTO".split())


def _of_update(tokens: list[Token], start: int) -> frozenset[str]:
    """Return what UPDATE writes: MySQL's may name several tables before SET."""
    end = next((index for index in range(start, len(tokens)) if tokens[index].upper == "SET"), len(tokens))
    if any(token.text == "," or token.upper == "JOIN" for token in tokens[start:end]):
        return _all_tables([Token(WORD, "FROM", "FROM"), *tokens[start:]])
    return _name(tokens, start)


def _of_delete(tokens: list[Token], start: int) -> frozenset[str]:
    """Return what DELETE writes: MySQL's may name several tables before or after FROM."""
    if _at(tokens, start).upper != "FROM":
        return _all_tables(tokens[start:])
    start = _after_fillers(tokens, start + 1)
    end = _end_of_name(tokens, start) if start < len(tokens) else start
    return _all_tables(tokens[start - 1 :]) if _at(tokens, end).text in {",", "."} else _name(tokens, start)


def _all_tables(tokens: list[Token]) -> frozenset[str]:
    named = [Token(WORD, "FROM", "FROM") if token.upper == "USING" else token for token in tokens]
    return frozenset(name for table in read_tokens(named).tables for name in (table, table.lower()))


def _calls_unknown(tokens: list[Token]) -> bool:
    """Return whether a statement that reads no table calls a function which may be called for its effect."""
    if read_tokens(tokens).tables:
        return False
    return any(
        token.text == "(" and _is_unknown(tokens[index - 1], _at(tokens, index - 2))
        for index, token in enumerate(tokens)
        if index
    )


def _is_unknown(name: Token, before: Token) -> bool:
    if name.kind not in {WORD, NAME} or before.upper == "AS" or before.text == "::":
        return False
    return name.text.upper() not in NOT_FUNCTIONS and not is_harmless(name.text.upper())
