"""One spelling for a value, whether Python or a database gives it."""

import datetime
import enum
import uuid
from decimal import Decimal

import pytest
from django.db import models
from django.db.models import F
from django.utils.safestring import mark_safe

from distcache_django.orm import values
from tests.support.zoo.models import Animal, Book, Product, Review, Tag

ID = uuid.UUID(int=0xABC)


class Color(models.TextChoices):
    RED = "red"


class Size(enum.IntEnum):
    LARGE = 3


def field(model, name):
    return model._meta.get_field(name)


CASES = [
    (field(Product, "id"), 3, "3", [3, "3", 3.0, Decimal(3)]),
    (field(Product, "id"), Size.LARGE, "3", [3]),
    (field(Product, "category"), "3", "3", [3]),
    (field(Product, "active"), True, "1", [1, True, 2]),
    (field(Product, "active"), 0, "0", [0, False]),
    (field(Product, "uuid"), str(ID).upper(), str(ID), [ID, ID.hex, ID.bytes, ID.hex.upper()]),
    (field(Product, "released"), "2020-01-02", "2020-01-02",
     [datetime.date(2020, 1, 2), datetime.datetime(2020, 1, 2, 3), "2020-01-02"]),
    (field(Product, "name"), Color.RED, "red", ["red"]),
    (field(Product, "name"), mark_safe("red"), "red", ["red"]),
    (field(Product, "name"), 3, "3", ["3"]),
    (field(Book, "product_ptr"), 3, "3", [3]),
    (field(Product.tags.through, "tag"), "a", "a", ["a"]),
]  # fmt: skip


@pytest.mark.parametrize(("column", "value", "spelling", "raws"), CASES)
def test_python_and_the_database_spell_alike(column, value, spelling, raws):
    assert values.canonical(column, value) == spelling
    assert {values.canonical_from_db(column, raw) for raw in raws} == {spelling}
    assert type(values.canonical(column, value)) is str or isinstance(value, str)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (field(Product, "id"), None),
        (field(Product, "id"), F("x")),
        (field(Product, "id"), "three"),
        (field(Product, "uuid"), "no uuid"),
        (field(Product, "released"), "no date"),
        (field(Product, "price"), Decimal("1.5")),
    ],
)
def test_what_a_field_cannot_hold_has_no_spelling(column, value):
    with pytest.raises(values.NotCanonical):
        values.canonical(column, value)


@pytest.mark.parametrize(
    ("column", "raw"),
    [(field(Product, "id"), "three"), (field(Product, "id"), 3.5), (field(Product, "uuid"), "zz"),
     (field(Product, "released"), "soon"), (field(Product, "name"), b"\x00"), (field(Product, "price"), Decimal("1.5")),
     (field(Product, "active"), "true"), (field(Product, "uuid"), None)],
)  # fmt: skip
def test_what_a_field_could_not_have_stored_has_no_spelling(column, raw):
    with pytest.raises(values.NotCanonical):
        values.canonical_from_db(column, raw)


def test_only_the_exact_type_counts_in_a_query():
    assert values.canonical_exact(field(Product, "id"), 3) == "3"
    for value in ("3", 3.0, True, Size.LARGE, None):
        assert values.canonical_exact(field(Product, "id"), value) is None
    assert values.canonical_exact(field(Product, "name"), Color.RED) is None


def test_long_text_is_named_by_its_digest():
    long = values.canonical(field(Review, "text"), "x" * 129)

    assert len(long) == 33
    assert long != values.canonical(field(Review, "text"), "x" * 130)
    assert values.canonical(field(Review, "text"), "x" * 128) == "x" * 128


def test_refinable_types_are_a_closed_set():
    class Own(models.IntegerField):
        pass

    assert values.is_refinable(field(Product, "category"))
    assert values.is_refinable(field(Product.tags.through, "tag"), "postgresql")
    assert not values.is_refinable(field(Product.tags.through, "tag"), "mysql")
    assert not values.is_refinable(field(Tag, "label"), "oracle")
    assert not values.is_refinable(Own())
    for kind in (models.DecimalField, models.FloatField, models.DateTimeField, models.JSONField, models.BinaryField):
        assert not values.is_refinable(kind())


def test_text_with_a_collation_or_of_a_table_django_did_not_make_is_not_refinable():
    class Collated(Animal):
        folded = models.CharField(max_length=9, db_collation="nocase")

        class Meta:
            app_label = "zoo_values"

    class Foreign(Animal):
        text = models.CharField(max_length=9)
        number = models.IntegerField()

        class Meta:
            app_label = "zoo_values"
            managed = False

    assert not values.is_refinable(field(Collated, "folded"))
    assert not values.is_refinable(field(Foreign, "text"))
    assert values.is_refinable(field(Foreign, "number"))


def test_fields_are_comparable_if_their_values_are_of_one_kind():
    assert values.is_comparable(field(Product, "category"), field(Product, "id"))
    assert values.is_comparable(field(Review, "author_country"), field(Tag, "code"))
    assert not values.is_comparable(field(Product, "id"), field(Tag, "code"))
    assert not values.is_comparable(field(Product, "price"), field(Product, "price"))
