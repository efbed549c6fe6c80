"""Every kind of write reports exactly what it touches, on each database by what that one can do."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from distcache_django.freshness import service as services
from distcache_django.freshness.dependencies import coarse, epoch
from distcache_django.orm.changes import MAX_ROWS
from tests.integration.transactions.ground import Recorder
from tests.support.deeds import DEEDS, Entry, changed_rows, rows_of, tables, told, unreported
from tests.support.zoo.models import Review

#: Where a database returns no more than keys that it assigned, the rows of some deeds are not known.
COARSE_IF_LOCKING = {
    "create_with_a_relation_for_a_key": {"zoo_sticker"},
    "create_child": {"zoo_book"},
    "create_many_ignoring_conflicts": {"zoo_entry"},
    "create_one_ignoring_its_conflict": {"zoo_entry"},
    "upsert_of_what_is_not_declared": {"zoo_product"},
    "upsert_moves_rows": {"zoo_product"},
    "add_to_many": {"zoo_product_tags"},
    "set_many": {"zoo_product_tags"},
    "load_a_fixture": {"zoo_book", "zoo_product_tags"},
    # What a subquery finds may change between the locked read and the write.
    "update_across_a_join": {"zoo_product"},
    "update_by_a_subquery": {"zoo_product"},
}


def coarse_tables(name: str, database: str) -> set[str]:
    """Return the tables of which a deed cannot name the rows where a database can do less than the best one."""
    if name == "upsert_moves_rows" and database != "postgresql":
        return {"zoo_product"}
    return COARSE_IF_LOCKING.get(name, set()) if database == "locking" else set()


@pytest.mark.parametrize("name", DEEDS)
def test_a_write_reports_exactly_what_it_touches(database: str, recorder: Recorder, name: str) -> None:
    before = rows_of(tables())

    _, expected = DEEDS[name]()

    reported = told(recorder)
    assert unreported(changed_rows(before, rows_of(tables())), reported) == []
    unknown = coarse_tables(name, database)
    assert coarse(unknown) <= reported
    assert of_others(reported, unknown) == of_others(expected, unknown)


def of_others(names: set[str], tables: set[str]) -> set[str]:
    return {name for name in names if name.partition(":")[0] not in tables}


ACTS: dict[str, Callable[[], Any]] = {
    "update": lambda: Review.objects.filter(stars=9).update(text="x"),
    "update_by_key": lambda: Review.objects.filter(pk__in=list(keys())).update(text="x"),
    "delete": lambda: Review.objects.filter(stars=9).delete(),
    "move": lambda: Entry.objects.filter(amount=9).update(group=2),
}


def keys() -> list[int]:
    return list(Review.objects.filter(stars=9).values_list("pk", flat=True))


@pytest.mark.parametrize("name", ACTS)
@pytest.mark.parametrize("count", [MAX_ROWS, MAX_ROWS + 1])
def test_as_many_rows_are_named_as_answers_are_worth(
    database: str, rows: None, monkeypatch: pytest.MonkeyPatch, count: int, name: str
) -> None:
    Review.objects.bulk_create([Review(product_id=3, stars=9) for _ in range(count)])
    Entry.objects.bulk_create([Entry(code=f"x{number}", group=1, amount=9) for number in range(count)])
    monkeypatch.setattr(services, "_service", recorder := Recorder())

    ACTS[name]()

    table = "zoo_entry" if name == "move" else "zoo_review"
    reported = told(recorder)
    if count > MAX_ROWS:
        assert reported == coarse({table})
    else:
        assert len(reported - {f"{table}:group=1", f"{table}:group=2"}) == count + 1
        assert epoch(table) not in reported


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_row_that_holds_what_its_field_could_not_have_stored_is_not_named(
    database: str, rows: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE zoo_entry SET \"group\" = 'many' WHERE id = 1")
    monkeypatch.setattr(services, "_service", recorder := Recorder())

    Entry.objects.filter(pk=1).update(amount=7)

    assert told(recorder) == coarse({"zoo_entry"})
