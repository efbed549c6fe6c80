"""Wait for what must become true, and no longer."""

import threading
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Self


def wait_until(condition: Callable[[], object], *, seconds: float = 10.0, what: str = "condition") -> None:
    """Return as soon as the condition holds; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.01)


class Pulse:
    """A thread that only sleeps, and notes when it woke; a context manager that stops it.

    Where it overslept, the machine gave this process no time: what a call lost then is not the cache's doing.
    """

    BEAT = 0.01

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._beats: list[float] = []
        self._thread = threading.Thread(target=self._beat)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(self.BEAT):
            self._beats.append(time.monotonic())

    def lost(self, began: float, ended: float) -> float:
        """Return how many seconds between two moments this thread was late by, in total."""
        spans = [(before, after) for before, after in pairwise(self._beats) if after > began and before < ended]
        return sum(max(0.0, min(after, ended) - max(before, began) - 2 * self.BEAT) for before, after in spans)
