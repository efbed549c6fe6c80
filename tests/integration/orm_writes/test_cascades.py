"""What the database changes in other tables by itself, when rows go that these refer to, is reported coarsely."""

from typing import Any

import pytest
from django.db import connection, models

from distcache_django.freshness.dependencies import coarse
from tests.integration.transactions.ground import POSTGRES, Recorder
from tests.support.deeds import changed_rows, rows_of, tables, told, unreported
from tests.support.deeds import models as own

pytestmark = [
    pytest.mark.skipif(not hasattr(models, "DB_CASCADE"), reason="Django 6.1 has the database delete"),
    pytest.mark.parametrize("database", ["sqlite", POSTGRES], indirect=True),
]

_TABLES = {"zoo_file", "zoo_page", "zoo_bookmark"}


def delete_an_instance() -> None:
    model: Any = own.Folder
    model(id=1).delete()


def delete_by_a_condition() -> None:
    model: Any = own.Folder
    model.objects.filter(name="").delete()


def delete_by_text() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM zoo_folder")


@pytest.mark.parametrize("act", [delete_an_instance, delete_by_a_condition, delete_by_text])
def test_tables_that_the_database_follows_are_reported(recorder: Recorder, database: str, act: Any) -> None:
    before = rows_of(tables())

    act()

    changes = changed_rows(before, rows_of(tables()))
    assert {table for table, _, _ in changes} == _TABLES | {"zoo_folder"}
    assert unreported(changes, told(recorder)) == []
    assert coarse(_TABLES) <= told(recorder)


def test_only_what_follows_is_reported(recorder: Recorder, database: str) -> None:
    model: Any = own.Page
    model(id=1).delete()

    assert told(recorder) == {"zoo_page", "zoo_page:1"} | coarse({"zoo_bookmark"})


def test_a_delete_that_finds_no_row_changes_nothing_elsewhere(recorder: Recorder, database: str) -> None:
    model: Any = own.Folder
    model.objects.filter(name="nobody's").delete()

    assert told(recorder) == set()
