"""Find out what a SELECT reads, and whether its answer depends on more than the tables it names.

The text is what the database gets, whatever Python objects it was made from; so this is the net below the analysis of
Django's query objects. It looks at tokens and parentheses only and knows no grammar: a name too many costs hits, and
where a name could be missing there is a ``doubt``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from distcache_django.orm.lexer import NAME, PLACEHOLDER, STRING, SYMBOL, VARIABLE, WORD, Token, readings
from distcache_django.orm.sqlnames import NOT_FUNCTIONS, VOLATILE_WORDS, is_pure

__all__ = ["Reading", "name_at", "read_tokens", "reading_of"]


@dataclass(frozen=True, slots=True)
class Reading:
    """Be what a SELECT reads.

    ``tables`` counts how often the text names each table, without its schema. ``groups`` is the number of SELECTs
    that are no further operand of a UNION, INTERSECT or EXCEPT: 1 means that there is no subquery. ``operands``
    counts all SELECTs. ``doubt`` says why the answer may depend on more than the tables, and is empty if it does not.
    """

    tables: Mapping[str, int]
    groups: int
    operands: int
    doubt: str


@dataclass(slots=True)
class _Frame:
    """Be an open parenthesis: the function it belongs to, and whether it is in, or next in, a list of tables."""

    function: str = ""
    is_from: bool = False
    is_next: bool = False


@dataclass(slots=True)
class _Scan:
    tables: Counter[str] = field(default_factory=Counter)
    selects: int = 0
    combinators: int = 0
    doubts: list[str] = field(default_factory=list)
    frames: list[_Frame] = field(default_factory=lambda: [_Frame()])


_FROM_INSIDE = frozenset({"EXTRACT", "TRIM", "SUBSTRING", "OVERLAY", "POSITION"})
# Words that no database takes for an alias: one that did would hide the tables after it.
_ENDS_FROM = frozenset("WHERE GROUP ORDER HAVING LIMIT OFFSET FETCH WINDOW RETURNING".split())
_COMBINATORS = frozenset({"UNION", "INTERSECT", "EXCEPT"})
_BEFORE_NAME = frozenset({"ONLY", "LATERAL", "OJ"})
_ROWS_OF_THEIR_OWN = frozenset({"SELECT", "VALUES", "TABLE", "WITH"})
_LOCKS = frozenset({"UPDATE", "SHARE", "NO", "KEY"})
# PostgreSQL reads the text "now" as the time, when it is cast to one of these.
_CLOCK_TYPES = frozenset({"DATE", "TIME", "TIMETZ", "TIMESTAMP", "TIMESTAMPTZ"})
_SYSTEM_SCHEMAS = frozenset({"pg_catalog", "information_schema", "mysql", "performance_schema", "sys"})
_END = Token("end", "", "")


def reading_of(sql: str) -> Reading:
    """Return what ``sql`` reads; where databases differ in that, the tables of all ways and a doubt."""
    found = [_conclude(read_tokens(tokens)) for tokens in readings(sql)]
    if not found:
        return Reading({}, 0, 0, "a quote or a comment has no end")
    if all(other == found[0] for other in found):
        return found[0]
    tables: Counter[str] = Counter()
    for reading in found:
        tables |= Counter(reading.tables)
    return Reading(dict(tables), 0, 0, "databases differ in how they read its text")


def _conclude(scan: _Scan) -> Reading:
    doubt = scan.doubts[0] if scan.doubts else ""
    return Reading(dict(scan.tables), scan.selects - scan.combinators, scan.selects, doubt)


def read_tokens(tokens: list[Token]) -> _Scan:
    """Return what the tokens of one or several statements name."""
    scan = _Scan()
    first = next((token.upper for token in tokens if token.text != "("), "")
    if first not in {"SELECT", "WITH"}:
        scan.doubts.append("it is no SELECT")
    index = 0
    while index < len(tokens):
        frame = scan.frames[-1]
        if frame.is_next and tokens[index].kind in {WORD, NAME} and not _is_syntax(tokens[index], frame):
            index = _take_table(scan, tokens, index)
        else:
            _take(scan, tokens, index)
            index += 1
    return scan


def name_at(tokens: list[Token], index: int) -> tuple[str, str, int]:
    """Return schema and name of what is named at ``index``, as written but for quotes, and the index after it."""
    parts = [tokens[index].text]
    index += 1
    while index + 1 < len(tokens) and tokens[index].text == "." and tokens[index + 1].kind in {WORD, NAME}:
        parts.append(tokens[index + 1].text)
        index += 2
    return (parts[-2] if len(parts) > 1 else ""), parts[-1], index


def _at(tokens: list[Token], index: int) -> Token:
    return tokens[index] if 0 <= index < len(tokens) else _END


def _is_syntax(token: Token, frame: _Frame) -> bool:
    """Return whether a word where a table could be is none."""
    if token.upper in _ROWS_OF_THEIR_OWN:
        frame.is_next = False
        frame.is_from = False
        return True
    return token.upper in _BEFORE_NAME


def _take_table(scan: _Scan, tokens: list[Token], index: int) -> int:
    schema, name, index = name_at(tokens, index)
    scan.frames[-1].is_next = False
    if _at(tokens, index).text == "(" and tokens[index - 1].kind == WORD:
        return index  # a function: its parenthesis says which
    scan.tables[name] += 1
    if schema.lower() in _SYSTEM_SCHEMAS or name.lower().startswith(("pg_", "sqlite_")):
        scan.doubts.append(f"it reads {name}, a table of the database's own")
    return index


def _take(scan: _Scan, tokens: list[Token], index: int) -> None:
    token = tokens[index]
    if token.kind == WORD:
        _take_word(scan, tokens, index)
    elif token.kind == VARIABLE:
        scan.doubts.append("it reads a variable of the session")
    elif token.kind == SYMBOL:
        _take_symbol(scan, tokens, index)


def _take_symbol(scan: _Scan, tokens: list[Token], index: int) -> None:
    symbol = tokens[index].text
    if symbol == "(":
        _open(scan, tokens, index)
    elif symbol == ")":
        del scan.frames[max(1, len(scan.frames) - 1) :]  # the text's own frame stays, whatever is closed
    elif symbol == ",":
        scan.frames[-1].is_next = scan.frames[-1].is_from
    elif symbol == "::":
        _check_cast(scan, tokens, index)
    elif symbol == ";" and index + 1 < len(tokens):
        scan.doubts.append("it is several statements")


def _open(scan: _Scan, tokens: list[Token], index: int) -> None:
    frame = scan.frames[-1]
    if frame.is_next:
        frame.is_next = False
        scan.frames.append(_Frame(is_from=True, is_next=True))
        return
    before, function = _at(tokens, index - 1), ""
    if before.kind in {WORD, NAME} and not _is_type_or_alias(tokens, index - 1):
        function = before.text.upper()
        is_known = function in NOT_FUNCTIONS or is_pure(function) or _is_of_column(function, tokens, index)
        if before.kind == NAME or not is_known:
            scan.doubts.append(f"it calls {before.text}(), which may depend on more than its arguments")
    scan.frames.append(_Frame(function))


def _is_type_or_alias(tokens: list[Token], index: int) -> bool:
    before = _at(tokens, index - 1)
    return before.upper == "AS" or before.text == "::"


def _is_of_column(function: str, tokens: list[Token], index: int) -> bool:
    """Return whether DATE or TIME has a column: SQLite's read the clock for some texts."""
    return function in {"DATE", "TIME"} and _at(tokens, index + 1).kind == NAME


