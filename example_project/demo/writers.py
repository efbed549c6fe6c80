"""A writer: a process that changes prices and stock as the site's own code does, and notes each COMMIT in the ledger.

It runs with the site's settings, and does nothing about the cache. It reads its orders as one JSON object from
standard input, writes until that is closed, and prints what it has done as JSON.
"""

import json
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import django
from django.db import connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, QuerySet

from example_project.demo import traffic
from example_project.demo.ledger import STOCK, UNDONE, Debt, Ledger, Revisions
from example_project.demo.pages import SHOWING_PRICES, PathFinder, Visit

# How many of a thousand writes are of each kind.
MIX = {"price": 480, "stock": 410, "brand": 20, "rollback": 60, "savepoint": 30}
# Now and then each writer makes a write whose rows are not named, which ends all answers about its table: a category
# has too many prices, SQL through a cursor tells none. By column: what, which is the first, how many until the next.
COARSE = (("category", 30, 620), ("sql", 20, 620))
# Stock is written as it is wanted, by sales; of the other writes so many, the rest is spread over the shop.
POPULAR_SHARE = 0.3
KEPT_ERRORS = 5
# A transaction that is going to be undone stays open for so many seconds, for others to read beside it.
HESITATION = 0.01
FACTORS = (Decimal("0.95"), Decimal("1.05"))


@dataclass(frozen=True, slots=True)
class Orders:
    """What to write and where to note it."""

    ledger: str
    columns: int
    column: int
    products: int
    seed: int
    per_second: float


class Undone(Exception):
    """Ends a block whose writes are not to be."""


