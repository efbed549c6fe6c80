"""The test's side: processes of a site, the servers they use, and what the database itself says."""

import contextlib
import copy
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psycopg

from distcache_django.testing import LocalNodes, LocalPostgres
from tests.freshness.rows import SHAPES, truth
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 30.0
_numbers = itertools.count(10_000)  # of rows: no two stages of a session share one; a load run has those below


class ActorFailed(Exception):
    """An actor raised what the test did not expect; ``names`` are its classes, nearest first."""

    def __init__(self, names: Sequence[str], text: str) -> None:
        super().__init__(text)
        self.names = tuple(names)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a command: its value, how often it asked the database, how long it took."""

    value: Any
    loads: int
    seconds: float


class Nursery:
    """Own the process that forks actors."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        command = [sys.executable, "-W", "error", "-m", "tests.freshness.actor", str(theirs.fileno()), str(os.getpid())]
        with theirs:
            self._process = subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()])
        self._answers = self._control.makefile("r")

    def fork(self, plan: Mapping[str, Any]) -> "Actor":
        """Start an actor of a site."""
        mine, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._control, [b"f"], [theirs.fileno()])
            pid = int(self._answers.readline())
        return Actor(pid, mine, plan)

    def close(self) -> None:
        """End the nursery and what is left of its actors."""
        self._answers.close()
        self._control.close()
        self._process.wait(TIMEOUT)


