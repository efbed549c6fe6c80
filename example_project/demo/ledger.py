"""Who has committed what: shared memory between the writers and the load generator, by which pages are judged.

A *slot* is one thing that changes: a price of a product (items 1 to 8, its position), or its stock (item 0). Its state
is its revision, which every write raises by one. Each process that writes has a column of its own, so that none needs
another's lock: what is known of a slot is the greatest of its row.

`committed`  the newest revision whose COMMIT has returned; noted before anything else happens
`promised`   the same, of commits that all cache nodes had been warned of: no page may show less from then on
`times`      when `committed` was noted, in nanoseconds of the machine's monotonic clock

A commit that goes ahead without a node (`ON_MARK_FAILURE="proceed"`) is promised once its process has told the node.
"""

import mmap
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

STOCK = 0
ITEMS = 9
# What a transaction adds to a revision that is going to be rolled back: nobody may ever see it.
UNDONE = 1_000_000

Slot = tuple[int, int]
Revisions = dict[Slot, int]
_BYTES = 16


class Debt(NamedTuple):
    """What a process, by its id, has committed and not told some node; `owed` is how often it had owed by then."""

    pid: int
    owed: int = 0


@dataclass(frozen=True, slots=True)
class Floor:
    """What was known of some products at one moment."""

    first: int
    committed: dict[int, list[memoryview]]
    promised: dict[int, list[memoryview]]

    def least(self, slot: Slot) -> int:
        """Give the least revision that a page asked for now may show."""
        return self._newest(self.promised, slot)

    def newest(self, slot: Slot) -> int:
        """Give the newest revision that was committed."""
        return self._newest(self.committed, slot)

    def _newest(self, columns: dict[int, list[memoryview]], slot: Slot) -> int:
        product, item = slot
        return max(column[product - self.first] for column in columns[item])


class Ledger:
    """Map the file. `column` is the process's own; threads may share the object."""

    def __init__(self, path: str, products: int, columns: int, column: int) -> None:
        self._products, self._columns, self._column = products, columns, column
        self._size = size = products * ITEMS
        with Path(path).open("r+b") as file:
            memory = memoryview(mmap.mmap(file.fileno(), columns * size * _BYTES))
        self._times = memory[: columns * size * 8].cast("Q")
        self._committed = memory[columns * size * 8 : columns * size * 12].cast("I")
        self._promised = memory[columns * size * 12 :].cast("I")
        self._lock = threading.Lock()  # guards this process's column, and what follows
        self._debts: list[tuple[Debt, Revisions]] = []

    @staticmethod
    def create(path: Path, products: int, columns: int) -> None:
        """Make the file: nothing is committed."""
        with path.open("wb") as file:
            file.truncate(columns * products * ITEMS * _BYTES)

    # ------------------------------------------------------------ writing

    def commit(self, written: Revisions, debt: Debt | None = None) -> None:
        """Note what a COMMIT that has just returned has written; with a debt it is promised when that is settled."""
        now = time.monotonic_ns()
        with self._lock:
            for slot, revision in written.items():
                at = self._place(slot)
                if revision > self._committed[at]:
                    self._times[at] = now
                    self._committed[at] = revision
            if debt is None:
                self._promise(written)
            else:
                self._debts.append((debt, written))

    def settle(self, pid: int, owed: int) -> None:
        """Note that a process had told all nodes of all it had committed, when it had owed so often."""
        with self._lock:
            left = []
            for debt, written in self._debts:
                if debt.pid == pid and debt.owed <= owed:
                    self._promise(written)
                else:
                    left.append((debt, written))
            self._debts = left

    def _promise(self, written: Revisions) -> None:
        for slot, revision in written.items():
            at = self._place(slot)
            self._promised[at] = max(self._promised[at], revision)

    def _place(self, slot: Slot, column: int | None = None) -> int:
        product, item = slot
        return (self._column if column is None else column) * self._size + item * self._products + product - 1

    # ------------------------------------------------------------ reading

    def floor(self, first: int, last: int, items: Iterable[int]) -> Floor:
        """Copy what is known now of the products from `first` to `last`."""
        wanted = list(items)
        return Floor(
            first,
            {item: self._copies(self._committed, first, last, item) for item in wanted},
            {item: self._copies(self._promised, first, last, item) for item in wanted},
        )

    def _copies(self, words: memoryview, first: int, last: int, item: int) -> list[memoryview]:
        starts = [self._place((first, item), column) for column in range(self._columns)]
        return [memoryview(words[start : start + last - first + 1].tobytes()).cast("I") for start in starts]

    def age(self, slot: Slot, revision: int, now: int) -> float:
        """Give for how many seconds a revision, or a later one, had been committed; by the last note of each column."""
        places = [self._place(slot, column) for column in range(self._columns)]
        times = [self._times[at] for at in places if self._committed[at] >= revision]
        return (now - min(times)) / 1e9 if times else 0.0


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is wrong with what a page shows, in words; and whether it shows anything that had been written."""

    stale: str = ""
    suspended: str = ""
    is_of_written: bool = False


def judge(shown: Revisions, floor: Floor, ledger: Ledger, asked: int) -> Judgement:
    """Compare a page with what had been committed when it was asked for, at `asked` nanoseconds.

    *Stale* is a page that lacks a commit which was promised, or shows what never was committed. *Suspended* is one
    that lacks a commit of which the process that made it still owed a node the news.
    """
    stale = suspended = ""
    is_of_written = False
    for slot, revision in shown.items():
        least, newest = floor.least(slot), floor.newest(slot)
        is_of_written = is_of_written or newest > 0
        if revision >= UNDONE:
            stale = stale or f"{_name(slot)} at revision {revision}, which was rolled back"
        elif revision < least:
            stale = stale or _describe(slot, revision, least, ledger, asked)
        elif revision < newest:
            suspended = suspended or _describe(slot, revision, newest, ledger, asked)
    return Judgement(stale, suspended, is_of_written)


def _name(slot: Slot) -> str:
    product, item = slot
    return f"the stock of {product}" if item == STOCK else f"price {item} of {product}"


def _describe(slot: Slot, shown: int, wanted: int, ledger: Ledger, asked: int) -> str:
    age = ledger.age(slot, wanted, asked) * 1000
    return f"{_name(slot)} at revision {shown}, {wanted} was committed {age:.1f} ms before"
