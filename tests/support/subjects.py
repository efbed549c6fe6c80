"""The backends the conformance suites can be pointed at, by name.

`distcache` is the product. The others keep the suites honest: `django` is the reference that must pass what Django
documents, `django_redis` the one whose extra methods ours repeat, and `careless` the mutant that must fail.
Choose one with DISTCACHE_CONFORMANCE_SUBJECT.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from django.core.cache import CacheHandler

AWAITED = "tests.support.awaited.AwaitedCache"


@dataclass(frozen=True, slots=True)
class Subject:
    """A backend under test, how it is configured, and what it may differ in."""

    backend: str
    options: Mapping[str, object] = field(default_factory=dict)
    # Whether several nodes in LOCATION are shards; elsewhere they are replicas of the first.
    is_sharded: bool = False
    # Whether it knows REPLICATION_FACTOR.
    is_replicated: bool = False
    # What `incr` raises for a value that is not a number, where it is not TypeError: Django's suite lets a
    # backend declare it.
    type_errors: tuple[str, ...] = ("builtins.TypeError",)


class Layout(NamedTuple):
    """How many nodes a cache has, how many hold each key, and whether its twins for coroutines are called."""

    nodes: int
    replicas: int
    mode: str

    def __str__(self) -> str:
        return f"{self.nodes}{f'x{self.replicas}' if self.replicas > 1 else ''}-{self.mode}"


SUBJECTS = {
    "distcache": Subject(
        "distcache_django.DistributedCache",
        # Conformance is about answers: a deadline that a busy machine cannot miss keeps load out of them.
        {"DEADLINE": 10.0, "SOCKET_CONNECT_TIMEOUT": 5.0},
        is_sharded=True,
        is_replicated=True,
    ),
    # Its `aincr` is the base class's read and write on Django 5.2, and Redis's own error from 6.1 on.
    "django": Subject(
        "django.core.cache.backends.redis.RedisCache",
        type_errors=("redis.exceptions.ResponseError", "builtins.TypeError"),
    ),
    "django_redis": Subject("django_redis.cache.RedisCache"),
    "careless": Subject("tests.support.careless.CarelessCache", is_sharded=True),
}


def chosen() -> str:
    """Return the name of the subject that this run is about."""
    return os.environ.get("DISTCACHE_CONFORMANCE_SUBJECT", "distcache")


def alias(name: str, urls: Sequence[str], *, mode: str = "sync", replicas: int = 1, **params: object) -> dict[str, Any]:
    """Return the CACHES entry of a subject on these nodes, in `sync` or awaited (`async`) mode.

    `replicas` is the number of nodes that hold each key.
    """
    subject = SUBJECTS[name]
    options = {**subject.options, **dict(params.pop("OPTIONS", {}))}  # type: ignore[call-overload]
    if replicas > 1:
        options["REPLICATION_FACTOR"] = replicas
    setting: dict[str, Any] = {"BACKEND": subject.backend, "LOCATION": list(urls), "OPTIONS": options, **params}
    if mode == "async":
        setting.update(BACKEND=AWAITED, AWAITED=subject.backend)
    return setting


def build(setting: Mapping[str, Any]) -> Any:
    """Return a cache made from one CACHES entry, as Django's own handler makes it."""
    return CacheHandler({"default": dict(setting)})["default"]
