# ruff: noqa: DJ001, DJ008
"""More models of the zoo: a column of every type that Django has on both databases, and one-to-one relations."""

import uuid
from typing import Any

from django.db import models


class Thing(models.Model):
    big = models.BigIntegerField(null=True)
    blob = models.BinaryField(null=True)
    day = models.DateField(null=True)
    decimal = models.DecimalField(max_digits=12, decimal_places=4, null=True)
    document = models.JSONField(null=True)
    duration = models.DurationField(null=True)
    flag = models.BooleanField(null=True)
    ip = models.GenericIPAddressField(null=True)
    moment = models.DateTimeField(null=True)
    number = models.FloatField(null=True)
    slug = models.SlugField(null=True)
    text = models.TextField(default="")
    time = models.TimeField(null=True)
    token = models.UUIDField(default=uuid.uuid4)

    class Meta:
        app_label = "zoo"


class Label(models.Model):
    # Keys of other types, and a relation to a field that is not the key.
    code = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(max_length=40, unique=True)

    class Meta:
        app_label = "zoo"


class Sticker(models.Model):
    thing = models.OneToOneField(Thing, models.CASCADE, primary_key=True, related_name="sticker")
    label = models.ForeignKey(Label, models.CASCADE, to_field="name", related_name="stickers")

    class Meta:
        app_label = "zoo"


class Note(models.Model):
    thing = models.OneToOneField(Thing, models.CASCADE, null=True, related_name="note")
    text = models.TextField(default="")

    class Meta:
        app_label = "zoo"


class Shouting(models.CharField):
    """A field with a conversion of its own."""

    def from_db_value(self, value: str | None, *_: object) -> str | None:
        return None if value is None else value.upper()


class Present(models.Manager["Hidden"]):
    def get_queryset(self) -> "models.QuerySet[Hidden]":
        return super().get_queryset().filter(gone=False)


class Hidden(models.Model):
    """A model whose default manager filters, with a field of the site's own and an initialiser that adds something."""

    name = Shouting(max_length=40)
    gone = models.BooleanField(default=False)

    objects = Present()
    everything = models.Manager["Hidden"]()

    class Meta:
        app_label = "zoo"


class Loaded(models.Model):
    """A model that sees how it is made."""

    name = models.CharField(max_length=40)

    class Meta:
        app_label = "zoo"

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.arguments = args

    @classmethod
    def from_db(cls, db: Any, field_names: Any, values: Any, **kwargs: Any) -> Any:
        new = super().from_db(db, field_names, values, **kwargs)
        vars(new).update(names_loaded=tuple(field_names), values_loaded=tuple(values))
        return new


THINGS: "list[type[models.Model]]" = [Thing, Label, Sticker, Note, Hidden, Loaded]
