"""Run the suite's own process as a site whose ORM is cached: on real nodes, with a database of the test's choice."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connection, connections
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from distcache_django.freshness.dependencies import coarse
from distcache_django.freshness.service import freshness
from distcache_django.orm import install as reads
from tests.support.waiting import wait_until

#: Seconds for which a node that was just met has no vote; at least four deadlines.
MARK_TIMEOUT = 1.2
DEADLINE = 0.3
_PROBES = 32
_calls = count()


def site_settings(urls: Mapping[str, str], **distcache: Any) -> dict[str, Any]:
    """Return ``CACHES`` and ``DISTCACHE`` of a site on these nodes; keyword arguments are names of ``DISTCACHE``."""
    entry = {
        "BACKEND": "distcache_django.DistributedCache",
        "LOCATION": dict(urls),
        "OPTIONS": {"DEADLINE": DEADLINE},
    }
    return {"CACHES": {"default": entry}, "DISTCACHE": {"MARK_TIMEOUT": MARK_TIMEOUT, "TTL_JITTER": 0.0, **distcache}}


@contextmanager
def cached_site(urls: Mapping[str, str], **distcache: Any) -> Iterator[None]:
    """Have the ORM's reads cached on these nodes, from when they vote on."""
    reads.install()
    with override_settings(**site_settings(urls, **distcache)):
        ready_nodes()
        yield


def ready_nodes() -> None:
    """Return when every node votes: it does not while it is in quarantine, and nothing is stored then."""
    number = next(_calls)
    wait_until(lambda: all(_stores(f"{number}:{probe}") for probe in range(_PROBES)), what="the end of the quarantine")


def _stores(name: str) -> bool:
    return not _loads(name) or not _loads(name)


def _loads(name: str) -> bool:
    loaded = []
    freshness().answer(f"ready:{name}", (f"#ready:{name}",), lambda: loaded.append(1), 10)
    return bool(loaded)


@contextmanager
def default_database(entry: Mapping[str, Any]) -> Iterator[None]:
    """Have another database as ``"default"``, here and in the thread of ``sync_to_async``; closed at the end."""
    before, entry_before = connections["default"], connections.databases["default"]
    connections.databases["default"] = connections.configure_settings({"default": dict(entry)})["default"]
    del connections["default"]
    asyncio.run(sync_to_async(_forget_connection)())
    try:
        yield
    finally:
        asyncio.run(sync_to_async(_forget_connection)())
        connections["default"].close()
        connections.databases["default"] = entry_before
        connections["default"] = before


def _forget_connection() -> None:
    connections["default"].close()
    del connections["default"]


@contextmanager
def counted() -> Iterator[Callable[[], dict[str, int]]]:
    """Give a function that says what was counted since the block began, without the zeros."""
    before = freshness().counts()

    def since() -> dict[str, int]:
        return {name: n - before[name] for name, n in freshness().counts().items() if n != before[name]}

    yield since


@contextmanager
def zoo_site(entry: Mapping[str, Any], urls: Mapping[str, str], **distcache: Any) -> Iterator[None]:
    """Have a site with the zoo's rows in a database of its own; see ``cached_site`` for the rest."""
    # The zoo is imported by the sites that have it.
    from tests.support.readings import populate
    from tests.support.things import THINGS
    from tests.support.zoo.schema import create_tables, installed

    with installed(), default_database(entry):
        create_tables()
        with connection.schema_editor() as editor:
            for model in THINGS:
                editor.create_model(model)
        populate()
        with cached_site(urls, **distcache):
            yield


def end_answers() -> None:
    """End every cached answer about the zoo."""
    from tests.support.things import THINGS
    from tests.support.zoo.schema import tables

    names = {*tables(), *(model._meta.db_table for model in THINGS)}
    freshness().bump(coarse(names))


def queries(read: Callable[[], Any]) -> int:
    """Return how many queries a read takes."""
    with CaptureQueriesContext(connection) as found:
        read()
    return len(found)


def is_cached(read: Callable[[], Any]) -> bool:
    """Return whether a second read takes no query."""
    read()
    return queries(read) == 0
