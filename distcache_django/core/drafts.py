"""One write on its way to the owners of its key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from distcache_django.core.record import NO_STAMP, Record, Stamp
from distcache_django.core.requests import LATE, STRANGE
from distcache_django.core.slots import slot_of
from distcache_django.exceptions import TransportError

__all__ = ["Draft", "judge", "statuses"]

_STORED: Final = b"S"
_SAME: Final = b"="
_OLDER: Final = b"O"
_PROMISED: Final = b"P"


class Draft:
    """Be one write on its way: the record as it was last sent, and what became of it."""

    __slots__ = ("doubt", "failed", "is_ahead", "key", "make", "newer", "noted", "owners", "record", "slot", "stored")

    def __init__(self, key: str, owners: Sequence[str], make: Callable[[Stamp], Record]) -> None:
        self.key = key
        self.owners = owners
        self.make = make
        self.slot = slot_of(key)
        self.record = make(b"")
        #: The newest stamp that an owner has in its place.
        self.newer: Stamp = b""
        #: Whether an owner finds its stamp too far ahead.
        self.is_ahead = False
        #: Whether it may be at an owner that did not say so.
        self.doubt = False
        #: Owners that have it, and for which others each of them notes that they have not.
        self.stored: set[str] = set()
        self.noted: dict[str, frozenset[str]] = {}
        self.failed: dict[str, str] = {}

    def renew(self, stamp: Stamp) -> None:
        """Be made again: what older forms of it were stored anywhere is in doubt no more than it was."""
        self.record = self.make(stamp)
        self.doubt = self.doubt or bool(self.stored)
        self.newer, self.stored, self.noted, self.failed, self.is_ahead = b"", set(), {}, {}, False

    @property
    def missing(self) -> frozenset[str]:
        """Return the owners that have not stored it."""
        return frozenset(self.owners) - self.stored

    @property
    def acknowledged(self) -> int:
        """Return how many owners have it and note all others."""
        missing = self.missing
        return sum(missing <= self.noted[node] for node in self.stored)


def statuses(outcome: Any, count: int) -> Sequence[Any]:
    """Return what a node has answered to each of its records; it may be the same to all."""
    return outcome if isinstance(outcome, list) else [outcome] * count


def judge(draft: Draft, node: str, status: Any, absent: frozenset[str]) -> None:
    """Note what one owner has answered to a write."""
    if isinstance(status, TransportError):
        draft.failed[node] = status.reason
        draft.doubt = draft.doubt or status.in_doubt
    elif status is LATE or status is STRANGE:
        draft.failed[node] = "answered too late" if status is LATE else "is of another topology, or not registered"
    elif status in (_STORED, _SAME):
        draft.stored.add(node)
        draft.noted[node] = absent
        draft.failed.pop(node, None)
    else:
        is_older = status[:1] in (_OLDER, _PROMISED)
        draft.is_ahead = draft.is_ahead or not is_older
        draft.failed[node] = "has something newer" if is_older else "finds the stamp ahead of its time"
        draft.newer = max(draft.newer, status[1:] or NO_STAMP)
