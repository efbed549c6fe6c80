"""What django-redis's users know beyond Django's contract, as Ops: expiry, patterns, conditional set.

Names, parameters and answers are django-redis's. Round trips: one, but for patterns, which scan all nodes.
"""

from __future__ import annotations

import datetime
from typing import Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT

from distcache_django.backends.operations import Operations
from distcache_django.core.effects import Op
from distcache_django.core.requests import Deadline, Expire, Persist, Request, TimeToLive
from distcache_django.exceptions import FAILURES

__all__ = ["Extras"]


class Extras:
    """Build the Ops beyond Django's contract, on top of the same coordinator and policy."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._coordinator = operations.coordinator
        self._policy = operations.policy

    def pttl(self, key: Any, version: Any = None) -> Op[int | None]:
        """Return the milliseconds left: ``None`` for ever, 0 without the key."""
        full = self._operations.keys.full(key, version)
        try:
            left: int = yield from self._coordinator.ask_owner(full, TimeToLive(full))
        except FAILURES as error:
            return self._policy.degrade("ttl", error, 0)
        return None if left == -1 else max(0, left)

    def ttl(self, key: Any, version: Any = None) -> Op[int | None]:
        """Return the seconds left, rounded up: ``None`` for ever, 0 without the key."""
        left = yield from self.pttl(key, version)
        return None if left is None else -(-left // 1000)

    def persist(self, key: Any, version: Any = None) -> Op[bool]:
        """Take the expiry away; return whether there was one."""
        full = self._operations.keys.full(key, version)
        try:
            had_expiry, _ = yield from self._coordinator.ask_owner(full, Persist(full))
        except FAILURES as error:
            return self._policy.degrade("persist", error, False)
        return bool(had_expiry)

    def expire(self, key: Any, timeout: Any, version: Any = None) -> Op[bool]:
        """Set the seconds left; return whether the key was there."""
        return (yield from self.pexpire(key, _milliseconds(timeout), version))

    def pexpire(self, key: Any, timeout: Any, version: Any = None) -> Op[bool]:
        """Set the milliseconds left; return whether the key was there."""
        full = self._operations.keys.full(key, version)
        return (yield from self._expiry(full, Expire(full, _whole_milliseconds(self._operations, timeout))))

    def expire_at(self, key: Any, when: Any, version: Any = None) -> Op[bool]:
        """Let a key expire at a ``datetime`` or Unix time in seconds; return whether it was there."""
        seconds = when.timestamp() if isinstance(when, datetime.datetime) else when
        return (yield from self.pexpire_at(key, int(seconds * 1000), version))

    def pexpire_at(self, key: Any, when: Any, version: Any = None) -> Op[bool]:
        """Let a key expire at a ``datetime`` or Unix time in milliseconds; return whether it was there."""
        unix_ms = int(when.timestamp() * 1000) if isinstance(when, datetime.datetime) else int(when)
        full = self._operations.keys.full(key, version)
        return (yield from self._expiry(full, Deadline(full, unix_ms)))

    def _expiry(self, full: str, request: Request) -> Op[bool]:
        try:
            return bool((yield from self._coordinator.ask_owner(full, request)))
        except FAILURES as error:
            return self._policy.degrade("expire", error, False)

    def keys(self, search: str, version: Any = None) -> Op[list[str]]:
        """Return the user's keys that match a glob, from all nodes that answer."""
        found, failures = yield from self._coordinator.scan(self._operations.keys.pattern(search, version))
        for failure in failures:
            self._policy.degrade("keys", failure, None)
        # SCAN may name a key more than once while the table of a node is being resized.
        return list(dict.fromkeys(self._operations.keys.reverse(full) for full in found))

    def delete_pattern(self, pattern: str, version: Any, prefix: str | None, itersize: int) -> Op[int]:
        """Delete the keys that match a glob; return how many there were."""
        removed, failures = yield from self._coordinator.remove_matching(
            self._operations.keys.pattern(pattern, version, prefix), itersize
        )
        for failure in failures:
            self._policy.degrade("delete_pattern", failure, None)
        return removed

    def page(self, node: str, cursor: int, search: str, version: Any, itersize: int) -> Op[tuple[int, list[str]]]:
        """Return one page of a node's keys that match a glob, and where the next begins (0: nowhere)."""
        pattern = self._operations.keys.pattern(search, version)
        cursor, found, failures = yield from self._coordinator.page(node, cursor, pattern, itersize)
        for failure in failures:
            self._policy.degrade("iter_keys", failure, None)
        return cursor, [self._operations.keys.reverse(full) for full in found]


def _milliseconds(timeout: Any) -> Any:
    if timeout is DEFAULT_TIMEOUT or isinstance(timeout, datetime.timedelta):
        return timeout
    return int(timeout * 1000)


def _whole_milliseconds(operations: Operations, timeout: Any) -> int:
    if timeout is DEFAULT_TIMEOUT:
        return operations.ttl_ms(timeout) or 0
    if isinstance(timeout, datetime.timedelta):
        return int(timeout.total_seconds() * 1000)
    return int(timeout)
