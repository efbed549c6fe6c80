"""What an answer depends on: rows and declared values where the conditions confine it, tables elsewhere."""

from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from django.apps import apps
from django.db import connection, models
from django.db.models import Case, Count, Exists, F, Func, Max, OuterRef, Q, Value, When, prefetch_related_objects
from django.db.models.expressions import RawSQL
from django.db.models.fields.related import ForeignObject
from django.db.models.functions import Lower, Now, Random
from django.db.models.lookups import Exact, IntegerFieldExact
from django.db.models.sql import Query
from django.test.utils import isolate_apps, register_lookup

from distcache_django.orm import analysis
from tests.support.zoo import schema
from tests.support.zoo.models import Animal, Book, Brand, Category, Cheap, Product, Review, Tag
from tests.support.zoo.trial import recorded

DECLARED = {
    "zoo_product": ("category_id", "brand_id", "active", "name"),
    "zoo_product_tags": ("product_id", "tag_id"),
    "zoo_review": ("product_id", "stars"),
    "zoo_category": ("parent_id",),
    "zoo_book": ("series_id",),
}
BOOKS = Book.objects
PRODUCTS = Product.objects


@pytest.fixture(autouse=True, scope="module")
def _zoo(django_db_setup: None, django_db_blocker) -> Iterator[None]:
    with django_db_blocker.unblock(), schema.installed():
        schema.create_tables()
        yield
        schema.drop_tables()


def dependencies(queryset, vendor="sqlite"):
    compiler = queryset.query.get_compiler(connection=connection)
    sql, _ = compiler.as_sql()
    found = analysis.dependencies(compiler.query, sql, lambda table: DECLARED.get(table, ()), vendor)
    assert (found is None) == (analysis.why_not(compiler.query, sql) is not None)
    return found


def instance(model: Any, **values: Any) -> Any:
    return model(**values)


def names(*parts):
    """Write dependencies in short: product:1 has its epoch with it, product:category_id=3 that of values."""
    found = set()
    for part in parts:
        table, colon, place = part.partition(":")
        found.add(f"zoo_{part}")
        if colon:
            found.add(f"zoo_{table}:=:*" if "=" in place else f"zoo_{table}:*")
    return found


