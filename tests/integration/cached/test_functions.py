"""``@cached`` and ``@cached_queryset``: what ends an answer, what tells one from another, what is never stored."""

# The zoo is in no settings that the plugin of mypy reads: it does not know of managers.
# mypy: disable-error-code="attr-defined, misc"

import asyncio
import threading
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone, translation

from distcache_django import cached, cached_queryset, invalidate, no_cache
from distcache_django.freshness.service import freshness
from tests.support.freshness import counted, queries
from tests.support.zoo.models import Book, Brand, Category, Product

pytestmark = [pytest.mark.servers, pytest.mark.usefixtures("site")]


def counting(**options: Any) -> tuple[Any, Callable[[], int]]:
    """Return a new cached function of one argument, and how often it was called."""
    calls: list[Any] = []
    name = next(_names)

    def function(argument: Any = None) -> tuple[int, Any]:
        calls.append(argument)
        return len(calls), argument

    function.__qualname__ = f"function_{name}"
    return cached(**{"timeout": 60, "depends_on": [], **options})(function), lambda: len(calls)


_names = count()


def test_second_call_with_equal_arguments_is_a_hit() -> None:
    function, calls = counting()
    assert function(1) == function(1) == (1, 1)
    assert function(2) == (2, 2)
    assert calls() == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, "1"), (1, True), (1, 1.0), ("a", b"a"), ((1, 2), [1, 2]), (None, "None"), ({"a": 1}, {"a": "1"}), (0, False)],
)
def test_arguments_that_only_look_alike_are_told_apart(one: Any, other: Any) -> None:
    function, calls = counting()
    function(one)
    function(other)
    assert calls() == 2


def test_keywords_and_sets_have_no_order() -> None:
    function, calls = counting()
    function({"a": 1, "b": {3, 1, 2}})
    function({"b": {2, 1, 3}, "a": 1})
    assert calls() == 1


def test_argument_of_an_unknown_type_is_refused_by_name() -> None:
    function, _ = counting()
    with pytest.raises(TypeError, match=r"function_\d+ cannot be cached for an argument of type .*object.*key="):
        function(object())


def test_key_makes_any_argument_usable() -> None:
    function, calls = counting(key=lambda thing: type(thing).__name__)
    function(object())
    function(object())
    assert calls() == 1


def test_language_and_time_zone_are_part_of_the_key_unless_said_otherwise() -> None:
    function, calls = counting()
    plain, plain_calls = counting(vary=False)
    for language, zone in (("en", "UTC"), ("de", "UTC"), ("de", "Europe/Paris")):
        with translation.override(language), timezone.override(zone):
            function(1)
            plain(1)
    assert (calls(), plain_calls()) == (3, 1)


@pytest.mark.parametrize("named", [Product, "pricelist", lambda argument=None: [Product, "other"]])
def test_what_is_named_ends_the_answer(named: Any) -> None:
    function, calls = counting(depends_on=[named])
    function(1)
    if named == "pricelist":
        invalidate("pricelist")
    else:
        Product.objects.get(pk=1).save()
    function(1)
    Brand.objects.get(pk=1).save()
    function(1)
    assert calls() == 2


def test_instance_stands_for_its_row_alone() -> None:
    function, calls = counting(depends_on=[lambda pk: Product(pk=pk)])
    function(1)
    Product.objects.filter(pk=2).update(name="another")
    function(1)
    assert calls() == 1
    Product.objects.filter(pk=1).update(name="this one")
    function(1)
    assert calls() == 2


def test_queryset_stands_for_the_rows_it_would_find() -> None:
    function, calls = counting(depends_on=[Product.objects.filter(category=1)])
    function(1)
    product = Product.objects.filter(category=2)[0]
    product.save(update_fields=["name"])
    function(1)
    assert calls() == 1
    product.category_id = 1
    product.save()
    function(1)
    assert calls() == 2


def test_inherited_rows_count_too() -> None:
    function, calls = counting(depends_on=[Book])
    function(1)
    Product.objects.filter(pk=Book.objects.all()[0].pk).update(name="by its parent")
    function(1)
    assert calls() == 2


