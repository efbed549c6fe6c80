"""Which reads are cached, for how long, and which never are."""

# The zoo is in no settings that the plugin of mypy reads: it does not know of managers.
# mypy: disable-error-code="attr-defined, misc"

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db.models import Count, QuerySet
from django.test import override_settings
from pytest_django import DjangoDbBlocker

from distcache_django.freshness.service import freshness
from distcache_django.orm.manager import CacheManager, CacheQuerySet
from distcache_django.orm.options import QueryOptions, no_cache
from distcache_django.testing import LocalNodes
from tests.support.freshness import counted, end_answers, is_cached, queries, site_settings, zoo_site
from tests.support.things import Thing
from tests.support.zoo.models import Brand, Category, Product, Review, Tag

pytestmark = pytest.mark.servers

# Brands, tags and things are cached only where a test says so.
MODELS = {
    "zoo.product": {"timeout": 60, "by": ["category"]},
    "zoo.book": {"timeout": 60},
    "zoo.category": {"ops": "get"},
    "zoo.review": {"ops": ["count"]},
    "zoo.*": None,
}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reads") / "zoo.sqlite3"


@pytest.fixture(scope="module")
def nodes() -> Iterator[LocalNodes]:
    with LocalNodes(2) as found:
        yield found


@pytest.fixture(scope="module")
def whole_site(database: Path, nodes: LocalNodes, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    entry = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(database)}
    with django_db_blocker.unblock(), zoo_site(entry, nodes.urls, MODELS=MODELS):
        yield


@pytest.fixture
def site(whole_site: None) -> None:
    """The site, with nothing cached of what earlier tests read."""
    end_answers()


# ---------------------------------------------------------------- kinds of queries

KINDS: dict[str, Callable[[QuerySet[Any, Any]], Any]] = {
    "get": lambda queryset: queryset.get(pk=2),
    "fetch": lambda queryset: list(queryset.filter(pk__gt=1)),
    "count": lambda queryset: queryset.count(),
    "exists": lambda queryset: queryset.filter(pk=2).exists(),
    "aggregate": lambda queryset: queryset.aggregate(n=Count("pk")),
}


@pytest.mark.parametrize("op", KINDS)
@pytest.mark.parametrize("kind", KINDS)
def test_only_the_named_kind_of_queries_is_cached(site: None, op: str, kind: str) -> None:
    # A get() is a fetch too: with fetch it is cached, as in django-cacheops.
    expected = op == kind or (op, kind) == ("fetch", "get")

    assert is_cached(lambda: KINDS[kind](Brand.objects.cache(ops=[op]))) == expected


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (lambda: Category.objects.get(pk=1), True),
        (lambda: Category.objects.filter(name="root").get(), True),
        (lambda: list(Category.objects.all()), False),
        (Category.objects.count, False),
        (Review.objects.count, True),
        (lambda: len([Review.objects.filter(stars=1)[:3].count()]), True),
        (lambda: Review.objects.get(pk=1), False),
        (Review.objects.exists, False),
        (lambda: Review.objects.aggregate(n=Count("pk")), False),
        (lambda: Product.objects.get(pk=1), True),
        (lambda: list(Product.objects.all()), True),
        (lambda: Brand.objects.get(pk=1), False),
        (lambda: list(Brand.objects.all()), False),
    ],
)
def test_models_are_cached_as_the_settings_say(site: None, read: Callable[[], Any], expected: bool) -> None:
    assert is_cached(read) == expected


def test_all_kinds_are_cached_where_cache_names_none(site: None) -> None:
    assert all(is_cached(lambda read=read: read(Brand.objects.cache())) for read in KINDS.values())


def test_what_a_queryset_says_counts_for_what_is_made_of_it(site: None) -> None:
    brands = Brand.objects.cache()

    assert is_cached(lambda: list(brands.filter(country="de").exclude(pk=9).order_by("name")[:3]))
    assert is_cached(lambda: list(brands.values_list("name", flat=True).distinct()))
    assert is_cached(lambda: list(brands.filter(pk=1).union(Brand.objects.filter(pk=2))))
    assert is_cached(lambda: brands.values("country").annotate(n=Count("pk")).count())


def test_nocache_reads_from_the_database(site: None) -> None:
    assert not is_cached(lambda: Product.objects.nocache().get(pk=1))
    assert not is_cached(lambda: list(Product.objects.filter(pk=1).nocache()))
    assert is_cached(lambda: Product.objects.nocache().cache().get(pk=1))


