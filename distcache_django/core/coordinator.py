"""Decide which node does what for one cache at replication factor 1: every key has one owner.

Consistency: a value is where its owner is; reads see the last write the owner acknowledged. An operation whose
owner does not answer fails with the owner's ``TransportError``; drivers have noted the keys it may have missed
(``Owe``), so nothing old comes back when the owner does.

*Redirection* (``ON_NODE_DOWN="redirect"``): reads and plain writes of a key whose owner is down go to the next
node of its preference list, and no further, with at most ten seconds to live. Exclusive operations (``add``,
counting, locks) are never redirected: two processes may differ in what they think of the owner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from distcache_django.core.effects import Ask, Gather, Op, Owe, Pause
from distcache_django.core.requests import (
    Exists,
    Fetch,
    FetchMany,
    Remove,
    Request,
    Scan,
    Store,
    StoreIf,
    StoreMany,
    WireValue,
)
from distcache_django.core.topology import Topology
from distcache_django.exceptions import NodeRefused, NodeUnreachable, TransportError

__all__ = ["REDIRECTED_TTL_MS", "Coordinator", "Pieces", "scan_nodes", "scan_page"]

#: The longest life of a value that is kept by a node other than its owner.
REDIRECTED_TTL_MS = 10_000
_SCAN_COUNT = 1000

Failures = list[TransportError]
#: A node, the indices of the keys it was asked for, and its reply.
Pieces = list[tuple[str, Sequence[int], Any]]


class Coordinator:
    """Build the Ops of one cache. Immutable; shared by threads.

    ``may_redirect`` tells whether a down node's keys may be served by another one at present; ``None`` switches
    redirection off.
    """

    def __init__(self, topology: Topology, may_redirect: Callable[[str], bool] | None = None) -> None:
        self.topology = topology
        self.owner = topology.owner
        self._may_redirect = may_redirect

    def fetch(self, key: str) -> Op[bytes | None]:
        """Read one value from its owner, in one round trip."""
        try:
            value: bytes | None = yield Ask(self.owner(key), Fetch(key))
        except TransportError as error:
            value = yield from self._redirect(key, Fetch(key), error)
        return value

    def store(self, key: str, value: WireValue, ttl_ms: int | None) -> Op[None]:
        """Write one value at its owner, in one round trip."""
        owner = self.owner(key)
        try:
            yield Ask(owner, Store(key, value, ttl_ms))
        except NodeRefused as error:
            yield from _drop_refused(owner, [key])
            raise error
        except TransportError as error:
            yield from self._redirect(key, Store(key, value, _short(ttl_ms)), error)

    def store_if(self, key: str, value: WireValue, ttl_ms: int | None, condition: str) -> Op[bool]:
        """Write one value at its owner if ``condition`` (``NX``, ``XX``) is met, in one round trip, atomically."""
        owner = self.owner(key)
        request = StoreIf(key, value, ttl_ms, condition)
        try:
            stored: bool = yield Ask(owner, request)
        except NodeRefused as error:
            yield from _drop_refused(owner, request.replaces)
            raise error
        return stored

    def remove(self, key: str) -> Op[bool]:
        """Delete one key at its owner, in one round trip; return whether it was there."""
        try:
            removed: int = yield Ask(self.owner(key), Remove((key,)))
        except NodeRefused as error:
            yield Owe(error.node, (key,))
            raise error
        except TransportError as error:
            # A copy that a redirected write left elsewhere goes too, but only the owner can acknowledge.
            yield from self._redirect(key, Remove((key,)), error)
            raise error
        return removed > 0

    def exists(self, key: str) -> Op[bool]:
        """Tell whether a key is there, in one round trip."""
        try:
            found: bool = yield Ask(self.owner(key), Exists(key))
        except TransportError as error:
            found = yield from self._redirect(key, Exists(key), error)
        return found

    def ask_owner(self, key: str, request: Request) -> Op[Any]:
        """Send a request about one key to its owner and nowhere else, in one round trip."""
        try:
            return (yield Ask(self.owner(key), request))
        except NodeRefused as error:
            if request.replaces:
                yield Owe(error.node, request.replaces)
            raise error

    def fetch_many(self, keys: Sequence[str]) -> Op[tuple[Pieces, Failures]]:
        """Read values, one round trip per node, all at once; each piece holds its part's values in order."""
        return (yield from self._each_part(keys, lambda part: FetchMany([keys[i] for i in part])))

    def store_many(
        self, keys: Sequence[str], values: Sequence[WireValue], ttl_ms: int | None
    ) -> Op[tuple[list[int], Failures]]:
        """Write values, one round trip per node, all at once; return the indices of those not stored."""
        pieces, failures = yield from self._each_part(
            keys,
            lambda part: StoreMany([(keys[i], values[i]) for i in part], ttl_ms),
            lambda part: StoreMany([(keys[i], values[i]) for i in part], _short(ttl_ms)),
        )
        if not failures and all(outcome is True for _, _, outcome in pieces):
            return [], failures
        stored: set[int] = set()
        for node, part, outcome in pieces:
            kept = part if outcome is True else [i for i, ok in zip(part, outcome, strict=True) if ok]
            stored.update(kept)
            if len(kept) < len(part):
                yield from _drop_refused(node, [keys[i] for i in part if i not in stored])
        left = [index for index in range(len(keys)) if index not in stored]
        for failure in failures:
            if isinstance(failure, NodeRefused):
                yield from _drop_refused(failure.node, [keys[i] for i in left if self.owner(keys[i]) == failure.node])
        return left, failures

    def remove_many(self, keys: Sequence[str]) -> Op[tuple[list[int], Failures]]:
        """Delete keys, one round trip per node, all at once; return the indices of those not acknowledged by owners."""

        def request(part: Sequence[int]) -> Request:
            return Remove([keys[i] for i in part])

        parts = self.topology.parts(keys)
        _, failures = yield from _gather_parts(parts, request)
        yield from _owe_refused(failures, keys, parts)
        if failures:
            moved, _ = self._next_homes(keys, parts, failures)
            _, again = yield from _gather_parts(moved, request)
            yield from self._end_copies(keys, moved, failures, again)
        return [index for failure in failures for index in parts[failure.node]], failures

    def scan(self, pattern: str) -> Op[tuple[list[str], Failures]]:
        """List all keys that match a glob pattern; many round trips, all nodes at once."""
        found: list[str] = []
        failures = yield from scan_nodes(self.topology.ring.nodes, pattern, lambda _, keys: found.extend(keys))
        return found, failures

    def page(self, node: str, cursor: int, pattern: str, count: int) -> Op[tuple[int, list[str], Failures]]:
        """List about ``count`` of a node's keys that match a glob pattern, and where the next begin (0: nowhere)."""
        return (yield from scan_page(node, cursor, pattern, count))

    def remove_matching(self, pattern: str, count: int = _SCAN_COUNT) -> Op[tuple[int, Failures]]:
        """Delete all keys that match a glob pattern, wherever they are, about ``count`` at a time on each node.

        Many round trips, all nodes at once. A node that fails on the way owes the whole pattern.
        """
        parts: dict[str, list[str]] = {}
        failures = yield from scan_nodes(
            self.topology.ring.nodes, pattern, lambda node, keys: parts.setdefault(node, []).extend(keys), count
        )
        removed = 0
        while asks := [Ask(node, Remove(keys[:count])) for node, keys in parts.items() if keys]:
            yield Pause(0)
            for ask, outcome in zip(asks, (yield Gather(asks)), strict=True):
                parts[ask.node] = parts[ask.node][count:]
                if isinstance(outcome, TransportError):
                    failures.append(outcome)
                    parts[ask.node] = []
                else:
                    removed += outcome
        for failure in failures:
            yield Owe(failure.node, (), (pattern,))
        return removed, failures

    def _redirect(self, key: str, request: Request, error: TransportError) -> Op[Any]:
        """Ask the next node in place of the owner, or raise ``error``.

        Never a node further on: when the next one comes back, it would not know of what the further one has.
        """
        moved, _ = self._next_homes((key,), {error.node: (0,)}, (error,))
        for node in moved:
            try:
                reply = yield Ask(node, request)
            except NodeRefused:
                yield from _drop_refused(node, request.replaces)
                break
            except TransportError:
                break
            return reply
        raise error

    def _each_part(
        self,
        keys: Sequence[str],
        request: Callable[[Sequence[int]], Request],
        redirected: Callable[[Sequence[int]], Request] | None = None,
    ) -> Op[tuple[Pieces, Failures]]:
        """Send each owner the request for its part of ``keys``, given as indices; return what came of each."""
        parts = self.topology.parts(keys)
        pieces, failures = yield from _gather_parts(parts, request)
        if failures:
            away = failures
            moved, failures = self._next_homes(keys, parts, away)
            more, again = yield from _gather_parts(moved, redirected or request)
            pieces += more
            failures = [*failures, *again]
            if redirected is not None:
                yield from self._end_copies(keys, moved, away, again)
        return pieces, failures

    def _next_homes(
        self, keys: Sequence[str], parts: Mapping[str, Sequence[int]], failures: Sequence[TransportError]
    ) -> tuple[dict[str, list[int]], Failures]:
        """Share the keys of failed nodes out to the nodes that follow; return also the failures that stay."""
        moved: dict[str, list[int]] = {}
        left: Failures = []
        for failure in failures:
            if not self._is_redirected(failure):
                left.append(failure)
                continue
            for index in parts[failure.node]:
                moved.setdefault(self.topology.preference_list(keys[index])[1], []).append(index)
        return moved, left

    def _end_copies(
        self, keys: Sequence[str], moved: Mapping[str, Sequence[int]], away: Failures, again: Failures
    ) -> Op[None]:
        """Have next nodes drop the copies that redirected writes were to replace, and did not.

        Only of keys whose owner was down before this Op: it left copies there. With one that this Op has found
        hanging, the time that its requests to healthy nodes lack is nobody's fault.
        """
        down = {failure.node for failure in away if isinstance(failure, NodeUnreachable)}
        for failure in again:
            copies = [keys[i] for i in moved[failure.node] if self.owner(keys[i]) in down]
            if isinstance(failure, NodeRefused):
                yield from _drop_refused(failure.node, copies)
            elif copies:
                yield Owe(failure.node, copies)

    def _is_redirected(self, failure: TransportError) -> bool:
        return (
            self._may_redirect is not None
            and len(self.topology.node_names) > 1
            and not isinstance(failure, NodeRefused)
            and self._may_redirect(failure.node)
        )


