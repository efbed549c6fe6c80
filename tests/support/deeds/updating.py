"""Writes that change rows."""

import datetime
from typing import Any

from django.db.models import Case, F, Q, Value, When

from distcache_django.freshness.dependencies import coarse
from tests.support.deeds.models import Entry
from tests.support.deeds.naming import deed, entry, fields, plain, product
from tests.support.zoo.models import Book, Brand, Cheap, Product, Review


@deed
def save() -> tuple[Any, set[str]]:
    brand = Brand.objects.get(pk=1)
    brand.name = "changed"
    brand.save()
    return None, plain("zoo_brand", 1)


@deed
def save_moves_the_row() -> tuple[Any, set[str]]:
    found = Product.objects.get(pk=1)
    found.category_id = 3
    found.save()
    return None, product(1, category=[1, 3], brand=[1])


@deed
def save_of_other_fields() -> tuple[Any, set[str]]:
    found = Product.objects.get(pk=1)
    found.price = 3
    found.save(update_fields=["price"])
    return None, product(1, category=[1], brand=[1])


@deed
def save_of_a_stale_instance() -> tuple[Any, set[str]]:
    """The mutant "old value taken from the instance"."""
    stale = Product.objects.get(pk=1)
    Product.objects.filter(pk=1).update(category=2, brand=2)
    stale.category_id = 3
    stale.save()
    return None, product(1, category=[1, 2, 3], brand=[1, 2])


@deed
def save_of_an_instance_that_was_never_read() -> tuple[Any, set[str]]:
    Product(id=2, name="x", category_id=3, brand_id=None).save()
    return None, product(2, category=[1, 3], brand=[2, None])


@deed
def save_of_an_instance_that_is_not_there() -> tuple[Any, set[str]]:
    Product(id=50, name="x", category_id=3).save()
    return None, product(50, category=[3], brand=[None])


@deed
def save_through_a_proxy() -> tuple[Any, set[str]]:
    found = Cheap.objects.get(pk=2)
    found.brand_id = 3
    found.save(update_fields=["brand"])
    return None, product(2, category=[1], brand=[2, 3])


@deed
def save_of_a_child() -> tuple[Any, set[str]]:
    book = Book.objects.get(pk=4)
    book.category_id, book.pages = 1, 7
    book.save()
    touched = product(4, category=[2, 1], brand=[1]) | plain("zoo_book", 4)
    return None, touched | fields("zoo_book", {("series_id", None)})


@deed
def save_with_an_expression() -> tuple[Any, set[str]]:
    found = Entry.objects.get(pk=1)
    found.amount = F("amount") + 10
    found.save()
    found.refresh_from_db()
    return found.twice, entry(1, group=[1])


@deed
def update_one() -> tuple[Any, set[str]]:
    return Brand.objects.filter(pk=2).update(name="x"), plain("zoo_brand", 2)


@deed
def update_of_a_row_that_is_not_there() -> tuple[Any, set[str]]:
    return Product.objects.filter(pk=77).update(category=1), set()


@deed
def update_by_another_column() -> tuple[Any, set[str]]:
    return Brand.objects.filter(name="brand 2").update(name="x"), plain("zoo_brand", 2)


@deed
def update_moves_rows() -> tuple[Any, set[str]]:
    touched = product(1, category=[1, 2], brand=[1]) | product(2, category=[1, 2], brand=[2])
    return Product.objects.filter(category=1).update(category=2), touched


@deed
def update_moves_rows_by_an_expression() -> tuple[Any, set[str]]:
    touched = product(1, category=[1, 2], brand=[1]) | product(2, category=[1, 2], brand=[2])
    return Product.objects.filter(category=1).update(category=F("category") + 1), touched


@deed
def update_across_a_join() -> tuple[Any, set[str]]:
    changed = Product.objects.filter(brand__name="brand 2").update(category=3, name="x")
    return changed, product(2, category=[1, 3], brand=[2])


@deed
def update_by_a_subquery() -> tuple[Any, set[str]]:
    inner = Review.objects.filter(stars__gte=3).values("product")
    return Product.objects.filter(pk__in=inner).update(price=4), product(2, category=[1], brand=[2])


@deed
def update_everything() -> tuple[Any, set[str]]:
    return Review.objects.update(stars=0), coarse({"zoo_review"})


@deed
def update_nothing_by_an_empty_list() -> tuple[Any, set[str]]:
    return Product.objects.filter(pk__in=[]).update(category=1), set()


@deed
def update_fields_of_the_parent() -> tuple[Any, set[str]]:
    touched = product(4, category=[2, 3], brand=[1]) | plain("zoo_book", 4)
    return Book.objects.filter(pages=100).update(category=3, pages=1), touched | fields(
        "zoo_book", {("series_id", None)}
    )


@deed
def update_only_fields_of_the_parent() -> tuple[Any, set[str]]:
    return Book.objects.filter(pages=100).update(category=3), product(4, category=[2, 3], brand=[1])


@deed
def update_of_the_key() -> tuple[Any, set[str]]:
    return Brand.objects.filter(pk=3).update(id=33), coarse({"zoo_brand"})


@deed
def update_what_a_generated_column_is_made_of() -> tuple[Any, set[str]]:
    return Entry.objects.filter(code="e2").update(amount=50), entry(2, group=[0])


@deed
def update_many() -> tuple[Any, set[str]]:
    found = list(Product.objects.filter(pk__in=[1, 3]).order_by("pk"))
    found[0].category_id, found[1].category_id = 2, 3
    changed = Product.objects.bulk_update(found, ["category"])
    return changed, product(1, category=[1, 2], brand=[1]) | product(3, category=[2, 3], brand=[None])


@deed
def update_by_cases() -> tuple[Any, set[str]]:
    cases = Case(When(pk=1, then=Value(7)), default=F("group"))
    changed = Entry.objects.filter(Q(pk=1) | Q(code="e2")).update(group=cases)
    return changed, entry(1, group=[1, 7]) | entry(2, group=[0])


@deed
def update_to_null_and_to_a_date() -> tuple[Any, set[str]]:
    changed = Product.objects.filter(brand=1, category=1).update(brand=None, released=datetime.date(2020, 1, 1))
    return changed, product(1, category=[1], brand=[1, None])
