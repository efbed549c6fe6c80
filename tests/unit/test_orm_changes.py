"""What a write touches, from what is known of its rows; and the tables that a statement's text means."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.db import models
from django.db.models import F, GeneratedField, Q
from django.db.models.expressions import Value
from django.db.models.functions import Length
from django.test import override_settings
from django.test.utils import isolate_apps, register_lookup

from distcache_django.freshness.dependencies import coarse
from distcache_django.orm import changes
from distcache_django.orm.capture import Abilities, abilities_of
from distcache_django.orm.changes import MAX_ROWS, Target
from distcache_django.orm.values import NotCanonical
from example_project.shop.models import Product

TABLE = Product._meta.db_table


def target(*declared: models.Field[Any, Any]) -> Target:
    pk: Any = Product._meta.pk
    return Target("t", pk, declared, ("id", *(str(field.column) for field in declared)))


def integer(name: str) -> models.Field[Any, Any]:
    field = models.IntegerField()
    field.set_attributes_from_name(name)
    return field


# ---------------------------------------------------------------- rows


def test_a_row_touches_its_name_its_values_and_the_table() -> None:
    assert changes.touched(target(integer("a"), integer("b")), [(7, 1, None)]) == {"t", "t:7", "t:a=1", "t:b=\0"}


def test_a_row_touches_the_values_it_had() -> None:
    assert changes.touched(target(integer("a")), [(7, 2, 1)]) == {"t", "t:7", "t:a=1", "t:a=2"}


def test_no_row_touches_nothing() -> None:
    assert changes.touched(target(integer("a")), []) == set()


def test_a_value_that_the_field_could_not_hold_has_no_name() -> None:
    with pytest.raises(NotCanonical):
        changes.touched(target(integer("a")), [(7, "x")])


def test_setting_a_column_may_change_its_declared_value_only() -> None:
    assert target(integer("a")).may_change(["b", "a"])
    assert not target(integer("a")).may_change(["b"])


def test_setting_any_column_may_change_a_generated_one() -> None:
    generated: models.Field[Any, Any] = GeneratedField(
        expression=F("b") * 2, output_field=models.IntegerField(), db_persist=True
    )
    generated.set_attributes_from_name("a")

    assert target(generated).may_change(["b"])


# ---------------------------------------------------------------- targets


def test_a_model_of_the_site_has_a_target() -> None:
    found = changes.target_of(Product)

    assert found is not None
    assert (found.table, found.columns[0]) == (TABLE, "id")


def test_declared_columns_are_part_of_the_target() -> None:
    with override_settings(DISTCACHE={"ENABLED": False, "MODELS": {"shop.product": {"by": ["name", "category"]}}}):
        found = changes.target_of(Product)

    assert found is not None
    assert found.columns == ("id", "category_id", "name")


@isolate_apps("example_project.shop")
def test_models_of_another_registry_have_none() -> None:
    class Copy(models.Model):
        class Meta:
            app_label = "shop"
            db_table = "a_table_of_a_migration"

        def __str__(self) -> str:
            return "a copy"

    assert changes.target_of(Copy) is None


def test_two_models_on_one_table_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Twin(models.Model):
        class Meta:
            app_label = "shop"
            db_table = TABLE
            managed = False

        def __str__(self) -> str:
            return "a twin"

    try:
        assert changes.target_of(Product) is None
        assert changes.target_of(Twin) is None
    finally:
        del Twin._meta.apps.all_models["shop"]["twin"]
        Twin._meta.apps.clear_cache()
    assert changes.target_of(Product) is not None


# ---------------------------------------------------------------- keys that a condition names


def keys(condition: Q, vendor: str = "postgresql") -> list[str] | None:
    query = Product._default_manager.filter(condition).query
    found = changes.target_of(Product)
    assert found is not None
    return changes.named_keys(query, found, vendor)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (Q(pk=3), ["3"]),
        (Q(pk="3"), ["3"]),
        (Q(id__in=[1, 2]), ["1", "2"]),
        (Q(pk=3, name="x"), ["3"]),
        (Q(name="x") & Q(pk__in=[4]), ["4"]),
        (Q(pk=3) | Q(pk=4), None),
        (~Q(pk=3), None),
        (~(Q(pk=3) & Q(name="x")), None),
        (Q(pk__gt=3), None),
        (Q(pk__in=[]), []),
        (Q(pk=Value(3)), None),
        (Q(pk__in=Product._default_manager.filter(name="x").values("pk")), None),
        (Q(name="x"), None),
        (Q(), None),
    ],
)
def test_keys_that_a_condition_is_confined_to(condition: Q, expected: list[str] | None) -> None:
    assert keys(condition) == expected


def test_keys_of_another_table_are_not_this_one_s() -> None:
    assert keys(Q(category__pk=3)) is None


# ---------------------------------------------------------------- tables that a text means


@pytest.mark.parametrize(
    "name", [TABLE, TABLE.upper(), f'"{TABLE}"', f"`{TABLE}`", f"public.{TABLE}", f'public."{TABLE}"']
)
def test_a_table_is_known_however_it_is_spelled(name: str) -> None:
    assert changes.resolve_tables([name]) == {TABLE}


def test_a_table_of_no_model_is_taken_as_it_is() -> None:
    assert changes.resolve_tables(["elsewhere"]) == {"elsewhere"}


def test_untracked_tables_are_left_out() -> None:
    assert changes.resolve_tables(["django_session", "django_migrations", TABLE]) == {TABLE}
    assert not changes.all_tables() & {"django_session", "django_admin_log"}
    assert TABLE in changes.all_tables()


def test_as_many_rows_are_named_as_the_answers_are_worth() -> None:
    rows: Iterable[tuple[int, int]] = [(number, number) for number in range(MAX_ROWS)]

    assert len(changes.touched(target(integer("a")), rows)) == 2 * MAX_ROWS + 1
    assert coarse({"t"}) == {"t", "t:*", "t:=:*"}


def test_a_key_that_the_database_takes_for_another_names_no_row() -> None:
    """MySQL finds "a" equal to "A"."""
    pk: Any = Session._meta.pk
    found = Target("django_session", pk, (), ("session_key",))
    query = Session._default_manager.filter(pk="a").query

    assert changes.named_keys(query, found, "postgresql") == ["a"]
    assert changes.named_keys(query, found, "mysql") is None


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (Q(name="x", pk__in=[1, 2]) & ~Q(sku=3), True),
        (Q(name__contains="x"), True),
        (Q(pk=Value(3)), False),
        (Q(pk__in=Product._default_manager.filter(name="x").values("pk")), False),
        (Q(name__length=3), False),
    ],
)
def test_a_plain_condition_compares_columns_with_values(condition: Q, expected: bool) -> None:
    with register_lookup(models.CharField, Length):
        where = Product._default_manager.filter(condition).query.where

    assert changes.is_plain(where) is expected


@pytest.mark.parametrize(("vendor", "lock"), [("mysql", " FOR UPDATE"), ("oracle", None)])
def test_what_databases_can_do_that_return_nothing(vendor: str, lock: str | None) -> None:
    connection: Any = SimpleNamespace(vendor=vendor, features=SimpleNamespace(has_select_for_update=True))

    assert abilities_of(connection) == Abilities(lock=lock)


def test_sqlite_before_it_could_return_rows_makes_every_write_coarse() -> None:
    features = SimpleNamespace(can_return_columns_from_insert=False)
    connection: Any = SimpleNamespace(vendor="sqlite", features=features)

    assert abilities_of(connection) == Abilities()
