"""Find out whether a statement of a site's own writes one row that its parameters name.

``UPDATE product SET stock = stock - 1 WHERE id = %s`` is what most of them are. Only this form is known, and ``DELETE
FROM product WHERE id = %s``: one table, one condition, no doubt how the text is read. Everything else writes rows that
are not known.
"""

from __future__ import annotations

from typing import NamedTuple

from distcache_django.orm.lexer import NAME, PLACEHOLDER, WORD, Token, readings
from distcache_django.orm.sqlreads import name_at
from distcache_django.orm.sqlwrites import statements

__all__ = ["OneRow", "one_row"]

# With one of these the condition may be about another table, or not be all that chooses rows.
_MORE = frozenset("SELECT FROM JOIN USING WITH OR XOR LIMIT ORDER UNION INTO MERGE CURRENT UESCAPE".split())
# What SQLite calls an integer key besides its name.
_ALIASES = ("rowid", "oid", "_rowid_")


class OneRow(NamedTuple):
    """Be a statement that writes the rows of one table in which a column has the value of a parameter.

    ``parameter`` is the parameter's position, or its name.
    """

    table: str
    column: str
    parameter: int | str


def one_row(sql: str) -> OneRow | None:
    """Return which row a statement is confined to, ``None`` where that is not certain.

    That the column is the primary key is for the caller to know; the statement does not set it. Names are returned
    as written, without schema and quotes.
    """
    ways = readings(sql)
    found = statements(ways[0]) if len(ways) == 1 else []
    if len(found) != 1:
        return None
    tokens = found[0]
    placeholders = sum(token.kind == PLACEHOLDER and token.text[:1] == "%" for token in tokens)
    if sql.replace("%%", "").count("%") != placeholders:
        return None  # one of the driver's own, or one in a string or a comment: drivers take a parameter for it too
    words = [token.upper for token in tokens]
    start = 1 if words[0] == "UPDATE" else 2 if words[:2] == ["DELETE", "FROM"] else 0
    if not start or words.count("WHERE") != 1 or _MORE.intersection(words[start:]):
        return None
    where = words.index("WHERE")
    table, after = _name(tokens, start)
    condition = _condition(tokens, where + 1, table)
    if condition is None or words[after] != ("SET" if start == 1 else "WHERE"):
        return None
    column, placeholder = condition
    if not {column.lower(), *_ALIASES}.isdisjoint(token.text.lower() for token in tokens[after:where]):
        return None  # it may be set
    return OneRow(table, column, _parameter(tokens, placeholder))


def _name(tokens: list[Token], index: int) -> tuple[str, int]:
    if index >= len(tokens) or tokens[index].kind not in {WORD, NAME}:
        return "", 0
    _, name, after = name_at(tokens, index)
    return name, after


def _condition(tokens: list[Token], index: int, table: str) -> tuple[str, int] | None:
    """Return the column and the placeholder's index, if nothing but RETURNING follows their comparison."""
    column, after = _name(tokens, index)
    qualifier = tokens[index].text if after - index > 1 else table
    rest = tokens[after : after + 3]
    if not column or qualifier != table or after - index > 3 or len(rest) < 2:
        return None
    is_last = len(rest) == 2 or rest[2].upper == "RETURNING"
    if not is_last or rest[0].text != "=" or rest[1].kind != PLACEHOLDER or rest[1].text[:1] != "%":
        return None
    return column, after + 1


def _parameter(tokens: list[Token], placeholder: int) -> int | str:
    text = tokens[placeholder].text
    if text != "%s":
        return text[2:-2]
    return sum(token.text == "%s" and token.kind == PLACEHOLDER for token in tokens[:placeholder])
