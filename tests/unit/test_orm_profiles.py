"""Which models are cached, and which columns of their tables have dependencies of their own."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.contrib.sessions.models import Session
from django.core.checks import CheckMessage
from django.db import models
from django.test import override_settings
from django.test.utils import isolate_apps

from distcache_django.checks import check_settings
from distcache_django.conf.distcache import OPS
from distcache_django.orm.profiles import (
    Profile,
    column_field,
    declared_columns,
    fields_by_column,
    is_untracked,
    profile_of,
    untracked_tables,
)
from example_project.shop.models import Brand, Category, Product

OURS = {"default": {"BACKEND": "distcache_django.DistributedCache", "LOCATION": "redis://10.9.9.1:6379/0"}}


class Featured(Product):
    """A product by another name."""

    class Meta:
        proxy = True
        app_label = "shop"


@pytest.fixture(autouse=True)
def distributed_default() -> Iterator[None]:
    with override_settings(CACHES=OURS, DISTCACHE={}):
        yield


def models_are(named: dict[str, Any], **others: Any) -> override_settings:
    return override_settings(DISTCACHE={"MODELS": named, **others})


# ---------------------------------------------------------------- which profile


def test_no_model_is_cached_unless_named() -> None:
    assert profile_of(Product) is None
    with models_are({"shop.product": {}}):
        assert profile_of(Product) == Profile(None, (), OPS)
        assert profile_of(Brand) is None


@pytest.mark.parametrize("name", ["shop.product", "Shop.Product", "SHOP.PRODUCT"])
def test_case_of_names_does_not_matter(name: str) -> None:
    with models_are({name: {"timeout": 3}}):
        assert profile_of(Product) == Profile(3)


def test_nearer_name_wins_in_whatever_order() -> None:
    named: dict[str, Any] = {"*.*": {"timeout": 1}, "shop.*": {"timeout": 2}, "shop.product": {"timeout": 3}}
    for order in (named, dict(reversed(named.items()))):
        with models_are(order):
            assert [profile_of(model) for model in (Product, Brand, User)] == [Profile(3), Profile(2), Profile(1)]


def test_none_excludes() -> None:
    with models_are({"shop.brand": None, "shop.*": {}, "auth.*": None, "*.*": {}}):
        assert profile_of(Brand) is None
        assert profile_of(User) is None
        assert profile_of(Product) is not None


def test_profile_says_what_was_given() -> None:
    with models_are({"shop.product": {"timeout": 60, "by": ["category", "brand"], "ops": "get"}}):
        assert profile_of(Product) == Profile(60, ("category", "brand"), frozenset({"get"}))


def test_no_ops_mean_only_when_asked() -> None:
    with models_are({"shop.product": {"ops": (), "by": "category"}}):
        assert profile_of(Product) == Profile(None, ("category",), frozenset())
        assert declared_columns("shop_product") == ("category_id",)


def test_proxy_is_cached_as_its_model_unless_named() -> None:
    with models_are({"shop.product": {"timeout": 3}, "shop.*": {"timeout": 2}}):
        assert profile_of(Featured) == Profile(3)
    with models_are({"shop.product": {"timeout": 3}, "shop.featured": None}):
        assert profile_of(Featured) is None
        assert profile_of(Product) == Profile(3)


@isolate_apps("tests")
def test_models_of_another_registry_are_not_cached() -> None:
    class Product(models.Model):  # noqa: DJ008 - as a migration makes it
        class Meta:
            app_label = "shop"

    with models_are({"shop.product": {}}):
        assert profile_of(Product) is None


def test_changed_settings_count_at_once() -> None:
    for timeout in (1, 2):
        with models_are({"shop.product": {"timeout": timeout, "by": "category" if timeout == 1 else "brand"}}):
            assert profile_of(Product) == Profile(timeout, ("category" if timeout == 1 else "brand",))
            assert declared_columns("shop_product") == ("category_id" if timeout == 1 else "brand_id",)
    assert profile_of(Product) is None
    assert declared_columns("shop_product") == ()


# ---------------------------------------------------------------- columns


def test_declared_columns_are_those_of_every_model_on_the_table() -> None:
    with models_are({"shop.product": {"by": ["sku", "category"]}, "shop.featured": {"by": ["brand_id", "sku"]}}):
        assert declared_columns("shop_product") == ("brand_id", "category_id", "sku")


def test_pattern_declares_what_each_model_has() -> None:
    with models_are({"shop.*": {"by": ["name", "product"]}}):
        assert declared_columns("shop_product") == ("name",)
        assert declared_columns("shop_brand") == ("name",)
        assert declared_columns("shop_price") == ("product_id",)
        assert declared_columns("auth_group") == ()


@pytest.mark.parametrize("name", ["id", "pk", "groups", "order", "nothing", "category__name"])
def test_what_has_no_column_or_is_the_key_is_not_declared(name: str) -> None:
    with models_are({"auth.user": {"by": name}}):
        assert declared_columns("auth_user") == ()


def test_both_sides_of_a_many_to_many_table_are_declared_unasked() -> None:
    assert declared_columns("auth_user_groups") == ("group_id", "user_id")
    assert declared_columns("auth_group_permissions") == ("group_id", "permission_id")


def test_tables_of_no_model_have_no_columns() -> None:
    assert declared_columns("nobody_s") == ()
    assert dict(fields_by_column("nobody_s")) == {}


def test_fields_by_column() -> None:
    assert fields_by_column("shop_product")["category_id"] is Product._meta.get_field("category")
    assert set(fields_by_column("auth_user_groups")) == {"id", "user_id", "group_id"}


def test_column_field_takes_names_and_attributes() -> None:
    assert column_field(Product, "category") is column_field(Product, "category_id")
    assert column_field(Product, "prices") is None
    assert column_field(User, "groups") is None


def test_inherited_field_belongs_to_its_parents_table() -> None:
    try:

        class SpecialGroup(Group):
            label = models.CharField(max_length=10)

            class Meta:
                app_label = "shop"

        with models_are({"shop.specialgroup": {"by": ["name", "label", "group_ptr"]}}):
            assert declared_columns("auth_group") == ("name",)
            assert declared_columns("shop_specialgroup") == ("label",)
            assert set(fields_by_column("shop_specialgroup")) == {"group_ptr_id", "label"}
    finally:
        forget("specialgroup")


def test_model_made_later_is_known() -> None:
    with models_are({"shop.late": {"by": "name"}}):
        assert declared_columns("shop_late") == ()
        try:

            class Late(models.Model):  # noqa: DJ008
                name = models.CharField(max_length=10)

                class Meta:
                    app_label = "shop"

            assert declared_columns("shop_late") == ("name",)
        finally:
            forget("late")
        assert declared_columns("shop_late") == ()


def forget(model: str) -> None:
    """Take a model of the test's own out of the registry."""
    apps.all_models["shop"].pop(model)
    apps.clear_cache()


