"""Plain querysets that are shared, routed, long or odd are answered as Django does, and leave nothing behind."""

# The zoo is in no settings that the plugin of mypy reads: it does not know of managers.
# mypy: disable-error-code="attr-defined, misc"

import gc
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime
from itertools import chain, repeat
from typing import Any

import pytest
from django.db import connection, models, transaction
from django.db.models import Count, Max
from django.test import override_settings
from django.test.utils import isolate_apps
from django.utils import timezone
from pytest_django import DjangoDbBlocker

from distcache_django.orm import recall
from distcache_django.orm.options import no_cache
from distcache_django.testing import LocalNodes
from tests.support.freshness import end_answers, is_cached, zoo_site
from tests.support.zoo.models import Category, Product, Review

pytestmark = pytest.mark.servers
MODELS = {"zoo.product": {"by": ["category", "active"]}, "zoo.*": {}}


@pytest.fixture(scope="module")
def whole_site(tmp_path_factory: pytest.TempPathFactory, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    entry = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path_factory.mktemp("attack") / "zoo.sqlite3")}
    with LocalNodes(2) as nodes, django_db_blocker.unblock(), zoo_site(entry, nodes.urls, MODELS=MODELS):
        yield


@pytest.fixture
def site(whole_site: None) -> None:
    """The site, with nothing cached of what earlier tests read."""
    end_answers()


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads that take turns after every few instructions."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def keys(found: Any) -> list[int]:
    return sorted(each.pk for each in found)


# ---------------------------------------------------------------- shared by threads


