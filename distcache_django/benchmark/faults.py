"""`benchmark faults`: break one of four nodes under load and say what it cost, and how soon it was over.

This process keeps the nodes and the proxy and breaks them at the worker's request; the worker, pinned and
on its own, makes the load and does the timing (`trial`). Each fault is measured with
both answers to a missing node, with one thread and with several, several times over; the table shows the
worst run where waiting is concerned and the median where rates are.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TextIO

from distcache_django.benchmark import direct, machine
from distcache_django.benchmark.channel import run_worker
from distcache_django.benchmark.goals import judge
from distcache_django.testing.proxy import FaultProxy
from distcache_django.testing.servers import LocalNodes

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


@dataclass(frozen=True, slots=True)
class Case:
    """What one trial is about."""

    fault: str
    policy: str
    threads: int
    number: int


class Bench:
    """The nodes, the proxy in front of the last of them, the victim, and what breaks and mends it."""

    def __init__(self, nodes: LocalNodes, proxy: FaultProxy, place: machine.Placement) -> None:
        self._nodes = nodes
        self._victim = list(nodes.values())[-1]
        self._proxy = proxy
        self._place = place
        self._breaks: dict[str, Callable[[], None]] = {
            "sigstop": self._victim.pause,
            "refused": self._victim.kill,
            "blackhole": proxy.blackhole,
            "half-open": proxy.half_open,
        }

    def try_out(self, case: Case, options: Options, progress: TextIO) -> dict[str, Any]:
        """Run one trial in a process of its own: what an earlier outage taught a process is no part of it."""
        victim, urls = self._victim, self._nodes.urls
        proxied = {victim.name: self._proxy.url_for(victim.url)} if FAULTS[case.fault][0] == "proxied" else {}
        job = asdict(case) | {
            "kind": "faults",
            "placement": self._place.as_dict(),
            "urls": urls,
            "reached_at": urls | proxied,
            "victim": victim.name,
            "seconds": options.seconds,
            "seed": options.seed + case.number,
        }
        try:
            return run_worker(job, progress, self._serve)
        finally:
            self._mend()
            self._nodes.restore()

    def _serve(self, action: str, arguments: dict[str, Any]) -> str:
        if action == "break":
            self._breaks[arguments["fault"]]()
        else:
            self._mend()
        return action

    def _mend(self) -> None:
        """Undo every fault; a killed server starts anew, empty, and answers when this returns."""
        self._proxy.heal()
        self._victim.resume()
        if not self._victim.is_running():
            self._victim.start()
            machine.pin_process(self._victim.pid, self._place.servers)


def run(options: Options, progress: TextIO) -> dict[str, Any]:
    """Measure and return the body of the report; starts and ends its own nodes, touches no others."""
    place = machine.placement(options.pin, machine.available_cores())
    trials = []
    with LocalNodes(options.nodes) as nodes:
        for node in nodes.values():
            machine.pin_process(node.pid, place.servers)
        victim = list(nodes.values())[-1]
        server = direct.server_version(victim.url)
        with FaultProxy(victim.port) as proxy:
            bench = Bench(nodes, proxy, place)
            for fault, policy, threads in itertools.product(options.faults, POLICIES, THREADS):
                progress.write(f"  {fault}, ON_NODE_DOWN={policy!r}, {threads} thread(s)\n")
                cases = [Case(fault, policy, threads, number) for number in range(options.runs)]
                trials += [bench.try_out(case, options, progress) for case in cases]
    return place.as_dict() | {
        "server": server,
        "nodes": options.nodes,
        "runs": options.runs,
        "seconds": options.seconds,
        "descriptions": {fault: FAULTS[fault][1] for fault in options.faults},
        "trials": trials,
        "faults": summarize(trials),
    }


def summarize(trials: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row for each fault, policy and number of threads: the worst of what waits, the median of
    rates.
    """

    def group(trial: dict[str, Any]) -> tuple[str, str, int]:
        return trial["fault"], trial["policy"], trial["threads"]

    rows = []
    for (fault, policy, threads), members in itertools.groupby(trials, key=group):
        runs = list(members)
        row: dict[str, Any] = {"fault": fault, "policy": policy, "threads": threads, "runs": len(runs)}
        for name in ("slowest_ms", "stall_ms", "waited", "waited_per_thread", "errors", "stale", "back_s", "p99_ratio"):
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
