"""The closed set of things a node can be asked to do.

The core speaks these, not Redis commands: ``transport.commands`` translates them to RESP and Lua, and the
in-memory nodes of the tests execute them directly. Each class states what its reply is.

``repeatable``: doing it twice has the effect of doing it once, so a driver may send it again when a link
that had been idle turns out to be dead.

``replaces``: the keys whose present value it was to end, and which the node must not serve again before they
have been deleted there, if the request fails. Exclusive requests (``NX``, locks, counting) replace nothing: what
a node holds under their keys stays true when they fail, and deleting it would free another's lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

__all__ = [
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
    "Persist",
    "Ping",
    "Prolong",
    "Register",
    "Release",
    "Remove",
    "Request",
    "Scan",
    "Store",
    "StoreIf",
    "StoreMany",
    "TimeToLive",
    "Unmark",
    "WireValue",
]

#: A value as a node keeps it: encoded bytes, or an integer that the node can count with.
WireValue = bytes | int


class Request:
    """Be one thing that a node can be asked to do."""

    __slots__ = ()
    repeatable: ClassVar[bool] = True

    @property
    def replaces(self) -> Sequence[str]:
        """Return the keys whose present value this request was to end."""
        return ()


class Ping(Request):
    """Ask for a sign of life."""

    __slots__ = ()


class _OneKey(Request):
    __slots__ = ("key",)

    def __init__(self, key: str) -> None:
        self.key = key


class Fetch(_OneKey):
    """Read a value: ``bytes``, or ``None`` where there is none."""

    __slots__ = ()


class FetchMany(Request):
    """Read values: a list in the order of the keys."""

    __slots__ = ("keys",)

    def __init__(self, keys: Sequence[str]) -> None:
        self.keys = keys


class Exists(_OneKey):
    """Tell whether a key is there: ``bool``."""

    __slots__ = ()


class TimeToLive(_OneKey):
    """Read the time left in milliseconds: -1 without an expiry, -2 without the key."""

    __slots__ = ()


class Inspect(_OneKey):
    """Read a value and its time left: ``(bytes | None, milliseconds)``."""

    __slots__ = ()


class Store(_OneKey):
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


class StoreIf(_OneKey):
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


class Expire(_OneKey):
    """Set the time to live in milliseconds; at most 0 deletes: ``bool``, whether the key was there."""

    __slots__ = ("ttl_ms",)

    def __init__(self, key: str, ttl_ms: int) -> None:
        super().__init__(key)
        self.ttl_ms = ttl_ms

    @property
    def replaces(self) -> Sequence[str]:
        """Return the key if this was to delete it at once."""
        return (self.key,) if self.ttl_ms <= 0 else ()


class Deadline(_OneKey):
    """Set the expiry as Unix time in milliseconds: ``bool``, whether the key was there."""

    __slots__ = ("unix_ms",)

    def __init__(self, key: str, unix_ms: int) -> None:
        super().__init__(key)
        self.unix_ms = unix_ms


class Persist(_OneKey):
    """Take the expiry away: ``(had an expiry, is there)``."""

    __slots__ = ()


class Scan(Request):
    """List a part of the keys that match a glob pattern: ``(next cursor, keys)``; cursor 0 starts and ends."""

    __slots__ = ("count", "cursor", "pattern")

    def __init__(self, cursor: int, pattern: str, count: int) -> None:
        self.cursor = cursor
        self.pattern = pattern
        self.count = count


class Acquire(_OneKey):
    """Take a free lock: its fencing token, larger than every earlier one, or ``None`` while it is held.

    Repeatable: a second attempt with the same nonce finds the success of the first.
    """

    __slots__ = ("nonce", "ttl_ms")

    def __init__(self, key: str, nonce: bytes, ttl_ms: int | None) -> None:
        super().__init__(key)
        self.nonce = nonce
        self.ttl_ms = ttl_ms


class Release(_OneKey):
    """Free a lock if ``nonce`` holds it: ``bool``."""

    __slots__ = ("nonce",)
    repeatable = False

    def __init__(self, key: str, nonce: bytes) -> None:
        super().__init__(key)
        self.nonce = nonce


class Prolong(_OneKey):
    """Give a lock a new time to live if ``nonce`` holds it, with ``add`` on top of what is left: ``bool``."""

    __slots__ = ("add", "nonce", "ttl_ms")
    repeatable = False

    def __init__(self, key: str, nonce: bytes, ttl_ms: int, *, add: bool) -> None:
        super().__init__(key)
        self.nonce = nonce
        self.ttl_ms = ttl_ms
        self.add = add


class Register(Request):
    """Agree with a node on its present incarnation: ``(incarnation, milliseconds of quarantine left)``.

    A node whose memory is not the one it had (another process, or emptied) takes
    ``incarnation``: version records of an older one are void, and for ``quarantine_ms`` its versions prove nothing,
    because marks may have been lost.
    """

    __slots__ = ("incarnation", "quarantine_ms")

    def __init__(self, incarnation: bytes, quarantine_ms: int) -> None:
        self.incarnation = incarnation
        self.quarantine_ms = quarantine_ms


class _Records(Request):
    """Change version records of one node, all in one step; they live for ``ttl_ms`` when unmarked.

    The reply is ``None`` from a node to ``Register`` first.
    """

    __slots__ = ("keys", "ttl_ms")

    def __init__(self, keys: Sequence[str], ttl_ms: int) -> None:
        self.keys = keys
        self.ttl_ms = ttl_ms


class Mint(_Records):
    """Make the records that are missing or void, settle expired marks: ``(records as they are now, taken)``.

    With ``lease``, ``(key, nonce, milliseconds)``, also take that lease if it is free: ``taken`` is then how the
    value under ``guarded`` begins (its first ``head_size`` bytes, none where there is no value), else ``None``.
    """

    __slots__ = ("guarded", "head_size", "lease")

    def __init__(
        self,
        keys: Sequence[str],
        ttl_ms: int,
        lease: tuple[str, bytes, int] | None = None,
        guarded: str = "",
        head_size: int = 0,
    ) -> None:
        super().__init__(keys, ttl_ms)
        self.lease = lease
        self.guarded = guarded
        self.head_size = head_size


class Mark(_Records):
    """Put the mark ``token`` (8 bytes) on records, for ``life_ms``: ``True``. One that is there is prolonged."""

    __slots__ = ("life_ms", "token")

    def __init__(self, keys: Sequence[str], ttl_ms: int, token: bytes, life_ms: int) -> None:
        super().__init__(keys, ttl_ms)
        self.token = token
        self.life_ms = life_ms


class Bump(_Records):
    """Give records new versions and take the mark ``token`` off, if any is named: ``True``.

    Other marks stay. A record that nobody has asked for ceases: it is made anew, with a version never used, by
    the first who does. So does a void one, for those who have not yet heard of the node's new incarnation; a node
    without one need not be registered first.
    """

    __slots__ = ("token",)

    def __init__(self, keys: Sequence[str], ttl_ms: int, token: bytes = b"") -> None:
        super().__init__(keys, ttl_ms)
        self.token = token


class Unmark(Bump):
    """Take the mark ``token`` off and leave the versions as they are: ``True``."""

    __slots__ = ()


class Fill(_OneKey):
    """Write a value, unless it is ``None``, and free the lease ``lease`` if ``nonce`` holds it: ``True``."""

    __slots__ = ("lease", "nonce", "ttl_ms", "value")

    def __init__(self, key: str, value: bytes | None, ttl_ms: int, lease: str, nonce: bytes) -> None:
        super().__init__(key)
        self.value = value
        self.ttl_ms = ttl_ms
        self.lease = lease
        self.nonce = nonce
