"""Writes of every kind over the zoo, each with what it must be reported to touch; and a judge who saw the rows."""

import datetime
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.apps import apps
from django.core.management.color import no_style
from django.db import IntegrityError, connection, models, transaction
from django.db.models import Case, F, GeneratedField, Q, Value, When

from distcache_django.freshness.dependencies import coarse, field, row
from distcache_django.orm.profiles import declared_columns
from distcache_django.orm.values import canonical_from_db, is_refinable
from tests.support.things import Label, Sticker, Thing
from tests.support.zoo import schema
from tests.support.zoo.models import Book, Brand, Category, Cheap, Product, Review, Tag

__all__ = ["DEEDS", "OWN", "Deed", "changed_rows", "populate", "rows_of", "unreported"]


class Entry(models.Model):
    """A row with a key of its own choice, a unique column and a column that the database computes."""

    code = models.CharField(max_length=20, unique=True)
    group = models.IntegerField(null=True)
    amount = models.IntegerField(default=0)
    twice = GeneratedField(expression=F("amount") * 2, output_field=models.IntegerField(), db_persist=True)

    class Meta:
        app_label = "zoo"


OWN: list[type[models.Model]] = [Thing, Label, Sticker, Entry]

if hasattr(models, "DB_CASCADE"):  # Django 6.1

    class Folder(models.Model):
        name = models.CharField(max_length=40)

        class Meta:
            app_label = "zoo"

    class File(models.Model):
        folder = models.ForeignKey(Folder, models.DB_CASCADE)

        class Meta:
            app_label = "zoo"

    class Page(models.Model):
        file = models.ForeignKey(File, models.DB_CASCADE)

        class Meta:
            app_label = "zoo"

    class Bookmark(models.Model):
        page = models.ForeignKey(Page, models.DB_SET_NULL, null=True)

        class Meta:
            app_label = "zoo"

    OWN += [Folder, File, Page, Bookmark]

MODELS: Mapping[str, Any] = {
    "zoo.product": {"by": ["category", "brand"], "ops": ()},
    "zoo.book": {"by": ["series"], "ops": ()},
    # Values of a generated column have no name of their own, however declared.
    "zoo.entry": {"by": ["group", "twice"], "ops": ()},
    "zoo.sticker": {"by": ["label"], "ops": ()},
}

Deed = Callable[[], tuple[Any, set[str]]]
DEEDS: dict[str, Deed] = {}


def tables() -> list[str]:
    """Return every table that deeds write."""
    return [*schema.tables(), *(model._meta.db_table for model in OWN)]


def told(recorder: Any) -> set[str]:
    """Return what a recorder was told is changed, each part of which it was warned of before."""
    marked = {attempt.token: set(attempt.dependencies) for attempt in recorder.marked}
    for names, token in recorder.bumped:
        assert marked[token] == names
    return set().union(*(names for names, _ in recorder.bumped))


def refill() -> None:
    """Put the rows back that deeds start from."""
    connection.ops.execute_sql_flush(connection.ops.sql_flush(no_style(), tables(), reset_sequences=True))
    populate()
    for sql in connection.ops.sequence_reset_sql(no_style(), [*schema.tables().values(), *OWN]):
        with connection.cursor() as cursor:
            cursor.execute(sql)


def deed(function: Deed) -> Deed:
    DEEDS[function.__name__] = function
    return function


def populate() -> None:
    """Fill the tables; products 1 to 3 and book 4, whose row is in two tables."""
    Brand.objects.bulk_create([Brand(id=n, name=f"brand {n}") for n in (1, 2, 3)])
    Category.objects.bulk_create([Category(id=n, name=f"category {n}") for n in (1, 2, 3)])
    Tag.objects.bulk_create([Tag(code=code) for code in ("a", "b", "c")])
    for number, category, brand in ((1, 1, 1), (2, 1, 2), (3, 2, None)):
        Product.objects.create(id=number, name=f"product {number}", category_id=category, brand_id=brand)
    Book.objects.create(id=4, name="book", category_id=2, brand_id=1, pages=100)
    Product.tags.through.objects.bulk_create(
        [Product.tags.through(id=n, product_id=p, tag_id=t) for n, p, t in ((1, 1, "a"), (2, 1, "b"), (3, 2, "a"))]
    )
    Review.objects.bulk_create([Review(id=n, product_id=p, stars=n) for n, p in ((1, 1), (2, 1), (3, 2))])
    Thing.objects.create(id=1, token="00000000-0000-0000-0000-000000000001")
    Label.objects.create(code="00000000-0000-0000-0000-00000000000a", name="red")
    Sticker.objects.create(thing_id=1, label_id="red")
    Entry.objects.bulk_create([Entry(id=n, code=f"e{n}", group=n % 2, amount=n) for n in (1, 2, 3)])
    if hasattr(models, "DB_CASCADE"):
        Folder.objects.create(id=1)
        File.objects.create(id=1, folder_id=1)
        Page.objects.create(id=1, file_id=1)
        Bookmark.objects.create(id=1, page_id=1)


