"""Lay figures out as aligned text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def columns(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: frozenset[int] = frozenset({0})) -> str:
    """Return an aligned table; columns are right-aligned unless they are in ``left``."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    lines.insert(1, ["-" * width for width in widths])
    text = []
    for line in lines:
        cells = [
            cell.ljust(width) if position in left else cell.rjust(width)
            for position, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def number(value: float | None, digits: int = 3) -> str:
    """Return a figure with ``digits`` significant digits, thousands separated; a dash where there is none."""
    if value is None:
        return "-"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:,.{digits}g}" if value else "0"


def span(low: float | None, high: float | None) -> str:
    """Return a range of figures, or nothing where there is none."""
    return "" if low is None else f"{number(low)}-{number(high)}"


def goal(row: dict[str, Any]) -> str:
    """Return the bound of a comparison in words."""
    if row["at_least"] is not None:
        return f">= {row['at_least']:,g}"
    return "" if row["at_most"] is None else f"<= {row['at_most']:,g}"


def comparisons(rows: Sequence[dict[str, Any]]) -> str:
    """Return ratios and figures beside their goals."""
    return columns(
        ["scenario", "ours", "against", "measured", "rounds", "C itself", "beyond C", "goal", "verdict"],
        [
            [
                row["scenario"],
                row["ours"],
                row["rival"] or row["figure"],
                number(row["value"]),
                span(row["low"], row["high"]),
                "" if row["ceiling"] is None else number(row["ceiling"]),
                "" if row["beyond_floor"] is None else number(row["beyond_floor"]),
                goal(row),
                row["verdict"],
            ]
            for row in rows
        ],
        left=frozenset({0, 1, 2, 8}),
    )
