"""One node that is a dict: the closed set of requests, executed in virtual time."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from distcache_django.core import requests as r
from distcache_django.exceptions import NodeRefused, NotAnInteger
from distcache_django.testing import memory_records, memory_replicas

__all__ = ["MemoryNode"]

_TOKEN_DAY_MS = 86_400_000


class _Record:
    __slots__ = ("expires", "serial", "value")

    def __init__(self, serial: int, value: bytes | None, expires: float | None) -> None:
        self.serial = serial
        self.value = value
        self.expires = expires


class MemoryNode:
    """Keep one node's records and execute requests on them; ``clock`` returns Unix time in seconds.

    ``boots`` counts the processes it has been, of which ``run_id`` names the present one. ``marked`` is when the
    marks on version records end, by key, in Unix milliseconds. ``missed`` holds the hashes that the node has.
    """

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self.name = name
        self._clock = clock
        self._records: dict[str, _Record] = {}
        self._serial = 0
        self.marked: dict[str, int] = {}
        self.missed: dict[str, dict[str, bytes]] = {}
        self.boots = 1

    @property
    def run_id(self) -> bytes:
        """Return the random name of the present process, which is not random here."""
        return b"%0*x" % (memory_records.RUN_ID_SIZE, self.boots)

    def __getitem__(self, key: str) -> bytes | None:
        """Return the bytes that are kept for a key, ``None`` for a value that is not a string."""
        record = self._live(key)
        if record is None:
            raise KeyError(key)
        return record.value

    def __contains__(self, key: str) -> bool:
        return self._live(key) is not None

    def keys(self) -> list[str]:
        """Return the names of all keys that have not expired."""
        return [key for key in list(self._records) if self._live(key)]

    def put(self, key: str, value: r.WireValue | None, ttl_ms: int | None = None) -> None:
        """Keep a value; ``None`` stands for one that is not a string (a list, say)."""
        stored = b"%d" % value if isinstance(value, int) else value
        self._serial += 1
        self._records[key] = _Record(self._serial, stored, self._at(ttl_ms))

    def clear(self) -> None:
        """Lose everything, as FLUSHALL does."""
        self._records.clear()
        self.marked.clear()
        self.missed.clear()

    def restart(self, memory: MemoryNode | None = None) -> None:
        """Be another process, with what ``memory`` holds: nothing, unless it is given."""
        kept = memory.snapshot() if memory is not None else MemoryNode(self.name, self._clock)
        self._records, self.marked, self.missed = kept._records, kept.marked, kept.missed
        self.boots += 1

    def snapshot(self) -> MemoryNode:
        """Return a copy of what there is, to ``restart`` with later."""
        copy = MemoryNode(self.name, self._clock)
        copy._records = {
            key: _Record(record.serial, record.value, record.expires) for key, record in self._records.items()
        }
        copy.marked, copy.boots, copy._serial = dict(self.marked), self.boots, self._serial
        copy.missed = {name: dict(marks) for name, marks in self.missed.items()}
        return copy

    def is_volatile(self, key: str) -> bool:
        """Return whether a key has an expiry, so that the policies named ``volatile-*`` may evict it."""
        return self._records[key].expires is not None

    def execute(self, request: r.Request) -> Any:
        """Do what a server does with a request and return the reply that a driver would hand out.

        :raises NodeRefused: for a value of the wrong type.
        """
        return _EXECUTE[type(request)](self, request)

    # ------------------------------------------------------------------ what the scripts on records use

    def now_ms(self) -> int:
        """Return the node's time as Unix milliseconds."""
        return int(self._clock() * 1000)

    def text(self, key: str) -> bytes | None:
        """Return the bytes of a key, ``None`` where there is none.

        :raises NodeRefused: for a value that is not a string.
        """
        return self._text(key)

    def discard(self, key: str) -> None:
        """Delete a key if it is there; also what an eviction does."""
        self._records.pop(key, None)

    def ttl_ms(self, key: str) -> int:
        """Return the time left of a key in milliseconds: -1 without an expiry, -2 without the key."""
        record = self._live(key)
        if record is None:
            return -2
        return -1 if record.expires is None else round((record.expires - self._clock()) * 1000)

    def amend(self, key: str, value: bytes) -> None:
        """Give a key that is there another value, and leave its expiry."""
        self._records[key].value = value

    def expire_in(self, key: str, ttl_ms: int | None) -> None:
        """Set the time left of a key, ``None`` for ever."""
        self._expire(key, self._at(ttl_ms))

    # ------------------------------------------------------------------ requests

    def _at(self, ttl_ms: int | None) -> float | None:
        return None if ttl_ms is None else self._clock() + ttl_ms / 1000

    def _live(self, key: str) -> _Record | None:
        record = self._records.get(key)
        if record is not None and record.expires is not None and record.expires <= self._clock():
            del self._records[key]
            return None
        return record

    def _text(self, key: str) -> bytes | None:
        record = self._live(key)
        if record is not None and record.value is None:
            raise NodeRefused(self.name, "WRONGTYPE Operation against a key holding the wrong kind of value")
        return None if record is None else record.value

    def _fetch(self, request: r.Fetch) -> bytes | None:
        # A value of another type is not found: drivers answer so, to be like MGET.
        record = self._live(request.key)
        return record.value if record else None

    def _fetch_many(self, request: r.FetchMany) -> list[bytes | None]:
        return [record.value if (record := self._live(key)) else None for key in request.keys]

    def _store(self, request: r.Store | r.StoreIf) -> bool:
        self.put(request.key, request.value, request.ttl_ms)
        return True

    def _store_if(self, request: r.StoreIf) -> bool:
        there = self._live(request.key) is not None
        return there is (request.condition == "XX") and self._store(request)

    def _store_many(self, request: r.StoreMany) -> bool:
        for key, value in request.items:
            self.put(key, value, request.ttl_ms)
        return True

    def _remove(self, request: r.Remove) -> int:
        there = [name for name in dict.fromkeys(request.keys) if self._live(name)]
        for name in there:
            del self._records[name]
        return len(there)

    def _increase(self, request: r.Increase) -> int | None:
        text = self._text(request.key)
        if text is None:
            return None
        value = int(text) + request.delta if re.fullmatch(rb"0|-?[1-9]\d{0,18}", text) else 2**63
        if not -(2**63) <= value < 2**63:
            raise NotAnInteger(f"the value of key {request.key!r} is not an integer that can be counted")
        self._records[request.key].value = b"%d" % value
        return value

    def _expire(self, key: str, expires: float | None) -> bool:
        record = self._live(key)
        if record is None:
            return False
        record.expires = expires
        return True

    def _persist(self, request: r.Persist) -> tuple[bool, bool]:
        record = self._live(request.key)
        had_expiry = record is not None and record.expires is not None
        return had_expiry, self._expire(request.key, None)

    def _scan(self, request: r.Scan) -> tuple[int, list[str]]:
        later = [key for key in self.keys() if self._records[key].serial > request.cursor]
        page = sorted(later, key=lambda key: self._records[key].serial)[: request.count]
        cursor = self._records[page[-1]].serial if len(page) < len(later) else 0
        return cursor, [key for key in page if _glob(request.pattern).fullmatch(key)]

    def _lock(self, key: str) -> tuple[int, bytes] | None:
        """Return the token and the nonce of a lock, the nonce empty where it is free."""
        text = self._text(key)
        if text is None:
            return 0, b""
        found = re.fullmatch(rb"(\d+):(.*)", text, re.DOTALL)
        return (int(found[1]), found[2]) if found else None

    def _acquire(self, request: r.Acquire) -> int | None:
        lock = self._lock(request.key)
        if lock is None:
            raise NodeRefused(self.name, "WRONGTYPE the key holds a value that is not a lock")
        token, nonce = lock
        if nonce:
            return token if nonce == request.nonce else None
        token = max(token + 1, int(self._clock() * 1_000_000))
        self.put(request.key, b"%d:%b" % (token, request.nonce), request.ttl_ms)
        return token

    def _token(self, request: r.Release | r.Prolong) -> int | None:
        """Return the token of a lock that the nonce of ``request`` holds."""
        token, nonce = self._lock(request.key) or (0, b"")
        return token if token and nonce == request.nonce else None

    def _release(self, request: r.Release) -> bool:
        token = self._token(request)
        if token is not None:
            self.put(request.key, b"%d:" % token, _TOKEN_DAY_MS)
        return token is not None

    def _prolong(self, request: r.Prolong) -> bool:
        if self._token(request) is None:
            return False
        left = max(0, self.ttl_ms(request.key)) if request.add else 0
        return self._expire(request.key, self._at(request.ttl_ms + left))


