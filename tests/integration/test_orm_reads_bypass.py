"""Which reads never come from the cache, and which answers are not stored in it."""

# The zoo is in no settings that the plugin of mypy reads: it does not know of managers.
# mypy: disable-error-code="attr-defined, misc"

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.models import Func
from django.db.transaction import TransactionManagementError
from django.test import override_settings
from pytest_django import DjangoDbBlocker

from distcache_django.freshness import transactions
from distcache_django.freshness.service import freshness
from distcache_django.orm import reads
from distcache_django.testing import LocalNodes
from tests.support.freshness import counted, end_answers, is_cached, queries, ready_nodes, site_settings, zoo_site
from tests.support.snapshots import snapshot
from tests.support.zoo.models import Book, Brand, Category, Product, Tag

pytestmark = pytest.mark.servers

MODELS = {"zoo.product": {"timeout": 60, "by": ["category"]}, "zoo.book": {"timeout": 60}, "zoo.*": None}


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
    behind = changed_behind(
        database,
        "UPDATE zoo_product SET name = 'b' WHERE id = 3",
        "UPDATE zoo_product SET name = 'product 3' WHERE id = 3",
    )

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
    behind = changed_behind(
        database, "UPDATE zoo_book SET pages = 100", "UPDATE zoo_book SET pages = 120 WHERE product_ptr_id = 21"
    )

    with behind:
        list(Book.objects.filter(pages=100).values_list("pk"))
        assert Book.objects.filter(pages=100).update(price=5, pages=100) == 2


def test_cascades_find_their_rows_in_the_database(site: None, database: Path) -> None:
    category = Category.objects.create(pk=77, name="short")
    assert list(Product.objects.filter(category__in=[category])) == []
    assert list(Product.objects.filter(category=category)) == []
    with connection.cursor() as cursor:
        columns = [each.name for each in connection.introspection.get_table_description(cursor, "zoo_product")]
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
        with transaction.atomic():
            transaction.set_rollback(True)
            with pytest.raises(TransactionManagementError):
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


@pytest.mark.parametrize("serializer", ["JSONSerializer", "PickleSerializer"])
def test_rows_keep_their_types_whatever_the_caches_serializer(site: None, nodes: LocalNodes, serializer: str) -> None:
    reads_of = [lambda: Product.objects.get(pk=1), lambda: list(Product.objects.filter(pk=1))]
    expected = [snapshot(read()) for read in reads_of]
    settings = site_settings(nodes.urls, MODELS=MODELS)
    name = f"django_redis.serializers.{serializer[: -len('Serializer')].lower()}.{serializer}"
    settings["CACHES"]["default"]["OPTIONS"]["SERIALIZER"] = name
    settings["CACHES"]["default"]["KEY_PREFIX"] = serializer

    with override_settings(**settings):
        ready_nodes()
        assert all(is_cached(read) for read in reads_of)
        assert [snapshot(read()) for read in reads_of] == expected


def test_rows_that_cannot_be_stored_are_returned_all_the_same(site: None) -> None:
    class Unstorable:
        def __reduce__(self) -> str:
            raise TypeError("no pickle of this")

    sqlite3.register_converter("bool", lambda _: Unstorable())
    try:
        for _ in range(2):
            assert type(Product.objects.filter(pk=1).values_list("active")[0][0]) is Unstorable
            assert type(Product.objects.get(pk=1).active) is Unstorable
    finally:
        sqlite3.register_converter("bool", b"1".__eq__)  # Django's own


def test_errors_of_the_database_are_passed_on_and_not_stored(site: None) -> None:
    broken = Brand.objects.cache().annotate(wrong=Func("name", function="no_such_function"))

    with counted() as since:
        for _ in range(2):
            with pytest.raises(DatabaseError, match="no_such_function"):
                list(broken.all())

    assert since().get("hits", 0) == 0


@pytest.mark.parametrize("name", ["zoo_product:3", "zoo_product:*"])
def test_a_get_ends_with_its_row_and_with_its_epoch(site: None, name: str) -> None:
    read = lambda: Product.objects.get(pk=3)  # noqa: E731
    assert is_cached(read)
    freshness().bump(["zoo_product:4", "zoo_product"])
    assert queries(read) == 0
    freshness().bump([name])
    assert queries(read) == 1


@pytest.mark.parametrize("name", ["zoo_product:category_id=2", "zoo_product:=:*"])
def test_a_get_by_a_declared_field_ends_with_that_value_and_with_its_epoch(site: None, name: str) -> None:
    read = lambda: Product.objects.get(category_id=2, name="product 4")  # noqa: E731
    assert is_cached(read)
    freshness().bump(["zoo_product:*"])
    assert queries(read) == 0
    freshness().bump([name])
    assert queries(read) == 1


# ---------------------------------------------------------------- answers of which reads are a part


def record(load: Callable[[], Any]) -> list[int]:
    """Return the number of queries of two loads of an answer whose dependencies are found."""
    name = f"recorded {next(_names)}"
    return [queries(lambda: freshness().recorded(name, lambda: load() and None, 60)) for _ in range(2)]


_names = count()


def test_reads_tell_the_answer_they_are_a_part_of_what_it_depends_on(site: None) -> None:
    def load() -> Any:
        return (
            Product.objects.get(pk=1),
            list(Brand.objects.all()),
            Brand.objects.nocache().get(pk=1),
            Tag.objects.count(),
        )

    assert record(load) == [4, 0]
    for name in ("zoo_product:1", "zoo_brand", "zoo_tag"):
        kept = f"kept {next(_names)}"
        assert queries(lambda kept=kept: freshness().recorded(kept, load, 60)) > 0
        assert queries(lambda kept=kept: freshness().recorded(kept, load, 60)) == 0
        freshness().bump([name])
        assert queries(lambda kept=kept: freshness().recorded(kept, load, 60)) > 0


@pytest.mark.parametrize(
    "load",
    [
        lambda: list(Brand.objects.order_by("?")),
        lambda: list(Product.objects.order_by("?")),
        lambda: Brand.objects.filter(pk=1).update(country="de"),
    ],
)
def test_an_answer_with_a_read_that_cannot_be_known_is_not_stored(site: None, load: Callable[[], Any]) -> None:
    first, second = record(load)

    assert first == second > 0
