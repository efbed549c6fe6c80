"""The controller: real nodes, the processes that use them, and faults one at a time."""

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from distcache_django.core.fence import FENCE, UP, Fence
from distcache_django.testing.node import LocalNode
from distcache_django.testing.programs import ServerKind
from distcache_django.testing.resp import ask
from tests.failover.calls import Call, Fault, load
from tests.support.waiting import Pulse

ROOT = Path(__file__).resolve().parents[2]
NODES = ("cache-a", "cache-b", "cache-c", "cache-d")
CLIENTS = 3
PATIENCE = 60.0
#: Within this all nodes have to be whole again.
HEALED = 30.0


def entry(urls: Mapping[str, str]) -> dict[str, Any]:
    """Return the CACHES entry of all processes: strict quorums, and no failure taken for a miss."""
    options = {"REPLICATION_FACTOR": 3, "ON_UNAVAILABLE": "raise"}
    return {"BACKEND": "distcache_django.DistributedCache", "LOCATION": dict(urls), "OPTIONS": options}


class Process:
    """Be a program that was started here, and is told what to do by lines."""

    def __init__(self, role: str, directory: Path, name: str, plan: Mapping[str, Any]) -> None:
        self.name = name
        self.history = directory / f"{name}.history"
        path = directory / f"{name}.json"
        path.write_text(json.dumps({**plan, "history": str(self.history)}))
        self._complaints = directory / f"{name}.log"
        with self._complaints.open("w") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "tests.failover.programs", role, str(path)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def tell(self, word: str) -> None:
        """Say a word."""
        assert self._child.stdin is not None
        self.check()
        self._child.stdin.write(f"{word}\n")
        self._child.stdin.flush()

    def expect(self, word: str) -> None:
        """Wait for a word."""
        assert self._child.stdout is not None
        line = self._child.stdout.readline().strip()
        assert line == word, f"{self.name} said {line!r}, not {word!r}:\n{self._complaints.read_text()}"

    def check(self) -> None:
        """Fail if the process has ended."""
        assert self._child.poll() is None, f"{self.name} has ended:\n{self._complaints.read_text()}"

    def end(self) -> None:
        """Let it end, or end it."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self._child.communicate("end\n", timeout=5)
        self._child.kill()
        self._child.communicate()


class Stage:
    """Own the nodes and processes of one run; a context manager that ends them."""

    def __init__(
        self,
        directory: Path,
        *,
        seed: int,
        server: ServerKind = "valkey",
        mutant: str = "",
        has_agent: bool = True,
        rest: float = 0.002,
        weights: Mapping[str, int] | None = None,
    ) -> None:
        self.directory = directory
        config = {"appendonly": "yes"}
        self.nodes = {name: LocalNode(name, server=server, config=config, directory=directory / name) for name in NODES}
        self.faults: list[Fault] = []
        self._plan = {"seed": seed, "mutant": mutant, "rest": rest, "weights": weights or {}}
        self._has_agent = has_agent
        self._clients: list[Process] = []
        self._pulse = Pulse()
        self._agent: Process | None = None

    def __enter__(self) -> Self:
        self._pulse.__enter__()
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self._clients, *([self._agent] if self._agent else ())):
            process.end()
        self._pulse.__exit__()
        for node in self.nodes.values():
            node.close()

    def _start(self) -> None:
        for node in self.nodes.values():
            (self.directory / node.name).mkdir()
            node.start()
        plan = {**self._plan, "cache": entry({name: node.url for name, node in self.nodes.items()})}
        for number in range(CLIENTS):
            self._clients.append(Process("client", self.directory, f"client-{number}", {**plan, "number": number}))
        for client in self._clients:
            client.expect("ready")
        if self._has_agent:
            self._agent = Process("agent", self.directory, "agent", {**plan, "mutant": "", "rest": 0.1})
            self._agent.expect("ready")
        for client in self._clients:
            client.tell("go")

    def finish(self) -> list[Call]:
        """Stop the load, have every key read once more, and return all calls in the order of their beginnings."""
        for word, answer in (("stop", "stopped"), ("audit", "audited")):
            for client in self._clients:
                client.tell(word)
            for client in self._clients:
                client.expect(answer)
        calls = sorted((call for client in self._clients for call in load(client.history)), key=lambda c: c.began)
        return [call if call.is_acknowledged else self._with_lost(call) for call in calls]

    def _with_lost(self, call: Call) -> Call:
        """Ask this process, too, whether the machine had time: the nodes had as little."""
        return call._replace(lost=max(call.lost, self._pulse.lost(call.began - 0.2, call.ended + 0.02)))

    # ------------------------------------------------------------------ how the nodes are

    def is_whole(self) -> bool:
        """Tell whether every node says of itself that it is up, in the memory it has now, and nobody is behind."""
        return all(map(_is_whole, self.nodes.values()))

    def wait_whole(self, seconds: float = PATIENCE) -> float:
        """Wait until all nodes are whole; return when that was."""
        expires = time.monotonic() + seconds
        while not self.is_whole():
            assert time.monotonic() < expires, f"not whole after {seconds:g} s: {self.describe()}"
            for process in (*self._clients, *([self._agent] if self._agent else ())):
                process.check()
            time.sleep(0.02)
        return time.monotonic()

    def describe(self) -> str:
        """Say how the nodes are."""
        return ", ".join(f"{node.name}: {_fence(node)}" for node in self.nodes.values())

    # ------------------------------------------------------------------ faults

    def fault(self, kind: str, name: str, seconds: float) -> Fault:
        """Put a node at fault for a while, and wait until all nodes are whole again; a wiped one is so at once."""
        with FAULTS[kind](self.nodes[name]):
            began = time.monotonic()
            time.sleep(seconds if kind != "wipe" else 0)
        ended = time.monotonic()
        fault = Fault(kind, name, began, ended, self.wait_whole())
        self.faults.append(fault)
        return fault


def _fence(node: LocalNode) -> Fence | None:
    return Fence.parse(ask(node.url, ("GET", FENCE))[0])


def _is_whole(node: LocalNode) -> bool:
    try:
        raw, server = ask(node.url, ("GET", FENCE), ("INFO", "server"), timeout=1.0)
    except OSError:
        return False
    fence = Fence.parse(raw)
    # A restarted server may still have the fence of the one before, of which nobody has asked it yet.
    return fence is not None and fence.state == UP and not fence.behind and b"run_id:" + raw[9:49] in server


# Each is entered when the fault begins, and left when it ends.


@contextlib.contextmanager
def kill_empty(node: LocalNode) -> Iterator[None]:
    """Kill a node; it comes back without its memory."""
    node.kill()
    yield
    node.restart(empty=True)


@contextlib.contextmanager
def kill_kept(node: LocalNode) -> Iterator[None]:
    """Kill a node; it comes back with all that it had."""
    node.kill()
    yield
    node.start()


@contextlib.contextmanager
def kill_older(node: LocalNode) -> Iterator[None]:
    """Kill a node; it comes back with an older copy of its memory."""
    data, copy = _data(node), _data(node).with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(data, copy)
    time.sleep(0.3)  # what is written now, the copy does not have
    node.kill()
    yield
    shutil.rmtree(data)
    copy.rename(data)
    node.start()


@contextlib.contextmanager
def pause(node: LocalNode) -> Iterator[None]:
    """Stop a node; when it runs on, it does what its sockets still hold."""
    node.pause()
    yield
    node.resume()


@contextlib.contextmanager
def wipe(node: LocalNode) -> Iterator[None]:
    """Delete all that a node has."""
    node.flush()
    yield


def _data(node: LocalNode) -> Path:
    directory = node._directory
    return directory / "data"


FAULTS: Mapping[str, Callable[[LocalNode], contextlib.AbstractContextManager[None]]] = {
    each.__name__: each for each in (kill_empty, kill_kept, kill_older, pause, wipe)
}
