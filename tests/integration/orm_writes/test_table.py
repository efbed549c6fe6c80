"""Every kind of write reports exactly what it touches, on each database by what that one can do."""

import pytest

from distcache_django.freshness.dependencies import coarse
from tests.integration.transactions.ground import Recorder
from tests.support.deeds import DEEDS, changed_rows, rows_of, tables, told, unreported

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
