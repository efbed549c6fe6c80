"""Run several processes of one load at once, and let them meet.

Each worker is served by a thread of its own, so that what it requests may wait for the others. When one of
them fails, nobody waits for it.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TextIO

from distcache_django.benchmark.channel import WorkerFailed, converse

__all__ = ["Host", "Meeting", "Turns", "run_crew"]

_COMMAND = "distcache_django.benchmark.orm.worker"
_PATIENCE = 120.0


class Host(Protocol):
    """Serve what workers request."""

    def serve(self, worker: int, action: str, arguments: dict[str, Any]) -> Any:
        """Return the reply to a worker's request, when the others are as far; runs on the worker's thread."""

    def abandon(self) -> None:
        """Make everybody who waits give up, now and later."""


class Meeting:
    """Let all workers of a load meet twice: to learn when it begins and ends, and to exchange ledgers."""

    def __init__(self, size: int, times: Callable[[], dict[str, int]], seconds: float) -> None:
        self._times = times
        self._barrier = threading.Barrier(size, self._open, _PATIENCE + 2 * seconds)
        self._ledger: list[Any] | None = None  # None until the first meeting; written by threads under the lock
        self._lock = threading.Lock()
        self._agreed: dict[str, int] = {}

    def _open(self) -> None:
        if self._ledger is None:
            self._agreed = self._times()
            self._ledger = []

    def serve(self, worker: int, action: str, arguments: dict[str, Any]) -> Any:
        """Return the times at the first meeting and everybody's ledger at the second."""
        begins = "ledger" not in arguments
        if not begins:
            with self._lock:
                assert self._ledger is not None  # the first meeting made it
                self._ledger += arguments["ledger"]
        try:
            self._barrier.wait()
        except threading.BrokenBarrierError as error:
            raise WorkerFailed("another process of the load has failed") from error
        return self._agreed if begins else self._ledger

    def abandon(self) -> None:
        """Break the meeting up."""
        self._barrier.abort()


class Turns:
    """Let one worker run at a time, in a given order, while the others wait and cost nothing."""

    def __init__(self, order: Sequence[int]) -> None:
        self._order = list(order)
        self._absent = set(order)
        self._running: int | None = None
        self._is_over = False
        self._changed = threading.Condition()  # guards everything above

    def serve(self, worker: int, action: str, arguments: dict[str, Any]) -> bool:
        """End the worker's turn, if it has it, and return True at its next; False when there is none."""
        with self._changed:
            if self._running == worker:
                self._running = None
            self._absent.discard(worker)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_over or worker not in self._order or self._is_next(worker))
            if self._is_over or worker not in self._order:
                return False
            self._order.pop(0)
            self._running = worker
            return True

    def _is_next(self, worker: int) -> bool:
        return not self._absent and self._running is None and self._order[0] == worker

    def abandon(self) -> None:
        """Give no more turns."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()


def run_crew(jobs: Sequence[dict[str, Any]], progress: TextIO, host: Host) -> list[dict[str, Any]]:
    """Run each job in a process of its own, all at once, and return their results in order.

    Raises WorkerFailed when one of them ended without a result; all have ended when this returns, and they
    end with this process.
    """
    with ThreadPoolExecutor(len(jobs)) as pool:
        running = [pool.submit(_run, number, job, progress, host) for number, job in enumerate(jobs)]
        failed = [error for each in running if (error := each.exception()) is not None]
    if failed:
        # The first to fail says why; the others say that it did.
        raise min(failed, key=lambda error: "another process" in str(error))
    return [each.result() for each in running]


def _run(number: int, job: dict[str, Any], progress: TextIO, host: Host) -> dict[str, Any]:
    command = [sys.executable, "-m", _COMMAND]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        try:
            result = converse(worker, job, progress, lambda action, given: host.serve(number, action, given))
            if result is None:
                raise WorkerFailed(f"{job['subject']}: a process of the load ended without a result; it says why above")
        except BaseException:
            host.abandon()
            raise
        finally:
            worker.kill()
    return result