def test_dependencies_are_found_from_the_queries() -> None:
    calls = []

    @cached(timeout=60)
    def shelf(pk: int) -> list[str]:
        calls.append(pk)
        return [product.name for product in Product.objects.filter(category=pk)] + [Brand.objects.get(pk=1).name]

    first = shelf(1)
    assert shelf(1) == first
    assert queries(lambda: shelf(1)) == 0
    Product.objects.filter(category=2).update(active=True)
    shelf(1)
    assert len(calls) == 1  # another shelf
    Product.objects.filter(category=1).update(active=True)
    shelf(1)
    assert len(calls) == 2
    Brand.objects.filter(pk=1).update(name="renamed")
    assert shelf(1)[-1] == "renamed"
    assert len(calls) == 3


def test_dependencies_that_change_with_the_data_are_found_anew() -> None:
    @cached(timeout=60)
    def first_or_brand() -> str:
        product = Product.objects.filter(pk=4, active=True).first()
        return str(product.name if product else Brand.objects.get(pk=2).name)

    Product.objects.filter(pk=4).update(active=True, name="there")
    assert first_or_brand() == first_or_brand() == "there"
    Product.objects.filter(pk=4).update(active=False)
    assert first_or_brand() == first_or_brand() == Brand.objects.get(pk=2).name
    Brand.objects.filter(pk=2).update(name="new name")
    assert first_or_brand() == "new name"
    Product.objects.filter(pk=4).update(active=True)
    assert first_or_brand() == "there"


def test_answer_within_an_answer_passes_its_dependencies_on() -> None:
    @cached(timeout=60)
    def inner(pk: int) -> str:
        return str(Brand.objects.get(pk=pk).name)

    @cached(timeout=60)
    def outer() -> str:
        return f"<{inner(3)}>"

    Brand.objects.filter(pk=3).update(name="one")
    inner(3)  # so that the outer one meets a hit
    assert outer() == outer() == "<one>"
    Brand.objects.filter(pk=3).update(name="two")
    assert outer() == "<two>"


def test_named_answer_within_a_found_one_passes_its_dependencies_on() -> None:
    inner, _ = counting(depends_on=["a tag of its own"])

    @cached(timeout=60)
    def outer() -> Any:
        return inner(1)

    before = outer()
    assert outer() == before
    invalidate("a tag of its own")
    assert outer() != before


def test_write_within_a_load_is_never_stored() -> None:
    @cached(timeout=60)
    def writes() -> int:
        Category.objects.filter(pk=1).update(name="written")
        return int(Category.objects.count())

    writes()
    assert queries(writes) > 0


def test_query_that_cannot_be_cached_spoils_the_answer() -> None:
    @cached(timeout=60)
    def random() -> list[int]:
        return [product.pk for product in Product.objects.order_by("?")]

    random()
    assert queries(random) == 1


def test_raw_sql_within_a_load_counts() -> None:
    from django.db import connection

    @cached(timeout=60)
    def raw() -> Any:
        with connection.cursor() as cursor:
            cursor.execute("SELECT name FROM zoo_brand WHERE id = 1")
            return cursor.fetchone()[0]

    Brand.objects.filter(pk=1).update(name="first")
    assert raw() == raw() == "first"
    Brand.objects.filter(pk=1).update(name="second")
    assert raw() == "second"


def test_transaction_that_has_written_computes() -> None:
    @cached(timeout=60, depends_on=[Brand])
    def name() -> str:
        return str(Brand.objects.get(pk=1).name)

    Brand.objects.filter(pk=1).update(name="before")
    assert name() == "before"
    with transaction.atomic():
        Brand.objects.filter(pk=1).update(name="within")
        assert name() == "within"
        transaction.set_rollback(True)
    assert name() == "before"


def test_exception_is_passed_on_and_not_stored() -> None:
    outcomes: Iterator[Any] = iter([ValueError("no"), 7])

    @cached(timeout=60, depends_on=[])
    def once_more() -> int:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return int(outcome)

    with pytest.raises(ValueError, match="no"):
        once_more()
    assert once_more() == once_more() == 7


def test_none_is_an_answer() -> None:
    calls = []

    @cached(timeout=60, depends_on=[])
    def nothing() -> None:
        calls.append(1)

    nothing()
    nothing()
    assert len(calls) == 1


