"""Make full keys from the user's keys, and check them as Django does."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from django.core.cache.backends.base import (
    MEMCACHE_MAX_KEY_LENGTH,
    BaseCache,
    CacheKeyWarning,
    default_key_func,
    memcache_key_warnings,
)

from distcache_django.core.topology import Topology

__all__ = ["KeySpace", "Unseen", "escape_glob"]

#: Django's rule as one pattern: control characters, the space and DEL.
_SUSPECT = re.compile(r"[\x00-\x20\x7f]").search


class KeySpace:
    """Make and check the keys of one cache object.

    A subclass that overrides ``make_key``, ``validate_key`` or ``make_and_validate_key``, and a
    ``KEY_FUNCTION``, are obeyed; otherwise the two are inlined, because they run in every call.
    """

    __slots__ = ("_cache", "_default_lead", "_prefix", "_version", "full")

    full: Callable[[Any, Any], str]

    def __init__(self, cache: BaseCache) -> None:
        self._cache = cache
        self._prefix = cache.key_prefix
        self._version = cache.version
        self._default_lead = f"{cache.key_prefix}:{cache.version}:"
        cls = type(cache)
        plain = all(
            getattr(cls, name) is getattr(BaseCache, name)
            for name in ("make_key", "validate_key", "make_and_validate_key")
        )
        #: Return the full key of (key, version).
        self.full = self._plain if plain else self._as_overridden

    def own(self, name: str) -> str:
        """Return the full key of something that the cache keeps for itself; the name needs no check."""
        return str(self._cache.make_key(name))

    def _plain(self, key: Any, version: Any) -> str:
        cache = self._cache
        if cache.key_func is not default_key_func:
            return self._as_overridden(key, version)
        if version is None and cache.version == self._version and cache.key_prefix is self._prefix:
            full = f"{self._default_lead}{key}"
        else:  # Django lets both be set on the object at any time
            full = f"{cache.key_prefix}:{cache.version if version is None else version}:{key}"
        # Printable text without a space is the common case and quick to tell; the rest is looked at closely.
        if not (full.isprintable() and " " not in full and len(full) <= MEMCACHE_MAX_KEY_LENGTH):
            _warn(full)
        return full

    def full_many(self, keys: Sequence[Any], version: Any) -> list[str]:
        """Return the full keys of ``keys``, checking them all at once where they are as they should be."""
        if self.full != self._plain or self._cache.key_func is not default_key_func:
            return [self.full(key, version) for key in keys]
        lead = f"{self._cache.key_prefix}:{self._cache.version if version is None else version}:"
        fulls = [f"{lead}{key}" for key in keys]
        joined = "".join(fulls)
        if not (joined.isprintable() and " " not in joined and len(max(fulls, key=len)) <= MEMCACHE_MAX_KEY_LENGTH):
            for full in fulls:
                _warn(full)
        return fulls

    def _as_overridden(self, key: Any, version: Any) -> str:
        return str(self._cache.make_and_validate_key(key, version=version))

    def pattern(self, pattern: str, version: Any = None, prefix: str | None = None) -> str:
        """Return the glob that matches the full keys of ``pattern``, a glob of the user's."""
        prefix = escape_glob(str(self._cache.key_prefix if prefix is None else prefix))
        number = self._cache.version if version is None else version
        return str(self._cache.key_func(pattern, prefix, escape_glob(str(number))))

    def reverse(self, full: str) -> str:
        """Return the user's key of a full key that the default key function made."""
        if self._cache.key_func is default_key_func:
            return full[len(self._cache.key_prefix) + 1 :].split(":", 1)[1]
        return full


class Unseen:
    """Let each of a cache's keys through once, where several nodes list it."""

    def __init__(self, topology: Topology) -> None:
        self._seen: set[str] | None = set() if topology.replication_factor > 1 else None

    def __call__(self, keys: Sequence[str]) -> Sequence[str]:
        """Return the keys that were not among those of an earlier call."""
        if self._seen is None:
            return keys
        fresh = [key for key in dict.fromkeys(keys) if key not in self._seen]
        self._seen.update(fresh)
        return fresh


def _warn(full: str) -> None:
    if len(full) > MEMCACHE_MAX_KEY_LENGTH or _SUSPECT(full):
        for text in memcache_key_warnings(full):
            warnings.warn(text, CacheKeyWarning, stacklevel=4)


def escape_glob(text: str) -> str:
    """Return a glob that matches ``text`` only."""
    return re.sub(r"([*?\[\]^\\-])", r"\\\1", text)
