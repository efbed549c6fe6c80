"""A distributed cache for Django: several Redis or Valkey nodes behind one cache alias.

Importing this package, or its ``core``, loads neither Django nor a client library; names resolve when used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distcache_django.backends.cache import DistributedCache as DistributedCache

__version__ = "0.1.0"
__all__ = ["DistributedCache"]

_HOMES = {"DistributedCache": "distcache_django.backends.cache"}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