def test_invalidate_and_refresh_of_one_call() -> None:
    function, _ = counting()
    assert [function(1), function(2)] == [(1, 1), (2, 2)]
    function.invalidate(1)
    assert [function(1), function(2)] == [(3, 1), (2, 2)]
    assert function.refresh(2) == (4, 2)
    assert function(2) == (4, 2)


def test_methods_are_bound_and_told_apart_by_their_instance() -> None:
    calls = []

    class Priced:
        def __init__(self, name: str) -> None:
            self.name = name

        @cached(timeout=60, depends_on=[], key=lambda self, factor: (self.name, factor))
        def price(self, factor: int) -> str:
            calls.append(factor)
            return f"{self.name}{factor}"

    one, other = Priced("a"), Priced("b")
    assert [one.price(1), one.price(1), other.price(1), other.price(2)] == ["a1", "a1", "b1", "b2"]
    assert len(calls) == 3
    one.price.invalidate(1)
    one.price(1)
    assert len(calls) == 4
    assert one.price.__name__ == "price"


def test_no_cache_computes() -> None:
    function, calls = counting()
    function(1)
    with no_cache():
        function(1)
    assert calls() == 2


def test_coroutine_functions() -> None:
    calls = []

    @cached(timeout=60)
    async def name(pk: int) -> str:
        calls.append(pk)
        return str((await Brand.objects.aget(pk=pk)).name)

    Brand.objects.filter(pk=1).update(name="awaited")
    assert asyncio.run(_gather(name, 1, times=20)) == ["awaited"] * 20
    assert len(calls) == 1
    Brand.objects.filter(pk=1).update(name="again")
    assert asyncio.run(_gather(name, 1, times=2)) == ["again"] * 2
    assert asyncio.iscoroutinefunction(name) or __import__("inspect").iscoroutinefunction(name)


async def _gather(function: Any, *args: Any, times: int) -> list[Any]:
    return list(await asyncio.gather(*(function(*args) for _ in range(times))))


def test_one_thread_computes_for_all() -> None:
    calls = []
    entered, free = threading.Event(), threading.Event()

    @cached(timeout=60, depends_on=[])
    def slow() -> int:
        calls.append(1)
        entered.set()
        free.wait(5)
        return 1

    with counted() as since:
        threads = [threading.Thread(target=slow) for _ in range(20)]
        for thread in threads:
            thread.start()
        assert entered.wait(5)
        free.set()
        for thread in threads:
            thread.join()
    happened = since()
    # A starved machine may run into deadlines: then the answer is computed, and not stored.
    assert happened["misses"] == 1
    assert len(calls) == 1 + happened.get("bypasses", 0)


def test_cached_queryset() -> None:
    @cached_queryset(timeout=60)
    def named(name: str) -> QuerySet[Any]:
        found: QuerySet[Any] = Brand.objects.filter(name=name)
        return found

    Brand.objects.filter(pk=1).update(name="of a queryset")
    assert [brand.pk for brand in named("of a queryset")] == [1]
    assert queries(lambda: list(named("of a queryset"))) == 0
    assert queries(lambda: list(named("of a queryset").filter(pk=1))) == 1
    Brand.objects.filter(pk=1).update(name="else")
    assert list(named("of a queryset")) == []


@pytest.mark.parametrize("named", [Product, Product(pk=3, category_id=1), Product.objects.filter(category=1)])
def test_invalidate_ends_what_reads_it(named: Any) -> None:
    def read() -> Any:
        return Product.objects.get(pk=3), list(Product.objects.filter(category=1))

    read()
    assert queries(read) == 0
    invalidate(named)
    assert queries(read) == 2


def test_invalidate_waits_for_the_commit() -> None:
    function, calls = counting(depends_on=["in time"])
    function(1)
    with transaction.atomic():
        invalidate("in time")
        assert freshness().versions_of(["#in time"]) is not None  # not marked yet, nor bumped
    function(1)
    assert calls() == 2


def test_invalidate_refuses_what_it_does_not_know() -> None:
    with pytest.raises(TypeError, match="42"):
        invalidate(42)  # type: ignore[arg-type]
