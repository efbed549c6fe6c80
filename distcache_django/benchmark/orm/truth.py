"""Know what was true when: the histories of rows and groups, made of the writers' ledgers.

Each committed write of an item adds exactly 1 to its ``ver``, so the version of a row in an answer says which
writes it contains. A write is *settled* once its COMMIT has returned. Two writes of one row are ordered by
the row's lock, but their COMMITs may return in the other order: version v is therefore taken as settled as
soon as v or any later version is.

An answer read between ``begun`` and ``ended`` may show any state that was not superseded by a settled write
when the read began, and whose own COMMIT had begun when the read ended. All times are ``time.monotonic_ns``
of one machine.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar

__all__ = ["Change", "Commit", "Dataset", "GroupHistory", "History", "Truth"]

_BEFORE_ALL = -1
_NEVER = 2**63
_State = TypeVar("_State")


class Commit(NamedTuple):
    """What one COMMIT made visible: when it began and returned, items as (pk, ver, group), tags of items as
    (item, tag, +1 or -1).
    """

    begun: int
    returned: int
    items: Sequence[Sequence[int]]
    tags: Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class Dataset:
    """How much there is: keys count from 1, and the first ``hot`` items get half of all accesses."""

    items: int = 200
    groups: int = 20
    tags: int = 8
    hot: int = 10

    def first_group(self, item: int) -> int:
        """Return the group in which an item begins; ``sql/reset.sql`` says the same."""
        return item % self.groups + 1


class History(Generic[_State]):
    """The states one thing was in, in their order, each with when its COMMIT began and returned."""

    def __init__(self, first: _State) -> None:
        self.states = [first]
        self._begun = [_BEFORE_ALL]
        self._returned = [_BEFORE_ALL]

    def add(self, state: _State, commit: Commit) -> None:
        """Append the state that a commit made."""
        self.states.append(state)
        self._begun.append(commit.begun)
        self._returned.append(commit.returned)

    @cached_property
    def _settled(self) -> list[int]:
        settled = [_NEVER]
        for returned in reversed(self._returned):
            settled.append(min(returned, settled[-1]))
        return settled[::-1]

    def superseded_for(self, version: int, at: int) -> int:
        """Return for how long, at a time, a later version had been settled; 0 where none was."""
        return max(0, at - self._settled[version + 1])

    def settled_for(self, version: int, at: int) -> int:
        """Return for how long, at a time, the version or a later one had been settled; 0 where none was."""
        return max(0, at - self._settled[version])

    def is_ahead(self, version: int, ended: int) -> bool:
        """Return whether nobody could know the version at a time: its COMMIT had not begun, or never did."""
        return version >= len(self.states) or self._begun[version] > ended

    def visible(self, begun: int, ended: int) -> range:
        """Return the versions that an answer read between the two times may show."""
        first = bisect_left(self._settled, begun) - 1
        last = first
        while not self.is_ahead(last + 1, ended):
            last += 1
        return range(first, last + 1)


class Change(NamedTuple):
    """What one commit did to the sum of versions in a group and to the number of its items."""

    begun: int
    returned: int
    total: int
    rows: int


class GroupHistory:
    """The changes of one group's sum, by the time at which their COMMITs returned."""

    def __init__(self, rows: int, changes: Iterable[Change]) -> None:
        self.changes = sorted(changes, key=lambda change: change.returned)
        self.sums = [(0, rows)]
        for change in self.changes:
            total, count = self.sums[-1]
            self.sums.append((total + change.total, count + change.rows))
        self._returned = [change.returned for change in self.changes]
        self._longest = max((change.returned - change.begun for change in self.changes), default=0)

    def settled(self, at: int) -> int:
        """Return how many changes had returned at a time."""
        return bisect_left(self._returned, at)

    def in_flight(self, begun: int, ended: int) -> list[Change]:
        """Return the changes that an answer read between the two times may or may not contain."""
        found = []
        for change in self.changes[self.settled(begun) :]:
            if change.returned > ended + self._longest:
                break
            if change.begun <= ended:
                found.append(change)
        return found


class Truth:
    """Everything that was committed, and when.

    Raises ValueError where the ledger cannot be true: a version of a row is missing or was written twice.
    """

    def __init__(self, dataset: Dataset, commits: Iterable[Commit]) -> None:
        """Build the histories. ``commits`` of one writer come in their order, and only one writer tags an item."""
        self.dataset = dataset
        ledger = list(commits)
        self.groups = {item: History(dataset.first_group(item)) for item in _count(dataset.items)}
        self.tags: dict[int, History[tuple[int, ...]]] = {item: History(()) for item in _count(dataset.items)}
        self._add_versions(ledger)
        self._add_tags(ledger)
        self.sums = self._sum_up(ledger)
        self.row_writes = sum(len(commit.items) for commit in ledger)
        self.last_return = max((commit.returned for commit in ledger), default=_BEFORE_ALL)

    @cached_property
    def ever_in(self) -> dict[int, tuple[int, ...]]:
        """Give the items that were ever in a group."""
        members = defaultdict(list)
        for item, history in self.groups.items():
            for group in set(history.states):
                members[group].append(item)
        return {group: tuple(items) for group, items in members.items()}

    def check_end(self, found: Mapping[tuple[str, int], tuple[Any, ...]]) -> None:
        """Compare the ends of the histories with what the database says, by shape and key, once all is quiet.

        Raises ValueError where they differ: something was written that is not in the ledger.
        """
        for item in _count(self.dataset.items):
            groups, tags = self.groups[item].states, self.tags[item].states
            if found["item", item] != (len(groups) - 1, groups[-1]) or found["tags", item] != tags[-1]:
                raise ValueError(f"item {item}: the database holds another end than the ledger")

    def _add_versions(self, ledger: Sequence[Commit]) -> None:
        written = sorted(
            (ver, item, group, number) for number, each in enumerate(ledger) for item, ver, group in each.items
        )
        for ver, item, group, number in written:
            history = self.groups[item]
            if ver != len(history.states):
                raise ValueError(f"item {item}: version {ver} follows {len(history.states) - 1} in the ledger")
            history.add(group, ledger[number])

    def _add_tags(self, ledger: Sequence[Commit]) -> None:
        for commit in ledger:
            for item in dict.fromkeys(item for item, _, _ in commit.tags):
                now = set(self.tags[item].states[-1])
                for other, tag, sign in commit.tags:
                    if other == item:
                        (now.add if sign > 0 else now.discard)(tag)
                self.tags[item].add(tuple(sorted(now)), commit)

    def _sum_up(self, ledger: Sequence[Commit]) -> dict[int, GroupHistory]:
        changes: dict[int, list[Change]] = {group: [] for group in _count(self.dataset.groups)}
        for commit in ledger:
            sums: dict[int, tuple[int, int]] = defaultdict(lambda: (0, 0))
            for item, ver, group in commit.items:
                old = self.groups[item].states[ver - 1]
                total, rows = sums[old]
                sums[old] = total - (ver - 1), rows - 1
                total, rows = sums[group]
                sums[group] = total + ver, rows + 1
            for group, (total, rows) in sums.items():
                changes[group].append(Change(commit.begun, commit.returned, total, rows))
        first = [self.dataset.first_group(item) for item in _count(self.dataset.items)]
        return {group: GroupHistory(first.count(group), found) for group, found in changes.items()}


def _count(number: int) -> range:
    return range(1, number + 1)
