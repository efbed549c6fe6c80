"""Who takes part: no cache, this package, hand-written invalidation, and the libraries that cache the ORM.

Each is set up as its own documentation says, caches the same models for ten minutes, and is probed as the
other suites probe their contenders: in the version that is installed, or listed with the reason why not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from distcache_django.benchmark.contenders import Contender

__all__ = [
    "BOUNDED",
    "CACHALOT",
    "CACHEOPS",
    "NONE",
    "OURS",
    "STOCK",
    "STRONG",
    "SUBJECTS",
    "TIMEOUT",
    "Subject",
    "select",
]

#: Seconds for which every subject keeps what it cached: longer than a run.
TIMEOUT = 600
STOCK = "distcache_django.benchmark.orm.stock"
NONE, STRONG, BOUNDED = "no cache", "distcache strong", "distcache bounded"
CACHEOPS, CACHALOT = "django-cacheops", "django-cachalot"

Way = Literal["plain", "forget now", "forget on commit", "cacheops"]


@dataclass(frozen=True, slots=True)
class Subject:
    """A way to cache the ORM: what it is as a contender, and how its site is set up, reads and writes."""

    contender: Contender
    way: Way = "plain"
    apps: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    is_peer: bool = False

    @property
    def name(self) -> str:
        """Give the name in the report."""
        return self.contender.name

    def settings(self, urls: Mapping[str, str], prefix: str) -> dict[str, Any]:
        """Return the settings of its site, but for the database, with its cache on the nodes at ``urls``.

        ``prefix`` keeps the trials of those apart whose nodes are not emptied between them.
        """
        used: dict[str, Any] = {"BACKEND": _NO_CACHE}
        if self.contender.backend:
            used = self.contender.settings(urls, prefix)
        first = next(iter(urls.values()))
        extra = {name: first if value == _FIRST_URL else value for name, value in self.extra.items()}
        return {"CACHES": {"default": used}, "INSTALLED_APPS": [STOCK, *self.apps], **extra}


_NO_CACHE = "django.core.cache.backends.dummy.DummyCache"
_FIRST_URL = "the first node"
_REDIS_CACHE = "django.core.cache.backends.redis.RedisCache"
_DISTCACHE = "distcache_django.DistributedCache"
_HIREDIS = ("redis", "hiredis")
_PROFILE = {"timeout": TIMEOUT, "ops": "all"}


def _ours(name: str, alias: str, freshness: str) -> Subject:
    models = {"stock.item": {**_PROFILE, "by": ["group"]}, "stock.tag": _PROFILE}
    note = f"FRESHNESS={freshness!r}, MODELS with by=['group']"
    return Subject(
        Contender(name, alias, _DISTCACHE, 4, ("distcache_django", *_HIREDIS), note, location="names"),
        apps=("distcache_django",),
        extra={"DISTCACHE": {"FRESHNESS": freshness, "MODELS": models}},
    )


def _by_hand(name: str, alias: str, way: Way, note: str) -> Subject:
    return Subject(Contender(name, alias, _REDIS_CACHE, 1, ("django", *_HIREDIS), note), way=way)


SUBJECTS: tuple[Subject, ...] = (
    Subject(Contender(NONE, "none", "", 0, ("django",), "every read asks the database: the control")),
    _ours(STRONG, "strong", "strong"),
    _ours(BOUNDED, "bounded", "bounded"),
    _by_hand(
        "delete in post_save", "now", "forget now", "cache.get, set; keys deleted by signals, inside the transaction"
    ),
    _by_hand("delete on_commit", "later", "forget on commit", "cache.get, set; keys deleted by signals, on_commit"),
    Subject(
        Contender(
            CACHEOPS,
            "cacheops",
            "",
            1,
            ("django-cacheops", *_HIREDIS),
            "ops 'all'; invalidated_update(), invalidate_obj() after SQL and bulk_update()",
            minimum="7.2",
        ),
        way="cacheops",
        apps=("cacheops",),
        extra={
            "CACHEOPS_REDIS": _FIRST_URL,
            "CACHEOPS": {"stock.item": _PROFILE, "stock.tag": _PROFILE, "stock.*": {**_PROFILE, "ops": ()}},
        },
        is_peer=True,
    ),
    Subject(
        Contender(CACHALOT, "cachalot", _REDIS_CACHE, 1, ("django-cachalot", *_HIREDIS), "all tables", minimum="2.9"),
        apps=("cachalot",),
        extra={"CACHALOT_TIMEOUT": TIMEOUT},
        is_peer=True,
    ),
    Subject(
        Contender(
            "django-cachex",
            "cachex",
            "django_cachex.cache.ValkeyCache",
            1,
            ("django-cachex", "valkey", "libvalkey"),
            "cachex.orm, all tables",
            minimum="0.14",
            python=(3, 14),
            scheme="valkey",
        ),
        apps=("django_cachex.orm",),
        is_peer=True,
    ),
)
OURS = (STRONG, BOUNDED)


def select(peers: bool) -> tuple[Subject, ...]:
    """Return who is to run: the control, ourselves and hand-written invalidation, or with ``peers`` everybody."""
    return tuple(subject for subject in SUBJECTS if peers or not subject.is_peer)
