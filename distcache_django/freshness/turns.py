"""Let one reader of a process load an answer while the others wait, and wake them when it has ended.

What wakes a reader is no answer: the load may have begun before that reader did, and be older than a commit between
the two. It looks the answer up again, under the versions of its own look-up.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from distcache_django.core.effects import Op, Pause
from distcache_django.core.freshness import Lease

__all__ = ["Ending", "Turn", "Turns"]

#: Seconds between looks at an answer that another process loads: at first, how they grow, at most.
_FIRST_PAUSE, _SLOWER, _LONGEST_PAUSE = 0.001, 1.2, 0.02
_LEASE = ":lease"


class Ending:
    """Be the end of one reader's turn, which happens once: threads wait for it, event loops are called."""

    __slots__ = ("_calls", "_event")

    def __init__(self) -> None:
        self._event = threading.Event()
        self._calls: list[Callable[[], None]] = []

    def wait(self, seconds: float) -> bool:
        """Block until it has happened, no longer than ``seconds``; return whether it has."""
        return self._event.wait(seconds)

    def call(self, function: Callable[[], None]) -> None:
        """Have ``function`` called when it happens, at once if it has; perhaps twice. It must not raise."""
        self._calls.append(function)
        if self._event.is_set():
            function()

    def forget(self, function: Callable[[], None]) -> None:
        """Call a function no more."""
        with suppress(ValueError):
            self._calls.remove(function)

    def happen(self) -> None:
        """Wake all who wait."""
        # Set first: whoever is added behind the copy below sees it.
        self._event.set()
        for function in tuple(self._calls):
            function()


class Turns:
    """Know which answers threads and tasks of this process load, or ask for the right to; shared by all of them."""

    def __init__(self, lease: float) -> None:
        self._lease_ms = round(lease * 1000)
        self.forget()

    def forget(self) -> None:
        """Know of none, as a forked child must: its parent's threads are not in it, and their locks may be held."""
        self._endings: dict[str, Ending] = {}

    def take(self, name: str, ending: Ending) -> Ending:
        """Have ``ending`` stand for the lease ``name``; return it, or the one that does already."""
        return self._endings.setdefault(name, ending)

    def find(self, name: str) -> Ending | None:
        """Return what stands for the lease ``name``."""
        return self._endings.get(name)

    def give_back(self, name: str, ending: Ending) -> None:
        """Free what ``take`` took, and wake who waits for it."""
        if self._endings.get(name) is ending:
            # First: a reader that still finds the ending is woken by what follows.
            del self._endings[name]
            ending.happen()

    def lease(self, name: str) -> Lease:
        """Return a lease to ask the node for."""
        return Lease(name, secrets.token_bytes(12), self._lease_ms)


class Turn:
    """Be one reader's part: its turn to load, or what it waits for. ``end`` must be called, whatever happens."""

    # Set on the class: every hit makes a turn, and most need no more than this.
    _ending: Ending | None = None
    _until: Ending | None = None
    _pause = _FIRST_PAUSE
    #: The right to load, if this reader asks for it.
    lease: Lease | None = None
    #: Seconds.
    waited = 0.0

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def ask(self, key: str) -> Lease | None:
        """Return the lease to ask for, ``None`` while another reader of this process has its turn."""
        if self.lease is None:
            name = f"{key}{_LEASE}"
            self._until = self._turns.find(name)
            if self._until is None:
                mine = Ending()
                found = self._turns.take(name, mine)
                if found is mine:
                    self._ending, self.lease = mine, self._turns.lease(name)
                else:
                    self._until = found
        return self.lease

    def wait(self) -> Op[None]:
        """Wait until it is time to look again: the turn before has ended, or another process may have stored.

        While a reader of this process has its turn, that one looks more often.
        """
        seconds = _LONGEST_PAUSE if self._until is not None else self._pause
        began = time.monotonic()
        yield Pause(seconds, self._until)
        # No more than was asked for: what a busy machine adds is no reason to give up.
        self.waited += min(seconds, max(time.monotonic() - began, _FIRST_PAUSE))
        if self._until is None:
            self._pause = min(self._pause * _SLOWER, _LONGEST_PAUSE)

    def end(self, unless: str = "") -> None:
        """Let the next reader have its turn; ``unless`` it is one for this key."""
        if self.lease is not None and self._ending is not None and self.lease.key != f"{unless}{_LEASE}":
            self._turns.give_back(self.lease.key, self._ending)
            self.lease = self._ending = None
