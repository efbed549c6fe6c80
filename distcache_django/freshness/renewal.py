"""Renew the marks of writers whose COMMIT takes long: a commit must not follow its mark's expiry.

One daemon thread a process, started by the first attempt. It sleeps until the oldest attempt in flight is a third
of ``MARK_TIMEOUT`` old, and without end while none is; commits that are quicker, as nearly all are, never wake it.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distcache_django.freshness.service import Attempt, Freshness

__all__ = ["Renewals", "renewals"]

logger = logging.getLogger("distcache_django.freshness")


class _Held:
    __slots__ = ("attempt", "due", "is_released", "is_settled", "period", "service")

    def __init__(self, service: Freshness, attempt: Attempt) -> None:
        self.service = service
        self.attempt = attempt
        self.period = service.settings.mark_timeout / 3
        self.due = attempt.marked_at + self.period
        self.is_released = False
        self.is_settled = False


class Renewals:
    """Hold the attempts in flight of a process; thread-safe. A forked child holds none of its parent's."""

    def __init__(self) -> None:
        self.forget()
        os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        """Hold nothing and have no thread, as a forked child."""
        self._condition = threading.Condition()  # guards what follows
        self._held: dict[bytes, _Held] = {}
        self._thread: threading.Thread | None = None
        self._wakes_at = math.inf

    def hold(self, service: Freshness, attempt: Attempt) -> None:
        """Renew the marks of ``attempt`` from now on until it is released."""
        held = _Held(service, attempt)
        starting = None
        with self._condition:
            self._held[attempt.token] = held
            if held.due < self._wakes_at:
                self._condition.notify()
            if self._thread is None:
                starting = self._thread = threading.Thread(
                    target=self._run, args=[self._condition], name="distcache-renewals", daemon=True
                )
        if starting is not None:
            self._start(starting)

    def release(self, attempt: Attempt, *, is_settled: bool) -> None:
        """Renew no longer. ``is_settled``: the writer takes the marks off now; else they are left to expire."""
        with self._condition:
            held = self._held.pop(attempt.token, None)
        if held is not None:
            held.is_settled = is_settled
            held.is_released = True

    def _start(self, thread: threading.Thread) -> None:
        try:
            thread.start()
        except RuntimeError:  # the interpreter is ending; a commit has its mark's first life then
            self._thread = None
            logger.debug("marks are not renewed: no thread can be started")

    def _run(self, condition: threading.Condition) -> None:
        while True:
            for held in self._wait_until_due(condition):
                self._renew(held)

    def _wait_until_due(self, condition: threading.Condition) -> list[_Held]:
        with condition:
            while True:
                now = time.monotonic()
                due = [held for held in self._held.values() if held.due <= now]
                if due:
                    for held in due:
                        held.due = now + held.period
                    return due
                self._wakes_at = min((held.due for held in self._held.values()), default=math.inf)
                condition.wait(None if self._wakes_at == math.inf else self._wakes_at - now)

    def _renew(self, held: _Held) -> None:
        if held.is_released:
            return
        try:
            held.service.renew(held.attempt)
            if held.is_settled:
                # The writer was done meanwhile: what this renewal may have set behind it goes at once.
                held.service.unmark(held.attempt)
        except Exception:
            logger.exception("the marks of a commit in flight were not renewed")


#: The attempts in flight of this process.
renewals = Renewals()
