"""Hold a process at a chosen point of a statement or a COMMIT, and count what reaches the database.

Used in actor processes only. The points lie in psycopg, below Django and below any cache, so that the same
interleaving is forced on every cache and no product needs a hook for it:

=============  ==============================================================
``load``       before a SELECT of the application's tables
``loaded``     after it: the rows are in this process, not yet in any cache
``write``      before an INSERT, UPDATE or DELETE of them
``written``    after it; in autocommit it is visible to others by now
``commit``     before COMMIT is sent
``committed``  after it has succeeded, before anybody above has heard of it
=============  ==============================================================
"""

import functools
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import psycopg

TABLE = '"stock_'
WRITING = re.compile(r'\b(INSERT INTO|DELETE FROM|UPDATE "stock_)', re.IGNORECASE)
TIMEOUT = 60.0


class Gates:
    """The points at which the process is to be held; ``tell`` reports that one is reached."""

    def __init__(self, tell: Callable[[dict[str, object]], None]) -> None:
        self._tell = tell
        self._armed: dict[str, threading.Event] = {}
        self._open: dict[str, threading.Event] = {}
        self.delays: dict[str, float] = {}
        self.hooks: dict[str, Callable[[], None]] = {}
        self.passed: dict[str, int] = {}
        self._lock = threading.Lock()  # guards the tables above

    def arm(self, names: Sequence[str]) -> None:
        """Hold the next thread that comes to each of these points, once."""
        with self._lock:
            self._armed = {name: threading.Event() for name in names}

    def open(self, name: str) -> None:
        """Let the thread that is held at a point go on."""
        with self._lock:
            event = self._open.pop(name)
        event.set()

    def reach(self, name: str) -> None:
        """Be at a point: go on at once, or be held."""
        with self._lock:
            self.passed[name] = self.passed.get(name, 0) + 1
            event = self._armed.pop(name, None)
            if event is not None:
                self._open[name] = event
        if event is not None:
            self._tell({"at": name})
            assert event.wait(TIMEOUT), f"nobody opened {name}"
        if name in self.hooks:
            self.hooks[name]()
        if name in self.delays:
            time.sleep(self.delays[name])

    def count(self, name: str) -> int:
        """Return how often a point was reached."""
        return self.passed.get(name, 0)

    def install(self) -> None:
        """Put the points into psycopg, for this process."""
        for method in ("execute", "executemany"):
            self._wrap(psycopg.Cursor, method, _points_of_statement)
        self._wrap(psycopg.Connection, "commit", lambda *_: ("commit", "committed"))

    def wrap(self, owner: Any, method: str, before: str, after: str) -> None:
        """Put points around a method of the product, where psycopg knows none."""
        self._wrap(owner, method, lambda *_: (before, after))

    def _wrap(self, owner: Any, method: str, points: Callable[..., tuple[str, str] | None]) -> None:
        original = getattr(owner, method)

        @functools.wraps(original)
        def held(*args: Any, **kwargs: Any) -> Any:
            found = points(*args)
            if found is None:
                return original(*args, **kwargs)
            self.reach(found[0])
            result = original(*args, **kwargs)
            self.reach(found[1])
            return result

        setattr(owner, method, held)


def _points_of_statement(_: object, statement: object, *__: object) -> tuple[str, str] | None:
    text = (statement if isinstance(statement, str) else str(statement)).strip()
    if text.upper() == "COMMIT":
        return "commit", "committed"
    if TABLE not in text:
        return None
    is_reading = text[:6].upper() == "SELECT" or not WRITING.search(text)
    return ("load", "loaded") if is_reading else ("write", "written")
