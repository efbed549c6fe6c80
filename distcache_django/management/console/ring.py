"""``distcache ring``: who owns how much, and what moves when nodes come or go. Asks no node."""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from distcache_django.core.ring import HashRing, modulo_movement, ring_movement
from distcache_django.core.slots import SLOT_COUNT
from distcache_django.management.console.picture import draw
from distcache_django.management.console.screen import OK, USAGE, Outcome, Screen, bar, count_text
from distcache_django.management.console.target import Target, open_target

__all__ = ["HELP", "add_arguments", "run"]

HELP = "Show which node owns how much, and what moves when nodes come or go."
SCHEMA = "distcache-ring/1"
#: Keys that a comparison counts.
_SAMPLE = 100_000


@dataclass(frozen=True, slots=True)
class _Change:
    """Be one node more, or one less."""

    before: HashRing
    after: HashRing
    text: str

    def movement(self, *, with_modulo: bool) -> dict[str, Any]:
        """Count what moves, of all slots and of a sample of keys."""
        keys = [f":1:item:{number}" for number in range(_SAMPLE)]
        found = {
            "change": self.text,
            "nodes_before": len(self.before.nodes),
            "nodes_after": len(self.after.nodes),
            "slots_moved": len(self.before.rebalance(self.after).moves),
            "keys": len(keys),
            "ring_moved": ring_movement(self.before, self.after, keys),
        }
        if with_modulo:
            found["modulo_moved"] = modulo_movement(self.before.nodes, self.after.nodes, keys)
        return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--compare", choices=["modulo"], help="count what a change moves, also by hash modulo nodes")
    change = parser.add_mutually_exclusive_group()
    change.add_argument("--add", metavar="NAME[=WEIGHT]", help="as if this node came")
    change.add_argument("--remove", metavar="NAME", help="as if this node went")
    parser.add_argument("--svg", metavar="FILE", help="also draw the ring into this file")


def run(options: Mapping[str, Any], screen: Screen) -> Outcome:
    """Show the ring; always ends well."""
    target = open_target(options["using"])
    change = _change(target.topology.ring, options)
    described = _described(target)
    if change is not None:
        described["movement"] = change.movement(with_modulo=options["compare"] == "modulo")
    if options["svg"]:
        _write(options["svg"], draw(target.topology.ring, described))
    if options["json"]:
        screen.json(described)
    else:
        _show(described, screen)
    return Outcome(OK)


def _write(name: str, text: str) -> None:
    try:
        Path(name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"--svg {name}: {error.strerror}", returncode=USAGE) from error


def _change(ring: HashRing, options: Mapping[str, Any]) -> _Change | None:
    try:
        if options["add"]:
            name, weight = _node(options["add"])
            return _Change(ring, ring.add_node(name, weight), f"with {name}")
        if options["remove"] or options["compare"]:
            name = options["remove"] or ring.nodes[-1]
            return _Change(ring, ring.remove_node(name), f"without {name}")
    except ValueError as error:
        raise CommandError(str(error), returncode=USAGE) from error
    return None


def _node(text: str) -> tuple[str, float]:
    name, found, weight = text.rpartition("=")
    if not found:
        return text, 1.0
    try:
        return name, float(weight)
    except ValueError:
        raise ValueError(f"--add {text}: {weight!r} is not a weight") from None


def _described(target: Target) -> dict[str, Any]:
    topology, ring = target.topology, target.topology.ring
    slots, total = Counter(ring.owners), math.fsum(ring.weights.values())
    nodes = [
        {
            "name": name,
            "weight": ring.weights[name],
            "zone": ring.zones.get(name),
            "slots": slots[name],
            "owns": slots[name] / SLOT_COUNT,
        }
        for name in ring.nodes
    ]
    rules = topology.ranges.rules if topology.ranges else ()
    return {
        "schema": SCHEMA,
        "alias": target.alias.name,
        "slots": SLOT_COUNT,
        "virtual_nodes": ring.virtual_nodes,
        "replication_factor": topology.replication_factor,
        "digest": topology.digest,
        "balance": max(slots[name] * total / (SLOT_COUNT * ring.weights[name]) for name in ring.nodes),
        "nodes": nodes,
        "ranges": [{"prefix": r.prefix, "first": r.lo, "last": r.hi, "node": r.node} for r in rules],
    }


def _show(described: Mapping[str, Any], screen: Screen) -> None:
    nodes = described["nodes"]
    screen.line(
        f"Ring {described['alias']}   {count_text(len(nodes), 'node')} · {described['slots']} slots · "
        f"{described['virtual_nodes']} virtual nodes per unit of weight · placement {described['digest'][:12]}"
    )
    screen.table(
        ["Node", ">Weight", "Zone", ">Slots", ">Owns", ""],
        [
            [
                node["name"],
                f"{node['weight']:g}",
                node["zone"] or "-",
                count_text(node["slots"]),
                f"{node['owns']:.1%}",
                bar(node["owns"], 24),
            ]
            for node in nodes
        ],
    )
    screen.line(f"fullest node: {described['balance']:.4f} × its share by weight")
    for rule in described["ranges"]:
        screen.line(f"range {rule['prefix']}{rule['first']} to {rule['last']}: {rule['node']}")
    if "movement" in described:
        _show_movement(described["movement"], screen)


def _show_movement(movement: Mapping[str, Any], screen: Screen) -> None:
    screen.line()
    screen.line(
        f"{movement['nodes_before']} → {movement['nodes_after']} nodes ({movement['change']}): "
        f"{count_text(movement['slots_moved'])} slots move; of {count_text(movement['keys'])} keys:"
    )
    rows = []
    for name in ("ring", "modulo"):
        if (share := movement.get(f"{name}_moved")) is not None:
            moved = count_text(round(share * movement["keys"]))
            rows.append([name, moved, f"{share:.1%}", bar(share, 40)])
    screen.table(["Placed by", ">Keys moved", ">Share", ""], rows)
