"""Keep one cluster for each process and configuration, safe across threads and forks."""

from distcache_django.runtime.registry import CacheRuntime, forget_configuration, runtime_for

__all__ = ["CacheRuntime", "forget_configuration", "runtime_for"]
