"""Make the shop's rows from a seed: the same seed and size give the same shop, on every machine."""

import datetime
import itertools
import random
from collections.abc import Iterator
from decimal import Decimal

from example_project.shop import plan
from example_project.shop.models import Brand, Category, Customer, Inventory, Order, OrderLine, Price, Product

FIRST_DAY = datetime.date(2020, 1, 1)


class ShopRows:
    """The rows of one shop, in an order that satisfies foreign keys. Keys count from 1."""

    def __init__(self, size: plan.ShopSize, seed: int) -> None:
        self.size = size
        self._seed = seed

    def _random(self, kind: str) -> random.Random:
        # One stream per kind: adding a column to one kind leaves the other rows as they were.
        return random.Random(f"{self._seed}:{kind}")

    def categories(self) -> Iterator[Category]:
        """Shelves, named by room and thing."""
        return (Category(pk=pk, name=name) for pk, name in _named(self.size.categories, plan.ROOMS, plan.THINGS))

    def brands(self) -> Iterator[Brand]:
        """Makers."""
        return (Brand(pk=pk, name=name) for pk, name in _named(self.size.brands, plan.MAKERS, plan.LAST_NAMES))

    def products(self) -> Iterator[Product]:
        """Products: each shelf and each maker gets some, big and small ones."""
        rng = self._random("products")
        for pk in range(1, self.size.products + 1):
            quality, material, thing = (
                rng.choice(plan.QUALITIES),
                rng.choice(plan.MATERIALS),
                rng.choice(plan.THINGS),
            )
            yield Product(
                pk=pk,
                name=f"{quality} {material} {thing} {pk}",
                sku=f"SH-{pk:06d}",
                description=f"A {quality.lower()} {thing.lower()} in {material.lower()}, made for every day.",
                category_id=_skewed(rng, self.size.categories),
                brand_id=_skewed(rng, self.size.brands),
            )

    def prices(self) -> Iterator[Price]:
        """Between one and eight prices for each product, cheaper by the piece in bigger packs."""
        rng = self._random("prices")
        for pk in range(1, self.size.products + 1):
            single = Decimal(rng.randrange(199, 49_999)) / 100
            for position in range(1, 1 + plan.price_count(pk)):
                yield Price(
                    product_id=pk,
                    position=position,
                    label=plan.LABELS[position - 1],
                    amount=(single * (100 - 5 * (position - 1)) / 100).quantize(Decimal("0.01")),
                    is_available=rng.random() < 0.95,
                )

    def inventory(self) -> Iterator[Inventory]:
        """A stock for each product; one in twenty is sold out."""
        rng = self._random("inventory")
        for pk in range(1, self.size.products + 1):
            quantity = 0 if rng.random() < 0.05 else rng.randrange(5, 500)
            yield Inventory(
                product_id=pk,
                quantity=quantity,
                shelf=f"{rng.choice('ABCDEFGH')}-{rng.randrange(1, 100):02d}",
            )

    def customers(self) -> Iterator[Customer]:
        """People."""
        rng = self._random("customers")
        for pk in range(1, self.size.customers + 1):
            first, last = rng.choice(plan.FIRST_NAMES), rng.choice(plan.LAST_NAMES)
            yield Customer(
                pk=pk,
                name=f"{first} {last}",
                email=f"{first}.{last}.{pk}@example.com".lower(),
                city=rng.choice(plan.CITIES),
                joined=FIRST_DAY + datetime.timedelta(days=rng.randrange(1_800)),
            )

    def orders(self) -> Iterator[tuple[Order, list[OrderLine]]]:
        """Orders of one to four lines."""
        rng = self._random("orders")
        midnight = datetime.datetime.combine(FIRST_DAY, datetime.time(), datetime.UTC)
        for pk in range(1, self.size.orders + 1):
            lines = [
                OrderLine(
                    order_id=pk,
                    product_id=rng.randint(1, self.size.products),
                    quantity=rng.randint(1, 3),
                    unit_amount=Decimal(rng.randrange(199, 49_999)) / 100,
                )
                for _ in range(rng.randint(1, 4))
            ]
            yield (
                Order(
                    pk=pk,
                    customer_id=rng.randint(1, self.size.customers),
                    placed=midnight + datetime.timedelta(minutes=rng.randrange(2_500_000)),
                    status=rng.choice(Order.Status.values),
                    total=sum((line.quantity * line.unit_amount for line in lines), Decimal(0)),
                ),
                lines,
            )


def _named(count: int, first: list[str], second: list[str]) -> Iterator[tuple[int, str]]:
    combinations = (f"{one} {two}" for two, one in itertools.product(second, first))
    for pk in range(1, count + 1):
        name = next(combinations, "")
        yield pk, name or f"{first[pk % len(first)]} {pk}"


def _skewed(rng: random.Random, count: int) -> int:
    """Draw 1…count, low numbers more often: the biggest shelf holds about twice the mean."""
    return 1 + min(int(count * rng.random() ** 1.5), count - 1)
