"""Invalidate what was saved or deleted through the admin, a form or a shell.

Bulk updates send no signals: the functions in `writes` that use them invalidate by themselves.
"""

from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import Model
from django.db.models.signals import post_delete, post_save

from example_project.shop import catalogue
from example_project.shop.models import Brand, Category, Customer, Inventory, Order, Price, Product


def connect() -> None:
    """Listen to the models whose rows are cached."""
    for model in (Product, Price, Inventory, Brand, Category, Customer, Order):
        for signal in (post_save, post_delete):
            signal.connect(_invalidate, sender=model)


def _invalidate(sender: type[Model], instance: Model, using: str, **_: Any) -> None:
    rows = catalogue.customers if sender in {Customer, Order} else catalogue.products
    transaction.on_commit(partial(rows.invalidate, _rows_of(instance)), using=using)


def _rows_of(instance: Model) -> list[int]:
    match instance:
        case Price() | Inventory():
            return [instance.product_id]
        case Order():
            return [instance.customer_id]
        case Brand() | Category():
            return list(instance.products.values_list("pk", flat=True))
        case _:
            return [instance.pk]
