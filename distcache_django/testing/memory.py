"""Run Ops on nodes that are plain dicts, in virtual time: no server, no socket, no thread, no waiting.

The third way to run an Op unchanged, beside the blocking and the asyncio driver. A healthy node answers in no
time; what waits moves the clock:

==========  ===============================  ================================  ==========================
fault       a request                        costs                             the request itself
==========  ===============================  ================================  ==========================
``hang``    fails with ``NodeTimeout``       what is left of the deadline      executed late, at ``mend``
``kill``    fails with ``NodeUnreachable``   nothing                           never executed
``refuse``  ``NodeRefused``, if it needs     nothing                           never executed
            memory
==========  ===============================  ================================  ==========================

The first failure takes a node off the requests' way, as the health board of a process does; it is used
again after ``mend`` (or ``settle``, where the node itself is well), which first deletes what missed a write.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, TypeVar

from distcache_django.cluster.debts import Debts
from distcache_django.core import requests as r
from distcache_django.core.coordinator import REDIRECTED_TTL_MS
from distcache_django.core.effects import Ask, Gather, Load, Op, Owe, Pause, step
from distcache_django.exceptions import (
    DistcacheError,
    NodeRefused,
    NodeTimeout,
    NodeUnreachable,
    NotAnInteger,
)
from distcache_django.transport.health import known_down, report

__all__ = ["OUT_OF_MEMORY", "MemoryNode", "MemoryNodes"]

T = TypeVar("T")
#: What a full server answers.
OUT_OF_MEMORY = "OOM command not allowed when used memory > 'maxmemory'."
_GROWING = (r.Store, r.StoreIf, r.StoreMany, r.Increase, r.Acquire, r.Release)
_TOKEN_DAY_MS = 86_400_000


class _Fault(Enum):
    HUNG = "hung"
    DEAD = "dead"


class _Record:
    __slots__ = ("expires", "serial", "value")

    def __init__(self, serial: int, value: bytes | None, expires: float | None) -> None:
        self.serial = serial
        self.value = value
        self.expires = expires


class MemoryNode:
    """Keep one node's records and execute requests on them; ``clock`` returns Unix time in seconds."""

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self.name = name
        self._clock = clock
        self._records: dict[str, _Record] = {}
        self._serial = 0

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
        """Lose everything, as a restart without persistence does."""
        self._records.clear()

    def execute(self, request: r.Request) -> Any:
        """Do what a server does with a request and return the reply that a driver would hand out.

        :raises NodeRefused: for a value of the wrong type.
        """
        return _EXECUTE[type(request)](self, request)

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

    def _fetch_many(self, request: r.FetchMany) -> list[bytes | None]:
        return [record.value if (record := self._live(key)) else None for key in request.keys]

    def _time_to_live(self, request: r.TimeToLive | r.Inspect | r.Prolong) -> int:
        record = self._live(request.key)
        if record is None:
            return -2
        return -1 if record.expires is None else round((record.expires - self._clock()) * 1000)

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
        there = [name for name in dict.fromkeys(_texts(request.keys)) if self._live(name)]
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

    def _scan(self, request: r.Scan) -> tuple[int, list[bytes]]:
        later = [key for key in self.keys() if self._records[key].serial > request.cursor]
        page = sorted(later, key=lambda key: self._records[key].serial)[: request.count]
        cursor = self._records[page[-1]].serial if len(page) < len(later) else 0
        return cursor, [key.encode() for key in page if _glob(request.pattern).fullmatch(key)]

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
        left = max(0, self._time_to_live(request)) if request.add else 0
        return self._expire(request.key, self._at(request.ttl_ms + left))


_EXECUTE: Mapping[type[r.Request], Callable[[MemoryNode, Any], Any]] = {
    r.Ping: lambda _node, _request: b"PONG",
    r.Fetch: lambda node, request: node._text(request.key),
    r.FetchMany: MemoryNode._fetch_many,
    r.Exists: lambda node, request: node._live(request.key) is not None,
    r.TimeToLive: MemoryNode._time_to_live,
    r.Inspect: lambda node, request: (node._text(request.key), node._time_to_live(request)),
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
}


