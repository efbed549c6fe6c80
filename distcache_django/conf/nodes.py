"""Read ``LOCATION``: which nodes there are, by name."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from distcache_django.conf.problems import Problems, nearest

__all__ = ["NodeSettings", "parse_location"]

_SCHEMES = ("redis", "rediss", "unix", "valkey", "valkeys")
_NODE_OPTIONS = ("url", "weight", "zone")
_LATER_OPTIONS = ("replicas", "sentinel", "service", "db")
_NAME = re.compile(r"[\w.:/@\[\]-]{1,128}")


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Be one node as the settings name it. The URL, which may hold a password, stays out of the repr."""

    name: str
    url: str = field(repr=False)
    weight: float = 1.0
    zone: str | None = None


def parse_location(location: object, problems: Problems) -> tuple[NodeSettings, ...]:
    """Return the nodes of ``LOCATION``; what is wrong with it goes to ``problems``."""
    nodes = []
    for name, spec in _named(location, problems):
        node = _parse_node(name, spec, problems)
        if node is not None:
            nodes.append(node)
    names = [node.name for node in nodes]
    for name in sorted({name for name in names if names.count(name) > 1}):
        problems.add("E002", f"LOCATION names node {name!r} more than once.", "Every node needs a name of its own.")
    if not nodes and not problems:
        problems.add("E001", "LOCATION names no node.", "Give a URL, a list of URLs or a dict of name to URL.")
    return tuple(nodes)


def _named(location: object, problems: Problems) -> Iterable[tuple[str | None, object]]:
    if isinstance(location, Mapping):
        return list(location.items())
    if isinstance(location, str):
        return [(None, url) for url in re.split(r"[;,\s]+", location) if url]
    if isinstance(location, (list, tuple)):
        return [(None, url) for url in location]
    problems.add("E001", f"LOCATION is of type {type(location).__name__}.", "Give a URL, a list of URLs or a dict.")
    return []


def _parse_node(name: object, spec: object, problems: Problems) -> NodeSettings | None:
    options: Mapping[Any, Any] = spec if isinstance(spec, Mapping) else {"url": spec}
    shown = f"node {name!r}" if name is not None else "a node"
    if not _check_options(shown, options, problems):
        return None
    url = options.get("url")
    if not isinstance(url, str) or not _is_url(url):
        problems.add(
            "E003",
            f"LOCATION: {shown} has no usable URL.",
            f"A URL starts with {', '.join(s + '://' for s in _SCHEMES)}, and names a host (unix:// a path).",
        )
        return None
    if name is None:
        name = _name_from(url)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        problems.add("E004", f"LOCATION: {name!r} cannot be a node's name.", "Use letters, digits and . : / @ _ -")
        return None
    return NodeSettings(name, _plain_scheme(url), float(options.get("weight", 1.0)), options.get("zone"))


def _check_options(shown: str, options: Mapping[Any, Any], problems: Problems) -> bool:
    before = len(problems)
    for option in options:
        if option in _LATER_OPTIONS:
            problems.add("E004", f"LOCATION: {shown}: {option!r} is not available in this version.")
        elif option not in _NODE_OPTIONS:
            problems.add(
                "E004",
                f"LOCATION: {shown} has the unknown option {option!r}.",
                nearest(option, _NODE_OPTIONS),
            )
    weight, zone = options.get("weight", 1.0), options.get("zone")
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight < math.inf:
        problems.add("E004", f"LOCATION: {shown}: weight {weight!r} is not a number above 0.")
    if zone is not None and (not isinstance(zone, str) or not zone):
        problems.add("E004", f"LOCATION: {shown}: zone {zone!r} is not a name.")
    return len(problems) == before


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it checks it
    except ValueError:
        return False
    return parts.scheme in _SCHEMES and bool(parts.path if parts.scheme == "unix" else parts.hostname)


def _plain_scheme(url: str) -> str:
    return re.sub(r"^valkey(s?)://", r"redis\1://", url)


def _name_from(url: str) -> str:
    """Name a node after where it is, never after its credentials."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    database = parts.path.strip("/") or "0"
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{host}:{parts.port or 6379}/{database}"
