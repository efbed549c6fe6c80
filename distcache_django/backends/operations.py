"""Django's cache contract as Ops: one implementation for the sync and the async face.

Each method is a generator; the faces run it on the blocking or on the asyncio driver. Round trips are those of
the coordinator's Ops used: one for everything but ``get_or_set`` (up to three) and ``incr_version`` (three).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache

from distcache_django.backends.keys import KeySpace
from distcache_django.core.effects import Load, Op
from distcache_django.core.requests import Exists, Expire, Increase, Inspect, Persist
from distcache_django.exceptions import FAILURES, CodecError, InvalidDistcacheConfig
from distcache_django.runtime import CacheRuntime
from distcache_django.runtime.policy import unavailable

__all__ = ["MISSING", "Operations"]


class _Missing:
    """Be the answer for a key that is not there, which ``None`` cannot be."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"


MISSING = _Missing()


class Operations:
    """Build the Ops of one cache object."""

    def __init__(self, cache: BaseCache, runtime: CacheRuntime) -> None:
        self.cache = cache
        self.keys = KeySpace(cache)
        self.policy = runtime.policy
        self.coordinator = runtime.coordinator
        self.settings = runtime.settings
        self._all_down = runtime.cluster.all_down
        self._full = self.keys.full
        self._fetch = runtime.coordinator.fetch
        self._encode = runtime.codec.encode
        self._decode = runtime.codec.decode

    def ttl_ms(self, timeout: Any) -> int | None:
        """Return a timeout in milliseconds: ``None`` for ever, 0 for at once."""
        if timeout is DEFAULT_TIMEOUT or timeout == DEFAULT_TIMEOUT:
            timeout = self.cache.default_timeout
        if timeout is None:
            return None
        if timeout <= 0:
            return 0
        if self.settings.ttl_jitter:
            timeout *= 1 - random.random() * self.settings.ttl_jitter
        return max(1, int(timeout * 1000))

    def get(self, key: Any, default: Any = None, version: Any = None) -> Op[Any]:
        """Read a value."""
        full = self._full(key, version)
        try:
            raw = yield from self._fetch(full)
        except FAILURES as error:
            return self.policy.degrade("get", error, default)
        if raw is None:
            return default
        try:
            return self._decode(raw)
        except CodecError as error:
            self.policy.unreadable(full, error)
            return default

    def set(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: Any = None,
        condition: str | None = None,
    ) -> Op[bool]:
        """Store a value; return whether it was stored."""
        full = self._full(key, version)
        raw = self._encode(value)
        ttl_ms = self.ttl_ms(timeout)
        try:
            if ttl_ms == 0:
                if condition is None:
                    yield from self.coordinator.remove(full)
                    return True
                return (yield from self._store_nothing(full, condition))
            if condition is not None:
                return (yield from self.coordinator.store_if(full, raw, ttl_ms, condition))
            yield from self.coordinator.store(full, raw, ttl_ms)
            return True
        except FAILURES as error:
            return self.policy.degrade("set", error, False)

    def add(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> Op[bool]:
        """Store a value unless there is one; return whether it was stored."""
        full = self._full(key, version)
        raw = self._encode(value)
        ttl_ms = self.ttl_ms(timeout)
        try:
            if ttl_ms == 0:
                return (yield from self._store_nothing(full, "NX"))
            return (yield from self.coordinator.store_if(full, raw, ttl_ms, "NX"))
        except FAILURES as error:
            answer = self.policy.degrade("add", error, False)
            # Callers such as Django's sessions try another key, which may be on a node that is well.
            if self._all_down():
                raise unavailable("add", error) from error
            return answer

    def _store_nothing(self, full: str, condition: str) -> Op[bool]:
        """Do what storing with an expiry that has passed comes to."""
        there = yield from self.coordinator.ask_owner(full, Exists(full))
        if condition == "XX" and there:
            yield from self.coordinator.remove(full)
        return there is (condition == "XX")

    def delete(self, key: Any, version: Any = None) -> Op[bool]:
        """Delete a key; return whether it was there."""
        try:
            return (yield from self.coordinator.remove(self._full(key, version)))
        except FAILURES as error:
            return self.policy.degrade("delete", error, False)

    def has_key(self, key: Any, version: Any = None) -> Op[bool]:
        """Tell whether a key is there."""
        try:
            return (yield from self.coordinator.exists(self._full(key, version)))
        except FAILURES as error:
            return self.policy.degrade("has_key", error, False)

    def touch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> Op[bool]:
        """Give a key a new time to live; return whether it is there."""
        full = self._full(key, version)
        ttl_ms = self.ttl_ms(timeout)
        try:
            if ttl_ms is None:
                _, there = yield from self.coordinator.ask_owner(full, Persist(full))
                return bool(there)
            return bool((yield from self.coordinator.ask_owner(full, Expire(full, ttl_ms))))
        except FAILURES as error:
            return self.policy.degrade("touch", error, False)

    def incr(self, key: Any, delta: int = 1, version: Any = None) -> Op[int]:
        """Add to an integer; return the new value."""
        full = self._full(key, version)
        try:
            value: int | None = yield from self.coordinator.ask_owner(full, Increase(full, delta))
        except FAILURES as error:
            raise unavailable("incr", error) from error
        if value is None:
            raise ValueError(f"Key {key!r} not found")
        return value

    def get_many(self, keys: Iterable[Any], version: Any = None) -> Op[dict[Any, Any]]:
        """Read values; return those that are there."""
        names = list(keys)
        if not names:
            return {}
        pieces, failures = yield from self.coordinator.fetch_many(self.keys.full_many(names, version))
        for failure in failures:
            self.policy.degrade("get_many", failure, None)
        decode = self._decode
        found = {}
        for _, part, raws in pieces:
            for index, raw in zip(part, raws, strict=True):
                if raw is not None:
                    try:
                        found[names[index]] = decode(raw)
                    except CodecError as error:
                        self.policy.unreadable(str(names[index]), error)
        return found

    def set_many(self, data: Mapping[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> Op[list[Any]]:
        """Store values; return the keys that were not stored."""
        ttl_ms = self.ttl_ms(timeout)
        names = list(data)
        if not names:
            return []
        fulls = self.keys.full_many(names, version)
        values = [*map(self._encode, data.values())]
        if ttl_ms == 0:
            return (yield from self._remove_named(names, fulls, "set_many"))
        left, failures = yield from self.coordinator.store_many(fulls, values, ttl_ms)
        for failure in failures:
            self.policy.degrade("set_many", failure, None)
        return [names[index] for index in left]

    def delete_many(self, keys: Iterable[Any], version: Any = None) -> Op[None]:
        """Delete keys."""
        names = list(keys)
        if names:
            yield from self._remove_named(names, self.keys.full_many(names, version), "delete_many")

    def _remove_named(self, names: list[Any], fulls: list[str], operation: str) -> Op[list[Any]]:
        left, failures = yield from self.coordinator.remove_many(fulls)
        for failure in failures:
            self.policy.degrade(operation, failure, None)
        return [names[index] for index in left]

    def get_or_set(self, key: Any, default: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> Op[Any]:
        """Read a value, storing a default where there is none."""
        value = yield from self.get(key, MISSING, version)
        if value is not MISSING:
            return value
        if callable(default):
            default = yield Load(default)
        # Another process may have been faster; what it stored counts.
        yield from self._add_quietly(key, default, timeout, version)
        return (yield from self.get(key, default, version))

    def _add_quietly(self, key: Any, value: Any, timeout: Any, version: Any) -> Op[None]:
        full = self._full(key, version)
        ttl_ms = self.ttl_ms(timeout)
        if ttl_ms == 0:
            return
        try:
            yield from self.coordinator.store_if(full, self._encode(value), ttl_ms, "NX")
        except FAILURES as error:
            self.policy.degrade("get_or_set", error, None)

    def incr_version(self, key: Any, delta: int = 1, version: Any = None) -> Op[int]:
        """Move a value to another version; unlike Django's own, it keeps its time to live."""
        if version is None:
            version = self.cache.version
        old, new = self._full(key, version), self._full(key, version + delta)
        try:
            raw, ttl_ms = yield from self.coordinator.ask_owner(old, Inspect(old))
            if raw is None:
                raise ValueError(f"Key {key!r} not found")
            yield from self.coordinator.store(new, raw, None if ttl_ms < 0 else max(1, ttl_ms))
            yield from self.coordinator.remove(old)
        except FAILURES as error:
            raise unavailable("incr_version", error) from error
        return int(version + delta)

    def clear(self) -> Op[bool]:
        """Delete the keys of this alias, all versions, on every node; return whether every node did."""
        if self.settings.pattern is None:
            raise InvalidDistcacheConfig(
                "clear() cannot tell this cache's keys from others: KEY_FUNCTION makes keys with no common beginning"
            )
        _, failures = yield from self.coordinator.remove_matching(self.settings.pattern)
        for failure in failures:
            self.policy.degrade("clear", failure, None)
        return not failures
