"""The face of a set of nodes: ``run(op)`` and ``await arun(op)``."""

from __future__ import annotations

import threading
import time
import weakref
from collections import Counter
from collections.abc import Mapping
from typing import Any

from distcache_django.cluster.board import Board
from distcache_django.core.coordinator import REDIRECTED_TTL_MS
from distcache_django.core.membership import Member
from distcache_django.transport.asynchronous import AsyncDriver
from distcache_django.transport.blocking import BlockingDriver
from distcache_django.transport.endpoint import Endpoint

__all__ = ["Cluster"]


class Cluster:
    """Reach a set of nodes from all threads and event loops of a process; links open with the first request.

    ``run`` and ``arun`` run an Op to its end and return its result.
    """

    def __init__(
        self,
        urls: Mapping[str, str],
        *,
        deadline: float = 0.25,
        connect_timeout: float = 0.1,
        client: str = "redis",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.endpoints = {
            name: Endpoint(
                name, url, deadline=deadline, connect_timeout=connect_timeout, client=client, options=options
            )
            for name, url in urls.items()
        }
        self.board = Board(self.endpoints)
        self._blocking = BlockingDriver(self.endpoints, self.board, deadline)
        self._asynchronous = AsyncDriver(self.endpoints, self.board, deadline)
        # Collected as a part of a cycle, sockets would be finalized before the links that close them.
        weakref.finalize(self, _drop, self._blocking, self.endpoints)
        self.run = self._blocking.run
        self.arun = self._asynchronous.run
        self._counts_lock = threading.Lock()  # guards _counts
        self._counts: Counter[str] = Counter()

    def forget(self) -> None:
        """Drop all links and all knowledge, as a forked child must; nothing is said to the nodes."""
        self.board.forget()
        self._blocking.forget()
        self._asynchronous.forget()
        self._counts_lock = threading.Lock()

    def close(self) -> None:
        """End background threads and drop this process's links and clients; harmless when repeated."""
        self.board.close()
        _drop(self._blocking, self.endpoints)
        self._asynchronous.forget()

    def members(self) -> dict[str, Member]:
        """Return what this process knows of the health of each node."""
        return self.board.members()

    def handle_node_failure(self, node: str, reason: str = "reported as failed") -> None:
        """Take ``node`` off the requests' way now; it is probed and comes back when it answers.

        :raises ValueError: if there is no node of this name.
        """
        if node not in self.endpoints:
            raise ValueError(f"there is no node {node!r}; the nodes are {', '.join(self.endpoints)}")
        self.board.failed(node, reason)

    def all_down(self) -> bool:
        """Return whether no node is known to be up."""
        return len(self.board.down) == len(self.endpoints)

    def may_redirect(self, node: str) -> bool:
        """Return whether another node may serve the keys of ``node``: not soon after its last return.

        What a previous outage left at other nodes may be older than what ``node`` has acknowledged since.
        """
        returned = self.board.returned.get(node)
        return returned is None or time.monotonic() - returned > REDIRECTED_TTL_MS / 1000

    def count(self, what: str, amount: int = 1) -> None:
        """Count a rare event (a degraded answer, an unreadable value)."""
        with self._counts_lock:
            self._counts[what] += amount

    def counts(self) -> dict[str, int]:
        """Return the events counted in this process."""
        with self._counts_lock:
            return dict(self._counts)


def _drop(driver: BlockingDriver, endpoints: Mapping[str, Endpoint]) -> None:
    driver.forget()
    for endpoint in endpoints.values():
        endpoint.close()
