r"""Cut SQL text into tokens, in each way that a database could.

Databases disagree about a few characters: whether a backslash escapes a quote, whether ``#`` or ``--`` without a
space starts a comment, whether comments nest, what ``$$`` and ``[`` mean. A text in which none of them occurs has one
reading; another has several, and who asks what a statement reads or writes takes them all. A reading in which a quote
or a comment is never closed is not what the database read, which would have refused it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import product
from typing import NamedTuple

__all__ = ["NAME", "PLACEHOLDER", "STRING", "SYMBOL", "VARIABLE", "WORD", "Token", "readings"]

WORD, NAME, STRING, PLACEHOLDER, VARIABLE, SYMBOL = "word", "name", "string", "placeholder", "variable", "symbol"


class Token(NamedTuple):
    """Be a piece of SQL: ``upper`` is what to compare keywords with, empty unless it is a bare word."""

    kind: str
    text: str
    upper: str


# What a text must hold for a question of dialect to matter: backslash escapes, "#" comments, "--" that needs a
# space, comments that nest, comments that are code in MySQL, dollar quotes, names in brackets.
_QUESTIONS = (
    re.compile(r"\\"),
    re.compile(r"#"),
    re.compile(r"--[^\s]"),
    re.compile(r"/\*.*/\*", re.DOTALL),
    re.compile(r"/\*!"),
    re.compile(r"\$"),
    re.compile(r"\["),
)
_OPEN = frozenset("'\"`")


def readings(sql: str) -> list[list[Token]]:
    """Return the tokens of ``sql`` in each way that it can be read; none if no way closes all its quotes."""
    choices = product(*((False, True) if question.search(sql) else (False,) for question in _QUESTIONS))
    return [tokens for choice in choices if (tokens := _tokens(sql, _pattern(*choice))) is not None]


def _tokens(sql: str, pattern: re.Pattern[str]) -> list[Token] | None:
    tokens = []
    for match in pattern.finditer(sql):
        kind, text = match.lastgroup, match[0]
        if kind == WORD:
            tokens.append(Token(WORD, text, text.upper()))
        elif kind == NAME:
            tokens.append(Token(NAME, text[1:-1].replace(text[0] * 2, text[0]), ""))
        elif kind == "open":
            return None
        elif kind is not None:
            tokens.append(Token(kind, text, ""))
    return tokens


@lru_cache(maxsize=128)
def _pattern(*dialect: bool) -> re.Pattern[str]:
    backslash, hash_comment, spaced_dash, nested, code_comment, dollar, bracket = dialect
    escape = r"|\\." if backslash else ""
    plain = r"[^{0}\\]" if backslash else r"[^{0}]"
    skipped = [r"\s+", r"--(?=\s|\Z)[^\n]*" if spaced_dash else r"--[^\n]*"]
    if hash_comment:
        skipped.append(r"\#[^\n]*")
    if code_comment:
        skipped.append(r"/\*!\d*|\*/")
    skipped.append(_nested_comment() if nested else r"/\*.*?\*/")
    dollars = r"|\$(?P<tag>[^\W\d]\w*)?\$.*?\$(?(tag)(?P=tag))\$" if dollar else ""
    brackets = r"|\[[^\]]*\]" if bracket else ""
    parts = [
        "|".join(skipped),
        rf"(?P<{STRING}>'(?:{plain.format(chr(39))}|''{escape})*'{dollars})",
        rf'(?P<{NAME}>"(?:{plain.format(chr(34))}|""{escape})*"|`(?:[^`]|``)*`{brackets})',
        rf"(?P<{PLACEHOLDER}>%s|%\(\w*\)s|\?\d*|(?<!:):\w+|\$\d+)",
        rf"(?P<{WORD}>\w[\w$]*)",
        rf"(?P<{VARIABLE}>@@?[A-Za-z_`'\"][\w.$]*)",
        r"(?P<open>/\*|['\"`])",
        rf"(?P<{SYMBOL}>::|%%|.)",
    ]
    return re.compile("|".join(parts), re.DOTALL)


def _nested_comment() -> str:
    # Python's patterns do not recurse: five levels are more than anybody writes, and a sixth is an open comment.
    plain = r"(?:(?!/\*|\*/).)"
    pattern = rf"/\*{plain}*\*/"
    for _ in range(4):
        pattern = rf"/\*(?>{plain}|{pattern})*\*/"
    return pattern