def test_no_cache_reads_from_the_database_and_stores_nothing(site: None) -> None:
    @no_cache()
    def read() -> Any:
        return Product.objects.cache().get(pk=1), list(Product.objects.cache())

    with counted() as since:
        assert [queries(read), queries(read)] == [2, 2]

    assert since() == {}
    assert queries(lambda: Product.objects.get(pk=1)) == 1
    with no_cache(), no_cache():
        pass
    assert queries(lambda: Product.objects.get(pk=1)) == 0


def test_no_cache_holds_for_asynchronous_reads(site: None) -> None:
    async def read() -> Any:
        return await Product.objects.aget(pk=1)

    async def uncached() -> Any:
        with no_cache():
            return await read()

    @no_cache()
    async def decorated() -> Any:
        return await read()

    assert not is_cached(async_to_sync(uncached))
    assert not is_cached(async_to_sync(decorated))
    assert is_cached(async_to_sync(read))


@pytest.mark.parametrize("wrong", [{"timeout": 0}, {"timeout": -1}, {"ops": "gets"}, {"ops": ["get", 3]}])
def test_wrong_options_are_refused(site: None, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"cache\("):
        Product.objects.cache(**wrong)


def test_answers_expire(site: None, nodes: LocalNodes) -> None:
    with counted() as since:
        read = Brand.objects.cache(timeout=0.02).get
        read(pk=1)
        while not since().get("misses", 0) > 1:
            read(pk=1)


def test_timeouts_are_the_querysets_or_the_models_or_the_caches(site: None) -> None:
    seen: list[float] = []
    service: Any = freshness()
    answer = service.answer

    def noted(key: str, names: Any, load: Any, timeout: float) -> Any:
        seen.append(timeout)
        return answer(key, names, load, timeout)

    service.answer = noted
    try:
        for read in (Product.objects.cache(5), Product.objects.cache(), Product.objects, Brand.objects.cache()):
            read.get(pk=1)
            list(read.all())
    finally:
        del service.answer

    assert seen == [5, 5, 60, 60, 60, 60, 300, 300]


def test_switched_off_nothing_is_cached(site: None, nodes: LocalNodes) -> None:
    with override_settings(**site_settings(nodes.urls, MODELS=MODELS, ENABLED=False)):
        assert not is_cached(lambda: Product.objects.get(pk=1))
        assert not is_cached(lambda: list(Product.objects.cache()))


# ---------------------------------------------------------------- related objects


def test_prefetched_objects_are_cached_as_the_outer_queryset_is(site: None) -> None:
    cached = Brand.objects.cache(timeout=7).prefetch_related("products__tags").order_by("pk")
    uncached = Product.objects.nocache().prefetch_related("category").order_by("pk")

    assert is_cached(lambda: list(cached.all()))
    assert [queries(lambda: list(uncached.all())) for _ in range(2)] == [2, 2]
    assert not is_cached(lambda: list(Tag.objects.all()))


def test_single_related_objects_are_cached_as_the_outer_queryset_is(site: None) -> None:
    def follow(products: QuerySet[Product]) -> Any:
        product = products.get(pk=1)
        assert product.brand is not None
        return product.brand.name

    assert is_cached(lambda: follow(Product.objects.cache()))
    assert is_cached(
        lambda: [follow(Product.objects.cache().filter(pk=1)), *Product.objects.cache().filter(pk=1)][1].brand
    )
    assert [queries(lambda: follow(Product.objects.all())) for _ in range(2)] == [1, 1]
    assert [queries(lambda: follow(Product.objects.nocache())) for _ in range(2)] == [2, 2]
    assert is_cached(lambda: Thing.objects.cache().get(pk=1).sticker.label.name)


def test_instances_of_other_querysets_carry_nothing(site: None) -> None:
    cached, plain = Product.objects.cache().get(pk=1), Product.objects.get(pk=1)

    assert vars(cached._state)["distcache"] == QueryOptions()
    assert "distcache" not in vars(plain._state)


# ---------------------------------------------------------------- querysets and managers of the site's own


class Picky(CacheQuerySet[Brand]):
    def filter(self, *args: Any, **kwargs: Any) -> "Picky":
        return super().filter(*args, **kwargs).exclude(pk=1)


def test_a_queryset_with_a_filter_of_its_own_is_asked(site: None) -> None:
    assert Picky(Brand).cache().get(pk=2).pk == 2
    for _ in range(2):
        with pytest.raises(Brand.DoesNotExist):
            Picky(Brand).cache().get(pk=1)


def test_the_managers_class_offers_the_methods(site: None) -> None:
    manager: Any = CacheManager()
    manager.model = Brand

    assert is_cached(lambda: manager.cache().get(pk=1))
    assert not is_cached(lambda: manager.nocache().get(pk=1))
    assert manager.filter(pk=1).invalidated_update(country="de") == 1
    assert isinstance(manager.all(), CacheQuerySet)
