"""What a node can be asked about version records, which say whether an answer is of the present (``core.freshness``).

``Register`` comes first for replicated records too: both count for one incarnation of the node's memory only.
"""

from __future__ import annotations

from collections.abc import Sequence

from distcache_django.core.request import OneKey, Request

__all__ = ["Bump", "Fill", "Mark", "Mint", "Register", "Unmark"]


class Register(Request):
    """Agree with a node on its present incarnation: ``(incarnation, quarantine left in ms, fence, node's time in ms)``.

    A node whose memory is not the one it had (another process, or emptied) takes
    ``incarnation``: version records and replicated records of an older one are void, and for ``quarantine_ms`` its
    versions prove nothing, because marks may have been lost. It is *newborn* if it knows no earlier one, else
    *recovering*, and stays so until ``Rise``.

    ``topology`` (8 bytes, or none) is written where the node has none, and never over another.
    """

    __slots__ = ("incarnation", "quarantine_ms", "topology")

    def __init__(self, incarnation: bytes, quarantine_ms: int, topology: bytes = b"") -> None:
        self.incarnation = incarnation
        self.quarantine_ms = quarantine_ms
        self.topology = topology


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


class Fill(OneKey):
    """Write a value, unless it is ``None``, and free the lease ``lease`` if ``nonce`` holds it: ``True``."""

    __slots__ = ("lease", "nonce", "ttl_ms", "value")

    def __init__(self, key: str, value: bytes | None, ttl_ms: int, lease: str, nonce: bytes) -> None:
        super().__init__(key)
        self.value = value
        self.ttl_ms = ttl_ms
        self.lease = lease
        self.nonce = nonce