def test_a_filter_that_is_added_while_another_thread_asks_is_not_lost(
    site: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with no_cache():
        whole, part = keys(Product.objects.all()), keys(Product.objects.filter(category=1))
    shared = Product.objects.filter(category=1)

    def is_plain(queryset: Any, original: Any = recall.is_plain) -> bool:
        found = bool(original(queryset))
        str(shared.query)  # as a thread does that runs just now
        return found

    with monkeypatch.context() as patched:
        patched.setattr(recall, "is_plain", is_plain)
        assert keys(shared) == part

    assert keys(Product.objects.all()) == whole
    assert keys(Product.objects.filter(category=1)) == part


def test_threads_that_look_at_one_query_add_its_filter_once(site: None, hasty_threads: None) -> None:
    barrier = threading.Barrier(4)

    def look(shared: Any) -> str:
        barrier.wait()
        return str(shared.all().query)

    with ThreadPoolExecutor(4) as pool:
        for _ in range(100):
            shared = Product.objects.filter(category=1)
            for text in (*pool.map(look, [shared] * 4), str(shared.query)):
                assert text.count('"category_id" = 1') == 1


# ---------------------------------------------------------------- as Django has it


def test_a_query_that_is_put_in_place_is_not_filtered_by_the_one_before(site: None) -> None:
    found = Product.objects.filter(category=1)
    found.query = Product.objects.filter(brand=2).query

    assert keys(found) == keys(Product.objects.filter(brand=2))


def test_an_instance_is_no_value_of_the_key_that_it_has(site: None) -> None:
    with pytest.raises(TypeError, match="expected a number"):
        Product.objects.filter(category__id=Category(pk=1))


@pytest.mark.parametrize("number", [10**5000, -(10**5000), 2**70], ids=["long", "negative", "big"])
def test_a_number_that_no_column_holds_finds_nothing(site: None, number: int) -> None:
    for _ in range(2):
        found = Product.objects.filter(pk=number)
        assert (keys(found), found.count(), found.exists()) == ([], 0, False)
        assert Product.objects.filter(pk=number).aggregate(n=Count("pk")) == {"n": 0}
        with pytest.raises(Product.DoesNotExist):
            Product.objects.get(pk=number)


class Elsewhere:
    """A router that names another database at each question."""

    def __init__(self) -> None:
        self.names = chain(["default"], repeat("elsewhere"))
        self.asked = 0

    def db_for_read(self, model: Any, **hints: Any) -> str:
        self.asked += 1
        return next(self.names)


def test_instances_are_of_the_database_that_was_asked(site: None) -> None:
    read = lambda: list(Product.objects.filter(category=1))  # noqa: E731
    assert is_cached(read)

    with override_settings(DATABASE_ROUTERS=[Elsewhere()]):
        assert {each._state.db for each in read()} == {"default"}


ASKING: dict[str, Callable[[], Any]] = {
    "get": lambda: Product.objects.get(pk=1),
    "fetch": lambda: list(Product.objects.filter(category=1)),
    "count": lambda: Product.objects.filter(category=1).count(),
    "exists": lambda: Product.objects.filter(category=1).exists(),
    "aggregate": lambda: Product.objects.filter(category=1).aggregate(n=Max("pk")),
}


@pytest.mark.parametrize("name", ASKING)
def test_a_router_is_asked_once(site: None, name: str) -> None:
    """One that names its databases in turn would otherwise name every other one; what is loaded is of one of them."""
    for block in (nullcontext, nullcontext, transaction.atomic):  # a miss, a hit, and the usual way
        router = Elsewhere()
        with override_settings(DATABASE_ROUTERS=[router]), block():
            ASKING[name]()
        assert router.asked == 1


ZONED: dict[str, Callable[[], Any]] = {
    "aggregate": lambda: Product.objects.filter(pk=1).aggregate(latest=Max("created__hour")),
    "order": lambda: [each.pk for each in Review.objects.order_by("product__created__hour", "pk")],
}


@pytest.mark.parametrize("name", ZONED)
def test_hours_are_of_the_present_time_zone(site: None, name: str) -> None:
    Product.objects.filter(pk=2).update(created=datetime(2026, 3, 2, 23, 30, tzinfo=UTC))
    for _ in range(2):
        for zone in ("UTC", "Asia/Tokyo", "America/New_York"):
            with timezone.override(zone):
                found = ZONED[name]()
                with no_cache():
                    assert found == ZONED[name]()


class InPresentCase(models.CharField):
    """A field whose column is selected as something outside says."""

    is_upper = False

    def select_format(self, compiler: Any, sql: str, params: Any) -> Any:
        return (f"UPPER({sql})" if InPresentCase.is_upper else sql), params


@isolate_apps("tests.support.zoo")
def test_a_field_that_selects_something_else_each_time_is_asked_each_time(
    site: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Greeting(models.Model):  # noqa: DJ008 - nobody prints one
        code = models.IntegerField()
        text = InPresentCase(max_length=10)

        class Meta:
            app_label = "zoo"

    with connection.schema_editor() as editor:
        editor.create_model(Greeting)
    read = lambda: [each.text for each in Greeting.objects.cache(30).filter(code=1)]  # noqa: E731
    one = lambda: Greeting.objects.cache(30).get(pk=1).text  # noqa: E731
    Greeting.objects.create(code=1, text="hello")
    assert (read(), one()) == (["hello"], "hello")

    monkeypatch.setattr(InPresentCase, "is_upper", True)
    assert (read(), one()) == (["HELLO"], "HELLO")


class Sequence(list[Any]):
    """Parameters that are neither true nor false, as those of an array library."""

    def __bool__(self) -> bool:
        raise ValueError("ambiguous")


def test_parameters_are_not_asked_whether_they_are_true(site: None) -> None:
    name = lambda: Category.objects.get(pk=2).name  # noqa: E731
    assert is_cached(name)

    with connection.cursor() as cursor:
        cursor.execute("UPDATE zoo_category SET name = %s WHERE id = %s", Sequence(["another", 2]))

    assert name() == "another"


# ---------------------------------------------------------------- what stays behind


def test_what_is_remembered_keeps_no_instance(site: None) -> None:
    recall._forget()
    category = Category.objects.get(pk=1)
    assert category.products.count() == len(category.products.all())
    found = weakref.ref(category)

    del category
    gc.collect()
    assert found() is None


def test_long_texts_are_not_remembered(site: None) -> None:
    Review.objects.filter(text="x").exists()
    tracemalloc.start()
    try:
        for number in range(20):
            assert not Review.objects.filter(text=f"{number}" + "x" * 200_000).exists()
        gc.collect()
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert size < 2_000_000