# ---------------------------------------------------------------- untracked


def test_untracked_tables_are_those_of_their_models() -> None:
    assert {"django_session", "django_admin_log", "django_migrations"} <= untracked_tables()
    assert is_untracked("django_celery_results_taskresult")
    assert not is_untracked("shop_product")


def test_untracked_models_and_tables_are_the_sites_choice() -> None:
    with override_settings(DISTCACHE={"UNTRACKED": ["shop.Brand", "some_table"]}):
        assert untracked_tables() == {"shop_brand", "some_table"}


def test_untracked_models_are_never_cached() -> None:
    with models_are({"*.*": {}, "shop.*": {}}, UNTRACKED=["shop_brand"]):
        assert profile_of(Brand) is None
        assert profile_of(Category) is not None
    with models_are({"*.*": {}}):
        assert profile_of(Session) is None
        assert profile_of(LogEntry) is None
        assert profile_of(Permission) is not None


# ---------------------------------------------------------------- checks


def checked(named: dict[str, Any], **others: Any) -> list[CheckMessage]:
    with models_are(named, **others):
        return check_settings()


def ids(messages: list[CheckMessage]) -> list[str]:
    return [str(message.id) for message in messages]


@pytest.mark.parametrize(
    "named",
    [
        {"shop.product": {"by": ["category", "brand_id", "sku"]}, "*.*": None},
        {"shop.*": {"by": "name"}},
        {"Shop.Product": {}, "auth.*": {}, "auth.user_groups": {}},
        {"*.*": {"by": "category"}},
    ],
)
def test_right_names_need_no_message(named: dict[str, Any]) -> None:
    assert checked(named) == []


@pytest.mark.parametrize(
    ("named", "hint"),
    [
        ({"shpo.product": {}}, "'shop'"),
        ({"shpo.*": {}}, "'shop'"),
        ({"shop.produkt": {}}, "'product'"),
        ({"shop.produkt": None}, "'product'"),
        ({"shop.product": {"by": "kategory"}}, "'category'"),
        ({"shop.product": {"by": "category__name"}}, "'category'"),
        ({"shop.product": {"by": "prices"}}, "'brand', "),
        ({"shop.*": {"by": "nmae"}}, "'name'"),
    ],
)
def test_unknown_names_get_the_nearest_as_hint(named: dict[str, Any], hint: str) -> None:
    (found,) = checked(named)

    assert found.id == "distcache.E025"
    assert found.obj == "DISTCACHE"
    assert hint.strip("', ") in str(found.hint)


def test_primary_key_needs_no_mention() -> None:
    assert ids(checked({"shop.product": {"by": "id"}})) == ["distcache.W008"]


@pytest.mark.parametrize("named", [{"shop.price": {"by": "amount"}}, {"shop.*": {"by": "amount"}}])
def test_field_whose_values_have_no_dependencies_is_named(named: dict[str, Any]) -> None:
    (found,) = checked(named)

    assert found.id == "distcache.W007"
    assert "'amount'" in found.msg


@pytest.mark.parametrize("untracked", ["shop.product", "shop.Product", "shop_product"])
def test_model_is_either_cached_or_untracked(untracked: str) -> None:
    assert ids(checked({"shop.product": {}}, UNTRACKED=[untracked])) == ["distcache.E026"]
    assert checked({"shop.*": {}, "shop.product": None}, UNTRACKED=[untracked]) == []