_EXECUTE: Mapping[type[r.Request], Callable[[MemoryNode, Any], Any]] = {
    r.Ping: lambda _node, _request: b"PONG",
    r.Fetch: MemoryNode._fetch,
    r.FetchMany: MemoryNode._fetch_many,
    r.Exists: lambda node, request: node._live(request.key) is not None,
    r.TimeToLive: lambda node, request: node.ttl_ms(request.key),
    r.Inspect: lambda node, request: (node._text(request.key), node.ttl_ms(request.key)),
    r.Store: MemoryNode._store,
    r.StoreIf: MemoryNode._store_if,
    r.StoreMany: MemoryNode._store_many,
    r.Remove: MemoryNode._remove,
    r.Increase: MemoryNode._increase,
    r.Expire: lambda node, request: node._expire(request.key, node._at(request.ttl_ms)),
    r.Deadline: lambda node, request: node._expire(request.key, request.unix_ms / 1000),
    r.Persist: MemoryNode._persist,
    r.Scan: MemoryNode._scan,
    r.Acquire: MemoryNode._acquire,
    r.Release: MemoryNode._release,
    r.Prolong: MemoryNode._prolong,
    r.Register: memory_records.register,
    r.Mint: memory_records.mint,
    r.Mark: memory_records.mark,
    r.Put: memory_replicas.put,
    r.Prepare: memory_replicas.prepare,
    r.Raise: memory_replicas.raise_field,
    r.Void: memory_replicas.void,
    r.Missed: memory_replicas.missed,
    r.Noted: memory_replicas.noted,
    r.Settle: memory_replicas.settle,
    r.Rise: memory_replicas.rise,
    r.Bump: memory_records.bump,
    r.Unmark: memory_records.unmark,
    r.Fill: memory_records.fill,
}


def _glob(pattern: str) -> re.Pattern[str]:
    """Translate a server's glob: ``*``, ``?``, ``[...]`` (``^`` negates) and a backslash that escapes."""
    parts = re.findall(r"\\.|\[\^?[^\]]*\]|.", pattern, re.DOTALL)
    return re.compile("".join(map(_glob_part, parts)), re.DOTALL)


def _glob_part(part: str) -> str:
    if part in ("*", "?"):
        return ".*" if part == "*" else "."
    if part[0] == "[" and len(part) > 2:
        return part
    return re.escape(part[1:] if len(part) == 2 and part[0] == "\\" else part)
