"""The rows that deeds start from, what the nodes were told of a deed, and a judge who saw the rows."""

from collections.abc import Iterable, Mapping
from typing import Any

from django.apps import apps
from django.core.management.color import no_style
from django.db import connection, models

from distcache_django.freshness.dependencies import coarse, field, row, value_epoch
from distcache_django.orm.profiles import declared_columns
from distcache_django.orm.values import canonical_from_db, is_refinable
from tests.support.deeds import models as own
from tests.support.deeds.models import OWN, Entry
from tests.support.things import Label, Sticker, Thing
from tests.support.zoo import schema
from tests.support.zoo.models import Book, Brand, Category, Product, Review, Tag

__all__ = ["changed_rows", "populate", "refill", "rows_of", "tables", "told", "unreported"]


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
    Thing._default_manager.create(id=1, token="00000000-0000-0000-0000-000000000001")
    Label._default_manager.create(code="00000000-0000-0000-0000-00000000000a", name="red")
    Sticker._default_manager.create(thing_id=1, label_id="red")
    Entry.objects.bulk_create([Entry(id=n, code=f"e{n}", group=n % 2, amount=n) for n in (1, 2, 3)])
    if hasattr(models, "DB_CASCADE"):
        own.Folder.objects.create(id=1)
        own.File.objects.create(id=1, folder_id=1)
        own.Page.objects.create(id=1, file_id=1)
        own.Bookmark.objects.create(id=1, page_id=1)


def rows_of(tables: Iterable[str]) -> dict[str, dict[Any, dict[str, Any]]]:
    """Return what the tables hold, unseen by anything of Django's: by table and key, the values by column."""
    connection.ensure_connection()
    found: dict[str, dict[Any, dict[str, Any]]] = {}
    for table in tables:
        cursor: Any = connection.connection.cursor()
        cursor.execute(f'SELECT * FROM "{table}"')
        names = [column[0] for column in cursor.description]
        key = _key_of(table)
        found[table] = {each[names.index(key)]: dict(zip(names, each, strict=True)) for each in cursor.fetchall()}
        cursor.close()
    return found


def _model_of(table: str) -> type[models.Model]:
    known = apps.get_models(include_auto_created=True)
    return next(model for model in known if model._meta.db_table == table and not model._meta.proxy)


def _key_of(table: str) -> str:
    return str(_model_of(table)._meta.pk.column)


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
        for version in () if value_epoch(table) in told else versions:
            for name in declared_columns(table):
                if not is_refinable(columns[name]):
                    continue
                value = version[name]
                wanted.add(field(table, name, None if value is None else canonical_from_db(columns[name], value)))
        missing += sorted(wanted - told)
    return missing
