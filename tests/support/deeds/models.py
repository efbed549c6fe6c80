"""Models that the zoo lacks: unique and generated columns, and, on Django 6.1, what the database deletes by itself."""

from collections.abc import Mapping
from typing import Any, ClassVar

from django.db import models
from django.db.models import F, GeneratedField

from tests.support.things import Label, Sticker, Thing

__all__ = ["MODELS", "OWN", "Entry"]


class Entry(models.Model):
    """A row with a unique column, and one that the database computes."""

    objects: ClassVar[models.Manager[Any]] = models.Manager()
    code = models.CharField(max_length=20, unique=True)
    group = models.IntegerField(null=True)
    amount = models.IntegerField(default=0)
    twice = GeneratedField(expression=F("amount") * 2, output_field=models.IntegerField(), db_persist=True)

    class Meta:
        app_label = "zoo"

    def __str__(self) -> str:
        return f"entry {self.pk}"


OWN: list[type[models.Model]] = [Thing, Label, Sticker, Entry]

if hasattr(models, "DB_CASCADE"):  # Django 6.1

    class Folder(models.Model):
        objects: ClassVar[models.Manager[Any]] = models.Manager()
        name = models.CharField(max_length=40)

        class Meta:
            app_label = "zoo"

        def __str__(self) -> str:
            return f"folder {self.pk}"

    class File(models.Model):
        objects: ClassVar[models.Manager[Any]] = models.Manager()
        folder = models.ForeignKey(Folder, models.DB_CASCADE)

        class Meta:
            app_label = "zoo"

        def __str__(self) -> str:
            return f"file {self.pk}"

    class Page(models.Model):
        objects: ClassVar[models.Manager[Any]] = models.Manager()
        file = models.ForeignKey(File, models.DB_CASCADE)

        class Meta:
            app_label = "zoo"

        def __str__(self) -> str:
            return f"page {self.pk}"

    class Bookmark(models.Model):
        objects: ClassVar[models.Manager[Any]] = models.Manager()
        page = models.ForeignKey(Page, models.DB_SET_NULL, null=True)

        class Meta:
            app_label = "zoo"

        def __str__(self) -> str:
            return f"bookmark {self.pk}"

    OWN += [Folder, File, Page, Bookmark]

MODELS: Mapping[str, Any] = {
    "zoo.product": {"by": ["category", "brand"], "ops": ()},
    "zoo.book": {"by": ["series"], "ops": ()},
    # Values of a generated column have no name of their own, however declared.
    "zoo.entry": {"by": ["group", "twice"], "ops": ()},
    "zoo.sticker": {"by": ["label"], "ops": ()},
}