REFINED = [
    (lambda: PRODUCTS.filter(pk=1), ["product:1"]),
    (lambda: PRODUCTS.filter(pk__in=[1, 2, None]), ["product:1", "product:2"]),
    (lambda: PRODUCTS.filter(category=3), ["product:category_id=3"]),
    (lambda: PRODUCTS.filter(category__pk=3), ["product:category_id=3"]),
    (lambda: PRODUCTS.filter(category=Category(pk=3)), ["product:category_id=3"]),
    (lambda: PRODUCTS.filter(category=3, price__gt=2).exclude(name="x"), ["product:category_id=3"]),
    (lambda: PRODUCTS.filter(category=3, pk=1), ["product:1"]),
    (lambda: PRODUCTS.filter(brand__isnull=True), ["product:brand_id=\0"]),
    (lambda: PRODUCTS.filter(brand=None), ["product:brand_id=\0"]),
    (lambda: PRODUCTS.filter(active=True), ["product:active=1"]),
    (lambda: PRODUCTS.filter(active=False, name="é"), ["product:name=é"]),
    (lambda: PRODUCTS.filter(active=False), ["product:active=0"]),
    (lambda: PRODUCTS.filter(pk__in=range(33), category=3), ["product:category_id=3"]),
    (lambda: PRODUCTS.filter(name="é"), ["product:name=é"]),
    (lambda: Cheap.objects.filter(category=3), ["product:category_id=3"]),
    (lambda: PRODUCTS.filter(Q(pk=1) | Q(category__in=[3, 4])), ["product:1", "product:category_id=3",
                                                                 "product:category_id=4"]),
    (lambda: PRODUCTS.filter(Q(pk=1, name="x") | Q(brand=2, active=True)), ["product:1", "product:brand_id=2"]),
    (lambda: PRODUCTS.filter(category=3).order_by("-name").distinct()[2:5], ["product:category_id=3"]),
    (lambda: PRODUCTS.filter(category=3).values("brand").annotate(n=Count("*")), ["product:category_id=3"]),
    (lambda: PRODUCTS.filter(tags="a"), ["product", "product_tags:tag_id=a"]),
    (lambda: Tag.objects.filter(products=5), ["tag", "product_tags:product_id=5"]),
    (lambda: Tag.objects.filter(products__in=[5, 6]), ["tag", "product_tags:product_id=5",
                                                       "product_tags:product_id=6"]),
    (lambda: Review.objects.filter(product=5), ["review:product_id=5"]),
    (lambda: Review.objects.filter(product=5).select_related("product"), ["review:product_id=5", "product:5"]),
    (lambda: Review.objects.filter(product__category=3), ["review", "product:category_id=3"]),
    (lambda: PRODUCTS.select_related("category").filter(pk=1), ["product:1", "category"]),
    (lambda: PRODUCTS.select_related("category").filter(category=3), ["product:category_id=3", "category:3"]),
    (lambda: BOOKS.filter(pk=1), ["book:1", "product:1"]),
    (lambda: BOOKS.filter(category=3), ["book", "product:category_id=3"]),
    (lambda: BOOKS.filter(series=1), ["book:series_id=1", "product"]),
    (lambda: PRODUCTS.select_related("book").filter(pk=1), ["product:1", "book:1"]),
    (lambda: PRODUCTS.filter(book__pk=1), ["product:1", "book:1"]),
    (lambda: PRODUCTS.filter(pk=1).annotate(n=Count("reviews")), ["product:1", "review:product_id=1"]),
    (lambda: PRODUCTS.filter(pk=1).union(PRODUCTS.filter(category=3)), ["product:1", "product:category_id=3"]),
    (lambda: PRODUCTS.filter(pk=1).union(PRODUCTS.none(), PRODUCTS.filter(pk=2)), ["product"]),
    (lambda: PRODUCTS.filter(Exists(Review.objects.filter(stars=1)), pk=1), ["product:1", "review"]),
]  # fmt: skip
COARSE = [
    (PRODUCTS.all, ["product"]),
    (lambda: PRODUCTS.filter(pk__in=range(33)), ["product"]),
    (lambda: PRODUCTS.filter(pk__gt=1), ["product"]),
    (lambda: PRODUCTS.exclude(pk=1), ["product"]),
    (lambda: PRODUCTS.filter(~Q(category=3)), ["product"]),
    (lambda: PRODUCTS.filter(Q(pk=1) | Q(price=3)), ["product"]),
    (lambda: PRODUCTS.filter(Q(pk=1) ^ Q(pk=2)), ["product"]),
    (lambda: PRODUCTS.filter(price=3), ["product"]),
    (lambda: PRODUCTS.filter(category=F("brand")), ["product"]),
    (lambda: PRODUCTS.filter(name__in=["x", F("name")]), ["product"]),
    (lambda: PRODUCTS.filter(category=Value(3)), ["product"]),
    (lambda: PRODUCTS.annotate(l=Lower("name")).filter(l="x"), ["product"]),
    (lambda: PRODUCTS.filter(released__year=2020), ["product"]),
    (lambda: PRODUCTS.filter(brand__isnull=False), ["product"]),
    (lambda: PRODUCTS.filter(book__isnull=True), ["product", "book"]),
    (lambda: PRODUCTS.filter(reviews__stars__isnull=True), ["product", "review"]),
    (lambda: Category.objects.filter(pk=1, parent__name="x"), ["category"]),
    (lambda: PRODUCTS.filter(Exists(PRODUCTS.filter(name="x")), pk=1), ["product"]),
    (lambda: PRODUCTS.filter(pk__in=PRODUCTS.filter(category=3)), ["product"]),
    (lambda: PRODUCTS.filter(pk=1).union(PRODUCTS.filter(name__gt="a")), ["product"]),
    (lambda: PRODUCTS.filter(pk=1).union(PRODUCTS.filter(Exists(PRODUCTS.all()), pk=2)), ["product"]),
    (lambda: PRODUCTS.annotate(x=Exists(PRODUCTS.filter(pk=OuterRef("brand")))).filter(pk=1), ["product"]),
    (lambda: PRODUCTS.values("brand").annotate(n=Max("pk")).filter(Q(n=1) | Q(brand=2)), ["product"]),
]


