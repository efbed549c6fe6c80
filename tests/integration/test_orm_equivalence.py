"""Cached reads are what uncached reads are: results, types, state, exceptions and number of queries."""

# The zoo is in no settings that the plugin of mypy reads: it does not know of managers.
# mypy: disable-error-code="attr-defined, misc"

import pickle
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ObjectDoesNotExist, SynchronousOnlyOperation
from django.db import connection, models
from django.db.models import Max
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoDbBlocker

from distcache_django.orm.options import no_cache
from distcache_django.testing import LocalNodes
from tests.support.freshness import counted, zoo_site
from tests.support.readings import CACHED, NEVER_CACHED, NO_QUERY, Reading
from tests.support.snapshots import snapshot
from tests.support.things import Thing
from tests.support.zoo.models import Category, Product, Tag

pytestmark = pytest.mark.servers

MODELS = {"zoo.product": {"timeout": 60, "by": ["category", "brand"]}, "zoo.*": {"timeout": 60}}


_sites = count()


@pytest.fixture(scope="module")
def nodes() -> Iterator[LocalNodes]:
    with LocalNodes(4) as found:
        yield found


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def site(
    request: pytest.FixtureRequest,
    nodes: LocalNodes,
    tmp_path_factory: pytest.TempPathFactory,
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[None]:
    """A site with the zoo's rows in a database, whose models are all cached."""
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("equivalence") / "zoo.sqlite3"
        entry: dict[str, Any] = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}
    else:
        server = request.getfixturevalue("distcache_postgres")
        name = f"equivalence{next(_sites)}"  # in random order the fixture may be made more than once
        server.create_database(name)
        entry = server.django_settings(name)
    with django_db_blocker.unblock(), zoo_site(entry, nodes.urls, MODELS=MODELS):
        yield


def run(reading: Reading) -> tuple[Any, int]:
    """Return what a reading returned or raised, as plain data, and how many queries it took."""
    with CaptureQueriesContext(connection) as queries:
        try:
            outcome = snapshot(reading())
        except Exception as error:  # noqa: BLE001 - whatever Django raises
            outcome = ["raised", type(error), str(error)]
    return outcome, len(queries)


@pytest.mark.parametrize("name", CACHED)
def test_a_read_is_the_same_uncached_at_a_miss_and_at_a_hit(site: None, name: str) -> None:
    with no_cache():
        uncached, queries = run(CACHED[name])
    with counted() as since:
        first = run(CACHED[name])
        second = run(CACHED[name])

    assert first[0] == uncached
    assert second == (uncached, 0)
    assert first[1] <= queries
    assert since()["hits"] >= 1


@pytest.mark.parametrize("name", NEVER_CACHED)
def test_a_read_that_is_not_cached_is_the_same_and_asks_the_database(site: None, name: str) -> None:
    with no_cache():
        uncached = run(NEVER_CACHED[name])
    with counted() as since:
        assert run(NEVER_CACHED[name]) == uncached
        assert run(NEVER_CACHED[name]) == uncached

    assert uncached[1] > 0
    assert since() == {}


@pytest.mark.parametrize("name", NO_QUERY)
def test_what_django_answers_without_a_query_is_left_to_it(site: None, name: str) -> None:
    with no_cache():
        uncached = run(NO_QUERY[name])

    assert run(NO_QUERY[name]) == uncached
    assert run(NO_QUERY[name]) == uncached == (uncached[0], 0)


PICKLED = ["get by key", "get with every type", "get what is not there", "prefetch many to many", "only", "all"]


@pytest.mark.parametrize("name", PICKLED)
def test_pickled_results_are_the_same(site: None, name: str) -> None:
    def pickled() -> Any:
        return pickle.loads(pickle.dumps(CACHED[name]()))

    with no_cache():
        uncached = run(pickled)

    assert run(pickled)[0] == uncached[0]
    assert run(pickled) == (uncached[0], 0)


