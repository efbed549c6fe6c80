"""Draw a ring as one SVG picture: the owners of all slots as a band, and each node's share beside it.

Presentation attributes only, no style sheet, script or font: it may be shown under a strict content security
policy, and the same ring gives the same bytes. Colours are Okabe and Ito's, which most colour-blind readers can tell
apart; with more than eight nodes they repeat, and the titles of the segments tell which is which.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from itertools import groupby
from typing import Any
from xml.sax.saxutils import escape

from distcache_django.core.ring import HashRing
from distcache_django.core.slots import SLOT_COUNT

__all__ = ["draw"]

_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
_CENTRE, _INNER, _OUTER = 220, 140, 200
_LEGEND, _LINE, _BAR = 460, 30, 220
_OPENING = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 700 {height}" role="img" '
    'font-family="sans-serif" font-size="13">'
)


def draw(ring: HashRing, described: Mapping[str, Any]) -> str:
    """Return the picture of a ring and of its description as ``distcache ring --json`` gives it."""
    nodes = described["nodes"]
    colours = {node["name"]: _COLOURS[i % len(_COLOURS)] for i, node in enumerate(nodes)}
    height = max(2 * _CENTRE, 60 + _LINE * len(nodes))
    shares = ", ".join(f"{escape(node['name'])} {node['owns']:.1%}" for node in nodes)
    parts = [
        _OPENING.format(height=height),
        f"<title>Hash ring of cache {escape(described['alias'])}</title>",
        f"<desc>Share of the slots: {shares}</desc>",
        f'<rect width="700" height="{height}" fill="#ffffff"/>',
        *_band(ring, colours),
        _text(_CENTRE, _CENTRE - 4, f"{SLOT_COUNT} slots", anchor="middle"),
        _text(_CENTRE, _CENTRE + 16, described["digest"][:12], anchor="middle"),
    ]
    most = max(node["owns"] for node in nodes)
    for index, node in enumerate(nodes):
        top = 40 + _LINE * index
        width = _BAR * node["owns"] / most
        parts += [
            _text(_LEGEND, top, node["name"]),
            _text(_LEGEND + _BAR, top, f"{node['owns']:.1%}", anchor="end"),
            f'<rect x="{_LEGEND}" y="{top + 5}" width="{width:.1f}" height="8" fill="{colours[node["name"]]}"/>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _band(ring: HashRing, colours: Mapping[str, str]) -> list[str]:
    """Return one path for each node, of all its runs of neighbouring slots."""
    runs = defaultdict(list)
    start = 0
    for name, slots in groupby(ring.owners):
        end = start + len(list(slots))
        runs[name].append(_arc(start / SLOT_COUNT, end / SLOT_COUNT))
        start = end
    return [
        f'<path fill="{colours[name]}" d="{"".join(runs[name])}"><title>{escape(name)}</title></path>'
        for name in sorted(runs)
    ]


def _arc(start: float, end: float) -> str:
    if end - start == 1:
        # An arc that ends where it starts is none: a whole ring is two halves.
        return _arc(0, 0.5) + _arc(0.5, 1)
    large = int(end - start > 0.5)
    first, second = _point(start, _OUTER), _point(end, _OUTER)
    third, fourth = _point(end, _INNER), _point(start, _INNER)
    return f"M{first}A{_OUTER} {_OUTER} 0 {large} 1 {second}L{third}A{_INNER} {_INNER} 0 {large} 0 {fourth}Z"


def _point(turn: float, radius: float) -> str:
    angle = 2 * math.pi * turn
    return f"{_CENTRE + radius * math.sin(angle):.2f} {_CENTRE - radius * math.cos(angle):.2f}"


def _text(x: int, y: int, text: str, *, anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="#111111">{escape(text)}</text>'