class Writer:
    """Write one thing at a time; one thread uses it."""

    def __init__(self, orders: Orders, ledger: Ledger, stop: threading.Event) -> None:
        from distcache_django.freshness.service import freshness  # noqa: PLC0415 (Django is set up by now, not before)
        from example_project.shop import models  # noqa: PLC0415

        self._orders = orders
        self._ledger = ledger
        self._stop = stop
        self._freshness = freshness()
        self._prices = models.Price.objects
        self._stock = models.Inventory.objects
        self._products = models.Product.objects
        self._random = random.Random(f"{orders.seed}:writer:{orders.column}")
        self._sql = Path(__file__).with_name("restock.sql").read_text()
        self._written: Revisions = {}
        self._unwarned = 0
        self._position = 1
        self.counts: Counter[str] = Counter()
        self.errors: list[str] = []

    def run(self) -> None:
        """Write at the rate ordered until told to stop. Time that was lost is not made up for."""
        chosen = self._choices()
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due = max(due, time.monotonic() - 1) + 1 / self._orders.per_second
            kind, product, position = next(chosen)
            self._position = position
            try:
                self._write(kind, product)
            except Exception as error:  # noqa: BLE001 (counted, and the report fails)
                self.counts["failed"] += 1
                self.errors[KEPT_ERRORS - 1 :] = []
                self.errors.append(f"{kind}: {type(error).__name__}: {error}")

    def _choices(self) -> Iterator[tuple[str, int, int]]:
        """Give kinds of writes, products and positions of prices."""
        paths = PathFinder(self._orders.products)
        kinds, shares = list(MIX), list(MIX.values())
        coarse, first, every = COARSE[self._orders.column % len(COARSE)]
        wanted = (visit for visit in traffic.drawn(self._random.randrange(2**32)) if visit.kind in SHOWING_PRICES)
        for number, visit in enumerate(wanted):
            kind = coarse if number % every == first else self._random.choices(kinds, shares)[0]
            is_popular = kind == "stock" or self._random.random() < POPULAR_SHARE
            product = paths.product(visit) if is_popular else self._random.randint(1, self._orders.products)
            yield kind, product, paths.position(Visit("price", product, visit.position))

    def _write(self, kind: str, product: int) -> None:
        self._unwarned = self._freshness.counts()["mark_failures"]
        getattr(self, f"_write_{kind}")(product)
        self.note()  # what was written in autocommit
        self.counts[kind] += 1
        # A node is used again, and so called up, when it has been told all that it missed.
        if all(member.is_up for member in self._freshness.runtime.cluster.members().values()):
            self._ledger.settle(os.getpid(), 0)

    def note(self) -> None:
        """Put what was written into the ledger; to be called when COMMIT has returned."""
        if self._written:
            is_warned = self._freshness.counts()["mark_failures"] == self._unwarned
            self._ledger.commit(self._written, None if is_warned else Debt(os.getpid()))
            self.counts["rows"] += len(self._written)
            self.counts["unwarned"] += not is_warned
        self._written = {}

    def report(self) -> dict[str, Any]:
        """Say what was done."""
        cache = self._freshness.counts()
        return {"pid": os.getpid(), "counts": dict(self.counts), "cache": cache, "error_samples": self.errors}

    def _amount(self) -> Decimal:
        return Decimal(self._random.randrange(100, 50_000)) / 100

    # ------------------------------------------------------------ kinds

    def _write_price(self, product: int) -> None:
        """Save an instance."""
        with transaction.atomic():
            price = self._prices.select_for_update().get(product=product, position=self._position)
            price.amount = self._amount()
            price.save()
            self._written = {(product, price.position): price.revision}

    def _write_stock(self, product: int) -> None:
        """Sell a piece, or take in ten, by an expression."""
        pieces = self._random.choice([-1, -1, -1, 10])
        with transaction.atomic():
            found = self._stock.filter(product=product)
            found.update(quantity=F("quantity") + pieces, revision=F("revision") + 1)
            self._written = {(product, STOCK): found.values_list("revision", flat=True).get()}

    def _write_brand(self, product: int) -> None:
        """Change the first price of all products of a brand: some dozen rows."""
        brand = self._products.filter(pk=product).values_list("brand", flat=True).get()
        self._reprice(self._products.filter(brand=brand))

    def _write_category(self, product: int) -> None:
        """Change the first price of all products of a category."""
        category = self._products.filter(pk=product).values_list("category", flat=True).get()
        self._reprice(self._products.filter(category=category))

    def _reprice(self, products: QuerySet[Any]) -> None:
        factor = self._random.choice(FACTORS)
        with transaction.atomic():
            found = self._prices.filter(product__in=products, position=1)
            # In one order, so that writers of the same rows wait for each other and never deadlock.
            keys = list(found.select_for_update().order_by("product_id").values_list("pk", flat=True))
            self._prices.filter(pk__in=keys).update(amount=F("amount") * factor, revision=F("revision") + 1)
            rows = self._prices.filter(pk__in=keys).values_list("product_id", "revision")
            self._written = {(product, 1): revision for product, revision in rows}

    def _write_sql(self, product: int) -> None:
        """Send SQL through a cursor, in autocommit."""
        with connection.cursor() as cursor:
            cursor.execute(self._sql, [self._random.randrange(500), product])
            ((revision,),) = cursor.fetchall()
        self._written = {(product, STOCK): revision}

    def _write_rollback(self, product: int) -> None:
        """Change a price and roll back; what it read of its own must not have got into the cache."""
        try:
            with transaction.atomic():
                self._spoil(product)
                time.sleep(HESITATION)
                raise Undone
        except Undone:
            self.counts["undone"] += 1

    def _write_savepoint(self, product: int) -> None:
        """Change a price, and undo another change in a savepoint before COMMIT."""
        with transaction.atomic():
            price = self._prices.select_for_update().get(product=product, position=1)
            price.amount = self._amount()
            price.save()
            try:
                with transaction.atomic():
                    self._spoil(product)
                    raise Undone
            except Undone:
                self.counts["undone"] += 1
            self._written = {(product, 1): price.revision}

    def _spoil(self, product: int) -> None:
        found = self._prices.filter(product=product, position=1)
        found.update(revision=F("revision") + UNDONE)
        if self._prices.get(product=product, position=1).revision < UNDONE:
            raise AssertionError("a transaction does not see its own write")


def call_after_commits(call: Callable[[], None]) -> None:
    """Wrap Django's own COMMIT, below what the cache wraps, so that the ledger knows of it before the cache does.

    Connections that are opened later take it up.
    """
    wrapper: Any = BaseDatabaseWrapper
    commit = wrapper._commit

    def _commit(self: BaseDatabaseWrapper) -> None:
        commit(self)
        call()

    wrapper._commit = _commit


def _stop_at_end_of_orders(stop: threading.Event) -> None:
    sys.stdin.read()
    stop.set()


def main() -> int:
    """Write what the orders say and report it."""
    orders = Orders(**json.loads(sys.stdin.readline()))
    django.setup()
    stop = threading.Event()
    threading.Thread(target=_stop_at_end_of_orders, args=[stop], name="orders", daemon=True).start()
    writer = Writer(orders, Ledger(orders.ledger, orders.products, orders.columns, orders.column), stop)
    call_after_commits(writer.note)
    writer.run()
    sys.stdout.write(json.dumps(writer.report()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
