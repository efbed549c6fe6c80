"""The rows of a load run, and which slot of the ledger each is.

Items 1 … ITEMS. Odd shelves are quiet: their items stay, so sums over them only grow. Even shelves are busy: items
move between them, vanish and come back. The lower half of the items is *owned*, each by one writer, which therefore
knows its version without a lock; the upper half is shared. An item's price is its version; a write that is going to
be rolled back makes it DIRTY.
"""

from dataclasses import dataclass

DIRTY = 10**6


@dataclass(frozen=True, slots=True)
class World:
    """Sizes, and the numbers of things."""

    writers: int
    items: int = 160
    shelves: int = 8
    labels: int = 6
    labelled: int = 10

    @property
    def slots(self) -> int:
        """Return how many slots there are: items, then pairs of label and item."""
        return self.items + 1 + self.labels * self.labelled

    def shelf_of(self, item: int) -> int:
        """Return the shelf an item stands on at first."""
        return (item - 1) % self.shelves + 1

    def is_quiet(self, shelf: int) -> bool:
        """Tell whether the items of a shelf stay."""
        return shelf % 2 == 1

    def on_quiet(self, shelf: int) -> list[int]:
        """Return the items of a quiet shelf."""
        return [item for item in range(1, self.items + 1) if self.shelf_of(item) == shelf]

    @property
    def movers(self) -> list[int]:
        """Return the items that move and vanish."""
        return [item for item in range(1, self.items + 1) if not self.is_quiet(self.shelf_of(item))]

    def owner_of(self, item: int) -> int | None:
        """Return the one writer of an item, None for a shared one."""
        return (item // self.shelves) % self.writers if item <= self.items // 2 else None

    @property
    def labelled_items(self) -> list[int]:
        """Return the items that may have labels; none of them vanishes, which would take its labels with it."""
        return [item for item in range(1, self.items + 1) if self.is_quiet(self.shelf_of(item))][: self.labelled]

    def pair(self, label: int, item: int) -> int:
        """Return the slot of an item's having a label."""
        return self.items + 1 + (label - 1) * self.labelled + self.labelled_items.index(item)
