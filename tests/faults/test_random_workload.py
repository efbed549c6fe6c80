"""Several processes, random faults, one rule: what a process has replaced or deleted it never sees again.

The seed is printed; ``DISTCACHE_FAULTS_SEED`` replays the order of faults and of each process's calls (not their
timing), ``DISTCACHE_FAULTS_SECONDS`` makes a run longer.
"""

import os
import random
import sys
import threading
import time
from typing import Any

import pytest

from distcache_django.testing.servers import LocalNodes
from tests.faults.ground import setting
from tests.faults.programs import run_together

pytestmark = [pytest.mark.servers, pytest.mark.slow]

SECONDS = float(os.environ.get("DISTCACHE_FAULTS_SECONDS", "7"))
SEED = int(os.environ.get("DISTCACHE_FAULTS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
PROCESSES = 3


class Weather(threading.Thread):
    """Break nodes, at most two at a time, and bring them back: resumed, empty, or with the data they had written."""

    def __init__(self, nodes: LocalNodes, seed: int) -> None:
        super().__init__()
        self._nodes, self._draw = nodes, random.Random(seed)
        self._over = threading.Event()
        self.story: list[str] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        away: list[tuple[float, str, str]] = []
        try:
            while not self._over.is_set():
                if len(away) < 2 and self._draw.random() < 0.6:
                    name = self._draw.choice([n for n in self._nodes if n not in [a[2] for a in away]])
                    fault = self._draw.choice(["pause", "pause", "kill-empty", "kill-keep"])
                    self._nodes[name].pause() if fault == "pause" else self._nodes[name].kill()
                    away.append((time.monotonic() + self._draw.uniform(0.1, 1.5), fault, name))
                    self.story.append(f"{time.monotonic():.3f} {fault} {name}")
                self._over.wait(self._draw.uniform(0.05, 0.5))
                for entry in [a for a in away if a[0] < time.monotonic()]:
                    away.remove(entry)
                    self._bring_back(entry)
        except BaseException as error:  # noqa: BLE001 - shown by the test
            self.error = error
        finally:
            for entry in away:
                self._bring_back(entry)

    def _bring_back(self, entry: tuple[float, str, str]) -> None:
        _, fault, name = entry
        if fault == "pause":
            self._nodes[name].resume()
        else:
            self._nodes[name].restart(empty=fault == "kill-empty")
        self.story.append(f"{time.monotonic():.3f} back {name}")

    def end(self) -> None:
        """Bring all nodes back and end."""
        self._over.set()
        self.join()


@pytest.mark.parametrize("on_node_down", ["miss", "redirect"])
def test_nothing_replaced_or_deleted_is_seen_again(distcache_nodes: Any, on_node_down: str) -> None:
    sys.stdout.write(f"DISTCACHE_FAULTS_SEED={SEED} DISTCACHE_FAULTS_SECONDS={SECONDS:g}\n")
    nodes = distcache_nodes(4, config={"appendonly": "yes", "appendfsync": "everysec"})
    options = {"DEADLINE": 0.3, "SOCKET_CONNECT_TIMEOUT": 0.3, "ON_NODE_DOWN": on_node_down}
    entry = setting(nodes.urls, options=options)
    weather = Weather(nodes, SEED)
    complaints: list[str] = []
    try:
        answers = run_together(
            "workload",
            entry,
            processes=PROCESSES,
            meanwhile=weather.start,
            errors=complaints,
            seed=SEED,
            seconds=SECONDS,
            site=entry,
            numbered=True,
        )
    finally:
        if weather.ident is not None:
            weather.end()

    story = "\n".join(weather.story)
    assert weather.error is None
    assert [answer["lies"] for answer in answers] == [[]] * PROCESSES, f"seed {SEED}\n{story}"
    assert complaints == [""] * PROCESSES
    for answer in answers:
        # The run has shown something: hits, acknowledged writes and dropped ones.
        assert min(answer["hits"], answer["acknowledged"], answer["refused"]) > 20, answer
