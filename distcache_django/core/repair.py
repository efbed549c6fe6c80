"""Give nodes what they have missed, until they may vote again.

*Evidence*: ``replication_factor - write + 1`` owners that have kept their memory meet every acknowledged write, so one
of them has stored the last one of a key. Whether they are called behind does not matter here, because each also tells
what it has noted: a node that has noted a stamp for others had stored that write. If nobody has anything as new any
more, and its time is up, then it is over: deleted or ended, and forgotten since. So of all records and all noted stamps
the newest is what there is: a record, or nothing up to that stamp. A record that is gone before its time was evicted,
which is a loss like that of the node's memory: its note proves nothing.

*Replay*: for each key that owners have noted for a node, the node is sent the record, or told to drop what it has up to
the stamp. *Recovery*: a node that has lost its memory, or came back with an older one, is sent all there is. Writes
that come meanwhile reach the node itself, or are noted for it. Then what was noted is replayed, and the node votes
again, if it is of the same incarnation still.

Where so much was missed that owners have noted slots only, all keys of those slots are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final, NamedTuple

from distcache_django.core.effects import Ask, Gather, Op, Pause
from distcache_django.core.fence import FENCE, UP
from distcache_django.core.record import NO_STAMP, STAMP_SIZE, Record, Stamp, merged, parse, stamp_ms
from distcache_django.core.replicas import Replicas
from distcache_django.core.requests import (
    STRANGE,
    FetchMany,
    Missed,
    Noted,
    Noticed,
    PutItem,
    Remove,
    Rise,
    Scan,
    Settle,
    StoreIf,
    Void,
)
from distcache_django.core.slots import slot_of
from distcache_django.core.votes import PATIENCE
from distcache_django.exceptions import TransportError

__all__ = ["Evidence", "Repair"]

_BATCH: Final = 200
#: Held at a node by who repairs it. Two at once do no harm, but twice the work.
_LEASE: Final = "dc:repairing"
_LEASE_MS: Final = 10_000
_Voids = Sequence[tuple[str, Stamp]]


class Evidence(NamedTuple):
    """Be what there is of a key: a record, or nothing up to a stamp."""

    record: Record | None
    void: Stamp


class Repair:
    """Build the Ops that repair nodes for one cache; each batch of keys has a deadline of its own.

    :param is_ours: tells whether a key is one of the cache's.
    """

    def __init__(self, replicas: Replicas, is_ours: Callable[[str], bool]) -> None:
        self._replicas = replicas
        self._is_ours = is_ours
        copies = replicas.topology.replication_factor
        # With a `write` of 1, which promises nothing, all other owners have to do.
        self._needed = min(copies - replicas.write + 1, copies - 1)

    def mend(self, node: str, nonce: bytes) -> Op[str]:
        """Do what a node needs in order to vote again, unless another does; return how it is then.

        ``up``, or why it has no vote: ``away``, ``recovering``, ``behind``.
        """
        replicas, standings = self._replicas, self._replicas.standings
        yield from replicas.acquaint(replicas.topology.node_names)
        yield from self._hear()
        if node in replicas.down() or standings.unregistered({node}):
            return "away"
        is_up = standings.state(node) == UP
        if is_up and node not in standings.unfit:
            return "up"
        state = "behind" if is_up else "recovering"
        try:
            is_leased = yield Ask(node, StoreIf(_LEASE, nonce, _LEASE_MS, "NX"))
            if is_leased and (yield from self.replay(node) if is_up else self.recover(node)):
                state = "up"
            if is_leased:
                yield Ask(node, Remove((_LEASE,)))
        except TransportError:
            return "away"
        return state

    def _hear(self) -> Op[None]:
        """Read all fences: a process that only repairs hears of nobody's loss, or of who is behind, otherwise."""
        replicas, standings = self._replicas, self._replicas.standings
        asks = [Ask(node, FetchMany((FENCE,))) for node in replicas.topology.node_names if node not in replicas.down()]
        strangers = set()
        for ask, reply in zip(asks, (yield Gather(asks)) if asks else (), strict=True):
            if not isinstance(reply, TransportError) and standings.fence(ask.node, reply[0]) is None:
                strangers.add(ask.node)
        yield from replicas.enlist(strangers)

    # ------------------------------------------------------------------ evidence

    def evidence(self, keys: Sequence[str]) -> Op[list[Evidence | None]]:
        """Return what there is of each key, ``None`` where too few owners can tell; one round trip."""
        replicas, standings = self._replicas, self._replicas.standings
        parts: dict[str, list[int]] = {}
        for index, key in enumerate(keys):
            for node in replicas.topology.owners(key):
                parts.setdefault(node, []).append(index)
        yield from replicas.acquaint(parts.keys())
        asks = [
            Ask(node, Noted([(keys[i], slot_of(keys[i])) for i in part], standings.topology))
            for node, part in parts.items()
        ]
        outcomes = yield from replicas.ask(asks, PATIENCE)
        yield from replicas.enlist({node for node, outcome in outcomes.items() if outcome is STRANGE})
        told: list[dict[str, Any]] = [{} for _ in keys]
        for node, outcome in outcomes.items():
            if isinstance(outcome, list) and standings.state(node) == UP:
                for index, entry in zip(parts[node], outcome, strict=True):
                    told[index][node] = entry
        return [self._weigh(each) for each in told]

    def _weigh(self, told: dict[str, Any]) -> Evidence | None:
        """Return what owners' records and notes of a key come to.

        No witness is a node of which somebody has noted only that it misses something in this slot, nor one that has
        noted a write for others and has it no more itself, before its time.
        """
        standings = self._replicas.standings
        doubtful = b"".join(slots for _, _, slots in told.values())
        tags = {doubtful[at : at + 4] for at in range(0, len(doubtful), 4)}
        now_ms = self._replicas.now_ms()
        found: list[Record | None] = []
        void = NO_STAMP
        for node, (raw, mark, _) in told.items():
            record, stamp = parse(raw, standings.incarnation(node)), mark[:STAMP_SIZE]
            is_over = 0 < _end(mark) <= now_ms
            was_evicted = stamp > (record.stamp if record else b"") and not is_over
            if standings.tags[node] not in tags and not was_evicted:
                found.append(record)
                void = max(void, stamp if is_over else NO_STAMP)
        if len(found) < self._needed:
            return None
        newest = merged(record for record in found if record is not None)
        return Evidence(newest if newest is not None and newest.stamp >= void else None, void)

    # ------------------------------------------------------------------ replay

    def replay(self, node: str) -> Op[bool]:
        """Send a node what the others have noted for it; return whether nothing is left."""
        is_done = True
        for holder in self._replicas.topology.node_names:
            if holder != node:
                is_done = (yield from self._replay_from(holder, node)) and is_done
        return is_done

    def _replay_from(self, holder: str, node: str) -> Op[bool]:
        topology, tag = self._replicas.standings.topology, self._replicas.standings.tags[node]
        cursor, is_done = 0, True
        slots: dict[int, int] = {}
        while True:
            yield Pause(0)
            try:
                cursor, marks, more = yield Ask(holder, Missed(tag, cursor, _BATCH))
            except TransportError:
                return False
            slots |= more
            settled = yield from self._deliver(node, marks)
            is_done = is_done and len(settled) == len(marks)
            yield Gather([Ask(holder, Settle(tag, settled, (), topology))])
            if not cursor:
                break
        if slots and (yield from self._compare(node, slots)):
            yield Gather([Ask(holder, Settle(tag, (), sorted(slots.items()), topology))])
            return is_done
        return is_done and not slots

    def _deliver(self, node: str, marks: Sequence[Noticed]) -> Op[Sequence[Noticed]]:
        """Bring a node up to date in these keys; return those for which that is done."""
        if not marks:
            return ()
        found = yield from self.evidence([key for key, _, _ in marks])
        puts: list[PutItem] = []
        voids: list[tuple[str, Stamp]] = []
        known: list[Noticed] = []
        for mark, evidence in zip(marks, found, strict=True):
            key, stamp, _ = mark
            if evidence is None:
                continue
            known.append(mark)
            if evidence.record is not None:
                puts.append(self._replicas.item(key, evidence.record))
            else:
                voids.append((key, max(stamp, evidence.void)))
        refused = yield from self._send(node, puts, voids)
        return [mark for mark in known if mark.key not in refused]

    def _send(self, node: str, puts: list[PutItem], voids: _Voids, *, force: bool = False) -> Op[set[str]]:
        """Store and delete at a node; return the keys for which that is not certain."""
        replicas = self._replicas
        expires = replicas.expires()
        refused: set[str] = set()
        if puts:
            outcomes = yield from replicas.put({node: puts}, expires, force=force)
            told = outcomes[node]
            answers = told if isinstance(told, list) else [b""] * len(puts)
            refused.update(
                item.key for item, told in zip(puts, answers, strict=True) if told[:1] not in (b"S", b"=", b"O")
            )
        if voids:
            standings = replicas.standings
            ask = Ask(node, Void(voids, standings.topology, standings.not_after(node, expires)))
            if not isinstance((yield from replicas.ask([ask]))[node], int):
                refused.update(key for key, _ in voids)
        return refused

    # ------------------------------------------------------------------ recovery

    def recover(self, node: str) -> Op[bool]:
        """Make a node whole and have it vote; return whether it does. Nothing is changed for one that does already."""
        replicas, standings = self._replicas, self._replicas.standings
        yield from replicas.enlist({node})
        incarnation = standings.incarnation(node)
        if incarnation is None:
            return False
        if standings.state(node) == UP:
            return True
        others = [other for other in replicas.topology.node_names if other != node]
        if sum(standings.state(other) != UP for other in others) > max(0, replicas.write - 2):
            return False  # of some keys too few owners can tell, and where there are no keys, nobody would say so
        # What the node had promised is lost: nothing that was asked for before may be on its way any more.
        yield Pause(replicas.limits.deadline + replicas.limits.drift)
        for other in others:
            if not (yield from self._copy(other, node)):
                return False
        if not (yield from self.replay(node)):
            return False
        outcomes = yield from replicas.ask([Ask(node, Rise(incarnation, standings.topology))])
        return outcomes[node] is True

    def _copy(self, source: str, node: str, slots: Collection[int] | None = None) -> Op[bool]:
        """Send a node what it shares with another, as a quorum of others has it; return whether all of it arrived."""
        cursor = 0
        while True:
            yield Pause(0)
            try:
                cursor, found = yield Ask(source, Scan(cursor, "*", _BATCH))
            except TransportError:
                return False
            keys = [key for key in self._shared(found, source, node) if slots is None or slot_of(key) in slots]
            if keys and not (yield from self._copy_keys(keys, node, force=slots is None)):
                return False
            if not cursor:
                return True

    def _shared(self, keys: Iterable[str], *nodes: str) -> Iterable[str]:
        owners = self._replicas.topology.owners
        return (key for key in keys if self._is_ours(key) and {*nodes} <= {*owners(key)})

    def _copy_keys(self, keys: Sequence[str], node: str, *, force: bool) -> Op[bool]:
        found = yield from self.evidence(keys)
        if None in found:
            return False
        puts = [
            self._replicas.item(key, evidence.record)
            for key, evidence in zip(keys, found, strict=True)
            if evidence is not None and evidence.record is not None
        ]
        return not (yield from self._send(node, puts, (), force=force))

    # ------------------------------------------------------------------ slots

    def _compare(self, node: str, slots: Collection[int]) -> Op[bool]:
        """Make a node equal to the others in some slots; return whether it is."""
        for other in self._replicas.topology.node_names:
            if other != node and not (yield from self._copy(other, node, slots)):
                return False
        return (yield from self._drop_unknown(node, slots))

    def _drop_unknown(self, node: str, slots: Collection[int]) -> Op[bool]:
        """Delete what a node has in some slots and no other has any more, unless it is new and still on its way."""
        replicas = self._replicas
        limits = replicas.limits
        cursor = 0
        while True:
            yield Pause(0)
            try:
                cursor, listed = yield Ask(node, Scan(cursor, "*", _BATCH))
                keys = [key for key in self._shared(listed, node) if slot_of(key) in slots]
                raws = yield Ask(node, FetchMany(keys))
            except TransportError:
                return False
            found = yield from self.evidence(keys)
            if None in found:
                return False
            oldest = replicas.now_ms() - limits.grace_ms
            voids = [
                (key, own.stamp)
                for key, raw, evidence in zip(keys, raws, found, strict=True)
                if evidence and evidence.record is None and (own := parse(raw)) and stamp_ms(own.stamp) < oldest
            ]
            if (yield from self._send(node, [], voids)):
                return False
            if not cursor:
                return True


def _end(mark: bytes) -> int:
    """Return when the record ends that a mark is about: 0 for never, and for no mark."""
    return int.from_bytes(mark[STAMP_SIZE:])
