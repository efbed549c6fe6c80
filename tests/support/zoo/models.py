"""The zoo's models: self and nullable foreign keys, many-to-many, inheritance with tables of its own, and a proxy.

Only the database's constraints that the generated writes cannot trip over are declared: no unique fields.
"""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.db import models


class Animal(models.Model):
    """What all have in common; the manager is named so that type checkers know it of an app that is not installed."""

    objects: ClassVar[models.Manager[Any]] = models.Manager()

    class Meta:
        app_label = "zoo"
        abstract = True

    def __str__(self) -> str:
        return f"{type(self).__name__} {self.pk}"


class Brand(Animal):
    name = models.CharField(max_length=40)
    country = models.SlugField(max_length=20, null=True)  # noqa: DJ001 - NULL is what is tried


class Category(Animal):
    name = models.CharField(max_length=40)
    parent = models.ForeignKey("self", models.CASCADE, null=True, related_name="children")

    class Meta(Animal.Meta):
        ordering = ("name", "pk")


class Tag(Animal):
    # A key that is no number.
    code = models.CharField(max_length=20, primary_key=True)
    label = models.TextField(default="")


class Product(Animal):
    name = models.CharField(max_length=40)
    category = models.ForeignKey(Category, models.CASCADE, related_name="products")
    brand = models.ForeignKey(Brand, models.SET_NULL, null=True, related_name="products")
    tags = models.ManyToManyField(Tag, related_name="products")
    price = models.DecimalField(max_digits=8, decimal_places=2, default=0)
    active = models.BooleanField(default=True)
    released = models.DateField(null=True)
    created = models.DateTimeField(null=True)
    uuid = models.UUIDField(default=uuid.uuid4)


class Cheap(Product):
    """A proxy: another class for the same table."""

    class Meta:
        app_label = "zoo"
        proxy = True


class Book(Product):
    """A child with a table of its own, beside its parent's."""

    pages = models.PositiveIntegerField(default=0)
    series = models.ForeignKey("self", models.SET_NULL, null=True, related_name="volumes")

    class Meta:
        app_label = "zoo"


class Review(Animal):
    product = models.ForeignKey(Product, models.CASCADE, related_name="reviews")
    author_country = models.CharField(max_length=20, null=True)  # noqa: DJ001 - NULL is what is tried
    stars = models.IntegerField(null=True)
    text = models.TextField(default="")
