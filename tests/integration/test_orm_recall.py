"""What was asked before is answered without SQL, and is the same answer; filters that wait are nobody's concern."""

# The zoo is in no settings that the plugin of mypy reads: it does not know of managers.
# mypy: disable-error-code="attr-defined, misc"

import copy
import pickle
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import FieldError
from django.db import connection, models
from django.db.models import Avg, Count, F, Max, Min, Q, Sum
from django.db.models.sql.compiler import SQLCompiler
from django.test import override_settings
from pytest_django import DjangoDbBlocker

from distcache_django.freshness.dependencies import coarse
from distcache_django.freshness.service import freshness
from distcache_django.orm.options import no_cache
from distcache_django.testing import LocalNodes
from tests.support.freshness import end_answers, is_cached, queries, zoo_site
from tests.support.zoo.models import Book, Brand, Category, Cheap, Product, Review, Tag

pytestmark = pytest.mark.servers
MODELS = {"zoo.product": {"by": ["category", "active"]}, "zoo.*": {}}


@pytest.fixture(scope="module")
def whole_site(tmp_path_factory: pytest.TempPathFactory, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    entry = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path_factory.mktemp("recall") / "zoo.sqlite3")}
    with LocalNodes(2) as nodes, django_db_blocker.unblock(), zoo_site(entry, nodes.urls, MODELS=MODELS):
        yield


@pytest.fixture
def site(whole_site: None) -> None:
    """The site, with nothing cached of what earlier tests read."""
    end_answers()


