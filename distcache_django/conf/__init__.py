"""Read Django settings into checked, frozen values; nothing here connects to anything."""

from distcache_django.conf.cache import CacheSettings, parse
from distcache_django.conf.nodes import NodeSettings
from distcache_django.conf.problems import Problem, Problems

__all__ = ["CacheSettings", "NodeSettings", "Problem", "Problems", "parse"]
