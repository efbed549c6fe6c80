"""Hold a lock at a majority of its owners.

The record keeps the fencing token, which grows with every holder, and the holder's nonce; a released lock keeps its
token for a day. A lock counts as held a little longer than its holder may think, by as much as clocks may differ.
"""

from __future__ import annotations

from typing import Final

from distcache_django.core.agreement import Agreement, Decision
from distcache_django.core.effects import Op
from distcache_django.core.record import LOCK, NO_STAMP, Record
from distcache_django.core.replicas import Replicas
from distcache_django.exceptions import NodeRefused

__all__ = ["Locking"]

_DAY_MS: Final = 86_400_000
_TOKEN_SIZE: Final = 8


class Locking:
    """Build the Ops on locks; shared by threads. Each takes two round trips."""

    def __init__(self, replicas: Replicas, agreement: Agreement) -> None:
        self._replicas = replicas
        self._agreement = agreement

    def acquire(self, key: str, nonce: bytes, ttl_ms: int | None) -> Op[int | None]:
        """Take a free lock; return its fencing token, ``None`` while another nonce holds it.

        It is valid for ``ttl_ms`` from before this began.
        """
        yield from self._replicas.acquaint(self._replicas.topology.owners(key))
        began = self._replicas.now_ms()

        def decide(top: Record | None) -> Decision[int | None]:
            token, holder = self._held(key, top)
            if holder == nonce:
                return Decision(token, is_own=True)
            if holder:
                return Decision(None)
            token = max(token + 1, int(self._replicas.now_ms() * 1000))  # now: this may have waited for long
            return Decision(token, _record(token, nonce, 0 if ttl_ms is None else round(began) + ttl_ms))

        return (yield from self._agreement.settle("lock", key, decide, names_its_author=True))

    def release(self, key: str, nonce: bytes) -> Op[bool]:
        """Free a lock; return whether ``nonce`` held it."""
        was_held = False

        def decide(top: Record | None) -> Decision[bool]:
            nonlocal was_held
            token, holder = self._held(key, top)
            if holder != nonce:
                return Decision(was_held, is_own=was_held)
            was_held = True
            return Decision(True, _record(token, b"", round(self._replicas.now_ms()) + _DAY_MS))

        return (yield from self._agreement.settle("release", key, decide, names_its_author=True))

    def prolong(self, key: str, nonce: bytes, ttl_ms: int, *, add: bool) -> Op[bool]:
        """Give a lock a new end, or with ``add`` a later one; return whether ``nonce`` holds it."""
        yield from self._replicas.acquaint(self._replicas.topology.owners(key))
        began = round(self._replicas.now_ms())
        end: int | None = None

        def decide(top: Record | None) -> Decision[bool]:
            nonlocal end
            token, holder = self._held(key, top)
            if top is None or holder != nonce:
                return Decision(False)
            if end is None:  # once: what it was then may be there already
                end = (max(began, top.expires_at) if add else began) + ttl_ms
            return Decision(True, _record(token, nonce, end))

        return (yield from self._agreement.settle("extend", key, decide, names_its_author=True))

    def holder(self, key: str) -> Op[tuple[int, bytes]]:
        """Return the token and the nonce of who holds a lock, no nonce where it is free."""
        return self._held(key, (yield from self._replicas.record("locked", key)))

    def _held(self, key: str, top: Record | None) -> tuple[int, bytes]:
        if top is None:
            return 0, b""
        is_live = top.is_live(self._replicas.now_ms() - self._replicas.limits.drift_ms)
        if top.kind != LOCK:
            if is_live:
                owner = self._replicas.topology.owner(key)
                raise NodeRefused(owner, "WRONGTYPE the key holds a value that is not a lock")
            return 0, b""
        token = int.from_bytes(top.payload[:_TOKEN_SIZE])
        return token, top.payload[_TOKEN_SIZE:] if is_live else b""


def _record(token: int, nonce: bytes, expires_at: int) -> Record:
    return Record(LOCK, NO_STAMP, expires_at, token.to_bytes(_TOKEN_SIZE) + nonce)
