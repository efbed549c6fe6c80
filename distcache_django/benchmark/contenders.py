"""Who takes part: this package and the clients a Django site could use instead, each as its own
documentation sets it up.

A peer runs in the version that is installed, and that version is printed. One that is missing, older than
the one the goals were set against, or that does not import, is listed with the reason; it is never replaced
by something else.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from distcache_django import __version__

Location = Literal["names", "list", "first"]


@dataclass(frozen=True, slots=True)
class Contender:
    """A cache backend to measure: how it is configured, what it needs, and on how many nodes it runs."""

    name: str
    alias: str
    backend: str
    nodes: int
    packages: tuple[str, ...]
    note: str
    minimum: str = ""
    python: tuple[int, int] = (3, 11)
    location: Location = "first"
    scheme: str = "redis"
    options: Mapping[str, Any] = field(default_factory=dict)
    only: frozenset[str] = frozenset()
    skips: frozenset[str] = frozenset()
    database: int = 0

    def takes_part_in(self, scenario: str) -> bool:
        """Return whether the contender is meant for the scenario; one without lists takes part in all."""
        return scenario not in self.skips and (not self.only or scenario in self.only)

    def settings(self, urls: Mapping[str, str], prefix: str) -> dict[str, Any]:
        """Return the entry of ``CACHES`` for nodes at ``urls``; contenders share nodes, so ``prefix`` keeps
        them apart.
        """
        chosen = {name: self._url(url) for name, url in list(urls.items())[: self.nodes]}
        location: Any = {"names": chosen, "list": list(chosen.values()), "first": next(iter(chosen.values()))}
        return {
            "BACKEND": self.backend,
            "LOCATION": location[self.location],
            "KEY_PREFIX": prefix,
            "TIMEOUT": 300,
            "OPTIONS": dict(self.options),
        }

    def _url(self, url: str) -> str:
        return f"{self.scheme}{url[url.index('://') :].rsplit('/', 1)[0]}/{self.database}"


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a contender can run here: the versions found, or the reason why not."""

    versions: Mapping[str, str]
    reason: str | None = None

    @property
    def is_usable(self) -> bool:
        """Return whether nothing speaks against running it."""
        return self.reason is None


OURS_ONE = "distcache 1 node"
OURS_MANY = "distcache 4 nodes"
C_CLIENT = "C client"
_OURS = "distcache_django.DistributedCache"
_HIREDIS = ("redis", "hiredis")
_LIBVALKEY = ("valkey", "libvalkey")

OURS: tuple[Contender, ...] = (
    Contender(OURS_ONE, "ours1", _OURS, 1, ("distcache_django", *_HIREDIS), "signed pickle", location="names"),
    Contender(OURS_MANY, "ours4", _OURS, 4, ("distcache_django", *_HIREDIS), "signed pickle", location="names"),
)

PEERS: tuple[Contender, ...] = (
    Contender(
        "django-redis",
        "dredis1",
        "django_redis.cache.RedisCache",
        1,
        ("django-redis", *_HIREDIS),
        "DefaultClient, pickle, hiredis parser, pool",
        minimum="7.0",
        options={"CLIENT_CLASS": "django_redis.client.DefaultClient"},
    ),
    Contender(
        "django-redis shard",
        "dredis4",
        "django_redis.cache.RedisCache",
        4,
        ("django-redis", *_HIREDIS),
        "ShardClient, pickle, hiredis parser, pools",
        minimum="7.0",
        location="list",
        options={"CLIENT_CLASS": "django_redis.client.ShardClient"},
    ),
    Contender(
        "Django RedisCache",
        "djredis",
        "django.core.cache.backends.redis.RedisCache",
        1,
        ("django", *_HIREDIS),
        "pickle, hiredis parser, pool",
        minimum="5.2",
    ),
    Contender(
        "django-valkey",
        "dvalkey",
        "django_valkey.cache.ValkeyCache",
        1,
        ("django-valkey", *_LIBVALKEY),
        "pickle, libvalkey parser, pool",
        minimum="0.4",
        scheme="valkey",
        # Its synchronous backend has no asynchronous methods, not even Django's defaults.
        skips=frozenset({"aget"}),
    ),
    Contender(
        "django-valkey async",
        "dvalkeya",
        "django_valkey.async_cache.cache.AsyncValkeyCache",
        1,
        ("django-valkey", *_LIBVALKEY),
        "its asyncio backend, pickle, pool",
        minimum="0.4",
        scheme="valkey",
        only=frozenset({"aget"}),
        # It keeps pools by URL, and would take the synchronous backend's for its own (seen in 0.4.1).
        database=1,
    ),
    Contender(
        "django-vcache",
        "vcachep",
        "django_vcache.backend.ValkeyCache",
        1,
        ("django-vcache",),
        "Rust driver, SERIALIZER=pickle",
        minimum="3.2",
        python=(3, 12),
        scheme="valkey",
        options={"SERIALIZER": "pickle"},
    ),
    Contender(
        "django-vcache msgpack",
        "vcachem",
        "django_vcache.backend.ValkeyCache",
        1,
        ("django-vcache", "ormsgpack"),
        "Rust driver, its default serializer",
        minimum="3.2",
        python=(3, 12),
        scheme="valkey",
    ),
    Contender(
        "django-cachex",
        "cachex",
        "django_cachex.cache.ValkeyCache",
        1,
        ("django-cachex", *_LIBVALKEY),
        "valkey-py, libvalkey parser, pickle",
        minimum="0.14",
        python=(3, 14),
        scheme="valkey",
    ),
)


def select(peers: bool) -> tuple[Contender, ...]:
    """Return who is to run: ourselves and Django's own backend, or with ``peers`` everybody."""
    return OURS + tuple(peer for peer in PEERS if peers or peer.alias == "djredis")


def release(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version, for comparing: ``7.0.0rc1`` is (7, 0, 0)."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found.group().split(".")) if found else ()


def probe(contender: Contender) -> Availability:
    """Find out from what is installed whether ``contender`` can run here; imports nothing."""
    versions: dict[str, str] = {}
    for package in contender.packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = __version__ if package == "distcache_django" else "missing"
    return Availability(versions, _obstacle(contender, versions))


def _obstacle(contender: Contender, versions: Mapping[str, str]) -> str | None:
    if missing := [package for package, version in versions.items() if version == "missing"]:
        wanted = ".".join(map(str, contender.python))
        hint = f" (needs Python {wanted} or newer)" if sys.version_info[:2] < contender.python else ""
        return f"not installed: {', '.join(missing)}{hint}"
    found = versions[contender.packages[0]]
    if contender.minimum and release(found) < release(contender.minimum):
        return f"refused: version {found} found, the goals are set against {contender.minimum} or newer"
    return None