class Actor:
    """One process of the site. It does one command at a time."""

    def __init__(self, pid: int, channel: socket.socket, plan: Mapping[str, Any]) -> None:
        self.pid = pid
        self._channel = channel
        channel.settimeout(TIMEOUT)
        self._lines = channel.makefile("r", encoding="utf-8")
        self._say({"plan": plan})

    def begin(self, do: str, *, hold: Sequence[str] = (), **arguments: Any) -> Self:
        """Start a command, to be held at the given points, each once."""
        self._say({"do": do, "with": arguments, "hold": list(hold)})
        return self

    def reached(self, point: str) -> bool:
        """Wait until the command is held at a point; False when it ended without coming by."""
        found = self.next_point()
        assert found in {point, None}, f"held at {found}, not at {point}"
        return found == point

    def next_point(self) -> str | None:
        """Wait until the command is held anywhere; None when it has ended."""
        message = self._hear()
        if "at" in message:
            return str(message["at"])
        self._ended = message
        return None

    def go(self, point: str) -> Self:
        """Let the command go on from a point."""
        self._say({"open": point})
        return self

    def result(self) -> Answer:
        """Wait for the command's end; raise ActorFailed for its exception."""
        message = self._ended or self._hear()
        self._ended = None
        assert "at" not in message, f"still held at {message['at']}"
        if "error" in message:
            raise ActorFailed(message["error"], message["text"])
        return Answer(message["value"], message["loads"], message["seconds"])

    def patience(self, seconds: float) -> None:
        """Wait for this long for what the process says, from now on."""
        self._channel.settimeout(seconds)

    def call(self, do: str, **arguments: Any) -> Answer:
        """Do one command."""
        return self.begin(do, **arguments).result()

    def stop(self) -> None:
        """Stop the process (SIGSTOP) and return when it is."""
        os.kill(self.pid, signal.SIGSTOP)
        wait_until(lambda: Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")

    def resume(self) -> None:
        """Let a stopped process run on."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End the process at once (SIGKILL) and return when it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(OSError):  # a second time: it is closed
            while self._channel.recv(65536):
                pass
        self._lines.close()
        self._channel.close()

    _ended: dict[str, Any] | None = None

    def _say(self, message: Mapping[str, Any]) -> None:
        self._channel.sendall(json.dumps(message).encode() + b"\n")

    def _hear(self) -> dict[str, Any]:
        line = self._lines.readline()
        assert line, "the actor has ended: see its traceback above"
        message: dict[str, Any] = json.loads(line)
        return message


@dataclass(frozen=True, slots=True)
class Look:
    """One answer of the site beside the database's own at that moment."""

    when: str
    shape: str
    kind: str
    seen: Any
    truth: Any
    loads: int
    seconds: float = 0.0

    @property
    def is_stale(self) -> bool:
        """Tell whether the site's answer is not the database's."""
        return bool(self.seen != self.truth)


@dataclass
class Stage:
    """Servers, one site on them, and its processes by name; each is started at its first use."""

    nursery: Nursery
    postgres: LocalPostgres
    nodes: LocalNodes
    subject: str = "distcache"
    distcache: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    databases: dict[str, dict[str, Any]] = field(default_factory=dict)
    mark_timeout: float = 2.0
    postgres_version: int = 0  # what the product is to take the server for; 0 for what it is
    _actors: dict[str, Actor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.databases:
            self.databases = {"default": self.postgres.django_settings()}
        self._truth = psycopg.connect(self.postgres.dsn, autocommit=True)

    def plan(self, **changes: Any) -> dict[str, Any]:
        """Return the site as its processes are told it."""
        distcache = {"MARK_TIMEOUT": self.mark_timeout, "ON_MARK_FAILURE": "raise", **self.distcache}
        plan = {
            "subject": self.subject,
            "nodes": dict(self.nodes.urls),
            "options": self.options,
            "databases": self.databases,
            "postgres_version": self.postgres_version,
            "distcache": {**distcache, **changes.pop("distcache", {})},
        }
        return {**plan, **changes}

    def beside(self, connection: "psycopg.Connection[Any]") -> "Stage":
        """Return the same stage with another database as its judge."""
        other = copy.copy(self)
        other._truth = connection
        return other

    def fresh(self, name: str, **changes: Any) -> Actor:
        """Start a process anew under a name."""
        if name in self._actors:
            self._actors.pop(name).kill()
        return self._actors.setdefault(name, self.nursery.fork(self.plan(**changes)))

    def actor(self, name: str) -> Actor:
        """Return the process of a name."""
        return self._actors.get(name) or self.fresh(name)

    def names(self) -> set[str]:
        """Return the names of the processes that run."""
        return set(self._actors)

    def close(self) -> None:
        """End the processes; the servers are the fixtures'."""
        for actor in self._actors.values():
            actor.kill()
        self._actors.clear()
        self._truth.close()

    # ------------------------------------------------------------ rows

    def trial(self) -> dict[str, int]:
        """Make rows that nobody has read, behind every cache's back."""
        shelf, other, pk, mate, new, batch = (next(_numbers) for _ in range(6))
        self.sql('INSERT INTO "stock_shelf" (id, name) VALUES (%s, %s), (%s, %s)', shelf, "a", other, "b")
        rows = 'INSERT INTO "stock_item" (id, shelf_id, price, batch) VALUES (%s, %s, %s, %s), (%s, %s, %s, %s)'
        self.sql(rows, pk, shelf, 1, batch, mate, shelf, 2, batch)
        return {"pk": pk, "mate": mate, "new": new, "shelf": shelf, "other": other, "batch": batch, "at": pk}

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask the database itself."""
        cursor = self._truth.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []

    def truth(self, shape: str, trial: Mapping[str, int]) -> Any:
        """Return what a read must answer now, in the words of the database."""
        return truth(lambda statement, values: self.sql(statement, *values), shape, trial)

    def sessions(self) -> int:
        """Return how many sessions the database has begun so far."""
        self.sql("SELECT pg_stat_force_next_flush()")
        counted = "SELECT sessions FROM pg_stat_database WHERE datname = current_database()"
        return int(self.sql(counted)[0][0])

    def await_lock(self) -> None:
        """Return when a statement of the site waits for a row lock of another."""
        waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        wait_until(lambda: self.sql(waiting), what="a statement that waits for a lock")

    def await_commit(self) -> None:
        """Return when a COMMIT of the site is being carried out."""
        running = "SELECT 1 FROM pg_stat_activity WHERE query = 'COMMIT' AND state = 'active'"
        wait_until(lambda: self.sql(running), what="a COMMIT that runs")

    # ------------------------------------------------------------ reading

    def fill(self, shape: str, trial: Mapping[str, int]) -> None:
        """Let a reader put the answer into the cache."""
        self.actor("reader").call("read", shape=shape, **trial)

    def fill_all(self, trial: Mapping[str, int]) -> None:
        """Let a reader put the answers of every shape into the cache."""
        for shape in SHAPES:
            self.fill(shape, trial)

    def look(self, when: str, shape: str, kind: str, trial: Mapping[str, int], *, actor: str = "witness") -> Look:
        """Read in a process that took no part, and compare with the database."""
        answer = self.actor(actor).call("read", shape=shape, **trial)
        return Look(when, shape, kind, answer.value, self.truth(shape, trial), answer.loads, answer.seconds)

    def await_cache(self) -> None:
        """Return when answers are cached again: after a node has lost its memory none are for a while."""
        trials = [self.trial() for _ in range(8)]

        def is_cached() -> bool:
            found = [self.look("", shape, "", trial).loads for trial in trials for shape in ("get", "list")]
            return not any(found)

        wait_until(is_cached, seconds=20, what="answers are cached")

    def looks(self, when: str, shape: str, kind: str, trial: Mapping[str, int]) -> list[Look]:
        """Look twice: what the first look stored may be what is wrong."""
        return [self.look(when, shape, kind, trial), self.look(f"{when}, again", shape, kind, trial)]

    def all_looks(self, when: str, kind: str, trial: Mapping[str, int]) -> list[Look]:
        """Look at every shape, twice."""
        return [look for shape in SHAPES for look in self.looks(when, shape, kind, trial)]