@pytest.mark.parametrize(("make", "expected"), REFINED + COARSE)
def test_an_answer_depends_on(make, expected):
    assert dependencies(make()) == names(*expected)


def test_a_join_that_was_trimmed_does_not_stand_for_a_subquery():
    # The query has an alias of zoo_product that its text does not name, and the text names zoo_product elsewhere.
    queryset = Review.objects.filter(Exists(PRODUCTS.filter(name="x")), product__id=1)

    assert dependencies(queryset) == names("review:product_id=1", "product")


def test_an_operand_left_out_does_not_stand_for_a_subquery():
    left_out = PRODUCTS.filter(pk=1).filter(pk__in=[])
    union = BOOKS.filter(Exists(PRODUCTS.all()), pk=2).only("pk").union(left_out.values_list("pk"))

    assert "zoo_product" in dependencies(union.values_list("pk"))


def test_a_text_of_another_query_is_not_refined_by_this_one():
    query = BOOKS.filter(pk=1).query
    query.get_compiler(connection=connection).as_sql()
    other, _ = BOOKS.filter(pk=1).select_related("series").query.get_compiler(connection=connection).as_sql()

    found = analysis.dependencies(query, other, lambda table: (), "sqlite")

    assert found == names("book", "product")


@isolate_apps()
def test_a_join_of_columns_that_compare_by_conversion_confines_nothing():
    class Loose(Animal):
        code = models.CharField(max_length=9)
        product: Any = ForeignObject(Product, models.DO_NOTHING, ["code"], ["id"], related_name="+")

    confined = Loose.objects.filter(code="3", product__price=1)

    assert "zoo_product" in (dependencies(confined) or ())


def test_several_occurrences_are_refined_if_each_is():
    series = BOOKS.filter(pk=1, series__pk=2, series__series=3)

    assert dependencies(series) == names("book:1", "book:2", "product:1", "product:2")


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        (lambda: PRODUCTS.filter(category=3).count(), ["product:category_id=3"]),
        (lambda: PRODUCTS.filter(category=3).exists(), ["product:category_id=3"]),
        (lambda: PRODUCTS.filter(category=3).distinct().count(), ["product:category_id=3"]),
        (lambda: PRODUCTS.filter(pk=1).union(PRODUCTS.filter(pk=2)).count(), ["product:1", "product:2"]),
        (lambda: PRODUCTS.filter(category=3)[:5].aggregate(Max("price")), ["product:category_id=3"]),
        (lambda: list(Product(pk=5).tags.all()), ["tag", "product_tags:product_id=5"]),
        (lambda: list(instance(Category, pk=5).products.all()), ["product:category_id=5"]),
        (lambda: Product(pk=5, brand_id=2).brand, ["brand:2"]),
        (lambda: prefetch_related_objects([Product(pk=5)], "tags"), ["tag", "product_tags:product_id=5"]),
    ],
)
def test_what_the_orm_asks_depends_on(ask, expected):
    with recorded(DECLARED) as asked, suppress(Brand.DoesNotExist):
        ask()

    assert [one.dependencies for one in asked] == [names(*expected)]


class Plain(Func):
    template = "(SELECT MAX(id) FROM zoo_brand)"


