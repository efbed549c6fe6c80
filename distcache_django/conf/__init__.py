"""Read Django settings into checked, frozen values; nothing here connects to anything."""

from distcache_django.conf.cache import CacheSettings, parse
from distcache_django.conf.distcache import DistcacheSettings, load_settings, parse_distcache
from distcache_django.conf.nodes import NodeSettings
from distcache_django.conf.problems import Problem, Problems

__all__ = [
    "CacheSettings",
    "DistcacheSettings",
    "NodeSettings",
    "Problem",
    "Problems",
    "load_settings",
    "parse",
    "parse_distcache",
]
