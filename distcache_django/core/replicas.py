"""Read and write keys that several nodes hold: the rules of a quorum.

A *write* makes a record with a new stamp and goes to all owners of the key at once. What counts is an owner that has
stored it: one that has a newer record has not, and the write is made again with a stamp beyond that. Owners that
could not be reached are noted by those that could, before anything is acknowledged: until they have got what they
missed, they are *behind* and do not vote. With fewer than ``write`` owners the call fails, and says whether the write
may have happened (``InDoubt``).

A *read* asks as many owners as it needs votes, and more only where these do not vote or not answer. The newest record
wins. Voters that had an older one, or none, are given it: what a quorum has said, and nothing else, is ever repaired.

So with ``read + write > replication_factor`` every read has a vote of an owner that stored the last acknowledged
write: the others are behind, recovering, or too few.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from distcache_django.core.clock import ACTOR_SIZE
from distcache_django.core.drafts import Draft, judge, statuses
from distcache_django.core.effects import Ask, Gather, Op
from distcache_django.core.fence import Standings
from distcache_django.core.record import (
    COUNTER,
    LOCK,
    NO_STAMP,
    TOMBSTONE,
    VALUE,
    Counter,
    Record,
    Stamp,
    counter_payload,
    stamp_ms,
)
from distcache_django.core.requests import STRANGE, Put, PutItem, WireValue
from distcache_django.core.slots import slot_of
from distcache_django.core.topology import Topology
from distcache_django.core.votes import PATIENCE, ROUNDS, Reading, Said
from distcache_django.exceptions import InDoubt, QuorumNotReached, TransportError, Unavailable

__all__ = ["Limits", "Replicas", "raw_value"]


class Limits(NamedTuple):
    """Be what bounds operations, in seconds."""

    deadline: float
    drift: float

    @property
    def grace_ms(self) -> int:
        """Return for how long what has ended is kept: until nothing older can be on its way."""
        return round((2 * self.drift + self.deadline) * 1000)

    @property
    def drift_ms(self) -> int:
        """Return by how much a stamp may be ahead of a node's time."""
        return round(self.drift * 1000)


