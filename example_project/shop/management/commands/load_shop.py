"""`manage.py load_shop`: fill the shop with generated rows."""

import itertools
import time
from argparse import ArgumentParser
from collections.abc import Iterable
from typing import Any, TypeVar

from django.core.management.base import BaseCommand, CommandError
from django.core.management.color import no_style
from django.db import connection, transaction
from django.db.models import Model

from example_project.shop.generated import ShopRows
from example_project.shop.models import Brand, Category, Customer, Inventory, Order, OrderLine, Price, Product
from example_project.shop.plan import ShopSize

Row = TypeVar("Row", bound=Model)
BATCH_SIZE = 2000
TABLES: tuple[type[Model], ...] = (OrderLine, Order, Customer, Inventory, Price, Product, Brand, Category)


class Command(BaseCommand):
    """Fill the shop with products, prices, stock, customers and orders made from a seed."""

    help = "Fill the shop with generated rows; the same seed and size give the same shop."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the size and the seed."""
        parser.add_argument("--products", type=int, default=2_000, help="how many products (default: %(default)s)")
        parser.add_argument("--seed", type=int, default=1, help="what the rows are made from (default: %(default)s)")
        parser.add_argument("--replace", action="store_true", help="delete what the shop holds, orders included")

        parser.add_argument("--if-empty", action="store_true", help="leave a shop of just so many products as it is")

    def handle(self, *args: Any, **options: Any) -> None:
        """Load all rows in one transaction, or none."""
        if not 1 <= options["products"] <= 999_999:
            raise CommandError("--products must be between 1 and 999999")
        if options["if_empty"] and Product.objects.count() == options["products"]:
            self.stdout.write("The shop has its products.")
            return
        started = time.monotonic()
        with transaction.atomic():
            self._make_room(options["replace"])
            counts = _load(ShopRows(ShopSize(options["products"]), options["seed"]))
            _restart_sequences()
        listed = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        self.stdout.write(f"Loaded {listed} in {time.monotonic() - started:.1f} s.")

    def _make_room(self, replace: bool) -> None:
        if Product.objects.exists() and not replace:
            raise CommandError("The shop already has products: pass --replace to delete all it holds.")
        for model in TABLES if replace else ():
            model._default_manager.all().delete()


def _load(rows: ShopRows) -> dict[str, int]:
    counts = {
        "categories": _insert(Category, rows.categories()),
        "brands": _insert(Brand, rows.brands()),
        "products": _insert(Product, rows.products()),
        "prices": _insert(Price, rows.prices()),
        "stocks": _insert(Inventory, rows.inventory()),
        "customers": _insert(Customer, rows.customers()),
        "orders": 0,
        "order lines": 0,
    }
    orders = rows.orders()
    while batch := list(itertools.islice(orders, BATCH_SIZE)):
        counts["orders"] += _insert(Order, (order for order, _ in batch))
        counts["order lines"] += _insert(OrderLine, (line for _, lines in batch for line in lines))
    return counts


def _insert(model: type[Row], rows: Iterable[Row]) -> int:
    pending = iter(rows)
    count = 0
    while batch := list(itertools.islice(pending, BATCH_SIZE)):
        count += len(model._default_manager.bulk_create(batch, batch_size=BATCH_SIZE))
    return count


def _restart_sequences() -> None:
    # Rows came with their keys; the database must count on from there.
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), TABLES):
            cursor.execute(statement)
