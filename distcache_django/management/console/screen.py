"""What the sub-commands share: exit codes, and text laid out for a terminal or as JSON."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TextIO

from django.core.management.color import Style

__all__ = [
    "CRITICAL",
    "DEGRADED",
    "OK",
    "USAGE",
    "Cell",
    "Outcome",
    "Screen",
    "SubCommand",
    "bar",
    "count_text",
    "duration_text",
    "size_text",
]

OK, DEGRADED, CRITICAL, USAGE = 0, 1, 2, 64
_EIGHTHS = " ▏▎▍▌▋▊▉█"


class Outcome(NamedTuple):
    """Be how a sub-command ended: its exit code and why."""

    code: int
    reason: str = ""


class Cell(NamedTuple):
    """Be a table's cell that is coloured by the role of this name (``SUCCESS``, ``WARNING``, ``ERROR``)."""

    text: str
    role: str


class SubCommand(Protocol):
    """Type the module of a sub-command."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare its own arguments."""

    def run(self, options: Mapping[str, Any], screen: Screen) -> Outcome:
        """Do it and write the result."""


class Screen:
    """Write lines, tables and JSON to a stream; signs that its encoding lacks become question marks."""

    def __init__(self, stream: TextIO, style: Style) -> None:
        self._stream = stream
        self._style = style

    def paint(self, text: str, role: str) -> str:
        """Return ``text`` in the colour of a role, where colours are wanted."""
        painted: str = getattr(self._style, role)(text)
        return painted

    def line(self, text: str = "") -> None:
        """Write one line."""
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._stream.write(f"{text.rstrip()}\n".encode(encoding, "replace").decode(encoding))

    def json(self, value: Mapping[str, Any]) -> None:
        """Write a value as JSON, in ASCII."""
        self._stream.write(json.dumps(value, indent=1) + "\n")

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str | Cell]]) -> None:
        """Write rows under headers; a header that starts with ``>`` has its column aligned to the right."""
        names = [header.lstrip(">") for header in headers]
        widths = [
            max(len(name), *(len(_text(row[i])) for row in rows)) if rows else len(name) for i, name in enumerate(names)
        ]
        for row in [names, *rows]:
            cells = []
            for header, width, cell in zip(headers, widths, row, strict=True):
                text = _text(cell).rjust(width) if header.startswith(">") else _text(cell).ljust(width)
                cells.append(self.paint(text, cell.role) if isinstance(cell, Cell) else text)
            self.line("  ".join(cells))


def _text(cell: str | Cell) -> str:
    return cell.text if isinstance(cell, Cell) else cell


def bar(share: float, width: int = 8) -> str:
    """Return a bar that fills ``share`` (0 to 1) of ``width`` columns, in eighths of a column."""
    whole, eighths = divmod(math.floor(min(max(share, 0.0), 1.0) * width * 8 + 0.5), 8)
    return (_EIGHTHS[8] * whole + (_EIGHTHS[eighths] if eighths else "")).ljust(width)


def count_text(number: int | None, noun: str = "") -> str:
    """Return a count with its thousands apart, and with the noun in its plural if there is one; or ``?``."""
    text = "?" if number is None else f"{number:,}".replace(",", " ")
    return f"{text} {noun}{'' if number == 1 else 's'}" if noun else text


def size_text(number: int | None) -> str:
    """Return a number of bytes with the largest fitting binary unit, or ``?``."""
    if number is None:
        return "?"
    value, unit = float(number), ""
    for larger in "KMGT":
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f}{unit}" if unit and value < 10 else f"{value:.0f}{unit or ' B'}"


def duration_text(seconds: float | None) -> str:
    """Return how long something has been, in two units, or ``-``."""
    if seconds is None:
        return "-"
    whole = int(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    return f"{days}d{hours:02}h" if days else f"{hours}:{minutes:02}:{whole % 60:02}"
