"""What the fault tests stand on: a cache over four real nodes of which one, the victim, is put at fault.

A call that ran into its deadline is told from a slow one by its length: the deadline is a second here, and only
calls of at least 0.8 s count as having waited, so that a busy machine is not mistaken for a hung node.
"""

import contextlib
import hashlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

from distcache_django.cluster import Cluster
from distcache_django.runtime import CacheRuntime
from distcache_django.testing.proxy import FaultProxy
from distcache_django.testing.servers import LocalNodes
from tests.faults.gate import Gate
from tests.support import subjects
from tests.support.waiting import wait_until

DEADLINE = 1.0
WAITED = 0.8 * DEADLINE
VICTIM = "cache-b"
HOUR = 3600

#: Faults under which the victim does not answer at all; a call to it waits for the deadline.
SILENT = ["stop", "blackhole", "half_open", "delay"]
#: Faults that are noticed at once.
PROMPT = ["kill", "cut", "loading"]


def setting(
    urls: Mapping[str, str], *, mode: str = "sync", options: Mapping[str, Any] | None = None, **params: Any
) -> dict[str, Any]:
    """Return a CACHES entry."""
    backend = subjects.SUBJECTS["distcache"].backend
    limits = {"DEADLINE": DEADLINE, "SOCKET_CONNECT_TIMEOUT": DEADLINE, **(options or {})}
    entry = {"BACKEND": backend, "LOCATION": dict(urls), "TIMEOUT": HOUR, "OPTIONS": limits, **params}
    if mode == "async":
        entry.update(BACKEND=subjects.AWAITED, AWAITED=backend)
    return entry


class Ground:
    """Four nodes, ways to break the victim, and caches over them."""

    def __init__(self, nodes: LocalNodes, mode: str = "sync") -> None:
        self.nodes = nodes
        self.victim = nodes[VICTIM]
        self.mode = mode
        self.urls = dict(nodes.urls)
        self._stack = contextlib.ExitStack()
        self.proxy: FaultProxy | None = None
        self.gate: Gate | None = None

    def close(self) -> None:
        """Close what stands between the cache and the victim."""
        self._stack.close()

    def behind_proxy(self) -> FaultProxy:
        """Put a fault proxy in front of the victim; for caches made from now on."""
        if self.proxy is None:
            self.proxy = self._stack.enter_context(FaultProxy(self.victim.port))
            self.urls[VICTIM] = self.proxy.url_for(self.victim.url)
        return self.proxy

    def behind_gate(self) -> Gate:
        """Put a gate, which understands commands, in front of the victim; for caches made from now on."""
        if self.gate is None:
            self.gate = self._stack.enter_context(Gate(self.victim.port))
            self.urls[VICTIM] = f"redis://127.0.0.1:{self.gate.port}/0"
        return self.gate

    def cache(self, options: Mapping[str, Any] | None = None, **params: Any) -> Any:
        """Make a cache; equal parameters share links and the knowledge of nodes, as in a site."""
        return subjects.build(setting(self.urls, mode=self.mode, options=options, **params))

    def prepare(self, fault: str) -> None:
        """Put up what ``fault`` needs; before caches are made."""
        if fault in ("blackhole", "half_open", "delay", "cut"):
            self.behind_proxy()
        elif fault == "loading":
            self.behind_gate()

    def begin(self, fault: str) -> None:
        """Put the victim at fault."""
        if fault == "stop":
            self.victim.pause()
        elif fault == "kill":
            self.victim.kill()
        elif fault == "loading":
            self.behind_gate().refuse = lambda words: b"LOADING the dataset is being loaded in memory"
        elif fault == "delay":
            self.behind_proxy().delay(3 * DEADLINE)
        else:
            getattr(self.behind_proxy(), fault)()

    def end(self, fault: str) -> None:
        """Bring the victim back; after ``kill`` it is empty."""
        if fault == "stop":
            self.victim.resume()
        elif fault == "kill":
            self.victim.restart(empty=True)
        elif fault == "loading":
            self.behind_gate().refuse = None
        else:
            self.behind_proxy().heal()


def runtime_of(cache: Any) -> CacheRuntime:
    """Return what the caches of an alias share."""
    runtime = cache._runtime
    assert isinstance(runtime, CacheRuntime)
    return runtime


def cluster_of(cache: Any) -> Cluster:
    """Return the nodes of a cache as this process knows them."""
    return runtime_of(cache).cluster


def is_up(cache: Any, node: str = VICTIM) -> bool:
    """Tell whether requests are sent to a node."""
    return cluster_of(cache).members()[node].is_up


def wait_until_up(cache: Any, node: str = VICTIM) -> None:
    """Wait for a node to be used again."""
    wait_until(lambda: is_up(cache, node), seconds=20, what=f"{node} in use again")


def keys_at(cache: Any, count: int, *, node: str = VICTIM, stem: str = "k") -> list[str]:
    """Return keys that a node owns."""
    found: list[str] = []
    number = 0
    while len(found) < count:
        key = f"{stem}{number}"
        if cache.locate(key).owners[0] == node:
            found.append(key)
        number += 1
    return found


def one_key_per_node(cache: Any, stem: str = "k") -> dict[str, str]:
    """Return a key of each node."""
    return {node: keys_at(cache, 1, node=node, stem=stem)[0] for node in cluster_of(cache).endpoints}


class Waits:
    """Count the calls that waited for a deadline."""

    def __init__(self) -> None:
        self.lengths: list[float] = []

    def __len__(self) -> int:
        return sum(length >= WAITED for length in self.lengths)

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """Measure one call."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.lengths.append(time.monotonic() - started)


def note_failure(cache: Any, key: str) -> None:
    """Let the process find out that the node of ``key`` is at fault; costs one deadline at most."""
    assert cache.get(key) is None
    assert not is_up(cache, cache.locate(key).owners[0])


def hidden(key: str, prefix: str, version: int) -> str:
    """Be a KEY_FUNCTION whose keys have nothing in common."""
    return hashlib.sha256(f"{prefix}:{version}:{key}".encode()).hexdigest()