class MemoryNodes:
    """Own nodes, their faults, one process's view of their health, and the clock; not for several threads.

    ``requests`` lists what has reached for a node, as (node, request), in order; a request that is not made
    because its node is known to be down is not in it. ``now`` is Unix time in seconds.
    """

    def __init__(self, names: Iterable[str], *, deadline: float = 0.25, now: float = 1_700_000_000.0) -> None:
        self.now = now
        self.deadline = deadline
        self.nodes = {name: MemoryNode(name, lambda: self.now) for name in names}
        self.requests: list[tuple[str, r.Request]] = []
        self.down: frozenset[str] = frozenset()
        self.returned: dict[str, float] = {}
        self.debts = {name: Debts() for name in self.nodes}
        self._faults: dict[str, _Fault] = {}
        self._refusals: dict[str, str] = {}
        self._late: dict[str, list[r.Request]] = {name: [] for name in self.nodes}
        self._expires = now

    # ------------------------------------------------------------------ time and faults

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def hang(self, name: str) -> None:
        """Freeze a node: it takes requests in and answers none; ``mend`` lets it run on and execute them."""
        self._faults[name] = _Fault.HUNG

    def kill(self, name: str) -> None:
        """End a node: it refuses connections, and what it had taken in is lost."""
        self._faults[name] = _Fault.DEAD
        self._late[name].clear()

    def refuse(self, name: str, message: str = OUT_OF_MEMORY) -> None:
        """Let a node answer every request that needs memory with an error, until ``mend``."""
        self._refusals[name] = message

    def mend(self, name: str, *, empty: bool = False) -> None:
        """Bring a node back, having executed what it had taken in, or ``empty``, and use it again."""
        self._faults.pop(name, None)
        self._refusals.pop(name, None)
        late, self._late[name] = self._late[name], []
        if empty:
            self.nodes[name].clear()
        for request in late if not empty else ():
            try:
                self.nodes[name].execute(request)
            except DistcacheError:
                continue  # nobody is left to be told
        self.settle(name)

    def settle(self, name: str) -> None:
        """Delete what missed a write and use the node again, as good probes do; nothing while it is away."""
        if name in self._faults:
            return
        keys, everything = self.debts[name].take()
        self.nodes[name].execute(r.Remove(keys))
        if everything:
            self.nodes[name].clear()
        if name in self.down:
            self.down -= {name}
            self.returned[name] = self.now

    def may_redirect(self, name: str) -> bool:
        """Return whether others may serve a node's keys, as ``Cluster.may_redirect`` does."""
        returned = self.returned.get(name)
        return returned is None or self.now - returned > REDIRECTED_TTL_MS / 1000

    # ------------------------------------------------------------------ what a driver tells about health

    def failed(self, node: str, reason: str) -> None:
        """Take a node off the requests' way."""
        self.down |= {node}

    def owe(self, node: str, keys: Iterable[Any], *, everything: bool = False) -> None:
        """Note keys that missed a write; the node is not used before they are deleted."""
        self.debts[node].add(keys, everything=everything)
        self.down |= {node}

    # ------------------------------------------------------------------ the driver

    def run(self, op: Op[T]) -> T:
        """Run an Op to its end and return its result."""
        self._expires = self.now + self.deadline
        try:
            effect = op.send(None)
            while True:
                effect = step(op, self._perform(effect))
        except StopIteration as done:
            result: T = done.value
            return result

    def _perform(self, effect: Any) -> Any:
        if isinstance(effect, Ask):
            return self._ask(effect)
        if isinstance(effect, Gather):
            return [self._ask(ask) for ask in effect.asks]
        if isinstance(effect, Owe):
            self.owe(effect.node, effect.keys, everything=effect.everything)
        elif isinstance(effect, Pause):
            self.advance(effect.seconds)
            self._expires = self.now + self.deadline
        elif isinstance(effect, Load):
            return self._load(effect)
        return None

    def _load(self, effect: Load) -> Any:
        left = self._expires - self.now
        try:
            return effect.function()
        except Exception as error:  # noqa: BLE001 - it is the Op's to pass on
            return error
        finally:
            self._expires = self.now + left

    def _ask(self, ask: Ask) -> Any:
        """Return the reply to one request, or the error it failed with."""
        node, request = ask.node, ask.request
        if node in self.down:
            if keys := request.replaces:
                self.owe(node, keys)
            return known_down(node)
        self.requests.append((node, request))
        try:
            return self._reach(node, request)
        except DistcacheError as error:
            report(self, request, error)
            return error

    def _reach(self, node: str, request: r.Request) -> Any:
        fault = self._faults.get(node)
        if fault is _Fault.DEAD:
            raise NodeUnreachable(node, "connection refused")
        if fault is _Fault.HUNG:
            self._late[node].append(request)
            self.now = max(self.now, self._expires)
            raise NodeTimeout(node, f"no answer within {self.deadline:g} s")
        if node in self._refusals and isinstance(request, _GROWING):
            raise NodeRefused(node, self._refusals[node])
        return self.nodes[node].execute(request)


def _texts(keys: Iterable[Any]) -> list[str]:
    # What a scan found is removed by the names it returned, which are bytes.
    return [key.decode() if isinstance(key, bytes) else key for key in keys]


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
