"""Writes that delete rows, that change many-to-many relations, and that are text."""

from typing import Any

from django.db import connection

from distcache_django.freshness.dependencies import coarse
from tests.support.deeds.naming import deed, link, plain, product
from tests.support.zoo.models import Book, Brand, Category, Product, Review, Tag


@deed
def delete() -> tuple[Any, set[str]]:
    return Review.objects.get(pk=3).delete(), plain("zoo_review", 3)


@deed
def delete_by_a_condition() -> tuple[Any, set[str]]:
    return Review.objects.filter(product=1).delete(), plain("zoo_review", 1, 2)


@deed
def delete_cascades_and_sets_null() -> tuple[Any, set[str]]:
    return Brand.objects.get(pk=2).delete(), plain("zoo_brand", 2) | product(2, category=[1], brand=[2, None])


@deed
def delete_of_a_group() -> tuple[Any, set[str]]:
    touched = plain("zoo_category", 1) | product(1, category=[1], brand=[1]) | product(2, category=[1], brand=[2])
    touched |= link(1, 1, "a") | link(2, 1, "b") | link(3, 2, "a") | plain("zoo_review", 1, 2, 3)
    return Category.objects.filter(pk=1).delete(), touched


@deed
def delete_of_a_child() -> tuple[Any, set[str]]:
    touched = product(4, category=[2], brand=[1]) | plain("zoo_book", 4) | {"zoo_book:series_id=\0"}
    return Book.objects.get(pk=4).delete(), touched


@deed
def delete_everything_raw() -> tuple[Any, set[str]]:
    return Review.objects.all()._raw_delete("default"), coarse({"zoo_review"})


# ---------------------------------------------------------------- many-to-many


@deed
def add_to_many() -> tuple[Any, set[str]]:
    found = Product.objects.get(pk=3)
    found.tags.add("a", "b")
    links = found.tags.through.objects.filter(product=3)
    return None, set().union(*(link(each.pk, 3, each.tag_id) for each in links))


@deed
def remove_from_many() -> tuple[Any, set[str]]:
    Product.objects.get(pk=1).tags.remove("a")
    return None, link(1, 1, "a")


@deed
def remove_from_the_other_side() -> tuple[Any, set[str]]:
    Tag.objects.get(pk="a").products.remove(1)
    return None, link(1, 1, "a")


@deed
def set_many() -> tuple[Any, set[str]]:
    found = Product.objects.get(pk=2)
    found.tags.set(["b"])
    return None, link(3, 2, "a") | link(found.tags.through.objects.get(product=2).pk, 2, "b")


@deed
def clear_many() -> tuple[Any, set[str]]:
    Product.objects.get(pk=1).tags.clear()
    return None, link(1, 1, "a") | link(2, 1, "b")


@deed
def add_to_a_reverse_relation() -> tuple[Any, set[str]]:
    Category.objects.get(pk=3).products.add(Product.objects.get(pk=1), Product.objects.get(pk=3))
    return None, product(1, category=[1, 3], brand=[1]) | product(3, category=[2, 3], brand=[None])


@deed
def remove_from_a_reverse_relation() -> tuple[Any, set[str]]:
    Brand.objects.get(pk=1).products.remove(Product.objects.get(pk=1))
    return None, product(1, category=[1], brand=[1, None])


# ---------------------------------------------------------------- raw SQL


@deed
def cursor_update() -> tuple[Any, set[str]]:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE zoo_product SET category_id = %s WHERE id = %s", [3, 1])
        return cursor.rowcount, {"zoo_product", "zoo_product:1", "zoo_product:=:*"}


@deed
def cursor_update_of_some() -> tuple[Any, set[str]]:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE zoo_product SET price = 9 WHERE category_id = %s", [1])
        return cursor.rowcount, coarse({"zoo_product"})


@deed
def cursor_delete() -> tuple[Any, set[str]]:
    with connection.cursor() as cursor:
        cursor.execute('DELETE FROM "zoo_entry" WHERE "zoo_entry"."id" = %(key)s', {"key": 1})
        return cursor.rowcount, {"zoo_entry", "zoo_entry:1", "zoo_entry:=:*"}


@deed
def cursor_insert_many() -> tuple[Any, set[str]]:
    with connection.cursor() as cursor:
        cursor.executemany('insert into "zoo_brand" (id, name) values (%s, %s)', [(51, "x"), (52, "y")])
    return None, coarse({"zoo_brand"})
