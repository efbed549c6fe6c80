"""Writes that make rows."""

from typing import Any

from django.core.serializers.python import Deserializer
from django.db import IntegrityError, transaction
from django.db.models import Value

from distcache_django.freshness.dependencies import coarse
from tests.support.deeds.models import Entry
from tests.support.deeds.naming import deed, entry, fields, link, plain, product
from tests.support.things import Label, Sticker, Thing
from tests.support.zoo.models import Book, Brand, Product, Tag


@deed
def create() -> tuple[Any, set[str]]:
    made = Brand.objects.create(name="new")
    return made.name, plain("zoo_brand", made.pk)


@deed
def create_with_declared_values() -> tuple[Any, set[str]]:
    made = Product.objects.create(name="new", category_id=3, brand=None)
    return made.name, product(made.pk, category=[3], brand=[None])


@deed
def create_with_the_site_s_own_key() -> tuple[Any, set[str]]:
    made = Tag.objects.create(code="new")
    return made.pk, plain("zoo_tag", "new")


@deed
def create_with_uuid_key() -> tuple[Any, set[str]]:
    made = Label._default_manager.create(name="green")
    return made.name, plain("zoo_label", made.pk)


@deed
def create_with_a_relation_for_a_key() -> tuple[Any, set[str]]:
    thing = Thing._default_manager.create()
    Sticker._default_manager.create(thing=thing, label_id="red")
    return None, plain("zoo_thing", thing.pk) | {*plain("zoo_sticker", thing.pk), "zoo_sticker:label_id=red"}


@deed
def create_child() -> tuple[Any, set[str]]:
    made = Book.objects.create(name="new", category_id=1, pages=3)
    touched = product(made.pk, category=[1], brand=[None]) | plain("zoo_book", made.pk)
    return made.pages, touched | fields("zoo_book", {("series_id", None)})


@deed
def create_from_expressions() -> tuple[Any, set[str]]:
    made = Entry.objects.create(code="x", group=Value(3) + Value(4), amount=Value(5))
    return None, entry(made.pk, group=[7])


@deed
def create_twice_the_same() -> tuple[Any, set[str]]:
    try:
        with transaction.atomic():
            Entry.objects.create(code="e1", group=5)
    except IntegrityError as error:
        return type(error), set()
    raise AssertionError("a unique column took a value twice")


@deed
def create_by_get_or_create() -> tuple[Any, set[str]]:
    found = Product.objects.get_or_create(name="new", defaults={"category_id": 2})
    again = Product.objects.get_or_create(name="new", defaults={"category_id": 3})
    return (found[1], again[1]), product(found[0].pk, category=[2], brand=[None])


@deed
def create_many() -> tuple[Any, set[str]]:
    made = Product.objects.bulk_create([Product(name=f"n{n}", category_id=n, brand_id=1) for n in (1, 2)])
    touched = [product(each.pk, category=[n], brand=[1]) for n, each in zip((1, 2), made, strict=True)]
    return [each.name for each in made], set().union(*touched)


@deed
def create_many_with_keys_and_without() -> tuple[Any, set[str]]:
    made = Brand.objects.bulk_create([Brand(id=70, name="x"), Brand(name="y")])
    return [each.name for each in made], plain("zoo_brand", 70, made[1].pk)


@deed
def create_too_many() -> tuple[Any, set[str]]:
    made = Brand.objects.bulk_create([Brand(name=f"b{n}") for n in range(65)])
    return len({each.pk for each in made}), coarse({"zoo_brand"})


@deed
def create_many_ignoring_conflicts() -> tuple[Any, set[str]]:
    made = [Entry(id=90, code="e1", group=8), Entry(id=91, code="new", group=9, amount=1)]
    Entry.objects.bulk_create(made, ignore_conflicts=True)
    return None, entry(91, group=[9])


@deed
def create_one_ignoring_its_conflict() -> tuple[Any, set[str]]:
    Entry.objects.bulk_create([Entry(id=90, code="e1", group=8)], ignore_conflicts=True)
    return None, set()


@deed
def upsert_of_what_is_not_declared() -> tuple[Any, set[str]]:
    made = [Product(id=1, name="changed", category_id=3), Product(id=80, name="new", category_id=3)]
    Product.objects.bulk_create(made, update_conflicts=True, unique_fields=["id"], update_fields=["name"])
    return None, product(1, category=[1], brand=[1]) | product(80, category=[3], brand=[None])


@deed
def upsert_moves_rows() -> tuple[Any, set[str]]:
    made = [Product(id=1, name="changed", category_id=3), Product(id=80, name="new", category_id=3)]
    Product.objects.bulk_create(made, update_conflicts=True, unique_fields=["id"], update_fields=["category"])
    touched = product(1, category=[1, 3], brand=[1]) | product(80, category=[3], brand=[None])
    return None, touched | {"zoo_product:category_id=\0"}  # of a row that is new, what it was is NULL


@deed
def load_a_fixture() -> tuple[Any, set[str]]:
    """Saves of fixtures are raw: of one table each, and without signals."""
    fixture = [
        {"model": "zoo.product", "pk": 1, "fields": {"name": "x", "category": 3, "brand": None}},
        {"model": "zoo.book", "pk": 95, "fields": {"pages": 5}},
        {"model": "zoo.product", "pk": 95, "fields": {"name": "y", "category": 2, "tags": ["a"]}},
    ]
    with transaction.atomic():
        for each in Deserializer(fixture):
            each.save()
    made = Product.tags.through.objects.get(product=95)
    touched = product(1, category=[1, 3], brand=[1, None]) | product(95, category=[2], brand=[None])
    return None, touched | plain("zoo_book", 95) | fields("zoo_book", {("series_id", None)}) | link(made.pk, 95, "a")


@deed
def create_or_update() -> tuple[Any, set[str]]:
    changed = Product.objects.update_or_create(name="product 3", defaults={"category_id": 3})
    made = Product.objects.update_or_create(name="new", defaults={"category_id": 1})
    touched = product(3, category=[2, 3], brand=[None]) | product(made[0].pk, category=[1], brand=[None])
    return (changed[1], made[1]), touched