UNCACHEABLE = [
    (PRODUCTS.select_for_update, "locks"),
    (lambda: PRODUCTS.extra(where=["1=1"]), "raw SQL"),
    (lambda: PRODUCTS.extra(select={"x": "1"}), "extra"),
    (lambda: PRODUCTS.extra(tables=["zoo_brand"]), "extra"),
    (lambda: PRODUCTS.annotate(x=RawSQL("1", ())), "raw SQL"),
    (lambda: PRODUCTS.filter(pk__in=[RawSQL("1", ())]), "raw SQL"),
    (lambda: PRODUCTS.filter(Exists(Brand.objects.annotate(x=RawSQL("1", ())).filter(x=1))), "raw SQL"),
    (lambda: PRODUCTS.order_by(RawSQL("1", ())), "raw SQL"),
    (lambda: PRODUCTS.annotate(x=Case(When(RawSQL("1", (), models.BooleanField()), then=1))), "raw SQL"),
    (lambda: PRODUCTS.union(PRODUCTS.extra(where=["1=1"])), "raw SQL"),
    (lambda: PRODUCTS.filter(created__lt=Now()), "STRFTIME"),
    (lambda: PRODUCTS.order_by("?"), "RAND"),
    (lambda: PRODUCTS.annotate(x=Random()), "RAND"),
    (lambda: PRODUCTS.annotate(x=Func(F("pk"), function="stock_of")), "stock_of"),
]


@pytest.mark.parametrize(("make", "reason"), UNCACHEABLE)
def test_what_may_depend_on_more_is_not_cached(make, reason):
    compiler = make().query.get_compiler(connection=connection)
    sql, _ = compiler.as_sql()

    assert reason.lower() in (analysis.why_not(compiler.query, sql) or "").lower()
    assert analysis.dependencies(compiler.query, sql, lambda table: (), "sqlite") is None


def test_tables_named_in_a_template_are_dependencies():
    assert dependencies(PRODUCTS.annotate(x=Plain(output_field=models.IntegerField()))) == names("product", "brand")


def test_text_is_not_refined_where_a_collation_may_find_other_rows():
    assert dependencies(PRODUCTS.filter(name="x"), "mysql") == names("product")
    assert dependencies(PRODUCTS.filter(name="x"), "") == names("product")
    assert dependencies(Tag.objects.filter(pk="x"), "mysql") == names("tag")
    assert dependencies(PRODUCTS.filter(active=True), "mysql") == names("product:active=1")
    assert dependencies(PRODUCTS.filter(active=True), "oracle") == names("product")
    assert dependencies(PRODUCTS.filter(pk=1), "oracle") == names("product:1")


class AlwaysExact(Exact):
    def process_rhs(self, compiler, connection):
        return "1", []


def test_a_lookup_of_a_sites_own_confines_nothing():
    try:
        with register_lookup(models.IntegerField, AlwaysExact):
            assert dependencies(Review.objects.filter(stars=3)) == names("review")
    finally:  # the context manager forgets the lookup, but not that there was another before
        models.IntegerField.register_lookup(IntegerFieldExact)


class OtherQuery(Query):
    pass


def test_a_subclass_of_query_depends_on_tables():
    queryset = PRODUCTS.filter(pk=1)
    queryset.query.__class__ = OtherQuery

    assert dependencies(queryset) == names("product")


@isolate_apps()
def test_a_table_with_a_schema_in_its_name_is_found_wherever_it_stands(monkeypatch):
    class Shelved(Animal):
        class Meta:
            app_label = "zoo"
            db_table = 'main"."zoo_shelved'

    models_known = [*apps.get_models(include_auto_created=True), Shelved]
    monkeypatch.setattr(analysis, "apps", SimpleNamespace(get_models=lambda **kwargs: models_known))

    assert dependencies(Shelved.objects.filter(pk=1)) == {'main"."zoo_shelved'}
    assert dependencies(PRODUCTS.filter(Exists(Shelved.objects.all()), pk=1)) == {
        'main"."zoo_shelved', "zoo_product:1", "zoo_product:*"
    }  # fmt: skip


def test_a_table_that_no_model_has_is_a_dependency():
    class Rows(Func):
        template = "(SELECT COUNT(*) FROM Legacy)"

    assert "Legacy" in (dependencies(PRODUCTS.annotate(x=Rows(output_field=models.IntegerField()))) or ())