# ---------------------------------------------------------------- what a write touches


def product(pk: int, *, category: Iterable[int] = (), brand: Iterable[int | None] = ()) -> set[str]:
    values = {("category_id", value) for value in category} | {("brand_id", value) for value in brand}
    return {"zoo_product", row("zoo_product", str(pk)), *_fields("zoo_product", values)}


def entry(pk: int, *, group: Iterable[int | None]) -> set[str]:
    return {"zoo_entry", row("zoo_entry", str(pk)), *_fields("zoo_entry", {("group", value) for value in group})}


def link(pk: int, product_id: int, tag: str) -> set[str]:
    table = "zoo_product_tags"
    return {table, row(table, str(pk)), *_fields(table, {("product_id", product_id), ("tag_id", tag)})}


def plain(table: str, *keys: object) -> set[str]:
    return {table, *(row(table, str(key)) for key in keys)}


def _fields(table: str, values: Iterable[tuple[str, object]]) -> set[str]:
    return {field(table, column, None if value is None else str(value)) for column, value in values}


# ---------------------------------------------------------------- INSERT


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
    made = Label.objects.create(name="green")
    return made.name, plain("zoo_label", made.pk)


@deed
def create_with_a_relation_for_a_key() -> tuple[Any, set[str]]:
    thing = Thing.objects.create()
    Sticker.objects.create(thing=thing, label_id="red")
    return None, plain("zoo_thing", thing.pk) | {*plain("zoo_sticker", thing.pk), "zoo_sticker:label_id=red"}


@deed
def create_child() -> tuple[Any, set[str]]:
    made = Book.objects.create(name="new", category_id=1, pages=3)
    touched = product(made.pk, category=[1], brand=[None]) | plain("zoo_book", made.pk)
    return made.pages, touched | _fields("zoo_book", {("series_id", None)})


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


# ---------------------------------------------------------------- UPDATE


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
    return None, touched | _fields("zoo_book", {("series_id", None)})


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
    return Book.objects.filter(pages=100).update(category=3, pages=1), touched | _fields(
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


# ---------------------------------------------------------------- DELETE


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
        return cursor.rowcount, coarse({"zoo_product"})


@deed
def cursor_insert_many() -> tuple[Any, set[str]]:
    with connection.cursor() as cursor:
        cursor.executemany('insert into "zoo_brand" (id, name) values (%s, %s)', [(51, "x"), (52, "y")])
    return None, coarse({"zoo_brand"})


# ---------------------------------------------------------------- the judge


def rows_of(tables: Iterable[str]) -> dict[str, dict[Any, dict[str, Any]]]:
    """Return what the tables hold, unseen by anything of Django's: by table and key, the values by column."""
    connection.ensure_connection()
    found: dict[str, dict[Any, dict[str, Any]]] = {}
    for table in tables:
        cursor: Any = connection.connection.cursor()
        cursor.execute(f'SELECT * FROM "{table}"')  # noqa: S608
        names = [column[0] for column in cursor.description]
        key = _key_of(table)
        found[table] = {each[names.index(key)]: dict(zip(names, each, strict=True)) for each in cursor.fetchall()}
        cursor.close()
    return found


def _model_of(table: str) -> type[models.Model]:
    known = apps.get_models(include_auto_created=True)
    return next(model for model in known if model._meta.db_table == table and not model._meta.proxy)


def _key_of(table: str) -> str:
    return str(_model_of(table)._meta.pk.column)  # type: ignore[union-attr]


Change = tuple[str, Any, list[dict[str, Any]]]


def changed_rows(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Return each row that is not what it was: table, key, and its versions."""
    return [
        (table, key, [version for version in (before[table].get(key), after[table].get(key)) if version is not None])
        for table in before
        for key in before[table].keys() | after[table].keys()
        if before[table].get(key) != after[table].get(key)
    ]


def unreported(changes: Iterable[Change], told: set[str]) -> list[str]:
    """Return what a reader may depend on that has changed and was not reported."""
    missing = []
    for table, key, versions in changes:
        if coarse({table}) <= told:
            continue
        columns = {each.column: each for each in _model_of(table)._meta.local_concrete_fields}
        wanted = {table, row(table, canonical_from_db(columns[_key_of(table)], key))}
        for version in versions:
            for name in declared_columns(table):
                if not is_refinable(columns[name]):
                    continue
                value = version[name]
                wanted.add(field(table, name, None if value is None else canonical_from_db(columns[name], value)))
        missing += sorted(wanted - told)
    return missing
