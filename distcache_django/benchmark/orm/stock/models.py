"""Items in groups, with tags. ``../sql/schema.sql`` makes the tables, with the triggers that tell what was written."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class Group(models.Model):
    """Hold some of the items; an item moves now and then."""

    name = models.CharField(max_length=40)

    objects: ClassVar[models.Manager[Group]] = models.Manager()

    class Meta:
        """Name the table of ``schema.sql``."""

        app_label = "stock"
        db_table = "stock_group"

    def __str__(self) -> str:
        return self.name


class Tag(models.Model):
    """Be put on items and taken off again."""

    name = models.CharField(max_length=40)

    objects: ClassVar[models.Manager[Tag]] = models.Manager()

    class Meta:
        """Name the table of ``schema.sql``."""

        app_label = "stock"
        db_table = "stock_tag"

    def __str__(self) -> str:
        return self.name


class Item(models.Model):
    """Carry the number of its committed writes in ``ver``."""

    name = models.CharField(max_length=40)
    ver = models.BigIntegerField()
    group = models.ForeignKey(Group, models.CASCADE, related_name="items")
    tags = models.ManyToManyField(Tag, related_name="items", db_table="stock_item_tags")
    # Said for mypy, whose plugin looks at installed applications only.
    group_id: int

    objects: ClassVar[models.Manager[Item]] = models.Manager()

    class Meta:
        """Name the table of ``schema.sql``."""

        app_label = "stock"
        db_table = "stock_item"

    def __str__(self) -> str:
        return self.name
