"""`benchmark ops`: start nodes, have a pinned worker run the scenarios for each placement, and judge the
figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from distcache_django.benchmark import contenders, direct, goals, machine, scenarios
from distcache_django.benchmark.channel import run_worker
from distcache_django.benchmark.figures import Summary
from distcache_django.testing.servers import LocalNodes


@dataclass(frozen=True, slots=True)
class Options:
    """What `benchmark ops` was asked for."""

    peers: bool
    nodes: int
    rounds: int
    seconds: float
    seed: int
    pins: tuple[machine.Pin, ...]
    scenarios: tuple[str, ...]


def run(options: Options, progress: TextIO) -> dict[str, Any]:
    """Measure and return the body of the report; starts and ends its own nodes, touches no others."""
    chosen = contenders.select(options.peers)
    found = {each.name: contenders.probe(each) for each in chosen}
    usable = [each for each in chosen if found[each.name].is_usable]
    body: dict[str, Any] = {
        "contenders": [_describe(each, found[each.name]) for each in chosen],
        "nodes": options.nodes,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "placements": [],
    }
    cores = machine.available_cores()
    with LocalNodes(options.nodes) as nodes:
        body["server"] = direct.server_version(next(iter(nodes.urls.values())))
        for pin in options.pins:
            place = machine.placement(pin, cores)
            for node in nodes.values():
                machine.pin_process(node.pid, place.servers or cores)
                node.flush()
            body["placements"].append(_measure(place, nodes.urls, usable, options, progress))
    for place_body in body["placements"]:
        for each in body["contenders"]:
            each["status"] = place_body["unusable"].get(each["name"], each["status"])
    return body


def _describe(contender: contenders.Contender, found: contenders.Availability) -> dict[str, Any]:
    return {
        "name": contender.name,
        "nodes": contender.nodes,
        "settings": contender.note,
        "versions": dict(found.versions),
        "status": found.reason or "measured",
    }


def _measure(
    place: machine.Placement,
    urls: Mapping[str, str],
    usable: Sequence[contenders.Contender],
    options: Options,
    progress: TextIO,
) -> dict[str, Any]:
    wanted = [name for name in options.scenarios if name != scenarios.FANOUT or place.pin != "same"]
    job = {
        "kind": "ops",
        "urls": dict(urls),
        "placement": place.as_dict(),
        "contenders": [each.alias for each in usable],
        "scenarios": wanted,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "seed": options.seed,
    }
    done = run_worker(job, progress)
    results = {
        scenario: {name: Summary(**values) for name, values in summaries.items()}
        for scenario, summaries in done["results"].items()
    }
    return place.as_dict() | done | {"comparisons": goals.compare(results, place.pin)}