def test_a_pickled_queryset_is_cached_as_its_original_was(site: None) -> None:
    cached = Product.objects.cache(timeout=30, ops="fetch").order_by("pk")
    query = pickle.loads(pickle.dumps(cached.query))

    assert query.distcache == cached.query.distcache
    assert query.distcache.timeout == 30


# ---------------------------------------------------------------- signals and instances


def test_signals_of_instances_are_sent_as_ever(site: None) -> None:
    seen: list[Any] = []

    def began(sender: Any, args: Any, **_: Any) -> None:
        seen.append((sender, args))

    def ended(instance: Any, **_: Any) -> None:
        seen.append(snapshot(instance))

    def observed(reading: Reading) -> list[Any]:
        seen.clear()
        reading()
        return list(seen)

    models.signals.pre_init.connect(began, sender=Thing)
    models.signals.post_init.connect(ended, sender=Thing)
    try:
        with no_cache():
            uncached = observed(CACHED["get with every type"]), observed(CACHED["every type"])
        observed(CACHED["get with every type"]), observed(CACHED["every type"])
        assert (observed(CACHED["get with every type"]), observed(CACHED["every type"])) == uncached
        assert len(uncached[0]) == 2
    finally:
        models.signals.pre_init.disconnect(began, sender=Thing)
        models.signals.post_init.disconnect(ended, sender=Thing)


def test_no_caller_can_change_what_the_next_one_gets(site: None) -> None:
    for read in (lambda: Thing.objects.get(pk=1), lambda: Thing.objects.order_by("pk")[0]):
        before = snapshot(read())
        changed = read()
        changed.document["a"].append("more")
        changed.text = "changed"

        assert snapshot(read()) == before


# ---------------------------------------------------------------- async

ASYNC: dict[str, Callable[[], Any]] = {
    "aget": lambda: Product.objects.aget(pk=3),
    "aget of nothing": lambda: Product.objects.aget(pk=999),
    "afirst": lambda: Product.objects.order_by("pk").afirst(),
    "alast": lambda: Product.objects.order_by("pk").alast(),
    "alatest": lambda: Product.objects.alatest("created"),
    "aearliest": lambda: Product.objects.aearliest("created"),
    "acount": lambda: Product.objects.filter(active=True).acount(),
    "aexists": lambda: Product.objects.filter(active=True).aexists(),
    "acontains": lambda: Product.objects.acontains(Product(pk=2)),
    "aaggregate": lambda: Product.objects.aaggregate(Max("price")),
    "ain_bulk": lambda: Product.objects.ain_bulk([1, 2]),
    "async for": lambda: _gather(Product.objects.prefetch_related("tags").order_by("pk")),
    "async for of a related manager": lambda: _gather(Category(pk=1).products.order_by("pk")),
    "async for of values": lambda: _gather(Tag.objects.order_by("pk").values_list("pk", "label")),
}


async def _gather(rows: Any) -> list[Any]:
    return [row async for row in rows]


@pytest.mark.parametrize("name", ASYNC)
def test_an_asynchronous_read_is_the_same(site: None, name: str) -> None:
    @async_to_sync
    async def reading() -> Any:
        return await ASYNC[name]()

    with no_cache():
        uncached = run(reading)

    assert run(reading)[0] == uncached[0]
    assert run(reading) == (uncached[0], 0)


def test_an_event_loop_is_no_place_for_a_synchronous_read(site: None) -> None:
    for reading in (lambda: Product.objects.get(pk=3), lambda: list(Product.objects.filter(category=2))):
        reading()

        @async_to_sync
        async def on_the_loop(reading: Reading = reading) -> Any:
            return reading()

        with pytest.raises(SynchronousOnlyOperation):
            on_the_loop()


def test_what_is_not_there_is_known_without_a_query(site: None) -> None:
    with CaptureQueriesContext(connection) as queries:
        for _ in range(3):
            with pytest.raises(ObjectDoesNotExist):
                Product.objects.get(pk=123456)

    assert len(queries) == 1
