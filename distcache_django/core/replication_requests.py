"""What a node can be asked about replicated records (``core.record``), of which other nodes have copies.

Stamps make every request here repeatable: done twice, or after a newer one, it changes nothing. Nothing is owed when
one fails: who has the newer record says so, and notes who misses it.

Each is one script, and its reply is ``Scripted``: besides what is asked for, the fence that the node has now, and its
time. A node changes nothing, and says why, where

``LATE``     its time is past ``not_after_ms``: nobody waits any more, and somebody may have been told so
``STRANGE``  it has no fence, or one of another format or ``topology``: it has to be registered first

``absent``: the tags (4 bytes each) of the owners that miss what is written. If the node then has it, it notes so in
the same step, and its fence calls them behind until ``Settle``. Of each owner it notes ``missed_bound`` keys, and
beyond that the ``slot`` of the key only.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, Final, NamedTuple

from distcache_django.core.request import OneKey, Request

__all__ = [
    "LATE",
    "MISSED_BOUND",
    "STRANGE",
    "Missed",
    "Noted",
    "Noticed",
    "Prepare",
    "Put",
    "PutItem",
    "Raise",
    "Rise",
    "Scripted",
    "Settle",
    "Unchanged",
    "Void",
]

#: How many keys a node notes for each node that misses them, before it notes slots.
MISSED_BOUND: Final = 100_000


class Unchanged(Enum):
    """Be why a node has done nothing."""

    LATE = "late"
    STRANGE = "strange"


LATE: Final = Unchanged.LATE
STRANGE: Final = Unchanged.STRANGE


class Scripted(NamedTuple):
    """Be the reply to a request on replicated records.

    ``fence`` is as it is after the request, empty where there is none; ``now_ms`` the node's Unix time.
    """

    fence: bytes
    now_ms: int
    outcome: Any


class PutItem(NamedTuple):
    """Be a record for a key, and how long a node keeps it: ``ttl_ms``, ``None`` for ever."""

    key: str
    record: bytes
    ttl_ms: int | None
    absent: bytes = b""
    slot: int = 0


class Put(Request):
    """Store each record that is newer than what is there: a list with the answer to each.

    ======================  =======================================================================================
    ``b"S"``                stored
    ``b"="``                the same write is there; counters are joined, each field at its largest, and what has
                            been touched last decides the end. A void one is valid again
    ``b"O"`` and a stamp    older than the record that is there, void or not
    ``b"P"`` and a stamp    older than what was promised only: what is there may be older still
    ``b"A"``                stamped more than ``drift_ms`` ahead of the node's time
    ======================  =======================================================================================

    With ``force`` a void record is overwritten whatever its stamp.
    """

    __slots__ = ("drift_ms", "force", "items", "missed_bound", "not_after_ms", "topology")

    def __init__(
        self,
        items: Sequence[PutItem],
        topology: bytes,
        not_after_ms: int,
        drift_ms: int,
        *,
        force: bool = False,
        missed_bound: int = MISSED_BOUND,
    ) -> None:
        self.items = items
        self.topology = topology
        self.not_after_ms = not_after_ms
        self.drift_ms = drift_ms
        self.force = force
        self.missed_bound = missed_bound


class Prepare(OneKey):
    """Have a node promise to store nothing older than ``ballot`` under a key, for ``grace_ms``.

    ============================  =================================================================================
    ``(b"P", record or None)``    promised, and what is there; ``None`` for a void record too
    ``(b"O", stamp)``             there is a record of that stamp, or a newer promise; void records count
    ``(b"A", b"")``               stamped more than ``drift_ms`` ahead of the node's time
    ``(b"R", b"")``               the node is not up: it may have promised others before it lost its memory
    ============================  =================================================================================

    The same ballot is promised again.
    """

    __slots__ = ("ballot", "drift_ms", "grace_ms", "not_after_ms", "topology")

    def __init__(
        self, key: str, ballot: bytes, topology: bytes, not_after_ms: int, drift_ms: int, grace_ms: int
    ) -> None:
        super().__init__(key)
        self.ballot = ballot
        self.topology = topology
        self.not_after_ms = not_after_ms
        self.drift_ms = drift_ms
        self.grace_ms = grace_ms


class Raise(OneKey):
    """Raise a field (8 bytes) of a counter of stamp ``base`` to these totals at least.

    ============================  =================================================================================
    ``(b"S", record)``            done, or not needed; the record as it is now
    ``(b"N", record)``            there is a newer record, or one that is no counter
    ``(b"B", record or None)``    there is an older record, or none; a void one is none
    ``(b"P", stamp)``             there is a promise newer than ``base``: the fields are being folded
    ============================  =================================================================================
    """

    __slots__ = ("absent", "base", "field", "minus", "missed_bound", "not_after_ms", "plus", "slot", "topology")

    def __init__(
        self,
        key: str,
        base: bytes,
        field: bytes,
        plus: int,
        minus: int,
        absent: bytes,
        slot: int,
        topology: bytes,
        not_after_ms: int,
        *,
        missed_bound: int = MISSED_BOUND,
    ) -> None:
        super().__init__(key)
        self.base = base
        self.field = field
        self.plus = plus
        self.minus = minus
        self.absent = absent
        self.slot = slot
        self.topology = topology
        self.not_after_ms = not_after_ms
        self.missed_bound = missed_bound


class Void(Request):
    """Delete records, void or not, that are not newer than the stamp given with their key: the number of them."""

    __slots__ = ("items", "not_after_ms", "topology")

    def __init__(self, items: Sequence[tuple[str, bytes]], topology: bytes, not_after_ms: int) -> None:
        self.items = items
        self.topology = topology
        self.not_after_ms = not_after_ms


class Noticed(NamedTuple):
    """Be what is noted of a key that some node misses: the largest stamp, and what tells the last note from others."""

    key: str
    stamp: bytes
    serial: bytes


class Missed(Request):
    """List a part of what a node has noted for another: ``(next cursor, [Noticed, …], {slot: serial})``.

    Cursor 0 starts and ends; a key may be listed twice. Slots come with the first part, and nothing is listed that was
    noted later. The reply is no ``Scripted``.
    """

    __slots__ = ("count", "cursor", "node_tag")

    def __init__(self, node_tag: bytes, cursor: int, count: int) -> None:
        self.node_tag = node_tag
        self.cursor = cursor
        self.count = count


class Noted(Request):
    """Read records with what the node knows of them: a list of ``(record or None, mark, tags)``.

    The mark is the largest stamp that any node is noted to have missed, and 8 bytes that say when the record of that
    stamp ends (Unix milliseconds, 0 for never, 1 for a tombstone); empty where there is none. The tags are of nodes of
    which is noted only that they miss something in the key's slot.
    """

    __slots__ = ("items", "topology")

    def __init__(self, items: Sequence[tuple[str, int]], topology: bytes) -> None:
        self.items = items
        self.topology = topology


class Settle(Request):
    """Take back what was noted for a node, as ``Missed`` has listed it: keys, and slots with their serials.

    What has been missed once more since stays, whatever its stamp: a counter is raised, and a record touched, under the
    one that it has. The number of keys still noted, -1 where only slots are; with nothing left, the node is not called
    behind any more.
    """

    __slots__ = ("items", "node_tag", "slots", "topology")

    def __init__(
        self, node_tag: bytes, items: Sequence[Noticed], slots: Sequence[tuple[int, int]], topology: bytes
    ) -> None:
        self.node_tag = node_tag
        self.items = items
        self.slots = slots
        self.topology = topology


class Rise(Request):
    """Have a node vote from now on if it still is of ``incarnation``: ``bool``.

    It keeps ``founders``, if any are named: the tags and incarnations of the nodes that were raised together.
    """

    __slots__ = ("founders", "incarnation", "topology")

    def __init__(self, incarnation: bytes, topology: bytes, founders: bytes = b"") -> None:
        self.incarnation = incarnation
        self.topology = topology
        self.founders = founders
