"""Load through the cache what a site names itself: what ``get_or_load`` of every cache does."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence

from django.db import connections

from distcache_django.conf import load_settings
from distcache_django.exceptions import InvalidDistcacheConfig
from distcache_django.freshness import transactions
from distcache_django.freshness.recording import spoil
from distcache_django.freshness.service import Freshness, freshness
from distcache_django.runtime import CacheRuntime

__all__ = ["may_answer", "service_for"]

_services: weakref.WeakKeyDictionary[CacheRuntime, Freshness] = weakref.WeakKeyDictionary()


def may_answer() -> bool:
    """Return whether an answer about no database in particular may come from the cache, or go there.

    Not where ``ENABLED`` is off, and not while an open transaction of this thread has written or looks at an older
    state of the database. About a microsecond for each connection.
    """
    if not freshness().answers:
        return False
    if all(map(transactions.may_use_cache, connections.all(initialized_only=True))):
        return True
    spoil("an open transaction has written, or looks at an older state of the database")
    return False


def service_for(runtime: CacheRuntime, full_key: Callable[[str], str], dependencies: Sequence[str]) -> Freshness | None:
    """Return what answers for a cache; ``None`` where the answer has to be loaded and not stored.

    :raises InvalidDistcacheConfig: if there are dependencies and writers tell another cache of their writes.
    """
    if dependencies:
        service = freshness()
        if service.enabled and service.runtime is not runtime:
            raise InvalidDistcacheConfig(
                "depends_on needs the cache that writes are told to: "
                f"DISTCACHE['CACHE'] is {service.settings.cache!r}, and this is another"
            )
        return service if may_answer() else None
    found = _services.get(runtime)
    if found is None:
        found = _services[runtime] = Freshness(load_settings(), runtime, full_key)
    return found
