"""Do for a cache at replication factor 2 and more what ``core.coordinator`` does for one at 1.

The same requests about a key, answered by a quorum. Reads and writes take one round trip where all is well;
``delete`` and ``touch``, which first have to know what is there, and what a majority has to agree on (locks) take two.
``add`` looks first: one where there is a value, three where it stores one.

Consistency: with ``read + write > replication_factor`` a read returns nothing older than the last acknowledged write.
A call that raises ``QuorumNotReached`` has changed nothing; after ``InDoubt`` it may have happened, or may yet, once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from distcache_django.core import requests as r
from distcache_django.core.agreement import Agreement
from distcache_django.core.clock import ACTOR_SIZE
from distcache_django.core.coordinator import Coordinator, Pieces, scan_nodes, scan_page
from distcache_django.core.counting import Counting
from distcache_django.core.drafts import Draft
from distcache_django.core.effects import Op, Pause
from distcache_django.core.locking import Locking
from distcache_django.core.record import COUNTER, Counter, Record
from distcache_django.core.replicas import Replicas, raw_value
from distcache_django.core.votes import PATIENCE
from distcache_django.exceptions import TransportError, Unavailable

__all__ = ["AnyCoordinator", "ReplicatedCoordinator"]

_BATCH: Final = 1000
_Failures = list[TransportError | Unavailable]


class ReplicatedCoordinator:
    """Build the Ops of one cache. Shared by threads."""

    def __init__(self, replicas: Replicas, agreement: Agreement, counting: Counting) -> None:
        self.replicas = replicas
        self.topology = replicas.topology
        self.owner = replicas.topology.owner
        self.fetch = replicas.fetch
        self.store = replicas.store
        self.remove = replicas.remove
        self.exists = replicas.exists
        self.store_many = replicas.store_many
        self.remove_many = replicas.remove_many
        self._agreement = agreement
        self._counting = counting
        self._locking = Locking(replicas, agreement)

    def store_if(self, key: str, value: r.WireValue, ttl_ms: int | None, condition: str) -> Op[bool]:
        """Write one value if a majority agrees that ``condition`` is met: ``XX`` in two round trips, ``NX`` in three.

        ``NX`` takes one where there is a value.
        """
        if condition == "NX":
            return (yield from self._agreement.add("add", key, value, ttl_ms))
        return (yield from self._agreement.replace("set", key, value, ttl_ms))

    def fetch_many(self, keys: Sequence[str]) -> Op[tuple[Pieces, _Failures]]:
        """Read values, one round trip per node, all at once; all in one piece."""
        found, failures = yield from self.replicas.fetch_many(keys)
        return [("", range(len(keys)), found)], [*failures]

    def ask_owner(self, key: str, request: r.Request) -> Op[Any]:
        """Do what a request says about one key, at all its owners."""
        return (yield from _DO[type(request)](self, request))

    def touch(self, key: str, expires_at: int) -> Op[Record | None]:
        """Give a key another end (Unix milliseconds, 0 for never), two round trips; return what it was before.

        The write that it belongs to stays the same: a newer one, even if it comes first, is not touched.
        """
        replicas = self.replicas
        record = yield from replicas.record("touch", key)
        if record is None:
            return None
        replicas.observe(max(record.stamp, record.touched + bytes(ACTOR_SIZE)))  # later than all that were acknowledged
        touched = replicas.stamps.next(replicas.standings.now())[:8]
        changed = record._replace(touched=touched, expires_at=expires_at)
        draft = Draft(key, replicas.topology.owners(key), lambda _: changed)
        expires = replicas.expires()
        yield from replicas.send([draft], expires, PATIENCE)
        if draft.newer:  # a write, or a promise to one that may never come: only a majority can tell
            return (yield from self._agreement.prolong("touch", key, expires_at))
        if draft.acknowledged < len(draft.stored):
            yield from replicas.send([draft], expires, 1.0, only_stored=True)
        replicas.check("touch", draft)
        return record

    def scan(self, pattern: str) -> Op[tuple[list[str], _Failures]]:
        """List all live keys that match a glob pattern; many round trips, all nodes at once."""
        listed: list[str] = []
        away = yield from scan_nodes(self.topology.node_names, pattern, lambda _, keys: listed.extend(keys))
        # What is acknowledged is at as many nodes as a write needs: with fewer away, another has listed it.
        failures: _Failures = [*away] if len(away) >= self.replicas.write else []
        keys = list(dict.fromkeys(listed))
        found: list[str] = []
        for start in range(0, len(keys), _BATCH):
            yield Pause(0)  # each step has a deadline of its own, and lets other tasks in
            live, failed = yield from self._live(keys[start : start + _BATCH])
            found += live
            failures += failed
        return found, failures

    def page(self, node: str, cursor: int, pattern: str, count: int) -> Op[tuple[int, list[str], _Failures]]:
        """List a part of a node's live keys that match, and where the next begins (0: nowhere), in two round trips.

        Every owner of a key lists it; so a node that is away is a failure only where too few others make up for it.
        """
        cursor, keys, away = yield from scan_page(node, cursor, pattern, count)
        found, failures = yield from self._live(keys)
        is_missed = len({node, *self.replicas.down()}) >= self.replicas.write
        return cursor, found, [*(away if is_missed else ()), *failures]

    def _live(self, keys: Sequence[str]) -> Op[tuple[list[str], _Failures]]:
        if not keys:
            return [], []
        values, failures = yield from self.replicas.fetch_many(keys)
        return [key for key, value in zip(keys, values, strict=True) if value is not None], [*failures]

    def remove_matching(self, pattern: str, count: int = _BATCH) -> Op[tuple[int, _Failures]]:
        """Delete all keys that match a glob pattern, about ``count`` at a time; nothing of them comes back.

        Many round trips. What only nodes have that are away at present was deleted before, or is noted for them.
        """
        found, failures = yield from self.scan(pattern)
        removed = 0
        for start in range(0, len(found), count):
            yield Pause(0)
            left, failed = yield from self.replicas.remove_many(found[start : start + count])
            failures += failed
            removed += len(found[start : start + count]) - len(left)
        return removed, failures

    # ------------------------------------------------------------------ single requests

    def _ttl_ms(self, key: str) -> Op[int]:
        return (yield from self.replicas.inspect(key))[1]

    def _inspect(self, key: str) -> Op[tuple[r.WireValue | None, int]]:
        """Read a value in the form in which it is stored again, and its time left."""
        record = yield from self.replicas.record("inspect", key)
        if record is None:
            return None, -2
        left = max(0, round(record.expires_at - self.replicas.now_ms())) if record.expires_at else -1
        if record.kind == COUNTER:
            return Counter.parse(record.payload).value, left
        return raw_value(record), left

    def _expire(self, key: str, ttl_ms: int) -> Op[bool]:
        yield from self.replicas.acquaint(self.topology.owners(key))
        return (yield from self._end_at(key, round(self.replicas.now_ms()) + ttl_ms))

    def _end_at(self, key: str, unix_ms: int) -> Op[bool]:
        yield from self.replicas.acquaint(self.topology.owners(key))
        if unix_ms <= self.replicas.now_ms():
            return (yield from self.remove(key))
        return (yield from self.touch(key, unix_ms)) is not None

    def _persist(self, key: str) -> Op[tuple[bool, bool]]:
        record = yield from self.touch(key, 0)
        return record is not None and record.expires_at > 0, record is not None

    def _lock_text(self, key: str) -> Op[bytes]:
        return b"%d:%b" % (yield from self._locking.holder(key))


_DO: Final[Mapping[type[r.Request], Callable[[ReplicatedCoordinator, Any], Op[Any]]]] = {
    r.Fetch: lambda self, request: self._lock_text(request.key),
    r.Exists: lambda self, request: self.exists(request.key),
    r.TimeToLive: lambda self, request: self._ttl_ms(request.key),
    r.Inspect: lambda self, request: self._inspect(request.key),
    r.Expire: lambda self, request: self._expire(request.key, request.ttl_ms),
    r.Deadline: lambda self, request: self._end_at(request.key, request.unix_ms),
    r.Persist: lambda self, request: self._persist(request.key),
    r.Increase: lambda self, request: self._counting.increase(request.key, request.delta),
    r.Acquire: lambda self, request: self._locking.acquire(request.key, request.nonce, request.ttl_ms),
    r.Release: lambda self, request: self._locking.release(request.key, request.nonce),
    r.Prolong: lambda self, request: self._locking.prolong(request.key, request.nonce, request.ttl_ms, add=request.add),
}

#: What backends are given.
AnyCoordinator = Coordinator | ReplicatedCoordinator
