"""Every kind of write reports exactly what it touches, on each database by what that one can do."""

import pytest

from distcache_django.freshness.dependencies import coarse
from tests.integration.transactions.ground import Recorder
from tests.support.deeds import DEEDS, changed_rows, rows_of, tables, told, unreported

#: Where a database returns no more than keys it assigned, what some deeds touch is not known row by row.
COARSE_IF_LOCKING = {
    "create_with_a_relation_for_a_key": {"zoo_sticker"},
    "create_child": {"zoo_book"},
    "create_many_ignoring_conflicts": {"zoo_entry"},
    "create_one_ignoring_its_conflict": {"zoo_entry"},
    "upsert_of_what_is_not_declared": {"zoo_product"},
    "upsert_moves_rows": {"zoo_product"},
    "add_to_many": {"zoo_product_tags"},
    "set_many": {"zoo_product_tags"},
}


def touches(name: str, expected: set[str], limit: str) -> set[str]:
    """Return what a deed is to report where a database can do less than the best one."""
    tables = COARSE_IF_LOCKING.get(name, set()) if limit == "locking" else set()
    if name == "upsert_moves_rows" and limit != "postgresql":
        tables = {"zoo_product"}
    return {each for each in expected if each.partition(":")[0] not in tables} | coarse(tables)


@pytest.mark.parametrize("name", DEEDS)
@pytest.mark.parametrize("limit", [None, "postgresql-17", "locking"], indirect=True)
def test_a_write_reports_exactly_what_it_touches(recorder: Recorder, limit: str, name: str) -> None:
    before = rows_of(tables())

    _, expected = DEEDS[name]()

    reported = told(recorder)
    assert unreported(changed_rows(before, rows_of(tables())), reported) == []
    assert reported == touches(name, expected, limit)
