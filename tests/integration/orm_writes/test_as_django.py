"""A write that is reported is otherwise what it is without us: results, rows, exceptions, and statements sent."""

import re
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
from django.db import IntegrityError, connection, models, transaction
from django.db.models import Count, F
from django.test.utils import CaptureQueriesContext

from distcache_django.freshness import service as services
from tests.integration.transactions.ground import POSTGRES, Recorder
from tests.support.deeds import DEEDS, Entry, refill, rows_of, tables
from tests.support.zoo.models import Book, Brand, Category, Product, Review, Tag

POSTGRES_17 = pytest.param("postgresql-17", marks=pytest.mark.postgres)
_VERB = re.compile(r"\A(?:WITH distcache_written .*? AS \()?(\w+)")


def sent(queries: CaptureQueriesContext) -> list[str]:
    """Return the verbs of the statements sent, without those of the transactions that a write may have of its own."""
    verbs = [match[1] for query in queries if (match := _VERB.match(query["sql"] or ""))]
    return [verb for verb in verbs if verb not in {"BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE"}]


def play(act: Callable[[], Any], *, is_atomic: bool) -> tuple[Any, dict[str, Any], list[str], Any]:
    """Return what an act returned or raised, the rows behind it, what it sent, and whether the connection works."""
    with CaptureQueriesContext(connection) as queries:
        try:
            with transaction.atomic() if is_atomic else nullcontext():
                outcome = outcome_of(act)
                works = outcome_of(Brand.objects.count)
        except Exception as error:  # noqa: BLE001 - what is refused at COMMIT
            outcome, works = (type(error), without_numbers(error)), "not at the end"
    return outcome, rows_of(tables()), sent(queries), works


def without_numbers(error: Exception) -> str:
    """Leave out of a message which row it was: keys go on counting, and some are made up."""
    return re.sub(r"[0-9a-f-]{36}|\d+", "0", str(error))


def outcome_of(act: Callable[[], Any]) -> Any:
    try:
        return act()
    except Exception as error:  # noqa: BLE001 - whatever Django raises
        return type(error), type(error.__cause__), without_numbers(error)


def compare(act: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, *, is_atomic: bool) -> tuple[Any, Any]:
    """Return what happens without us and with us, from the same rows."""
    without = play(act, is_atomic=is_atomic)
    refill()
    monkeypatch.setattr(services, "_service", Recorder())
    return without, play(act, is_atomic=is_atomic)


@pytest.mark.parametrize("is_atomic", [False, True], ids=["autocommit", "atomic"])
@pytest.mark.parametrize("name", DEEDS)
def test_results_and_rows_are_django_s(
    database: str, rows: None, monkeypatch: pytest.MonkeyPatch, name: str, is_atomic: bool
) -> None:
    without, reported = compare(lambda: DEEDS[name]()[0], monkeypatch, is_atomic=is_atomic)

    assert reported[0] == without[0]
    assert without_random_keys(reported[1]) == without_random_keys(without[1])
    assert reported[3] == without[3]


def without_random_keys(rows: dict[str, Any]) -> dict[str, Any]:
    """Leave out the values that a model makes up anew each time."""
    return {
        table: sorted(
            [
                str({name: value for name, value in row.items() if name not in {"uuid", "token", "code"}})
                for row in found.values()
            ]
        )
        for table, found in rows.items()
    }


