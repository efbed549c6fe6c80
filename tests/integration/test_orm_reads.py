"""Which reads are cached, for how long, and which never are."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import DatabaseError, connection, transaction
from django.db.models import Count, QuerySet
from django.db.transaction import TransactionManagementError
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoDbBlocker

from distcache_django.freshness import transactions
from distcache_django.freshness.service import freshness
from distcache_django.orm import reads
from distcache_django.orm.manager import CacheManager, CacheQuerySet
from distcache_django.orm.options import QueryOptions, no_cache
from distcache_django.testing import LocalNodes
from tests.support.freshness import counted, site_settings, zoo_site
from tests.support.things import Label, Note, Sticker, Thing
from tests.support.zoo.models import Book, Brand, Category, Product, Review, Tag

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
    tables = [model._meta.db_table for model in (Product, Book, Category, Review, Brand, Tag, Thing, Note, Label, Sticker)]
    tables.append(Product.tags.through._meta.db_table)
    names = [name for table in tables for name in (table, f"{table}:*")]
    freshness().bump(names)


def queries(read: Callable[[], Any]) -> int:
    """Return how many queries a read takes."""
    with CaptureQueriesContext(connection) as found:
        read()
    return len(found)


def is_cached(read: Callable[[], Any]) -> bool:
    """Return whether a second read takes no query."""
    read()
    return queries(read) == 0


@contextmanager
def changed_behind(database: Path, statement: str, undo: str) -> Iterator[None]:
    """Change a row behind Django's back: cached answers stay as they are, which shows who takes them."""

    def execute(text: str) -> None:
        link = sqlite3.connect(database)
        with link:
            link.execute(text)
        link.close()

    execute(statement)
    try:
        yield
    finally:
        execute(undo)


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
        (lambda: Category.objects.count(), False),
        (lambda: Review.objects.count(), True),
        (lambda: Review.objects.filter(stars=1)[:3].count(), True),
        (lambda: Review.objects.get(pk=1), False),
        (lambda: Review.objects.exists(), False),
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

    assert not is_cached(async_to_sync(uncached))
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
    service.answer = lambda key, names, load, timeout: seen.append(timeout) or answer(key, names, load, timeout)
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
    assert is_cached(lambda: [follow(Product.objects.cache().filter(pk=1)), *Product.objects.cache().filter(pk=1)][1].brand)
    assert [queries(lambda: follow(Product.objects.all())) for _ in range(2)] == [1, 1]
    assert [queries(lambda: follow(Product.objects.nocache())) for _ in range(2)] == [2, 2]
    assert is_cached(lambda: Thing.objects.cache().get(pk=1).sticker.label.name)


def test_instances_of_other_querysets_carry_nothing(site: None) -> None:
    cached, plain = Product.objects.cache().get(pk=1), Product.objects.get(pk=1)

    assert vars(cached._state)["distcache"] == QueryOptions()
    assert "distcache" not in vars(plain._state)


# ---------------------------------------------------------------- never


def test_reads_that_lock_or_explain_go_to_the_database(site: None) -> None:
    def locked() -> Any:
        with transaction.atomic():
            return list(Product.objects.select_for_update().filter(pk=1))

    assert not is_cached(lambda: Product.objects.filter(pk=1).explain())
    with counted() as since:
        locked(), locked()
    assert since() == {}


def test_what_a_write_is_based_on_comes_from_the_database(site: None, database: Path) -> None:
    product, tags = Product.objects.get(pk=3), list(Tag.objects.cache().order_by("pk"))
    Product.objects.get(pk=3), list(Product.objects.filter(pk=3)), list(product.tags.all())
    behind = changed_behind(database, "UPDATE zoo_product SET name = 'b' WHERE id = 3", "UPDATE zoo_product SET name = 'product 3' WHERE id = 3")

    with behind:
        assert Product.objects.get(pk=3).name == "product 3"  # which shows that the cache would answer
        assert Product.objects.get_or_create(pk=3)[0].name == "b"
        assert Product.objects.update_or_create(pk=3, defaults={"active": False})[0].name == "b"
        product.refresh_from_db()
        assert product.name == "b"
        product.refresh_from_db(fields=["name"])
        assert product.name == "b"
    assert len(tags) == 3


