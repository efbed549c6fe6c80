"""The cache nodes during the demo: what they count, how they are broken, and when they serve again."""

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import redis

from distcache_django.core.ring import HashRing
from distcache_django.testing.resp import ask
from distcache_django.testing.servers import LocalNodes

ASK_TIMEOUT = 0.25
POLL_INTERVAL = 0.02
SCANNED_KEYS = 5_000
# What every node has of its own, and leases, which are kept beside what they are about.
OF_THE_NODE = frozenset({b"dc:node", b"dc:count", b"dc:marked", b"dc:founders", b"dc:serial"})
LEASE = b":lease"


@dataclass(frozen=True, slots=True)
class Lookups:
    """Keys that were asked for and found, and those that were not."""

    hits: int = 0
    misses: int = 0

    @property
    def total(self) -> int:
        """Give all keys asked for."""
        return self.hits + self.misses


def read_lookups(url: str) -> Lookups | None:
    """Ask a node what it has counted; None where it does not answer."""
    try:
        (reply,) = ask(url, ("INFO", "stats"), timeout=ASK_TIMEOUT)
    except OSError:
        return None
    lines = (line.partition(":") for line in reply.decode().splitlines())
    fields = {name: value for name, _, value in lines}
    return Lookups(int(fields.get("keyspace_hits", 0)), int(fields.get("keyspace_misses", 0)))


class Faults:
    """Pause one node, kill another, and bring both back."""

    def __init__(self, nodes: LocalNodes) -> None:
        names = list(nodes)
        self._nodes = nodes
        self.paused = names[1]
        self.killed = names[2 % len(names)]
        self._returns: dict[str, ReturnWatch] = {}

    def pause(self) -> None:
        """SIGSTOP: the node's connections stay open, and it answers nobody."""
        self._nodes[self.paused].pause()

    def resume(self) -> None:
        """SIGCONT: the node is back with all it had."""
        before = time.monotonic()
        self._nodes[self.paused].resume()
        self._returns["paused"] = ReturnWatch(self._nodes[self.paused].url, since=before)

    def kill(self) -> None:
        """SIGKILL: connections break, and what the node held is gone."""
        self._nodes[self.killed].kill()

    def restart(self) -> None:
        """Start the killed node, empty."""
        self._nodes[self.killed].restart(empty=True)
        self._returns["killed"] = ReturnWatch(self._nodes[self.killed].url, since=time.monotonic())

    def seconds_until_used(self) -> dict[str, float | None]:
        """Tell how long after its return each node was asked for a key again; None if it was not."""
        return {name: watch.finish() for name, watch in self._returns.items()}


class ReturnWatch:
    """Measure when a node that is back is used again, in a thread of its own."""

    def __init__(self, url: str, *, since: float) -> None:
        self._url = url
        self._since = since
        self._done = threading.Event()
        self._seconds: float | None = None
        self._thread = threading.Thread(target=self._watch, name="return-watch", daemon=True)
        self._thread.start()

    def finish(self) -> float | None:
        """Stop watching and give the seconds."""
        self._done.set()
        self._thread.join()
        return self._seconds

    def _watch(self) -> None:
        baseline: Lookups | None = None
        while not self._done.wait(POLL_INTERVAL):
            now = read_lookups(self._url)
            baseline = baseline or now
            if baseline is not None and now is not None and now.total > baseline.total:
                self._seconds = time.monotonic() - self._since
                return


def count_misplaced(urls: Mapping[str, str]) -> tuple[int, int]:
    """Count keys that are on another node than the one their name gives them, and the keys looked at."""
    ring = HashRing(list(urls))
    misplaced = looked_at = 0
    for name, url in urls.items():
        for key in _some_keys(url):
            looked_at += 1
            misplaced += ring.get_node(key) != name
    return misplaced, looked_at


def owned_share(urls: Mapping[str, str], name: str) -> float:
    """Tell which share of all keys a node owns."""
    return HashRing(list(urls)).get_load_distribution()[name]


def _some_keys(url: str) -> Iterator[bytes]:
    with redis.Redis.from_url(url) as server:
        placed = (key for key in server.scan_iter(count=1000) if key not in OF_THE_NODE and not key.endswith(LEASE))
        yield from islice(placed, SCANNED_KEYS)