@pytest.mark.parametrize("database", [POSTGRES], indirect=True)
@pytest.mark.parametrize("name", DEEDS)
def test_no_statement_more_is_sent_where_the_database_returns_what_rows_held(
    database: str, rows: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    without, reported = compare(lambda: DEEDS[name]()[0], monkeypatch, is_atomic=True)

    assert reported[2] == without[2]


def save_other_fields() -> None:
    product = Product(id=1)
    product.price = 5
    product.save(update_fields=["price"])


def save_without_declared() -> None:
    Brand(id=1, name="x").save(force_update=True)


def update_other_fields() -> int:
    return Product.objects.filter(category=1).update(price=5)


@pytest.mark.parametrize(
    "database", ["sqlite", pytest.param("postgresql-17", marks=pytest.mark.postgres)], indirect=True
)
@pytest.mark.parametrize("act", [save_other_fields, save_without_declared, update_other_fields])
def test_a_write_that_cannot_change_a_declared_value_costs_no_select(
    database: str, rows: None, monkeypatch: pytest.MonkeyPatch, act: Callable[[], Any]
) -> None:
    without, reported = compare(act, monkeypatch, is_atomic=False)

    assert reported[2] == without[2] == ["UPDATE", "SELECT"]  # and the count behind it


def test_a_row_without_declared_values_is_saved_without_a_transaction(
    database: str, rows: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "_service", Recorder())

    with CaptureQueriesContext(connection) as queries:
        Brand(id=1, name="x").save(force_update=True)
        Tag(code="new").save(force_insert=True)
        Review(id=3).delete()

    assert [query["sql"].split()[0] for query in queries] == ["UPDATE", "INSERT", "DELETE"]


# ---------------------------------------------------------------- exceptions


def insert_a_duplicate() -> None:
    Entry.objects.create(code="e1", group=1)


def insert_duplicates() -> None:
    Entry.objects.bulk_create([Entry(code="new", group=1), Entry(code="e1", group=1)])


def insert_a_duplicate_key() -> None:
    Brand(id=1, name="x").save(force_insert=True)


def insert_what_refers_to_nothing() -> None:
    Product.objects.create(name="x", category_id=999)


def insert_null() -> None:
    Product.objects.create(name=None, category_id=1)


def insert_an_expression_of_columns() -> None:
    Entry.objects.create(code="x", group=F("amount"))


def update_to_a_duplicate() -> None:
    Entry.objects.filter(pk__in=[1, 2]).update(code="same", group=5)


def update_to_a_duplicate_key() -> None:
    Brand.objects.filter(pk=1).update(id=2)


def update_to_what_is_not_there() -> None:
    Product.objects.filter(pk=1).update(category=999)


def update_with_an_aggregate() -> None:
    Category.objects.update(name=Count("products"))


def update_a_slice() -> None:
    Brand.objects.all()[:1].update(name="x")


def save_of_what_is_gone() -> None:
    Product(id=99, name="x", category_id=1).save(force_update=True)


def save_of_fields_of_what_is_gone() -> None:
    Product(id=99, name="x", category_id=1).save(update_fields=["category"])


def delete_what_is_referred_to() -> None:
    Category.objects.filter(pk=1)._raw_delete("default")


def delete_a_slice() -> None:
    Brand.objects.all()[:1].delete()


FAILURES = [
    insert_a_duplicate,
    insert_duplicates,
    insert_a_duplicate_key,
    insert_what_refers_to_nothing,
    insert_null,
    insert_an_expression_of_columns,
    update_to_a_duplicate,
    update_to_a_duplicate_key,
    update_to_what_is_not_there,
    update_with_an_aggregate,
    update_a_slice,
    save_of_what_is_gone,
    save_of_fields_of_what_is_gone,
    delete_what_is_referred_to,
    delete_a_slice,
]


@pytest.mark.parametrize("is_atomic", [False, True], ids=["autocommit", "atomic"])
@pytest.mark.parametrize("act", FAILURES)
def test_what_is_refused_raises_what_django_raises(
    database: str, rows: None, monkeypatch: pytest.MonkeyPatch, act: Callable[[], Any], is_atomic: bool
) -> None:
    without, reported = compare(act, monkeypatch, is_atomic=is_atomic)

    assert isinstance(without[0], tuple)
    assert issubclass(without[0][0], Exception)
    assert reported[0] == without[0]
    assert without_random_keys(reported[1]) == without_random_keys(without[1])
    assert reported[3] == without[3]


def test_updated_fields_are_read_back_as_django_does(
    database: str, rows: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def act() -> list[Any]:
        entry = Entry.objects.get(pk=1)
        entry.amount = F("amount") + 5
        entry.group = F("group") + 1
        entry.save()
        return [entry.twice, entry.amount, entry.group]

    without, reported = compare(act, monkeypatch, is_atomic=False)

    assert reported[0] == without[0]


def test_an_update_of_many_rows_says_how_many(database: str, rows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    Review.objects.bulk_create([Review(product_id=3, stars=9) for _ in range(200)])
    monkeypatch.setattr(services, "_service", Recorder())

    assert Review.objects.filter(stars=9).update(text="x") == 200
    assert Review.objects.filter(stars=77).update(text="x") == 0
    assert Review.objects.filter(stars=9).delete() == (200, {"zoo.Review": 200})


def test_a_book_with_many_rows_in_two_tables(database: str, rows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(70):
        Book.objects.create(name=f"b{number}", category_id=3, pages=1)
    monkeypatch.setattr(services, "_service", Recorder())

    assert Book.objects.filter(pages=1).update(category=1, pages=2) == 70
    assert Product.objects.filter(category=1).count() == 72


def test_generated_types_survive(database: str, rows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "_service", Recorder())

    made = Product.objects.create(name="x", category_id=1)

    assert isinstance(made.pk, int)
    assert isinstance(made, models.Model)
    with pytest.raises(IntegrityError), transaction.atomic():
        Product.objects.create(id=made.pk, name="y", category_id=1)
