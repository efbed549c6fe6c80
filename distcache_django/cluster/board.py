"""Keep what this process knows about the health of its nodes, shared by all threads and event loops.

A failing node is taken off the requests' way at once and probed by a thread of its own until it answers two
PINGs in a row. Before it is used again, the keys that missed a write meanwhile are deleted there (`debts`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any

from distcache_django.cluster.debts import Debts
from distcache_django.core.freshness import RECORD_PREFIX, RECORD_TTL_MS
from distcache_django.core.membership import Event, Member, probe_delay, step
from distcache_django.core.requests import Bump, Ping, Remove, Scan
from distcache_django.exceptions import DistcacheError, NodeTimeout
from distcache_django.transport.commands import Wire
from distcache_django.transport.endpoint import Endpoint
from distcache_django.transport.health import NeedsFallback, decode
from distcache_django.transport.link import Broken, Link

__all__ = ["Board"]

logger = logging.getLogger(__name__)

#: How long a probe waits for a node that may be resuming; no request waits with it.
_PATIENCE = 1.0
_BATCH = 1000


class Board:
    """Know the state of every node of one cluster; what a driver needs of it is ``transport.health.Health``."""

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        self._endpoints = endpoints
        self._uniform = Random().uniform
        #: Patterns of the keys of the caches that use this cluster.
        self.patterns: set[str] = set()
        self.forget()

    def forget(self) -> None:
        """Start anew, as a forked child must: its parent's probes and debts are the parent's."""
        # Reentrant, because a signal handler may use the cache while this thread holds it.
        self._lock = threading.RLock()  # guards _members, _debts, _probing and the writing of down
        self._closed = threading.Event()
        self._members = {name: Member(name, since=time.monotonic()) for name in self._endpoints}
        self._debts = {name: Debts() for name in self._endpoints}
        self._probing: set[str] = set()
        self.down: frozenset[str] = frozenset()
        #: When each node last came back, in monotonic seconds.
        self.returned: dict[str, float] = {}

    def close(self) -> None:
        """End the probing threads; harmless when repeated."""
        self._closed.set()

    def members(self) -> dict[str, Member]:
        """Return what is known of each node."""
        with self._lock:
            return dict(self._members)

    def debt_count(self, node: str) -> int:
        """Return how many keys of ``node`` are to be deleted before it is used again."""
        with self._lock:
            return len(self._debts[node])

    def failed(self, node: str, reason: str, owed: Sequence[str] = ()) -> None:
        """Take ``node`` off the requests' way and have it probed; ``owed`` are keys that missed a write there."""
        with self._lock:
            self._note(node, owed)
            self._fail(node, reason)

    def owe(self, node: str, keys: Sequence[str], patterns: Sequence[str] = ()) -> None:
        """Note keys of ``node`` that missed a write; it is not used again before they are deleted there."""
        with self._lock:
            self._note(node, keys, patterns)
            self._fail(node, "missed writes have to be settled")

    def owe_bumps(self, node: str, keys: Sequence[str]) -> None:
        """Note version records of ``node`` that missed a bump; it is not used again before they have it."""
        with self._lock:
            self._debts[node].add_bumps(keys)
            self._fail(node, "missed bumps have to be settled")

    def _note(self, node: str, keys: Sequence[str], patterns: Sequence[str] = ()) -> None:
        self._debts[node].add(keys, patterns, caches=self.patterns)

    def _fail(self, node: str, reason: str) -> None:
        self._apply(node, Event.FAILED, reason)
        if node not in self._probing and not self._closed.is_set():
            self._probing.add(node)
            thread = threading.Thread(target=self._watch, args=(node,), name=f"distcache-probe-{node}", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no thread starts while the interpreter ends; nothing will need the node again
                self._probing.discard(node)

    def _apply(self, node: str, event: Event, reason: str = "") -> Member:
        before = self._members[node]
        after = self._members[node] = step(before, event, time.monotonic(), reason)
        if after.state is not before.state:
            self.down = frozenset(name for name, member in self._members.items() if not member.is_up)
            level = logging.INFO if after.is_up else logging.WARNING
            logger.log(level, "node %s is %s%s", node, after.state.value, f": {after.reason}" if after.reason else "")
        return after

    def _watch(self, node: str) -> None:
        """Probe ``node`` until it is up again; the body of its probing thread."""
        link: Link | None = None
        while True:
            with self._lock:
                delay = probe_delay(self._members[node], self._uniform)
            if self._closed.wait(delay):
                break
            try:
                link = self._probe(node, link)
                if self._try_to_settle(node, link):
                    break
            except (DistcacheError, Broken) as error:
                self._silent(node, str(error))
                _dropped(link)
                link = None
            except Exception as error:  # a probe must not die: without it the node would stay down for ever
                logger.exception("probe of node %s failed", node)
                self._silent(node, repr(error))
                _dropped(link)
                link = None
        if link is not None:
            link.close()

    def _probe(self, node: str, link: Link | None) -> Link:
        """Send one PING; the first on a link may take long, because the node may just be resuming."""
        endpoint = self._endpoints[node]
        patience = endpoint.deadline if link else _PATIENCE
        if link is None:
            link = Link(endpoint, endpoint.open(patience))
        try:
            _request(link, Ping(), patience)
        except BaseException:
            link.close()
            raise
        with self._lock:
            self._apply(node, Event.ANSWERED)
        return link

    def _silent(self, node: str, reason: str) -> None:
        with self._lock:
            self._apply(node, Event.SILENT, reason)

    def _try_to_settle(self, node: str, link: Link) -> bool:
        """Pay the debts to a node that has answered often enough; return whether it is up."""
        while True:
            with self._lock:
                if not self._members[node].may_settle:
                    return False
                debts = self._debts[node]
                if not debts:
                    self._apply(node, Event.SETTLED)
                    self.returned[node] = time.monotonic()
                    self._probing.discard(node)
                    return True
                keys, patterns = debts.take()
                bumps, is_all = debts.take_bumps()
            try:
                self._pay(link, keys, patterns)
                _bump(link, bumps, is_all=is_all)
            except BaseException:
                with self._lock:
                    self._note(node, keys, patterns)
                    self._debts[node].add_bumps(bumps)
                    if is_all:
                        self._debts[node].add_all_bumps()
                raise

    def _pay(self, link: Link, keys: Sequence[str], patterns: Sequence[str]) -> None:
        for start in range(0, len(keys), _BATCH):
            _request(link, Remove(keys[start : start + _BATCH]), _PATIENCE)
        for pattern in patterns:
            for found in _matching(link, pattern):
                _request(link, Remove(found), _PATIENCE)


def _bump(link: Link, keys: Sequence[str], *, is_all: bool) -> None:
    """Give records, or all that the node has, new versions; where it has lost its memory, what is left of them goes.

    A record that is made while all are listed needs no bump: its version was never used.
    """
    listed = (keys[start : start + _BATCH] for start in range(0, len(keys), _BATCH))
    for batch in _matching(link, f"{RECORD_PREFIX}*") if is_all else listed:
        _request(link, Bump(batch, RECORD_TTL_MS), _PATIENCE)


def _dropped(link: Link | None) -> None:
    """Close a link at once: the frames of the error that ended it would keep it until the collector runs."""
    if link is not None:
        link.close()


def _matching(link: Link, pattern: str) -> Iterable[Sequence[Any]]:
    cursor = 0
    while True:
        cursor, found = _request(link, Scan(cursor, pattern, _BATCH), _PATIENCE)
        if found:
            yield found
        if not cursor:
            return


def _request(link: Link, request: Any, patience: float) -> Any:
    """Send one request on a link outside the drivers' way and return its value."""
    wire = link.wires[type(request)]
    expires = time.monotonic() + patience
    try:
        try:
            return _exchange(link, request, wire, expires)
        except NeedsFallback:
            assert wire.fallback is not None
            return _exchange(link, request, wire.fallback, expires)
    except NodeTimeout:
        link.close()
        raise


def _exchange(link: Link, request: Any, wire: Wire, expires: float) -> Any:
    link.send_timed(wire.encode(request), expires)
    return decode(link.endpoint.name, request, wire, link.read_timed(expires))