@contextmanager
def compilations(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Collect the SQL that is built in the block."""
    found: list[str] = []
    original = SQLCompiler.as_sql

    def as_sql(self: SQLCompiler, *args: Any, **kwargs: Any) -> Any:
        compiled = original(self, *args, **kwargs)
        found.append(compiled[0])
        return compiled

    with monkeypatch.context() as patched:
        patched.setattr(SQLCompiler, "as_sql", as_sql)
        yield found


def product(pk: int) -> Any:
    with no_cache():
        return Product.objects.get(pk=pk)


READS: dict[str, Callable[[], Any]] = {
    "filter": lambda: list(Product.objects.filter(category=1)),
    "filter by two": lambda: list(Product.objects.filter(category_id=1, active=True)),
    "filter by an instance": lambda: list(Product.objects.filter(category=Category(pk=1))),
    "filter of a manager that caches": lambda: list(Product.objects.cache(30).filter(brand=1)),
    "all": lambda: list(Product.objects.all()),
    "in an order": lambda: list(Product.objects.order_by("-name").filter(category=1)),
    "in the model's order": lambda: list(Category.objects.filter(parent=1)),
    "reversed": lambda: list(Category.objects.reverse().filter(parent=1)),
    "in no order": lambda: list(Category.objects.order_by().filter(parent=1)),
    "by a UUID": lambda: list(Product.objects.filter(uuid=uuid.UUID(int=3))),
    "of a proxy": lambda: list(Cheap.objects.filter(category=1)),
    "of a child": lambda: list(Book.objects.filter(category=1)),
    "count": lambda: Product.objects.filter(category=1).count(),
    "count of all": Product.objects.count,
    "exists": lambda: Product.objects.filter(category=1).exists(),
    "exists not": lambda: Product.objects.filter(category=99).exists(),
    "sum": lambda: Product.objects.filter(category=1).aggregate(total=Sum("price"), n=Count("*")),
    "sum of nothing": lambda: Product.objects.filter(category=99).aggregate(total=Sum("price"), n=Count("pk")),
    "distinct": lambda: Product.objects.aggregate(n=Count("brand", distinct=True)),
    "not distinct": lambda: Product.objects.aggregate(n=Count("brand")),
    "ends": lambda: Product.objects.filter(category=1).aggregate(a=Min("price"), b=Max("price"), c=Avg("price")),
    "across a relation": lambda: Product.objects.filter(category=1).aggregate(n=Max("category__name")),
    "many to many": lambda: list(Product(pk=1).tags.all()),
    "many to many, from the other side": lambda: list(Tag(pk="new").products.all()),
    "reverse": lambda: list(Category(pk=1).products.all()),
    "count of a relation": lambda: len([Category(pk=1).products.count()]),
    "empty": lambda: list(Product.objects.filter(category=12345)),
}


def seen(answer: Any) -> Any:
    """Return what there is to see of an answer: types, states and known relations of instances too."""
    if isinstance(answer, list):
        return [seen(each) for each in answer]
    if isinstance(answer, models.Model):
        state = {
            name: value for name, value in vars(answer._state).items() if name not in {"fields_cache", "distcache"}
        }
        values = {name: value for name, value in vars(answer).items() if name not in {"_state", "_peers"}}
        return (
            type(answer),
            values,
            {**state, "fetch_mode": str(state.get("fetch_mode"))},
            sorted(answer._state.fields_cache),
        )
    return type(answer), repr(answer)


@pytest.mark.parametrize("name", READS)
def test_what_was_asked_before_needs_no_sql_and_is_the_same(
    site: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with no_cache():
        expected = seen(READS[name]())
    first = seen(READS[name]())

    with compilations(monkeypatch) as compiled:
        second = seen(READS[name]())

    assert compiled == []
    assert first == second == expected


@pytest.mark.parametrize("name", READS)
def test_an_answer_to_what_was_asked_before_ends(site: None, name: str) -> None:
    assert is_cached(READS[name])

    freshness().bump(coarse(["zoo_product", "zoo_category", "zoo_product_tags", "zoo_tag", "zoo_book"]))

    assert queries(READS[name]) == 1
    assert queries(READS[name]) == 0


def test_the_usual_way_and_the_short_one_share_an_answer(site: None) -> None:
    short = lambda: list(Product.objects.filter(category=1))  # noqa: E731
    usual = lambda: list(Product.objects.filter(Q(category=1)))  # noqa: E731
    assert is_cached(usual)

    assert queries(short) == 0


ALIKE: list[tuple[Callable[[], Any], ...]] = [
    (lambda: Product.objects.filter(category=1), lambda: Product.objects.filter(category=2)),
    (lambda: Product.objects.filter(category=1), lambda: Product.objects.filter(brand=1)),
    (lambda: Review.objects.filter(stars=1), lambda: Review.objects.filter(stars=True)),
    (lambda: Product.objects.filter(active=True), lambda: Product.objects.filter(active=False)),
    (lambda: Category.objects.filter(parent=1), lambda: Category.objects.order_by("-pk").filter(parent=1)),
    (lambda: Category.objects.filter(parent=1), lambda: Category.objects.order_by().filter(parent=1)),
    (lambda: Category.objects.order_by("pk"), lambda: Category.objects.order_by("pk").reverse()),
    (lambda: Product.objects.filter(category=1), lambda: Cheap.objects.filter(category=1)),
    (lambda: Product.objects.filter(category=1), lambda: Book.objects.filter(category=1)),
    (lambda: Product.objects.filter(category=1), lambda: Product.objects.filter(category=1)[:1]),
    (lambda: Product.objects.filter(category=1), lambda: Product.objects.filter(category=1).exclude(pk=1)),
    (lambda: Product.objects.filter(category=1), lambda: Product.objects.filter(category=1).only("name")),
    (lambda: Product.objects.filter(category=1), lambda: Product.objects.filter(category=1).distinct()),
    (lambda: Product.objects.filter(category=1), lambda: Product.objects.exclude(category=1)),
    (lambda: Product.objects.filter(category=1), lambda: Product.objects.filter(category=1, active=False)),
]


@pytest.mark.parametrize("pair", ALIKE)
@pytest.mark.parametrize("read", [list, lambda rows: rows.count(), lambda rows: rows.exists()])
def test_two_questions_that_look_alike_have_their_own_answers(
    site: None, pair: tuple[Callable[[], Any], ...], read: Callable[[Any], Any]
) -> None:
    with no_cache():
        expected = [seen(read(ask())) for ask in pair]

    for _ in range(2):
        assert [seen(read(ask())) for ask in pair] == expected


@pytest.mark.parametrize(
    "aggregate",
    [
        Sum("price", filter=Q(active=True)),
        Sum("price", default=Decimal(7)),
        Sum("price", default=Decimal(0)),
        Sum("price", output_field=models.FloatField()),
        Sum(F("price") + 1),
        Count("brand", distinct=True),
        Max("price"),
        Sum("id"),
    ],
)
def test_two_aggregates_that_look_alike_have_their_own_answers(site: None, aggregate: Any) -> None:
    nothing = Product.objects.filter(category=99)
    with no_cache():
        expected = [seen(nothing.aggregate(x=each)) for each in (Sum("price"), aggregate)]

    for _ in range(2):
        assert [seen(nothing.aggregate(x=each)) for each in (Sum("price"), aggregate)] == expected


# ---------------------------------------------------------------- filters that wait


def test_what_is_wrong_with_a_filter_is_said_at_once(site: None) -> None:
    with pytest.raises(FieldError, match="nosuch"):
        Product.objects.filter(nosuch=1)
    with pytest.raises(ValueError, match="expected a number"):
        Product.objects.filter(category="x")
    with pytest.raises(ValueError, match="must be saved"):
        Product.objects.filter(category=Category())
    with pytest.raises(ValueError, match="Category"):
        Product.objects.filter(category=Brand(pk=1))
    with pytest.raises(TypeError, match="slice"):
        Product.objects.all()[:3].filter(category=1)


def test_an_instance_counts_with_the_key_it_had(site: None) -> None:
    category = Category(pk=1)
    found = Product.objects.filter(category=category)
    category.pk = 2

    assert {each.category_id for each in found} == {1}


def test_the_query_is_there_for_whoever_looks(site: None) -> None:
    found = Product.objects.filter(category=1)

    assert '"category_id" = 1' in str(found.query)
    assert '"category_id" = 1' in str(found.filter(active=True).query)
    list(found)
    assert '"category_id" = 1' in str(found.query)
    assert len(found.query.where.children) == 1


def test_a_query_that_is_changed_in_place_is_nobody_else_s(site: None) -> None:
    whole = len(Product.objects.filter(category=1))
    for _ in range(2):
        mine = Product.objects.filter(category=1)
        list(mine)
        mine.query.set_limits(high=1)
        assert len(mine.all()) == 1
        assert len(Product.objects.filter(category=1)) == whole


def test_a_queryset_that_waits_is_copied_pickled_and_combined(site: None) -> None:
    with no_cache():
        expected = [each.pk for each in Product.objects.filter(category=1)]
    waiting = lambda: Product.objects.filter(category=1)  # noqa: E731
    restored = Product.objects.all()
    restored.query = pickle.loads(pickle.dumps(waiting().query))

    assert [each.pk for each in pickle.loads(pickle.dumps(waiting()))] == expected
    assert [each.pk for each in copy.deepcopy(waiting())] == expected
    assert [each.pk for each in restored] == expected
    assert [each.pk for each in waiting() | Product.objects.filter(category=1)] == expected
    assert Review.objects.filter(product__in=waiting()).count() == Review.objects.filter(product__in=expected).count()


def test_a_filter_that_waits_is_pickled_as_django_s_own(site: None) -> None:
    waiting = Product.objects.filter(category=1)
    assert b"distcache_django" not in pickle.dumps(waiting)
    twin = copy.deepcopy(waiting)
    twin._query.set_limits(high=1)  # nobody may, but a copy is not known to be plain

    assert len(twin) == 1
    assert len(waiting) > 1


def test_writes_through_a_queryset_that_waits_meet_its_rows_only(site: None) -> None:
    with no_cache():
        others = Review.objects.exclude(stars=5).count()
    Review.objects.create(product_id=1, stars=5)

    assert Review.objects.filter(stars=5).update(text="seen") > 0
    assert Review.objects.filter(text="seen", stars=5).count() == Review.objects.filter(stars=5).count()
    Review.objects.filter(stars=5).delete()
    assert Review.objects.filter(stars=5).count() == 0
    assert Review.objects.count() == others


def test_one_queryset_serves_many_threads(site: None) -> None:
    with no_cache():
        expected = sorted(each.pk for each in Product.objects.filter(category=1))
    barrier = threading.Barrier(8)

    def evaluate(shared: Any) -> list[int]:
        barrier.wait()
        try:
            return sorted(each.pk for each in shared)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            shared = Product.objects.filter(category=1)
            assert list(pool.map(evaluate, [shared] * 8)) == [expected] * 8
            assert '"category_id" = 1' in str(shared.query)


def test_a_model_that_is_not_cached_has_filters_that_do_not_wait(site: None) -> None:
    with override_settings(DISTCACHE={"CACHE": "default", "MODELS": {}}):
        assert Product.objects.filter(category=1)._deferred_filter is None
        assert Product.objects.cache().filter(category=1)._deferred_filter is not None
        assert Product.objects.nocache().filter(category=1).count() == Product.objects.filter(category=1).count()


def test_what_the_settings_say_counts_from_now_on(site: None) -> None:
    read = READS["filter"]
    assert is_cached(read)
    with override_settings(DISTCACHE={"CACHE": "default", "MODELS": {"zoo.product": {"ops": ["get"]}}}):
        assert queries(read) == queries(read) == 1


def test_a_changed_time_zone_is_another_question(site: None) -> None:
    read = READS["filter"]
    assert is_cached(read)
    with override_settings(USE_TZ=False):
        assert queries(read) == 1
        assert queries(read) == 0


def test_known_objects_of_a_relation_are_set(site: None) -> None:
    category = Category.objects.get(pk=1)
    for _ in range(2):
        found = list(category.products.all())
        assert found
        assert all(each.category is category for each in found)


@pytest.mark.parametrize("name", ["filter", "get"])
@pytest.mark.parametrize("signal", [models.signals.pre_init, models.signals.post_init], ids=["pre", "post"])
def test_instances_from_the_cache_send_their_signals(site: None, signal: Any, name: str) -> None:
    read = {"filter": READS["filter"], "get": lambda: Product.objects.get(pk=1)}[name]
    assert is_cached(read)
    heard: list[Any] = []

    def receiver(sender: Any, **kwargs: Any) -> None:
        heard.append(sender)

    signal.connect(receiver, sender=Product)
    try:
        assert queries(read) == 0
        assert heard
        assert set(heard) == {Product}
    finally:
        signal.disconnect(receiver, sender=Product)
    heard.clear()
    read()
    assert not heard


def test_instances_are_one_s_own(site: None) -> None:
    read = READS["filter"]
    read()
    one, other = read()[0], read()[0]
    one.name = "mine"

    assert other.name == product(one.pk).name
    assert read()[0].name != "mine"
