"""The zoo's tables: install the app where the settings do not have it, and create its tables on a connection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db import connections, models
from django.db.models.fields.related import ManyToManyField
from django.test import override_settings

_APP = "tests.support.zoo.apps.ZooConfig"


@contextmanager
def installed() -> Iterator[None]:
    """Have the zoo among the installed apps; nothing changes if the settings already name it."""
    if apps.is_installed("tests.support.zoo"):
        yield
        return
    with override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, _APP]):
        yield


def zoo_models() -> list[type[models.Model]]:
    """Return the models that have tables, parents first; made tables of many-to-many fields come with their model."""
    from tests.support.zoo.models import Book, Brand, Category, Product, Review, Tag

    return [Brand, Category, Tag, Product, Book, Review]


def tables() -> dict[str, type[models.Model]]:
    """Return every model with a table of its own under the table's name, made many-to-many tables included."""
    found = {model._meta.db_table: model for model in zoo_models()}
    for model in zoo_models():
        for field in model._meta.local_many_to_many:
            assert isinstance(field, ManyToManyField)
            through: Any = field.remote_field.through
            found[through._meta.db_table] = through
    return found


def create_tables(using: str = "default") -> None:
    """Create those of the zoo's tables that the database does not have."""
    connection = connections[using]
    present = set(connection.introspection.table_names())
    # SQLite's schema editor refuses to work with foreign keys enforced, and inside a transaction they are.
    with connection.schema_editor() as editor:
        for model in zoo_models():
            if model._meta.db_table not in present:
                editor.create_model(model)


def drop_tables(using: str = "default") -> None:
    """Drop the zoo's tables, children first."""
    with connections[using].schema_editor() as editor:
        for model in reversed(zoo_models()):
            editor.delete_model(model)
