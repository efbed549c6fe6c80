"""The load generator: a process of its own, so that the demo's interpreter does not slow it down.

It reads its orders as one JSON object from standard input, and writes events as JSON lines to standard
output: `phase` when a phase begins, `progress` twice a second, and at the end `result`.
"""

import itertools
import json
import random
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from example_project.demo import traffic
from example_project.demo.client import Connections, ShopClient
from example_project.demo.ledger import Ledger
from example_project.demo.pages import PathFinder, Visit
from example_project.demo.tally import Answer, Tally

PROGRESS_INTERVAL = 0.5
# The part of the first phase after which its rate is measured.
LATE_WARM_UP = 0.6


@dataclass(frozen=True, slots=True)
class Orders:
    """What to send, where, and for how long."""

    sync_port: int
    async_port: int
    token: str
    products: int
    ledger: str
    columns: int
    seed: int
    clients: int
    seconds: float
    requests: int | None
    write_share: float
    calm_share: float
    phases: list[tuple[str, float]]
    trace: str | None


@dataclass(frozen=True, slots=True)
class Turn:
    """One request to make, and the phase it counts in."""

    visit: Visit
    is_write: bool
    phase: int
    due: float


class Schedule:
    """Hand out turns, tell when a phase begins, and end. Threads may share it.

    With a number of requests exactly so many turns are handed out, each due at its place in time. Without one
    the time decides the phase; clients go on as fast as answers come, or, after the first phase, at
    `calm_share` of the rate at its end: a site at its limit shows its limit, not its nodes.
    """

    def __init__(self, orders: Orders, tally: Tally) -> None:
        self._orders = orders
        self._tally = tally
        self._lock = threading.Lock()  # guards what follows
        self._visits: Iterator[Visit] = (
            traffic.from_trace(Path(orders.trace)) if orders.trace else traffic.drawn(orders.seed)
        )
        self._random = random.Random(f"{orders.seed}:writes")
        self._begins = [0.0, *itertools.accumulate(share for _, share in orders.phases)][:-1]
        self._handed_out = 0
        self._phase = -1
        self._started = time.perf_counter()
        self._interval = orders.seconds / orders.requests if orders.requests else 0.0
        self._next_due = 0.0
        self._late_warm_up: tuple[float, int] | None = None

    def take(self) -> Turn | None:
        """Give the next turn, or None when all is done."""
        with self._lock:
            now = time.perf_counter() - self._started
            due, done = self._place_next(now)
            if done >= 1:
                return None
            while self._phase + 1 < len(self._begins) and done >= self._begins[self._phase + 1]:
                self._begin_next(now)
            if self._late_warm_up is None and done >= self._begins[1] * LATE_WARM_UP:
                self._late_warm_up = (now, self._handed_out)
            self._next_due = due + self._interval
            self._handed_out += 1
            is_write = self._random.random() < self._orders.write_share
            return Turn(next(self._visits), is_write, self._phase, self._started + due)

    def _place_next(self, now: float) -> tuple[float, float]:
        """Say when the next turn is due, and which share of the run is over by then."""
        if self._orders.requests:
            return self._next_due, self._handed_out / self._orders.requests
        # A site that is too slow for the rate gets no backlog to catch up with.
        due = max(now, self._next_due)
        return due, due / self._orders.seconds

    def _begin_next(self, now: float) -> None:
        self._phase += 1
        self._tally.begin(self._phase, time.perf_counter())
        if self._phase == 1 and self._orders.calm_share and self._late_warm_up and not self._orders.requests:
            since, count = self._late_warm_up
            rate = max(self._handed_out - count, 1) / (now - since)
            self._interval = 1 / (rate * self._orders.calm_share)
        _emit(event="phase", index=self._phase)


def _emit(**event: Any) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def _run_client(schedule: Schedule, tally: Tally, client: ShopClient, connections: Connections) -> None:
    try:
        while (turn := schedule.take()) is not None:
            early = turn.due - time.perf_counter()
            if early > 0:
                time.sleep(early)
            answer = client.change_price(turn.visit) if turn.is_write else client.visit(turn.visit)
            tally.add(turn.phase, answer)
    except Exception as error:
        # A client that dies must not look like a shop that answers: it counts as a failed request.
        tally.add(0, Answer("client", 0.0, f"{type(error).__name__}: {error}"))
        raise
    finally:
        connections.close()


def _start_clients(orders: Orders, schedule: Schedule, tally: Tally) -> list[threading.Thread]:
    paths = PathFinder(orders.products)
    # The last column: the writers have those before it.
    ledger = Ledger(orders.ledger, orders.products, orders.columns, orders.columns - 1)
    threads = []
    for number in range(orders.clients):
        connections = Connections(orders.sync_port, orders.async_port)
        seed = orders.seed + number
        client = ShopClient(connections, paths, ledger, tally.site, token=orders.token, seed=seed)
        arguments = (schedule, tally, client, connections)
        threads.append(threading.Thread(target=_run_client, args=arguments, name=f"client-{number}", daemon=True))
    for thread in threads:
        thread.start()
    return threads


def main() -> int:
    """Send what the orders say and report it."""
    given = json.loads(sys.stdin.readline())
    orders = Orders(**{**given, "phases": [tuple(phase) for phase in given["phases"]]})
    tally = Tally([name for name, _ in orders.phases])
    schedule = Schedule(orders, tally)
    threads = _start_clients(orders, schedule, tally)
    for thread in threads:
        while thread.is_alive():
            thread.join(PROGRESS_INTERVAL)
            _emit(event="progress", count=tally.count)
    tally.end(time.perf_counter())
    _emit(event="result", **tally.as_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