def scan_nodes(
    nodes: Iterable[str], pattern: str, put: Callable[[str, list[str]], None], count: int = _SCAN_COUNT
) -> Op[Failures]:
    """List the keys of all nodes that match a glob pattern, a part at a time, into ``put(node, keys)``."""
    failures: Failures = []
    cursors = dict.fromkeys(nodes, 0)
    while cursors:
        yield Pause(0)  # each step has a deadline of its own, and lets other tasks in
        asks = [Ask(node, Scan(cursor, pattern, count)) for node, cursor in cursors.items()]
        for ask, outcome in zip(asks, (yield Gather(asks)), strict=True):
            if isinstance(outcome, TransportError):
                failures.append(outcome)
                del cursors[ask.node]
                continue
            cursors[ask.node], keys = outcome
            put(ask.node, keys)
        cursors = {node: cursor for node, cursor in cursors.items() if cursor}
    return failures


def scan_page(node: str, cursor: int, pattern: str, count: int) -> Op[tuple[int, list[str], Failures]]:
    """List a part of a node's keys; one that fails has no more."""
    try:
        cursor, keys = yield Ask(node, Scan(cursor, pattern, count))
    except TransportError as error:
        return 0, [], [error]
    return cursor, keys, []


def _drop_refused(node: str, keys: Sequence[str]) -> Op[None]:
    """Delete what a refused write (a full node's ``OOM``) would have replaced: better a miss than old data.

    A node that refuses that too serves nothing until it takes it.
    """
    if not keys:
        return
    try:
        yield Ask(node, Remove(keys))
    except TransportError:
        yield Owe(node, keys)