class Replicas:
    """Build the Ops on the replicated keys of one cache; shared by threads.

    :param read: votes that a read needs; ``write``: owners that have to have stored a write.
    :param down: returns the nodes that are known not to answer.
    """

    def __init__(
        self,
        topology: Topology,
        standings: Standings,
        stamps: Any,
        *,
        read: int,
        write: int,
        limits: Limits,
        down: Callable[[], Collection[str]],
    ) -> None:
        self.topology = topology
        self.standings = standings
        self.stamps = stamps
        self.read = read
        self.write = write
        self.limits = limits
        self.down = down
        self._owners = topology.owners

    def preferred(self, key: str) -> Sequence[str]:
        """Return the owners of a key, those first that are likely to answer and to vote."""
        owners = self._owners(key)
        avoid = self.down(), self.standings.unfit
        if not any(avoid):
            return owners
        return sorted(owners, key=lambda node: (node in avoid[0], node in avoid[1]))

    def acquaint(self, nodes: Collection[str]) -> Op[None]:
        """Register nodes that are not yet."""
        yield from self.enlist(self.standings.unregistered({*nodes} - {*self.down()}))

    def enlist(self, nodes: Collection[str]) -> Op[None]:
        """Register nodes whose replies do not count before; all of them at first: the nodes' time is not known then."""
        if nodes:
            wanted = {*nodes, *self.topology.node_names} - {*self.down()} if self.standings.is_lost else nodes
            yield from self.standings.enlist(wanted)

    # ------------------------------------------------------------------ reads

    def records(self, keys: Sequence[str]) -> Op[tuple[list[Record | None], list[Said]]]:
        """Return the live record of each key, and of which keys too few owners have a vote.

        Voters that are behind what is newest are given it.
        """
        reading = Reading(self, keys, self.read)
        newest = yield from reading.straight()
        failures: list[Said] = []
        if newest is None:
            answers = yield from reading.run()
            failures = [said for said in answers if len(said.records) < self.read]
            newest = [said.newest if len(said.records) >= self.read else None for said in answers]
            yield from self._repair(keys, answers, newest)
        now_ms = self.now_ms()
        return [record if record is not None and record.is_live(now_ms) else None for record in newest], failures

    def record(self, operation: str, key: str) -> Op[Record | None]:
        """Return the live record of a key, ``None`` where there is none.

        :raises QuorumNotReached: with fewer votes than that takes.
        """
        (record,), failures = yield from self.records((key,))
        if failures:
            raise self._too_few(operation, failures[0])
        return record

    def fetch(self, key: str) -> Op[bytes | None]:
        """Read a value as a quorum has it, in one round trip."""
        record = yield from self.record("get", key)
        return None if record is None else raw_value(record)

    def fetch_many(self, keys: Sequence[str]) -> Op[tuple[list[bytes | None], list[Unavailable]]]:
        """Read values, one round trip per node, all at once; one that lacks votes is ``None``, and an error."""
        records, failures = yield from self.records(keys)
        found = [None if record is None else raw_value(record) for record in records]
        return found, [self._too_few("get_many", said) for said in failures]

    def exists(self, key: str) -> Op[bool]:
        """Tell whether a key is there, in one round trip."""
        return (yield from self.record("has_key", key)) is not None

    def inspect(self, key: str) -> Op[tuple[bytes | None, int]]:
        """Read a value and its time left in milliseconds: -1 without an end, -2 without the key."""
        record = yield from self.record("ttl", key)
        if record is None:
            return None, -2
        return raw_value(record), max(0, round(record.expires_at - self.now_ms())) if record.expires_at else -1

    def _repair(self, keys: Sequence[str], answers: Sequence[Said], newest: Sequence[Record | None]) -> Op[None]:
        """Send voters that are behind what a quorum has; whether they take it is nobody's business."""
        parts: dict[str, list[PutItem]] = {}
        for key, said, record in zip(keys, answers, newest, strict=True):
            if record is not None:
                for node in said.behind(record, self.now_ms()):
                    parts.setdefault(node, []).append(self.item(key, record))
        if parts:
            yield from self.put(parts, self.expires())

    # ------------------------------------------------------------------ writes

    def store(self, key: str, value: WireValue, ttl_ms: int | None) -> Op[None]:
        """Write a value at all owners, in one round trip.

        :raises QuorumNotReached: if it was not written. :raises InDoubt: if it may have been.
        """
        draft = self.draft(key, value, ttl_ms)
        yield from self.spread([draft])
        self.check("set", draft)

    def store_many(
        self, keys: Sequence[str], values: Sequence[WireValue], ttl_ms: int | None
    ) -> Op[tuple[list[int], list[Unavailable]]]:
        """Write values, one round trip per node, all at once; return the indices of those not acknowledged."""
        drafts = [self.draft(key, value, ttl_ms) for key, value in zip(keys, values, strict=True)]
        return (yield from self._spread_many("set_many", drafts))

    def remove(self, key: str) -> Op[bool]:
        """Put a tombstone in place of a key, in two round trips; return whether a voter had a live value."""
        record = yield from self.record("delete", key)
        draft = Draft(key, self._owners(key), _tombstone)
        yield from self.spread([draft])
        self.check("delete", draft)
        return record is not None

    def remove_many(self, keys: Sequence[str]) -> Op[tuple[list[int], list[Unavailable]]]:
        """Put tombstones in place of keys, one round trip per node, all at once."""
        drafts = [Draft(key, self._owners(key), _tombstone) for key in keys]
        return (yield from self._spread_many("delete_many", drafts))

    def draft(self, key: str, value: WireValue, ttl_ms: int | None) -> Draft:
        """Return the write of a value that ends ``ttl_ms`` from now."""
        kind, payload = (COUNTER, counter_payload(value)) if isinstance(value, int) else (VALUE, value)

        def make(stamp: Stamp) -> Record:
            # Not before: the nodes' time may not be known until they are registered.
            return Record(kind, stamp, 0 if ttl_ms is None else round(self.now_ms()) + ttl_ms, payload)

        return Draft(key, self._owners(key), make)

    def _spread_many(self, operation: str, drafts: Sequence[Draft]) -> Op[tuple[list[int], list[Unavailable]]]:
        yield from self.spread(drafts)
        left = [index for index, draft in enumerate(drafts) if draft.acknowledged < self.write]
        return left, [self._failure(operation, drafts[index]) for index in left]

    def spread(self, drafts: Sequence[Draft]) -> Op[None]:
        """Send writes to all owners until none of these has anything newer; who is missing is noted by the others."""
        expires = self.expires()
        pending = drafts
        yield from self.acquaint({node for draft in drafts for node in draft.owners})
        for _ in range(ROUNDS):
            for draft in pending:
                draft.renew(self.stamps.next(self.standings.now()))
            yield from self.send(pending, expires, PATIENCE)
            # Where only some find it ahead of their time, it is they whose clocks are wrong: they have failed.
            pending = [d for d in pending if d.newer > NO_STAMP or (d.is_ahead and len(d.stored) < self.write)]
            if not pending:
                break
            if any(
                draft.is_ahead for draft in pending
            ):  # this process's clock was: it begins anew with the nodes' time
                self.stamps.renew(self.standings.random(ACTOR_SIZE))
            self.observe(max(draft.newer for draft in pending))
        unnoted = [draft for draft in drafts if draft.acknowledged < len(draft.stored) >= self.write]
        if unnoted:
            yield from self.send(unnoted, expires, 1.0, only_stored=True)

    def send(self, drafts: Sequence[Draft], expires: float, patience: float, *, only_stored: bool = False) -> Op[None]:
        """Send each record to its owners; one round trip, two more where a node has to be registered first."""
        parts: dict[str, list[Draft]] = {}
        down = self.down()
        absent: dict[Draft, frozenset[str]] = {}
        for draft in drafts:
            absent[draft] = draft.missing if only_stored else frozenset(node for node in draft.owners if node in down)
            for node in draft.stored if only_stored else draft.owners:
                parts.setdefault(node, []).append(draft)
        for _ in range(2):
            items = {node: [self._draft_item(d, absent[d] - {node}) for d in part] for node, part in parts.items()}
            outcomes = yield from self.put(items, expires, patience)
            for node, outcome in outcomes.items():
                for draft, status in zip(parts[node], statuses(outcome, len(parts[node])), strict=True):
                    judge(draft, node, status, absent[draft])
            strangers = {node for node, outcome in outcomes.items() if outcome is STRANGE}
            if not strangers:
                return
            yield from self.enlist(strangers)
            parts = {node: parts[node] for node in strangers - self.standings.unregistered(strangers)}

    def put(
        self, parts: dict[str, list[PutItem]], expires: float, patience: float = 1.0, *, force: bool = False
    ) -> Op[dict[str, Any]]:
        """Send records to nodes at once; return each one's statuses, LATE, STRANGE or a ``TransportError``."""
        topology, drift_ms = self.standings.topology, self.limits.drift_ms
        asks = []
        for node, items in parts.items():
            limit = self.standings.not_after(node, expires)
            asks.append(Ask(node, Put(items, topology, limit, drift_ms, force=force)))
        return (yield from self.ask(asks, patience))

    def ask(self, asks: Sequence[Ask], patience: float = 1.0) -> Op[dict[str, Any]]:
        """Run a script at each of several nodes; return each one's outcome, which may be a ``TransportError``.

        One whose fence does not count yet is STRANGE, whatever it has done: to do it again changes nothing.
        """
        sent = self.standings.wall()
        outcomes: dict[str, Any] = {}
        for ask, reply in zip(asks, (yield Gather(asks, patience)) if asks else (), strict=True):
            outcomes[ask.node] = reply if isinstance(reply, TransportError) else self._heard(ask.node, reply, sent)
        return outcomes

    def _heard(self, node: str, reply: Any, sent: float) -> Any:
        self.standings.heard(node, reply.now_ms, sent)
        if reply.outcome is not STRANGE and self.standings.fence(node, reply.fence) is None:
            return STRANGE
        return reply.outcome

    def observe(self, stamp: Stamp) -> None:
        """Make all later stamps newer than one that an owner has, unless that is from a clock gone wrong."""
        if stamp_ms(stamp) <= self.now_ms() + 2 * self.limits.drift_ms:
            self.stamps.observe(stamp)

    def _draft_item(self, draft: Draft, absent: frozenset[str]) -> PutItem:
        return self.item(draft.key, draft.record, self.tags(absent), draft.slot)

    def item(self, key: str, record: Record, absent: bytes = b"", slot: int | None = None) -> PutItem:
        """Return a record as it is sent to nodes."""
        return PutItem(key, record.pack(), self.physical_ttl_ms(record), absent, slot_of(key) if slot is None else slot)

    def tags(self, nodes: Collection[str]) -> bytes:
        """Return the tags of nodes, in a fixed order."""
        return b"".join(sorted(self.standings.tags[node] for node in nodes))

    def physical_ttl_ms(self, record: Record) -> int | None:
        """Return for how long a node keeps a record: some time beyond its end, for ever if it has none."""
        if record.kind == TOMBSTONE and not record.expires_at:
            return self.limits.grace_ms
        if not record.expires_at:
            return None
        return max(0, round(record.expires_at - self.now_ms())) + self.limits.grace_ms

    def expires(self) -> float:
        """Return the time, on this process's clock, at which an operation that begins now has failed."""
        return self.standings.wall() + self.limits.deadline

    def now_ms(self) -> float:
        """Return Unix milliseconds as most nodes have them."""
        return self.standings.now() * 1000

    # ------------------------------------------------------------------ failures

    def _too_few(self, operation: str, said: Said) -> Unavailable:
        away = [node for node in said.nodes if node not in said.records]
        return QuorumNotReached(
            operation, required=self.read, received=len(said.records), nodes=away, reason="have no vote now"
        )

    def check(self, operation: str, draft: Draft) -> None:
        """Raise what a write comes to that too few owners have acknowledged."""
        if draft.acknowledged < self.write:
            raise self._failure(operation, draft)

    def _failure(self, operation: str, draft: Draft) -> Unavailable:
        kind = InDoubt if draft.doubt or draft.stored else QuorumNotReached
        # Where too few have it, nobody has noted who has not.
        received = len(draft.stored) if len(draft.stored) < self.write else draft.acknowledged
        reasons = "; ".join(f"{node}: {reason}" for node, reason in draft.failed.items())
        return kind(operation, required=self.write, received=received, nodes=sorted(draft.missing), reason=reasons)


def raw_value(record: Record) -> bytes | None:
    """Return the value as a single node would keep it; a lock is no value."""
    if record.kind == COUNTER:
        return b"%d" % Counter.parse(record.payload).value
    return None if record.kind == LOCK else record.payload


def _tombstone(stamp: Stamp) -> Record:
    return Record(TOMBSTONE, stamp)
