"""A reader of a load run: reads in every shape and judges each answer by what was committed before it asked."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from django.db import connections
from django.db.models import Sum

from tests.freshness.app.models import Item
from tests.freshness.ledger import GONE, Ledger, place_of, version_of
from tests.freshness.subjects import Subject
from tests.freshness.world import DIRTY, World

Items: Any = Item.objects


class Reader:
    """One thread's reads."""

    def __init__(self, subject: Subject, world: World, ledger: Ledger, seed: str) -> None:
        self._subject, self._world, self._ledger = subject, world, ledger
        self._random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.stale: list[str] = []
        self.oldest = 0.0
        self._shapes: list[Callable[[], None]] = [
            *[self.read_item] * 10,
            *[self.read_shelf] * 5,
            *[self.read_sum] * 3,
            self.read_batch,
            self.read_label,
            self.read_join,
        ]

    def run(self, seconds: float) -> None:
        """Read until the time is over."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            self._random.choice(self._shapes)()
            self.counts["reads"] += 1
        connections.close_all()

    # ------------------------------------------------------------ shapes

    def read_item(self) -> None:
        """Get a row; half of the time one of ten hot ones."""
        item = self._random.randint(1, 10 if self._random.random() < 0.5 else self._world.items)
        floor, asked = self._ledger.committed(item), time.monotonic_ns()

        def load() -> list[int] | None:
            found = Items.filter(pk=item).first() if item % 3 == 0 else _get(item)
            return found and [found.price, found.shelf_id]

        seen = self._subject.read(f"get:{item}", load)
        if seen is not None:
            self._judge_present("get", item, floor, seen[0], seen[1], asked)
        elif place_of(floor) != GONE:
            self._judge_absent("get", item, floor, asked)

    def read_shelf(self) -> None:
        """List a group by its declared column."""
        shelf = self._random.randint(1, self._world.shelves)
        candidates = self._world.on_quiet(shelf) if self._world.is_quiet(shelf) else self._world.movers
        rows = Items.filter(shelf=shelf).order_by("pk")
        self._read_list(f"list:{shelf}", candidates, shelf, lambda: [[row.pk, row.price] for row in rows])

    def read_batch(self) -> None:
        """List rows by a column that is not declared: the answer depends on the table."""
        batch = self._random.randint(0, 9)
        candidates = [item for item in range(1, self._world.items + 1) if item % 10 == batch]
        rows = Items.filter(batch=batch).values_list("pk", "price")
        self._read_list(f"table:{batch}", candidates, None, lambda: [list(row) for row in rows])

    def read_join(self) -> None:
        """List a quiet group by a column of another table."""
        shelf = self._random.randrange(1, self._world.shelves, 2)
        rows = Items.filter(shelf__name=f"shelf {shelf}").select_related("shelf")
        self._read_list(f"join:{shelf}", self._world.on_quiet(shelf), shelf, lambda: [[r.pk, r.price] for r in rows])

    def _read_list(self, key: str, candidates: Iterable[int], shelf: int | None, load: Callable[[], Any]) -> None:
        floors, asked = {item: self._ledger.committed(item) for item in candidates}, time.monotonic_ns()
        seen = dict(self._subject.read(key, load))
        for item, floor in floors.items():
            if item in seen:
                self._judge_present(key, item, floor, seen[item], shelf, asked)
            elif place_of(floor) == shelf or (shelf is None and place_of(floor) != GONE):
                self._judge_absent(key, item, floor, asked)

    def read_sum(self) -> None:
        """Add up a quiet group: versions only grow."""
        shelf = self._random.randrange(1, self._world.shelves, 2)
        items = self._world.on_quiet(shelf)
        floors, asked = {item: self._ledger.committed(item) for item in items}, time.monotonic_ns()
        rows = Items.filter(shelf_id=shelf)
        seen = self._subject.read(f"sum:{shelf}", lambda: rows.aggregate(total=Sum("price"))["total"])
        if seen < sum(map(version_of, floors.values())):
            newest = max(floors, key=lambda item: -self._ledger.age(item, floors[item], asked))
            self._note("sum", newest, floors[newest], seen, asked)
        elif seen >= DIRTY or seen > sum(version_of(self._ledger.announced(item)) for item in items):
            self._note("dirty", shelf, 0, seen, asked)

    def read_label(self) -> None:
        """List the other side of a many-to-many relation."""
        label = self._random.randint(1, self._world.labels)
        slots = {item: self._world.pair(label, item) for item in self._world.labelled_items}
        floors, asked = {item: self._ledger.committed(slot) for item, slot in slots.items()}, time.monotonic_ns()
        rows = Items.filter(labels=label).values_list("pk", flat=True)
        seen = set(self._subject.read(f"label:{label}", lambda: list(rows)))
        for item, slot in slots.items():
            if (item in seen) != (place_of(floors[item]) != GONE):
                self._judge_absent("label", slot, floors[item], asked)

    # ------------------------------------------------------------ judging

    def _judge_present(self, shape: str, item: int, floor: int, price: int, shelf: int | None, asked: int) -> None:
        is_older = price < version_of(floor)
        is_elsewhere = price == version_of(floor) and shelf is not None and place_of(floor) != shelf
        if is_older or is_elsewhere:
            self._note(shape, item, floor, [price, shelf], asked)
        elif price > version_of(self._ledger.announced(item)):
            self._note("dirty", item, floor, [price, shelf], asked)

    def _judge_absent(self, shape: str, slot: int, floor: int, asked: int) -> None:
        """What was certainly there, or certainly not, may be otherwise only by a write that was under way."""
        if version_of(self._ledger.announced(slot)) <= version_of(floor):
            self._note(shape, slot, floor, None, asked)

    def _note(self, shape: str, slot: int, floor: int, seen: object, asked: int) -> None:
        age = self._ledger.age(slot, floor, asked)
        self.oldest = max(self.oldest, age)
        self.counts["stale"] += 1
        if len(self.stale) < 5:
            expected = [version_of(floor), place_of(floor)]
            self.stale.append(f"{shape}: slot {slot}, at least {expected}, seen {seen}, {age * 1000:.1f} ms old")


def _get(item: int) -> Any:
    try:
        return Items.get(pk=item)
    except Item.DoesNotExist:
        return None


def read_under_load(
    subject: Subject, *, path: str, world: dict[str, int], seed: str, threads: int, seconds: float, delay: float
) -> dict[str, Any]:
    """Read in several threads; return counts and the first stale answers."""
    sizes = World(**world)
    ledger = Ledger(path, sizes.slots, sizes.writers)
    readers = [Reader(subject, sizes, ledger, f"{seed}:{number}") for number in range(threads)]
    subject.gates.delays["load"] = delay
    running = [threading.Thread(target=reader.run, args=[seconds]) for reader in readers]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    counts: Counter[str] = sum((reader.counts for reader in readers), Counter())
    stale = [one for reader in readers for one in reader.stale]
    return {**counts, "examples": stale[:5], "oldest": max(reader.oldest for reader in readers)}
