"""Who has committed what: shared memory between the processes of a load run, by which readers judge answers.

A *slot* is one thing that changes: an item, or an item's having a label. Its state is one integer, a *word*: version
in the upper bits, place (shelf, or 1; 0 for gone) in the lower. Versions of a slot only grow. Each writer has a column
of its own, so nobody needs a lock: the newest word of a slot is the greatest of its row.

``committed``  written when COMMIT has returned, below Django and below any cache
``announced``  written before a write begins: from then on it may become visible at any moment
``times``      when ``committed`` was written, in nanoseconds of the machine's monotonic clock
"""

import mmap
import time
from pathlib import Path

PLACE_BITS = 24
GONE = 0


def word(version: int, place: int) -> int:
    """Return the state of a slot as one integer."""
    return version << PLACE_BITS | place


def version_of(state: int) -> int:
    """Return a state's version."""
    return state >> PLACE_BITS


def place_of(state: int) -> int:
    """Return a state's place."""
    return state & (1 << PLACE_BITS) - 1


class Ledger:
    """Map the file; ``column`` is the writer's own, and -1 for a reader."""

    def __init__(self, path: str, slots: int, writers: int, column: int = -1) -> None:
        self._writers, self._column = writers, column
        size = slots * writers
        with Path(path).open("r+b") as file:
            self._memory = memoryview(mmap.mmap(file.fileno(), size * 24)).cast("Q")
        self._committed = self._memory[:size]
        self._announced = self._memory[size : 2 * size]
        self._times = self._memory[2 * size :]
        self._pending: dict[int, int] = {}

    @staticmethod
    def create(path: Path, slots: int, writers: int) -> None:
        """Make the file, all zero."""
        path.write_bytes(bytes(slots * writers * 24))

    # ------------------------------------------------------------ reading

    def committed(self, slot: int) -> int:
        """Return the newest state that is certainly committed."""
        first = slot * self._writers
        return max(self._committed[first : first + self._writers])

    def announced(self, slot: int) -> int:
        """Return the newest state that may be committed."""
        first = slot * self._writers
        return max(self._announced[first : first + self._writers])

    def age(self, slot: int, state: int, now: int) -> float:
        """Return for how many seconds a state had been committed."""
        first = slot * self._writers
        found = [self._times[at] for at in range(first, first + self._writers) if self._committed[at] == state]
        return (now - min(found)) / 1e9 if found else 0.0

    # ------------------------------------------------------------ writing

    def begin(self, slot: int, state: int) -> None:
        """Announce a state. At the beginning of the run, this and ``commit`` say what is there."""
        self._pending[slot] = state
        self._announced[slot * self._writers + self._column] = state

    def commit(self) -> None:
        """Note that what was announced is committed."""
        now = time.monotonic_ns()
        for slot, state in self._pending.items():
            at = slot * self._writers + self._column
            self._times[at] = now
            self._committed[at] = state
        self._pending.clear()

    def abandon(self) -> None:
        """Note that what was announced has been rolled back."""
        for slot in self._pending:
            at = slot * self._writers + self._column
            self._announced[at] = self._committed[at]
        self._pending.clear()