def test_relations_are_set_by_what_the_database_says(site: None, database: Path) -> None:
    product, tag = Product.objects.get(pk=4), Tag.objects.get(pk="new")
    assert list(product.tags.cache()) == []
    assert list(product.tags.through.objects.cache().filter(product=4)) == []
    behind = "INSERT INTO zoo_product_tags (product_id, tag_id) VALUES (4, 'new')"

    with changed_behind(database, behind, "DELETE FROM zoo_product_tags WHERE product_id = 4"):
        assert list(product.tags.cache()) == []
        # Based on a cached list, each of these would leave the row there, or add it a second time.
        product.tags.add(tag)
        assert Product.tags.through.objects.nocache().filter(product=4).count() == 1
        product.tags.set([])
        assert not Product.tags.through.objects.nocache().filter(product=4).exists()


def test_rows_of_an_update_over_two_tables_are_found_in_the_database(site: None, database: Path) -> None:
    assert [book.pk for book in Book.objects.filter(pages=100)] == [20]
    behind = changed_behind(database, "UPDATE zoo_book SET pages = 100", "UPDATE zoo_book SET pages = 120 WHERE product_ptr_id = 21")

    with behind:
        list(Book.objects.filter(pages=100).values_list("pk"))
        assert Book.objects.filter(pages=100).update(price=5, pages=100) == 2


def test_cascades_find_their_rows_in_the_database(site: None, database: Path) -> None:
    category = Category.objects.create(pk=77, name="short")
    assert list(Product.objects.filter(category__in=[category])) == []
    assert list(Product.objects.filter(category=category)) == []
    behind = "INSERT INTO zoo_product SELECT 78, name, price, active, released, created, uuid, brand_id, 77 FROM zoo_product WHERE id = 1"
    columns = [column.name for column in connection.introspection.get_table_description(connection.cursor(), "zoo_product")]
    values = ", ".join({"id": "78", "category_id": "77"}.get(column, column) for column in columns)
    behind = f"INSERT INTO zoo_product ({', '.join(columns)}) SELECT {values} FROM zoo_product WHERE id = 1"

    with changed_behind(database, behind, "DELETE FROM zoo_product WHERE id = 78"):
        assert category.delete()[0] == 2


# ---------------------------------------------------------------- transactions


def test_a_transaction_that_has_written_reads_from_the_database(site: None) -> None:
    read = lambda: Product.objects.get(pk=1)  # noqa: E731
    assert is_cached(read)
    with transaction.atomic():
        transactions.record_write("default", ["zoo_product:1"])
        assert queries(read) == 1
    read()
    assert queries(read) == 0


def test_a_broken_transaction_refuses_reads_as_ever(site: None) -> None:
    reads_of = [lambda: Product.objects.get(pk=1), lambda: list(Product.objects.filter(pk=1))]
    assert all(is_cached(read) for read in reads_of)

    for read in reads_of:
        with pytest.raises(TransactionManagementError), transaction.atomic():
            transaction.set_rollback(True)
            read()


# ---------------------------------------------------------------- sizes and dependencies


def test_large_answers_are_not_stored_nor_waited_for(site: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "MAX_ROWS", 7)
    monkeypatch.setattr(reads, "_too_large", {})

    with counted() as since:
        for _ in range(3):
            assert len(list(Product.objects.filter(pk__lt=9).order_by("pk"))) == 8
        assert is_cached(lambda: list(Product.objects.filter(pk__lt=8).order_by("pk")))

    assert since() == {"misses": 2, "hits": 1}


def test_errors_of_the_database_are_passed_on_and_not_stored(site: None) -> None:
    class Elsewhere(Brand):
        class Meta:
            app_label = "elsewhere"
            proxy = True

    broken = Brand.objects.cache().extra(where=["no_such_column = 1"])

    for _ in range(2):
        with pytest.raises(DatabaseError, match="no_such_column"):
            list(broken)


@pytest.mark.parametrize("name", ["zoo_product:3", "zoo_product:*"])
def test_a_get_ends_with_its_row_and_with_its_epoch(site: None, name: str) -> None:
    read = lambda: Product.objects.get(pk=3)  # noqa: E731
    assert is_cached(read)
    freshness().bump(["zoo_product:4", "zoo_product"])
    assert queries(read) == 0
    freshness().bump([name])
    assert queries(read) == 1


def test_a_get_by_a_declared_field_ends_with_that_value(site: None) -> None:
    read = lambda: Product.objects.get(category_id=2, name="product 4")  # noqa: E731
    assert is_cached(read)
    freshness().bump(["zoo_product:category_id=2"])
    assert queries(read) == 1


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
