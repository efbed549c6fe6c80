"""Draw a report as one SVG picture: bars of medians, a panel for each scenario and placement.

Plain presentation attributes, no style sheet, no script and no font of its own, so that it may be shown
under a strict content security policy; the same report gives the same bytes. Colours are Okabe and Ito's,
which most colour-blind readers can tell apart; ours is also marked by its outline.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from distcache_django.benchmark.contenders import C_CLIENT
from distcache_django.benchmark.goals import SEQUENTIAL
from distcache_django.benchmark.layout import number
from distcache_django.benchmark.scenarios import SCENARIOS

_OURS, _FLOOR, _RIVAL = "#0072B2", "#999999", "#E69F00"
_WIDTH, _LABEL, _BAR, _VALUE = 760, 190, 430, 130
_LINE, _TITLE, _GAP = 22, 30, 18

Bar = tuple[str, float, str]
Panel = tuple[str, Sequence[Bar]]


def render(report: dict[str, Any]) -> str:
    """Return the picture; a report without bars gives a picture that says so."""
    found = _panels(report)
    host = report["machine"]
    versions = [host["cpu"], host["kernel"], host["python"], f"Django {host['django']}", report.get("server")]
    caption = ", ".join(version for version in versions if version)
    height = 60 + sum(_TITLE + _LINE * len(bars) + _GAP for _, bars in found)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}"',
        f'  viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="12" role="img">',
        f"<title>distcache benchmark {escape(report['suite'])}: medians, shorter is better</title>",
        f"<desc>{escape(caption)}; seed {report['seed']}</desc>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(10, 20, f"distcache benchmark {report['suite']}: medians, shorter is better", size=14),
        _text(10, 38, caption, size=10, fill="#555555"),
    ]
    top = 60
    if not found:
        parts.append(_text(10, 55, "nothing was measured"))
    for title, bars in found:
        parts += _panel(top, title, bars)
        top += _TITLE + _LINE * len(bars) + _GAP
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panels(report: dict[str, Any]) -> list[Panel]:
    found: list[Panel] = []
    for place in report.get("placements", ()):
        for scenario in SCENARIOS:
            summaries = place["results"].get(scenario.name)
            if summaries:
                bars = [
                    (name, values["p50_us"], f"{number(values['p50_us'])} µs") for name, values in summaries.items()
                ]
                found.append((f"{scenario.title} (pin {place['pin']})", sorted(bars, key=lambda bar: (bar[1], bar[0]))))
    return found


def _panel(top: int, title: str, bars: Sequence[Bar]) -> list[str]:
    longest = max(value for _, value, _ in bars) or 1.0
    parts = [f"<g><title>{escape(title)}</title>", _text(10, top + 14, title, size=13)]
    for index, (name, value, label) in enumerate(bars):
        y = top + _TITLE + index * _LINE
        length = max(1.0, _BAR * value / longest)
        outline = ' stroke="#000000"' if _colour(name) == _OURS else ""
        parts.append(_text(_LABEL - 8, y + 13, name, anchor="end"))
        parts.append(
            f'<rect x="{_LABEL}" y="{y}" width="{length:.1f}" height="{_LINE - 6}" fill="{_colour(name)}"{outline}/>'
        )
        parts.append(_text(round(_LABEL + length + 6), y + 13, label))
    return [*parts, "</g>"]


def _colour(name: str) -> str:
    if name in (C_CLIENT, SEQUENTIAL):
        return _FLOOR
    return _OURS if name.startswith("distcache") else _RIVAL


def _text(x: float, y: float, content: str, *, size: int = 12, anchor: str = "start", fill: str = "#000000") -> str:
    attributes = f'x="{x}" y="{y}" font-size="{size}" fill="{fill}" text-anchor={quoteattr(anchor)}'
    return f"<text {attributes}>{escape(content)}</text>"
