"""Hand out clients of the library underneath, for what the cache interface does not cover."""

from __future__ import annotations

from typing import Any

from django.core.cache.backends.base import BaseCache

from distcache_django.backends.keys import KeySpace
from distcache_django.runtime import CacheRuntime

__all__ = ["ClientAccess"]


class ClientAccess:
    """Be ``cache.client``, with django-redis's ``get_client``: sets, hashes and sorted sets go this way."""

    def __init__(self, cache: BaseCache, runtime: CacheRuntime) -> None:
        self._cache = cache
        self._keys = KeySpace(cache)
        self._runtime = runtime

    def get_client(self, write: bool = True, key: Any = None, version: Any = None) -> Any:
        """Return the ``redis.Redis`` of the node that owns ``key``, or of the first node without one.

        The client is shared and thread-safe; its commands are bounded by ``DEADLINE`` and never repeated. It
        knows nothing of the health of nodes. Use ``make_key(key)`` for the key's full name.
        """
        coordinator = self._runtime.coordinator
        first = self._runtime.settings.nodes[0].name
        name = first if key is None else coordinator.owner(self._keys.full(key, version))
        return self._runtime.cluster.endpoints[name].client()

    def make_key(self, key: Any, version: Any = None) -> str:
        """Return the name under which a node keeps ``key``."""
        return self._keys.full(key, version)
