"""A writer of a load run: every kind of write, announced in the ledger before it and noted there after COMMIT."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from django.db import DatabaseError, connections, transaction
from django.db.models import F

from tests.freshness.app.models import Item, Label
from tests.freshness.ledger import GONE, Ledger, place_of, version_of, word
from tests.freshness.subjects import Subject
from tests.freshness.tasks import RollBack
from tests.freshness.world import DIRTY, World

Items: Any = Item.objects


class Writer:
    """One process's writes."""

    def __init__(self, subject: Subject, world: World, ledger: Ledger, number: int, seed: str) -> None:
        self._subject, self._world, self._ledger, self._number = subject, world, ledger, number
        self._random = random.Random(seed)
        self._owned = [item for item in range(1, world.items // 2 + 1) if world.owner_of(item) == number]
        self._shared = range(world.items // 2 + 1, world.items + 1)
        self._quiet = [item for item in range(1, world.items + 1) if world.is_quiet(world.shelf_of(item))]
        self._old: dict[int, Any] = {}  # instances that were loaded long ago
        self.counts: Counter[str] = Counter()
        subject.gates.hooks.update(committed=ledger.commit, written=self._commit_if_autocommit)
        self._kinds: list[Callable[[], None]] = [
            self.save, self.save, self.expression, self.raw, self.bulk_update, self.update_shelf, self.move,
            self.move_by_update, self.move_old_instance, self.vanish_or_appear, self.upsert, self.roll_back,
            self.roll_back_savepoint, self.dawdle, self.save_alone, self.update_alone, self.raw_alone, self.label,
        ]  # fmt: skip

    def run(self, seconds: float, pause: float) -> None:
        """Write until the time is over."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            kind = self._random.choice(self._kinds)
            try:
                kind()
                self.counts[kind.__name__] += 1
            except DatabaseError as error:
                self.counts[f"failed: {type(error).__name__}"] += 1
            self._ledger.abandon()
            time.sleep(self._random.random() * 2 * pause)

    def _commit_if_autocommit(self) -> None:
        raw: Any = connections["default"].connection
        if raw.pgconn.transaction_status == 0:
            self._ledger.commit()

    # ------------------------------------------------------------ in a transaction

    @contextmanager
    def _locked(self, items: Sequence[int]) -> Iterator[list[Any]]:
        with transaction.atomic():
            yield list(Items.select_for_update().filter(pk__in=items).order_by("pk"))

    def _announce(self, rows: Sequence[Any], *, shelf: int | None = None) -> None:
        """Announce the next version of locked rows, on the shelf where they are or are going to be."""
        for row in rows:
            self._ledger.begin(row.pk, word(row.price + 1, row.shelf_id if shelf is None else shelf))
        shelves = {row.shelf_id for row in rows} | ({shelf} if shelf else set())
        batches = {row.batch for row in rows}
        self._subject.touched(pks=[row.pk for row in rows], shelves=shelves, batches=batches)

    def _any(self) -> int:
        item: int = self._random.choice([*self._owned, *self._shared])
        return item

    def save(self) -> None:
        with self._locked([self._any()]) as rows:
            for row in rows:
                self._announce([row])
                row.price += 1
                row.save()

    def expression(self) -> None:
        with self._locked([self._any()]) as rows:
            self._announce(rows)
            Items.filter(pk__in=[row.pk for row in rows]).update(price=F("price") + 1)

    def raw(self) -> None:
        with self._locked([self._any()]) as rows, connections["default"].cursor() as cursor:
            self._announce(rows)
            condition = self._random.choice(["id = %s", "id IN (%s, -1)"])
            for row in rows:
                cursor.execute(f"UPDATE stock_item SET price = price + 1 WHERE {condition}", [row.pk])

    def bulk_update(self) -> None:
        with self._locked(self._random.sample(self._shared, 4)) as rows:
            self._announce(rows)
            for row in rows:
                row.price += 1
            Items.bulk_update(rows, ["price"])

    def update_shelf(self) -> None:
        """Change all shared rows of a quiet shelf by one statement that names the shelf."""
        shelf = self._random.randrange(1, self._world.shelves, 2)
        with self._locked([item for item in self._world.on_quiet(shelf) if item in self._shared]) as rows:
            self._announce(rows)
            Items.filter(shelf=shelf, pk__gte=self._shared[0]).update(price=F("price") + 1)

    def dawdle(self) -> None:
        """Take a while between the statement and COMMIT."""
        with self._locked([self._any()]) as rows:
            self._announce(rows)
            Items.filter(pk__in=[row.pk for row in rows]).update(price=F("price") + 1)
            time.sleep(self._random.random() * 0.2)

    def roll_back(self) -> None:
        with suppress(RollBack), self._locked([self._any()]) as rows:
            for row in rows:
                row.price = DIRTY
                row.save()
            raise RollBack

    def roll_back_savepoint(self) -> None:
        with self._locked([self._any()]) as rows:
            with suppress(RollBack), transaction.atomic():
                Items.filter(pk__in=[row.pk for row in rows]).update(price=DIRTY)
                raise RollBack
            self._announce(rows)
            for row in rows:
                row.price += 1
                row.save(update_fields=["price"])

    # ------------------------------------------------------------ rows that move and vanish

    def _mover(self) -> int:
        return self._random.choice([item for item in self._world.movers if item in self._shared])

    def _target(self) -> int:
        return self._random.randrange(2, self._world.shelves + 1, 2)

    def move(self) -> None:
        with self._locked([self._mover()]) as rows:
            for row in rows:
                self._old.setdefault(row.pk, Item(pk=row.pk, shelf_id=row.shelf_id, batch=row.batch))
                shelf = self._target()
                self._announce([row], shelf=shelf)
                row.price, row.shelf_id = row.price + 1, shelf
                row.save()

    def move_by_update(self) -> None:
        with self._locked([self._mover()]) as rows:
            shelf = self._target()
            self._announce(rows, shelf=shelf)
            Items.filter(pk__in=[row.pk for row in rows]).update(price=F("price") + 1, shelf=shelf)

    def move_old_instance(self) -> None:
        """Save an instance that remembers another shelf than the row's."""
        with self._locked([self._mover()]) as rows:
            for row in rows:
                instance = self._old.get(row.pk, row)
                shelf = self._target()
                self._announce([row], shelf=shelf)
                instance._state.adding, instance._state.db = False, "default"
                instance.price, instance.shelf_id = row.price + 1, shelf
                instance.save()

    def vanish_or_appear(self) -> None:
        """Delete a row of one's own, or bring it back; its version goes on."""
        item = self._random.choice([one for one in self._owned if one in self._world.movers])
        state = self._ledger.committed(item)
        version, shelf, batch = version_of(state) + 1, self._target(), item % 10
        with transaction.atomic():
            if place_of(state) == GONE:
                self._ledger.begin(item, word(version, shelf))
                self._subject.touched(pks=[item], shelves=[shelf], batches=[batch])
                Items.create(pk=item, shelf_id=shelf, batch=batch, price=version)
            else:
                self._ledger.begin(item, word(version, GONE))
                self._subject.touched(pks=[item], shelves=[place_of(state)], batches=[batch])
                Items.filter(pk=item).delete() if version % 2 else Items.get(pk=item).delete()

    def upsert(self) -> None:
        """Move a row by ``bulk_create(update_conflicts=True)``."""
        with self._locked([self._mover()]) as rows:
            shelf = self._target()
            self._announce(rows, shelf=shelf)
            made = [Item(pk=row.pk, shelf_id=shelf, batch=row.batch, price=row.price + 1) for row in rows]
            Items.bulk_create(made, update_conflicts=True, unique_fields=["id"], update_fields=["shelf", "price"])

    # ------------------------------------------------------------ without a transaction

    def _own_row(self) -> tuple[int, int, int]:
        """Return a row of one's own that is there, the version it gets, and its shelf."""
        there = [item for item in self._owned if place_of(self._ledger.committed(item)) != GONE]
        item = self._random.choice(there)
        state = self._ledger.committed(item)
        version, shelf = version_of(state) + 1, place_of(state)
        self._ledger.begin(item, word(version, shelf))
        self._subject.touched(pks=[item], shelves=[shelf], batches=[item % 10])
        return item, version, shelf

    def save_alone(self) -> None:
        item, version, shelf = self._own_row()
        Item(pk=item, shelf_id=shelf, batch=item % 10, price=version).save(force_update=True)

    def update_alone(self) -> None:
        item, _, _ = self._own_row()
        Items.filter(pk=item).update(price=F("price") + 1)

    def raw_alone(self) -> None:
        item, version, _ = self._own_row()
        with connections["default"].cursor() as cursor:
            cursor.execute('UPDATE "stock_item" SET price = %s WHERE id = %s', [version, item])

    def label(self) -> None:
        """Give an item a label, or take it away; each label has one writer."""
        labels = [one for one in range(1, self._world.labels + 1) if one % self._world.writers == self._number]
        if not labels:
            return
        label, item = self._random.choice(labels), self._random.choice(self._world.labelled_items)
        slot = self._world.pair(label, item)
        state = self._ledger.committed(slot)
        items: Any = Label.objects.get(pk=label).items
        self._ledger.begin(slot, word(version_of(state) + 1, int(place_of(state) == GONE)))
        with transaction.atomic():
            items.add(item) if place_of(state) == GONE else items.remove(item)


def write_under_load(
    subject: Subject, *, path: str, world: dict[str, int], number: int, seed: str, seconds: float, pause: float
) -> dict[str, int]:
    """Write for some seconds; return what was written."""
    sizes = World(**world)
    writer = Writer(subject, sizes, Ledger(path, sizes.slots, sizes.writers, number), number, seed)
    writer.run(seconds, pause)
    return dict(writer.counts)
