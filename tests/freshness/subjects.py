"""The caches that the interleavings are forced on. An actor process has exactly one of them.

``distcache`` is the product; ``none`` caches nothing; ``careless`` is what people write by hand. ``cacheops`` and
``cachalot`` run where they are installed (see ``compare.py``).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.core.cache import cache
from django.db import transaction
from django.db.backends.postgresql.base import DatabaseWrapper
from django.db.models.signals import post_delete, post_save

from tests.freshness.gates import Gates

Load = Callable[[], Any]
MODELS = {
    "stock.item": {"timeout": 600, "by": ["shelf"], "ops": {"get", "fetch", "count", "exists", "aggregate"}},
    "stock.shelf": {"timeout": 600, "ops": {"get", "fetch"}},
    "stock.label": {"timeout": 600, "ops": {"get", "fetch"}},
}


class Subject:
    """A cache that is told nothing: it finds reads and writes by itself, or does not cache at all."""

    def __init__(self, gates: Gates) -> None:
        self.gates = gates
        self.kept: Any = None  # an instance that a task loaded for a later one

    def start(self, plan: Mapping[str, Any]) -> None:
        """Begin, after ``django.setup()``."""

    def read(self, key: str, load: Load) -> Any:
        """Answer a read."""
        return load()

    def touched(self, **values: Any) -> None:
        """Hear of a write that sends no signal."""


class Distcache(Subject):
    """The product. It can be made to think that PostgreSQL is older than it is, and so to do without its newest."""

    def start(self, plan: Mapping[str, Any]) -> None:
        if plan.get("postgres_version"):
            DatabaseWrapper.pg_version = plan["postgres_version"]  # type: ignore[method-assign]


class Careless(Subject):
    """Get or set under a key by hand; delete the keys on commit. Plausible, and wrong in most interleavings."""

    KNOWN = ("get", "list", "sum", "table")

    def start(self, plan: Mapping[str, Any]) -> None:
        for signal in (post_save, post_delete):
            signal.connect(self._on_signal, weak=False)

    def read(self, key: str, load: Load) -> Any:
        if key.partition(":")[0] not in self.KNOWN:
            return load()
        found = cache.get(key)
        if found is None:
            found = [load()]
            cache.set(key, found, 600)  # mistake: whatever was loaded, however long ago
        return found[0]

    def touched(self, **values: Any) -> None:
        keys = list(_keys(values))
        transaction.on_commit(lambda: cache.delete_many(keys))  # mistake: between COMMIT and this the old one is served

    def _on_signal(self, instance: Any, **_: Any) -> None:
        if hasattr(instance, "shelf_id"):
            # Mistake: the group the instance remembers need not be the one the row is in.
            shelves = {instance.shelf_id, getattr(instance, "known_shelf", instance.shelf_id)}
            self.touched(pks=[instance.pk], shelves=shelves, batches=[instance.batch])


def _keys(values: Mapping[str, Iterable[Any]]) -> Iterable[str]:
    for pk in values["pks"]:
        yield f"get:{pk}"
    for shelf in values["shelves"]:
        yield f"list:{shelf}"
        yield f"sum:{shelf}"
    for batch in values["batches"]:
        yield f"table:{batch}"


SUBJECTS: dict[str, Callable[[Gates], Subject]] = {
    "distcache": Distcache,
    "cacheops": Subject,
    "cachalot": Subject,
    "none": Subject,
    "careless": Careless,
}


def settings_of(subject: str, plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the subject adds to Django's settings."""
    urls: dict[str, str] = plan["nodes"]
    options = {"DEADLINE": 0.5, "SOCKET_CONNECT_TIMEOUT": 0.5, **plan.get("options", {})}
    caches: dict[str, Any] = {
        "default": {"BACKEND": "distcache_django.DistributedCache", "LOCATION": urls, "OPTIONS": options}
    }
    if subject == "cachalot":
        caches["default"] = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": min(urls.values())}
    apps = {"distcache": ["distcache_django"], "cacheops": ["cacheops"], "cachalot": ["cachalot"]}.get(subject, [])
    found: dict[str, Any] = {"CACHES": caches, "apps": apps}
    if subject == "distcache":
        found["DISTCACHE"] = {"MODELS": MODELS, **plan.get("distcache", {})}
    if subject == "cacheops":
        found["CACHEOPS_REDIS"] = min(urls.values())
        found["CACHEOPS"] = {name: {**profile, "ops": "all"} for name, profile in MODELS.items()}
    return found
