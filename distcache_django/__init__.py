"""A distributed cache for Django: several Redis or Valkey nodes behind one cache alias.

Importing this package, or its ``core``, loads neither Django nor a client library; names resolve when used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distcache_django.backends.cache import DistributedCache as DistributedCache
    from distcache_django.orm.functions import cached as cached
    from distcache_django.orm.functions import cached_queryset as cached_queryset
    from distcache_django.orm.invalidation import invalidate as invalidate
    from distcache_django.orm.manager import CacheManager as CacheManager
    from distcache_django.orm.manager import CacheQuerySet as CacheQuerySet
    from distcache_django.orm.options import no_cache as no_cache
    from distcache_django.orm.views import cached_view as cached_view

__version__ = "0.1.0"
__all__ = [
    "CacheManager",
    "CacheQuerySet",
    "DistributedCache",
    "cached",
    "cached_queryset",
    "cached_view",
    "invalidate",
    "no_cache",
]

_HOMES = {
    "CacheManager": "distcache_django.orm.manager",
    "CacheQuerySet": "distcache_django.orm.manager",
    "DistributedCache": "distcache_django.backends.cache",
    "cached": "distcache_django.orm.functions",
    "cached_queryset": "distcache_django.orm.functions",
    "cached_view": "distcache_django.orm.views",
    "invalidate": "distcache_django.orm.invalidation",
    "no_cache": "distcache_django.orm.options",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