def _owe_refused(failures: Failures, keys: Sequence[str], parts: Mapping[str, Sequence[int]]) -> Op[None]:
    """Note the keys that nodes refused to delete."""
    for failure in failures:
        if isinstance(failure, NodeRefused):
            yield Owe(failure.node, [keys[i] for i in parts[failure.node]])


def _gather_parts(
    parts: Mapping[str, Sequence[int]], request: Callable[[Sequence[int]], Request]
) -> Op[tuple[Pieces, Failures]]:
    pieces: Pieces = []
    failures: Failures = []
    asks = [Ask(node, request(part)) for node, part in parts.items()]
    outcomes = [(yield from _outcome(asks[0]))] if len(asks) == 1 else (yield Gather(asks)) if asks else ()
    for (node, part), outcome in zip(parts.items(), outcomes, strict=True):
        if isinstance(outcome, TransportError):
            failures.append(outcome)
        else:
            pieces.append((node, part, outcome))
    return pieces, failures


def _outcome(ask: Ask) -> Op[Any]:
    """Do what a ``Gather`` of one request does, on the drivers' straight path."""
    try:
        return (yield ask)
    except TransportError as error:
        return error


def _short(ttl_ms: int | None) -> int:
    return REDIRECTED_TTL_MS if ttl_ms is None else min(ttl_ms, REDIRECTED_TTL_MS)
