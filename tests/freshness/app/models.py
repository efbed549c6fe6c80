"""Shelves that hold items: a row, a group by a declared foreign key, and a table without a declared column."""

from typing import Any, ClassVar

from django.db import models


class Shelf(models.Model):
    """The group."""

    objects: ClassVar[models.Manager[Any]] = models.Manager()
    name = models.CharField(max_length=40)

    class Meta:
        app_label = "stock"
        db_table = "stock_shelf"

    def __str__(self) -> str:
        return self.name


class Item(models.Model):
    """The row. ``shelf`` is declared in MODELS; ``batch`` is not, so its lists depend on the table."""

    objects: ClassVar[models.Manager[Any]] = models.Manager()
    shelf = models.ForeignKey(Shelf, models.CASCADE, related_name="items")
    price = models.IntegerField(default=0)
    batch = models.IntegerField(default=0)

    class Meta:
        app_label = "stock"
        db_table = "stock_item"

    def __str__(self) -> str:
        return f"item {self.pk}"


class Label(models.Model):
    """What items are given and relieved of: the many-to-many side."""

    objects: ClassVar[models.Manager[Any]] = models.Manager()
    text = models.CharField(max_length=40)
    items = models.ManyToManyField(Item, related_name="labels", db_table="stock_label_items")

    class Meta:
        app_label = "stock"
        db_table = "stock_label"

    def __str__(self) -> str:
        return self.text
