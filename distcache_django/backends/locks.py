"""A lock on one key, with a fencing token; the sync and the async face of the same Ops.

At replication factor 1 the lock is kept by the key's owner alone, as django-redis keeps it: while that node is
down nobody can take it, and a node that loses its memory forgets it. The fencing ``token`` grows with every
acquisition; what the lock protects should refuse a token smaller than one it has seen.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from distcache_django.core.effects import Op, Pause
from distcache_django.core.replicated import AnyCoordinator
from distcache_django.core.requests import Acquire, Fetch, Prolong, Release, Request
from distcache_django.exceptions import FAILURES, LockNotOwned
from distcache_django.runtime.policy import unavailable

__all__ = ["AsyncLock", "Lock"]


class _LockOps:
    """Build the Ops of one lock object and hold its state; not for use by two threads at once."""

    def __init__(self, coordinator: AnyCoordinator, key: str, timeout: float | None) -> None:
        self._coordinator = coordinator
        self.key = key
        self._ttl_ms = None if timeout is None else max(1, int(timeout * 1000))
        self._nonce: bytes | None = None
        self.token: int | None = None

    def acquire(self, sleep: float, blocking: bool, blocking_timeout: float | None) -> Op[bool]:
        give_up = None if blocking_timeout is None else time.monotonic() + blocking_timeout
        nonce = secrets.token_hex(16).encode()
        while True:
            token = yield from self._ask("lock", Acquire(self.key, nonce, self._ttl_ms))
            if token is not None:
                self._nonce, self.token = nonce, token
                return True
            if not blocking or (give_up is not None and time.monotonic() + sleep > give_up):
                return False
            yield Pause(sleep)

    def release(self) -> Op[None]:
        nonce, self._nonce, self.token = self._nonce, None, None
        if nonce is None:
            raise LockNotOwned(f"lock {self.key!r} is not held by this object")
        if not (yield from self._ask("release", Release(self.key, nonce))):
            raise LockNotOwned(f"lock {self.key!r} had expired, and may be another's")

    def extend(self, seconds: float | None, *, add: bool) -> Op[bool]:
        if self._nonce is None:
            raise LockNotOwned(f"lock {self.key!r} is not held by this object")
        ttl_ms = self._ttl_ms if seconds is None else max(1, int(seconds * 1000))
        if ttl_ms is None:
            raise LockNotOwned(f"lock {self.key!r} was taken without a timeout, so there is none to extend")
        if not (yield from self._ask("extend", Prolong(self.key, self._nonce, ttl_ms, add=add))):
            raise LockNotOwned(f"lock {self.key!r} had expired, and may be another's")
        return True

    def holder(self) -> Op[bytes]:
        record = yield from self._ask("locked", Fetch(self.key))
        return (record or b":").partition(b":")[2]

    def owned(self) -> Op[bool]:
        holder = yield from self.holder()
        return holder == self._nonce

    def locked(self) -> Op[bool]:
        return bool((yield from self.holder()))

    def _ask(self, operation: str, request: Request) -> Op[Any]:
        try:
            return (yield from self._coordinator.ask_owner(self.key, request))
        except FAILURES as error:
            raise unavailable(operation, error) from error


class _Options:
    """Hold what both faces are made with."""

    def __init__(
        self,
        run: Callable[[Op[Any]], Any],
        coordinator: AnyCoordinator,
        key: str,
        *,
        timeout: float | None,
        sleep: float,
        blocking: bool,
        blocking_timeout: float | None,
    ) -> None:
        self._run = run
        self._ops = _LockOps(coordinator, key, timeout)
        self._sleep = sleep
        self._blocking = blocking
        self._blocking_timeout = blocking_timeout

    @property
    def token(self) -> int | None:
        """Return the fencing token while the lock is held by this object, else ``None``."""
        return self._ops.token

    def _acquire(self, blocking: bool | None, blocking_timeout: float | None) -> Op[bool]:
        return self._ops.acquire(
            self._sleep,
            self._blocking if blocking is None else blocking,
            self._blocking_timeout if blocking_timeout is None else blocking_timeout,
        )


class Lock(_Options):
    """Exclude others from a key. Raises ``Unavailable`` while the key's node does not answer.

    As a context manager it raises ``LockNotOwned`` when it cannot be had in time.
    """

    def acquire(self, blocking: bool | None = None, blocking_timeout: float | None = None) -> bool:
        """Take the lock, waiting for it if ``blocking``; return whether it is held. One round trip an attempt."""
        held: bool = self._run(self._acquire(blocking, blocking_timeout))
        return held

    def release(self) -> None:
        """Free the lock; ``LockNotOwned`` if it had been lost."""
        self._run(self._ops.release())

    def extend(self, additional_time: float, replace_ttl: bool = False) -> bool:
        """Add seconds to the lock's life, or set it with ``replace_ttl``; ``LockNotOwned`` if it had been lost."""
        return bool(self._run(self._ops.extend(additional_time, add=not replace_ttl)))

    def reacquire(self) -> bool:
        """Give the lock its whole timeout again; ``LockNotOwned`` if it had been lost."""
        return bool(self._run(self._ops.extend(None, add=False)))

    def locked(self) -> bool:
        """Return whether anybody holds the lock. One round trip."""
        return bool(self._run(self._ops.locked()))

    def owned(self) -> bool:
        """Return whether this object holds the lock. One round trip."""
        return bool(self._run(self._ops.owned()))

    def __enter__(self) -> Self:
        if not self.acquire():
            raise LockNotOwned(f"lock {self._ops.key!r} is held by another")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class AsyncLock(_Options):
    """Be ``Lock`` for coroutines."""

    async def acquire(self, blocking: bool | None = None, blocking_timeout: float | None = None) -> bool:
        """Take the lock, waiting for it if ``blocking``; return whether it is held. One round trip an attempt."""
        held: bool = await self._run(self._acquire(blocking, blocking_timeout))
        return held

    async def release(self) -> None:
        """Free the lock; ``LockNotOwned`` if it had been lost."""
        await self._run(self._ops.release())

    async def extend(self, additional_time: float, replace_ttl: bool = False) -> bool:
        """Add seconds to the lock's life, or set it with ``replace_ttl``; ``LockNotOwned`` if it had been lost."""
        return bool(await self._run(self._ops.extend(additional_time, add=not replace_ttl)))

    async def reacquire(self) -> bool:
        """Give the lock its whole timeout again; ``LockNotOwned`` if it had been lost."""
        return bool(await self._run(self._ops.extend(None, add=False)))

    async def locked(self) -> bool:
        """Return whether anybody holds the lock. One round trip."""
        return bool(await self._run(self._ops.locked()))

    async def owned(self) -> bool:
        """Return whether this object holds the lock. One round trip."""
        return bool(await self._run(self._ops.owned()))

    async def __aenter__(self) -> Self:
        if not await self.acquire():
            raise LockNotOwned(f"lock {self._ops.key!r} is held by another")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.release()
