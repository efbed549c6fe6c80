"""``distcache locate``: which node a key is on, and what is there. The value is never read."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandError

from distcache_django.backends.face import Location
from distcache_django.cluster.inspection import KeyReport, brief_reason, inspect_key
from distcache_django.exceptions import TransportError
from distcache_django.management.console.screen import DEGRADED, OK, USAGE, Outcome, Screen, size_text
from distcache_django.management.console.target import Target, open_target

__all__ = ["HELP", "add_arguments", "run"]

HELP = "Show which node a key is on, its time to live and its size."
SCHEMA = "distcache-locate/1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("key", metavar="KEY", help="the key, as the site's code writes it")
    parser.add_argument("--key-version", type=int, metavar="N", help="its version (default: the alias's VERSION)")


def run(options: Mapping[str, Any], screen: Screen) -> Outcome:
    """Show the key's place; degraded where its node does not answer."""
    target = open_target(options["using"])
    try:
        location = target.cache.locate(options["key"], options["key_version"])
    except ValueError as error:
        raise CommandError(str(error), returncode=USAGE) from error
    report, reason = _ask(target, location)
    found = _described(target, location, report, reason)
    if options["json"]:
        screen.json(found)
    else:
        _show(found, target, screen)
    return Outcome(DEGRADED, f"node {location.owners[0]}: {reason}") if reason else Outcome(OK)


def _ask(target: Target, location: Location) -> tuple[KeyReport | None, str]:
    try:
        return inspect_key(target.cluster.endpoints[location.owners[0]], location.key), ""
    except TransportError as error:
        return None, brief_reason(error)


def _described(target: Target, location: Location, report: KeyReport | None, reason: str) -> dict[str, Any]:
    ranges = target.topology.ranges
    next_nodes = location.preference_list[1:2] if target.settings.redirect else ()
    return {
        "schema": SCHEMA,
        "alias": target.alias.name,
        "key": location.key,
        "slot": location.slot,
        "owner": location.owners[0],
        "address": target.cluster.endpoints[location.owners[0]].address,
        "placed_by": "range" if ranges and ranges.node_of(location.key) else "slot",
        "preference_list": list(location.preference_list),
        "redirected_to": next_nodes[0] if reason and next_nodes else None,
        "answers": report is not None,
        "error": reason,
        "present": report.present if report else None,
        "type": report.type if report else None,
        "ttl_ms": report.ttl_ms if report else None,
        "size_bytes": report.size_bytes if report else None,
    }


def _show(found: Mapping[str, Any], target: Target, screen: Screen) -> None:
    by_range = " (by its range, not by its slot)" if found["placed_by"] == "range" else ""
    screen.line(f'key "{found["key"]}"   slot {found["slot"]}   node {found["owner"]}{by_range}')
    screen.line(f"would be served in this order: {', '.join(found['preference_list'])}")
    if not found["answers"]:
        text = f"! {found['owner']} ({found['address']}) does not answer: {found['error']}."
        screen.line(screen.paint(text, "ERROR"))
        screen.line(f"  Meanwhile {_meanwhile(found['redirected_to'], target)}.")
    elif found["present"]:
        ttl = "without expiry" if found["ttl_ms"] is None else f"{found['ttl_ms'] / 1000:.1f} s left"
        size = "" if found["size_bytes"] is None else f", {size_text(found['size_bytes'])}"
        screen.line(f"{screen.paint('present', 'SUCCESS')}: {found['type']}{size}, {ttl}")
    else:
        screen.line("missing")


def _meanwhile(next_node: str | None, target: Target) -> str:
    if next_node:
        return f"{next_node} serves it, for at most 10 s at a time"
    if target.settings.on_unavailable == "raise":
        return "reading and writing it raises Unavailable"
    return "reads of it are misses and writes are dropped"
