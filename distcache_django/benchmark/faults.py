"""`benchmark faults`: break one of four nodes under load and say what it cost, and how soon it was over.

This process keeps the nodes and the fault proxies and breaks them at the worker's request (`serve`); the
worker, pinned and on its own, makes the load and does the timing (`trial`). Each fault is measured with
both answers to a missing node, with one thread and with several, several times over; the table shows the
worst run where waiting is concerned and the median where rates are.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TextIO

from distcache_django.benchmark import direct, machine
from distcache_django.benchmark.channel import run_worker
from distcache_django.benchmark.goals import judge
from distcache_django.testing.proxy import FaultProxy
from distcache_django.testing.servers import LocalNode, LocalNodes

# Each fault: through which door the worker reaches the node, and how it is described.
FAULTS: dict[str, tuple[str, str]] = {
    "sigstop": ("direct", "the server is stopped (SIGSTOP): its kernel still accepts connections"),
    "refused": ("direct", "the server is killed: its port refuses connections"),
    "blackhole": ("proxied", "the network swallows every byte, links stay open"),
    "half-open": ("proxied", "the other side accepts and never reads nor answers"),
}
POLICIES = ("miss", "redirect")
THREADS = (1, 4)


@dataclass(frozen=True, slots=True)
class Options:
    """What `benchmark faults` was asked for."""

    faults: tuple[str, ...]
    runs: int
    seconds: float
    seed: int
    nodes: int
    pin: machine.Pin


class Breaker:
    """Breaks and mends the victim, the last of the nodes."""

    def __init__(self, node: LocalNode, proxy: FaultProxy, servers: tuple[int, ...]) -> None:
        self._node = node
        self._proxy = proxy
        self._servers = servers
        self._breaks: dict[str, Callable[[], None]] = {
            "sigstop": node.pause,
            "refused": node.kill,
            "blackhole": proxy.blackhole,
            "half-open": proxy.half_open,
        }

    def serve(self, action: str, arguments: dict[str, Any]) -> str:
        """Break or mend as the worker requests; returns when the fault, or the node, is there."""
        if action == "break":
            self._breaks[arguments["fault"]]()
        else:
            self.mend()
        return action

    def mend(self) -> None:
        """Undo every fault; a killed server starts anew, empty, and answers when this returns."""
        self._proxy.heal()
        self._node.resume()
        if not self._node.is_running():
            self._node.start()
            machine.pin_process(self._node.pid, self._servers)


def run(options: Options, progress: TextIO) -> dict[str, Any]:
    """Measure and return the body of the report; starts and ends its own nodes, touches no others."""
    place = machine.placement(options.pin, machine.available_cores())
    with LocalNodes(options.nodes) as nodes:
        victim = list(nodes.values())[-1]
        for node in nodes.values():
            machine.pin_process(node.pid, place.servers)
        with FaultProxy(victim.port) as proxy:
            proxied = {victim.name: proxy.url_for(victim.url)}
            job = _job(options, place, nodes.urls, proxied)
            breaker = Breaker(victim, proxy, place.servers)
            try:
                done = run_worker(job, progress, breaker.serve)
            finally:
                breaker.mend()
        server = direct.server_version(victim.url)
    return place.as_dict() | {
        "server": server,
        "nodes": options.nodes,
        "runs": options.runs,
        "seconds": options.seconds,
        "descriptions": {fault: FAULTS[fault][1] for fault in options.faults},
        "trials": done["trials"],
        "faults": summarize(done["trials"]),
    }


def _job(
    options: Options, place: machine.Placement, urls: dict[str, str], proxied: dict[str, str]
) -> dict[str, Any]:
    (victim,) = proxied
    return {
        "kind": "faults",
        "placement": place.as_dict(),
        "urls": urls,
        "proxied_urls": urls | proxied,
        "victim": victim,
        "faults": {fault: FAULTS[fault][0] for fault in options.faults},
        "policies": POLICIES,
        "threads": THREADS,
        "runs": options.runs,
        "seconds": options.seconds,
        "seed": options.seed,
    }


def summarize(trials: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row for each fault, policy and number of threads: the worst of what waits, the median of
    rates.
    """

    def group(trial: dict[str, Any]) -> tuple[str, str, int]:
        return trial["fault"], trial["policy"], trial["threads"]

    rows = []
    for (fault, policy, threads), members in groupby(trials, key=group):
        runs = list(members)
        row: dict[str, Any] = {"fault": fault, "policy": policy, "threads": threads, "runs": len(runs)}
        for name in ("slowest_ms", "waited", "waited_per_thread", "errors", "stale", "back_s", "p99_ratio"):
            values = [trial[name] for trial in runs]
            row[name] = None if None in values else max(values)
        for name in (
            "hit_ratio_before",
            "hit_ratio_during",
            "ops_before",
            "ops_during",
            "hit_kept",
            "ops_kept",
        ):
            row[name] = statistics.median(trial[name] for trial in runs)
        rows.append(row | {"verdicts": verdicts(row)})
    return rows


def verdicts(row: dict[str, Any]) -> dict[str, str]:
    """Compare a row with its goals; shares are judged as printed, rounded to whole per cents."""
    return {
        "slowest_ms": judge(row["slowest_ms"], at_least=None, at_most=300),
        "waited_per_thread": judge(row["waited_per_thread"], at_least=None, at_most=1),
        "errors": judge(row["errors"], at_least=None, at_most=0),
        "hit_kept": judge(round(row["hit_kept"], 2), at_least=0.75, at_most=None),
        "ops_kept": judge(round(row["ops_kept"], 2), at_least=0.75, at_most=None),
        "back_s": "MISS" if row["back_s"] is None else judge(row["back_s"], at_least=None, at_most=2),
        "stale": judge(row["stale"], at_least=None, at_most=0),
    }
