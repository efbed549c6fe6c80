"""The closed set of things a node can be asked to do.

The core speaks these, not Redis commands: ``transport.commands`` translates them to RESP and Lua, and the
in-memory nodes of the tests execute them directly. Each class states what its reply is.

What is asked of version records is in ``version_requests``, of replicated records in ``replication_requests``;
both are to be had from here.
"""

from __future__ import annotations

from collections.abc import Sequence

from distcache_django.core.replication_requests import (
    LATE,
    MISSED_BOUND,
    STRANGE,
    Missed,
    Noted,
    Noticed,
    Prepare,
    Put,
    PutItem,
    Raise,
    Rise,
    Scripted,
    Settle,
    Unchanged,
    Void,
)
from distcache_django.core.request import OneKey, Request
from distcache_django.core.version_requests import Bump, Fill, Mark, Mint, Register, Unmark

__all__ = [
    "LATE",
    "MISSED_BOUND",
    "STRANGE",
    "Acquire",
    "Bump",
    "Deadline",
    "Exists",
    "Expire",
    "Fetch",
    "FetchMany",
    "Fill",
    "Increase",
    "Inspect",
    "Mark",
    "Mint",
    "Missed",
    "Noted",
    "Noticed",
    "Persist",
    "Ping",
    "Prepare",
    "Prolong",
    "Put",
    "PutItem",
    "Raise",
    "Register",
    "Release",
    "Remove",
    "Request",
    "Rise",
    "Scan",
    "Scripted",
    "Settle",
    "Store",
    "StoreIf",
    "StoreMany",
    "TimeToLive",
    "Unchanged",
    "Unmark",
    "Void",
    "WireValue",
]

#: A value as a node keeps it: encoded bytes, or an integer that the node can count with.
WireValue = bytes | int


class Ping(Request):
    """Ask for a sign of life."""

    __slots__ = ()


class Fetch(OneKey):
    """Read a value: ``bytes``, or ``None`` where there is none."""

    __slots__ = ()


class FetchMany(Request):
    """Read values: a list in the order of the keys."""

    __slots__ = ("keys",)

    def __init__(self, keys: Sequence[str]) -> None:
        self.keys = keys


class Exists(OneKey):
    """Tell whether a key is there: ``bool``."""

    __slots__ = ()


class TimeToLive(OneKey):
    """Read the time left in milliseconds: -1 without an expiry, -2 without the key."""

    __slots__ = ()


class Inspect(OneKey):
    """Read a value and its time left: ``(bytes | None, milliseconds)``."""

    __slots__ = ()


class Store(OneKey):
    """Write a value: ``True``. ``ttl_ms`` is ``None`` for a value that never expires."""

    __slots__ = ("ttl_ms", "value")

    def __init__(self, key: str, value: WireValue, ttl_ms: int | None) -> None:
        self.key = key
        self.value = value
        self.ttl_ms = ttl_ms

    @property
    def replaces(self) -> Sequence[str]:
        """Return the key that is stored."""
        return (self.key,)


class StoreIf(OneKey):
    """Write a value on a condition: ``bool``, whether ``NX`` (no such key) or ``XX`` (such a key) was met."""

    __slots__ = ("condition", "ttl_ms", "value")
    repeatable = False  # after a lost reply, a second NX would deny a success

    def __init__(self, key: str, value: WireValue, ttl_ms: int | None, condition: str) -> None:
        self.key = key
        self.value = value
        self.ttl_ms = ttl_ms
        self.condition = condition

    @property
    def replaces(self) -> Sequence[str]:
        """Return the key that is overwritten."""
        return (self.key,) if self.condition == "XX" else ()


class StoreMany(Request):
    """Write several values with one time to live: ``True`` for all stored, else a list of ``bool`` in their order."""

    __slots__ = ("items", "ttl_ms")

    def __init__(self, items: Sequence[tuple[str, WireValue]], ttl_ms: int | None) -> None:
        self.items = items
        self.ttl_ms = ttl_ms

    @property
    def replaces(self) -> Sequence[str]:
        """Return the keys that are stored."""
        return [key for key, _ in self.items]


class Remove(Request):
    """Delete keys: the number of them that were there."""

    __slots__ = ("keys",)

    def __init__(self, keys: Sequence[str]) -> None:
        self.keys = keys

    @property
    def replaces(self) -> Sequence[str]:
        """Return the keys that are deleted."""
        return self.keys


class Increase(Request):
    """Add to an integer and keep its expiry: the new value, or ``None`` where there is no such key."""

    __slots__ = ("delta", "key")
    repeatable = False

    def __init__(self, key: str, delta: int) -> None:
        self.key = key
        self.delta = delta


class Expire(OneKey):
    """Set the time to live in milliseconds; at most 0 deletes: ``bool``, whether the key was there."""

    __slots__ = ("ttl_ms",)

    def __init__(self, key: str, ttl_ms: int) -> None:
        super().__init__(key)
        self.ttl_ms = ttl_ms

    @property
    def replaces(self) -> Sequence[str]:
        """Return the key if this was to delete it at once."""
        return (self.key,) if self.ttl_ms <= 0 else ()


class Deadline(OneKey):
    """Set the expiry as Unix time in milliseconds: ``bool``, whether the key was there."""

    __slots__ = ("unix_ms",)

    def __init__(self, key: str, unix_ms: int) -> None:
        super().__init__(key)
        self.unix_ms = unix_ms


class Persist(OneKey):
    """Take the expiry away: ``(had an expiry, is there)``."""

    __slots__ = ()


class Scan(Request):
    """List a part of the keys that match a glob pattern: ``(next cursor, keys)``; cursor 0 starts and ends."""

    __slots__ = ("count", "cursor", "pattern")

    def __init__(self, cursor: int, pattern: str, count: int) -> None:
        self.cursor = cursor
        self.pattern = pattern
        self.count = count


class Acquire(OneKey):
    """Take a free lock: its fencing token, larger than every earlier one, or ``None`` while it is held.

    Repeatable: a second attempt with the same nonce finds the success of the first.
    """

    __slots__ = ("nonce", "ttl_ms")

    def __init__(self, key: str, nonce: bytes, ttl_ms: int | None) -> None:
        super().__init__(key)
        self.nonce = nonce
        self.ttl_ms = ttl_ms


class Release(OneKey):
    """Free a lock if ``nonce`` holds it: ``bool``."""

    __slots__ = ("nonce",)
    repeatable = False

    def __init__(self, key: str, nonce: bytes) -> None:
        super().__init__(key)
        self.nonce = nonce


class Prolong(OneKey):
    """Give a lock a new time to live if ``nonce`` holds it, with ``add`` on top of what is left: ``bool``."""

    __slots__ = ("add", "nonce", "ttl_ms")
    repeatable = False

    def __init__(self, key: str, nonce: bytes, ttl_ms: int, *, add: bool) -> None:
        super().__init__(key)
        self.nonce = nonce
        self.ttl_ms = ttl_ms
        self.add = add
