"""``distcache agent``: look after replicated nodes where no Celery worker does."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandError

from distcache_django.management.console.screen import DEGRADED, OK, USAGE, Outcome, Screen
from distcache_django.management.console.target import open_target
from distcache_django.runtime import runtime_for

__all__ = ["HELP", "add_arguments", "run"]

HELP = "Bring replicated nodes that were away, or lost their memory, up to date."
SCHEMA = "distcache-agent/1"
_STYLES = {"up": "SUCCESS", "away": "ERROR"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--once", action="store_true", help="make one pass and end")
    parser.add_argument("--interval", type=float, default=1.0, metavar="SECONDS", help="rest between passes (1)")


def run(options: Mapping[str, Any], screen: Screen) -> Outcome:
    """Repair until interrupted, or once; degraded where a node has no vote after the last pass."""
    target = open_target(options["using"])
    runtime = runtime_for(target.alias.location, target.alias.params)
    if runtime.replication is None:
        text = f"--using {target.alias.name!r}: REPLICATION_FACTOR is 1, so there are no copies to repair"
        raise CommandError(text, returncode=USAGE)
    rest = threading.Event()
    before: dict[str, str] = {}
    try:
        while True:
            states = runtime.replication.mend(runtime.cluster.run)
            if states != before or options["once"]:
                _show(states, target.alias.name, options, screen)
            before = states
            if options["once"] or rest.wait(options["interval"]):
                break
    except KeyboardInterrupt:
        pass
    lacking = [f"{node} is {state}" for node, state in before.items() if state != "up"]
    return Outcome(DEGRADED, ", ".join(lacking)) if lacking else Outcome(OK)


def _show(states: Mapping[str, str], alias: str, options: Mapping[str, Any], screen: Screen) -> None:
    if options["json"]:
        screen.json({"schema": SCHEMA, "alias": alias, "nodes": dict(states)})
        return
    screen.line(
        "   ".join(f"{node} {screen.paint(s, 'SUCCESS' if s == 'up' else 'WARNING')}" for node, s in states.items())
    )
