"""Statements that are a site's own text report the tables they write, and what nobody can know counts as everything."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, connection, models, transaction
from django.db.migrations import operations
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.state import ModelState, ProjectState
from django.db.models.sql import UpdateQuery
from django.db.models.sql.constants import CURSOR
from django.test.utils import override_settings

from distcache_django.freshness import service as services
from distcache_django.freshness import transactions
from distcache_django.freshness.dependencies import coarse
from distcache_django.orm.changes import all_tables
from tests.integration.transactions.ground import POSTGRES, Recorder
from tests.support.deeds import MODELS, told
from tests.support.zoo.models import Brand, Product, Review

pytestmark = pytest.mark.parametrize("database", ["sqlite", POSTGRES], indirect=True)

BRANDS = coarse({"zoo_brand"})


def execute(sql: Any, params: Any = None) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall() if cursor.description else None


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE zoo_brand SET name = 'x'",
        'update "zoo_brand" set name = %s',
        "DELETE FROM ZOO_BRAND WHERE id = 99",
        "INSERT INTO zoo_brand (id, name) VALUES (99, 'x')",
        "/* a comment */ UPDATE zoo_brand SET name = 'x'",
        "WITH found AS (SELECT 1 AS id) UPDATE zoo_brand SET name = 'x' WHERE id IN (SELECT id FROM found)",
    ],
)
def test_a_text_reports_the_table_it_writes(recorder: Recorder, database: str, sql: str) -> None:
    execute(sql, ["x"] if "%s" in sql else None)

    assert told(recorder) == BRANDS


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM zoo_brand",
        "SELECT 'UPDATE zoo_brand SET name = 1'",
        "SAVEPOINT a",
        "EXPLAIN DELETE FROM zoo_brand",
    ],
)
def test_a_text_that_writes_nothing_says_nothing(recorder: Recorder, database: str, sql: str) -> None:
    with transaction.atomic():
        execute(sql)

    assert (recorder.marked, recorder.bumped) == ([], [])


def test_a_text_in_autocommit_is_marked_before_and_bumped_after(recorder: Recorder, database: str) -> None:
    @contextmanager
    def noted() -> Iterator[None]:
        def wrapper(execute: Callable[..., Any], *args: Any) -> Any:
            result = execute(*args)
            recorder.events.append("statement")
            return result

        with connection.execute_wrapper(wrapper):
            yield

    with noted():
        execute("UPDATE zoo_brand SET name = 'x'")

    assert recorder.take() == ["mark", "statement", "bump"]


def test_a_text_in_a_transaction_is_reported_at_its_commit(recorder: Recorder, database: str) -> None:
    with transaction.atomic():
        execute("UPDATE zoo_brand SET name = 'x'")
        assert not transactions.may_use_cache("default")
        assert recorder.take() == []

    assert told(recorder) == BRANDS


def test_a_text_that_is_rolled_back_is_not_reported(recorder: Recorder, database: str) -> None:
    with transaction.atomic():
        execute("UPDATE zoo_brand SET name = 'x'")
        transaction.set_rollback(True)

    assert told(recorder) == set()


def test_transactions_that_are_text_are_reported_at_their_commit(recorder: Recorder, database: str) -> None:
    execute("BEGIN")
    execute("UPDATE zoo_brand SET name = 'x'")
    Product.objects.filter(pk=1).update(price=1)
    assert recorder.take() == []
    execute("COMMIT")

    assert recorder.take() == ["mark", "bump"]
    assert told(recorder) > BRANDS
    assert "zoo_product:1" in told(recorder)


def test_executemany_is_reported(recorder: Recorder, database: str) -> None:
    with connection.cursor() as cursor:
        cursor.executemany("UPDATE zoo_brand SET name = %s WHERE id = %s", [("x", 1), ("y", 2)])

    assert told(recorder) == BRANDS


def test_raw_querysets_that_write_are_reported(recorder: Recorder, database: str) -> None:
    found = list(Brand.objects.raw("UPDATE zoo_brand SET name = 'x' WHERE id = 1 RETURNING id, name"))

    assert [brand.name for brand in found] == ["x"]
    assert told(recorder) == BRANDS


def test_a_refused_text_raises_what_django_raises(recorder: Recorder, database: str) -> None:
    with pytest.raises(IntegrityError):
        execute("INSERT INTO zoo_brand (id, name) VALUES (1, 'x')")
    with pytest.raises(DatabaseError):
        execute("UPDATE zoo_brand SET nothing = 1")

    assert Brand.objects.count() == 3


def test_untracked_tables_are_not_reported(recorder: Recorder, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with override_settings(DISTCACHE={"ENABLED": False, "MODELS": MODELS, "UNTRACKED": ["zoo.review"]}):
        monkeypatch.setattr(services, "_service", recorder)
        execute("UPDATE zoo_review SET stars = 1")
        Review.objects.create(product_id=1)
        Review.objects.update(stars=2)
        Review.objects.filter(stars=2).delete()
        Product.objects.filter(pk=1).update(price=1)

    assert told(recorder) == {"zoo_product", "zoo_product:1", "zoo_product:category_id=1", "zoo_product:brand_id=1"}


UPDATE_ONE = "UPDATE zoo_brand SET name = 'x' WHERE id = %s"


@pytest.mark.parametrize("key", ["1", True, None])
def test_a_row_is_not_named_by_what_only_the_database_finds_equal_to_its_key(
    recorder: Recorder, database: str, key: Any
) -> None:
    with suppress(DatabaseError), transaction.atomic():
        execute(UPDATE_ONE, [key])

    assert told(recorder) in (BRANDS, set())  # nothing where the database refuses


def test_many_rows_named_one_by_one_are_written_coarsely(recorder: Recorder, database: str) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(UPDATE_ONE, [[1], [2]])

    assert told(recorder) == BRANDS


def test_a_text_without_its_parameters_is_refused_as_ever(recorder: Recorder, database: str) -> None:
    refused: list[Any] = [[], {"id": 1}]
    for params in refused:
        with pytest.raises((DatabaseError, TypeError)), transaction.atomic():
            execute(UPDATE_ONE, params)


def test_a_text_that_chooses_an_isolation_level_is_noted(recorder: Recorder, database: str) -> None:
    if database == "sqlite":
        execute("PRAGMA read_uncommitted = 0")
        assert transactions.may_use_cache("default")
        return
    with transaction.atomic():
        assert transactions.may_use_cache("default")
        execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        assert not transactions.may_use_cache("default")
    connection.close()


def test_a_site_s_wrappers_see_what_is_sent_and_stay(recorder: Recorder, database: str) -> None:
    seen = []

    def note(execute: Callable[..., Any], sql: Any, *args: Any) -> Any:
        seen.append(sql)
        return execute(f"{sql} /* a site's comment */", *args)

    with connection.execute_wrapper(note):
        assert Product.objects.filter(category=1).update(price=2) == 2
        connection.close()
        assert Product.objects.filter(category=1).update(price=3) == 2
        assert note in connection.execute_wrappers

    assert seen
    assert note not in connection.execute_wrappers
    assert {"zoo_product:1", "zoo_product:2"} < told(recorder)
    assert "zoo_product:*" not in told(recorder)


def test_a_wrapper_that_does_not_execute_leaves_the_write_coarse(recorder: Recorder, database: str) -> None:
    with transaction.atomic(), connection.execute_wrapper(lambda *_: None):
        Product.objects.filter(category=1).update(price=2)

    assert told(recorder) == coarse({"zoo_product"})


def test_a_library_that_asks_for_the_cursor_gets_django_s(recorder: Recorder, database: str) -> None:
    query: Any = Product.objects.filter(category=1).query.chain(UpdateQuery)
    query.add_update_values({"price": 3})
    with transaction.atomic():
        cursor = query.get_compiler("default").execute_sql(CURSOR)

    assert cursor.rowcount == 2
    assert told(recorder) == coarse({"zoo_product"})


def test_nothing_is_reported_where_the_orm_cache_is_off(database: str, rows: None) -> None:
    assert not services.freshness().enabled

    execute("UPDATE zoo_brand SET name = 'x'")
    Product.objects.filter(category=1).update(category=2)
    with connection.cursor() as cursor:
        if database == "postgresql":
            with cursor.copy("COPY zoo_brand (id, name) FROM STDIN") as copy:
                copy.write_row((60, "x"))
            cursor.callproc("lower", ["X"])

    assert set(Brand.objects.filter(pk__lt=9).values_list("name", flat=True)) == {"x"}


# ---------------------------------------------------------------- schema changes


def test_migrations_report_the_tables_they_change(recorder: Recorder, database: str) -> None:
    before = ProjectState()
    before.add_model(ModelState("zoo", "Shed", [("id", models.AutoField(primary_key=True))]))
    after = before.clone()
    operation = operations.AddField("Shed", "name", models.CharField(max_length=9, default="x"))
    operation.state_forwards("zoo", after)
    with connection.schema_editor() as editor:
        editor.create_model(before.apps.get_model("zoo", "Shed"))
    recorder.bumped.clear()
    before.apps.get_model("zoo", "Shed").objects.create()
    of_row = told(recorder)
    with connection.schema_editor() as editor:
        operation.database_forwards("zoo", editor, before, after)
    with connection.schema_editor() as editor:
        editor.delete_model(after.apps.get_model("zoo", "Shed"))

    assert of_row == coarse({"zoo_shed"})  # models of a migration: what they know of the table may be old
    assert coarse({"zoo_shed"}) <= told(recorder)


def test_migrate_works_on_an_empty_database_with_the_nodes_down(
    recorder: Recorder, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder.fails = True

    call_command("migrate", verbosity=0, interactive=False)

    assert MigrationExecutor(connection).loader.applied_migrations
    with connection.cursor() as cursor:
        for table in set(connection.introspection.table_names(cursor)) - set(all_tables()):
            assert table.startswith(("zoo_", "django_", "sqlite_")), table


def test_scripts_are_reported(recorder: Recorder, database: str) -> None:
    with connection.cursor() as cursor:
        if database == "postgresql":
            with pytest.raises(AttributeError):
                cursor.executescript("")
            assert not hasattr(cursor, "executescript")
            return
        cursor.executescript("UPDATE zoo_brand SET name = 'x'; DELETE FROM zoo_review;")
        assert not hasattr(cursor, "copy")

    assert told(recorder) == coarse({"zoo_brand", "zoo_review"})