def _take_word(scan: _Scan, tokens: list[Token], index: int) -> None:
    word, frame = tokens[index].upper, scan.frames[-1]
    if word == "FROM":
        if frame.function not in _FROM_INSIDE and not _is_distinct_from(tokens, index):
            frame.is_from = frame.is_next = True
    elif word == "JOIN" or word == "STRAIGHT_JOIN":
        frame.is_from = frame.is_next = True
    elif word in _ROWS_OF_THEIR_OWN and word != "WITH":  # which also follows a table: WITH ORDINALITY
        frame.is_from, frame.is_next = False, word == "TABLE"
        scan.selects += 1
    elif word in _ENDS_FROM or word in _COMBINATORS:
        frame.is_from = frame.is_next = False
        scan.combinators += word in _COMBINATORS
    elif word == "IN" and _at(tokens, index + 1).kind in {WORD, NAME}:
        frame.is_next = True  # SQLite: x IN table
    else:
        _check_word(scan, tokens, index)


def _check_word(scan: _Scan, tokens: list[Token], index: int) -> None:
    word = tokens[index].upper
    if word in VOLATILE_WORDS:
        scan.doubts.append(f"it reads {word}")
    elif word in {"INTO", "INSERT", "UPDATE", "DELETE", "MERGE"}:
        scan.doubts.append("it writes or locks")
    elif word == "MINUS":
        scan.doubts.append("MINUS may be an alias or a set operator")
    elif word == "FOR" and _at(tokens, index + 1).upper in _LOCKS:
        scan.doubts.append("it locks rows")
    elif word == "AS":
        _check_cast(scan, tokens, index)


def _check_cast(scan: _Scan, tokens: list[Token], index: int) -> None:
    if _at(tokens, index + 1).upper in _CLOCK_TYPES:
        value = next((token for token in reversed(tokens[:index]) if token.text != ")"), _END)
        if value.kind in {PLACEHOLDER, STRING}:
            scan.doubts.append("it casts a text to a time, which may be the clock's")


def _is_distinct_from(tokens: list[Token], index: int) -> bool:
    return _at(tokens, index - 1).upper == "DISTINCT" and _at(tokens, index - 2).upper in {"IS", "NOT"}
