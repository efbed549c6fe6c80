"""Give nodes what they have missed, until they may vote again.

*Replay*: what owners have noted for a node that was away. The node is sent what a quorum has for each key now, or told
to drop what it has up to the stamp that it missed, if there is nothing any more. Only nodes that nobody calls behind
say what there is.

*Recovery*: a node that has lost its memory, or came back with an older one, is sent everything that
``replication_factor - write + 1`` other voting owners have: together they have every acknowledged write. Writes that
come meanwhile reach the node itself, or are noted for it. Then what was noted is replayed, and the node votes again,
if it is of the same incarnation still.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from distcache_django.core.effects import Ask, Gather, Op, Pause
from distcache_django.core.fence import UP
from distcache_django.core.record import NO_STAMP, Stamp
from distcache_django.core.replicas import Replicas
from distcache_django.core.requests import Missed, PutItem, Rise, Scan, Settle, Void
from distcache_django.core.votes import Said
from distcache_django.exceptions import TransportError

__all__ = ["Repair"]

_BATCH: Final = 200
_Marks = Sequence[tuple[str, Stamp]]


class Repair:
    """Build the Ops that repair nodes for one cache; each batch of keys has a deadline of its own.

    :param is_ours: tells whether a key is one of the cache's.
    """

    def __init__(self, replicas: Replicas, is_ours: Any) -> None:
        self._replicas = replicas
        self._is_ours = is_ours

    # ------------------------------------------------------------------ replay

    def replay(self, node: str) -> Op[bool]:
        """Send a node what the others have noted for it; return whether nothing is left."""
        is_done = True
        for holder in self._replicas.topology.node_names:
            if holder != node:
                is_done = (yield from self._replay_from(holder, node)) and is_done
        return is_done

    def _replay_from(self, holder: str, node: str) -> Op[bool]:
        tag = self._replicas.standings.tags[node]
        cursor, is_done = 0, True
        while True:
            yield Pause(0)
            try:
                cursor, marks, _slots = yield Ask(holder, Missed(tag, cursor, _BATCH))
            except TransportError:
                return False
            settled = yield from self._deliver(node, marks, holder)
            is_done = is_done and len(settled) == len(marks)
            if settled or not marks:
                yield Gather([Ask(holder, Settle(tag, settled, (), self._replicas.standings.topology))])
            if not cursor:
                return is_done

    def _deliver(self, node: str, marks: _Marks, holder: str) -> Op[_Marks]:
        """Bring a node up to date in these keys; return those for which that is done."""
        if not marks:
            return ()
        replicas = self._replicas
        votes = replicas.topology.replication_factor - replicas.write + 1
        answers: list[Said] = yield from replicas.records([key for key, _ in marks], votes)
        puts: list[PutItem] = []
        voids: list[tuple[str, Stamp]] = []
        about: dict[str, tuple[str, Stamp]] = {}
        for (key, stamp), said in zip(marks, answers, strict=True):
            if len(said.records) < votes or node in said.records or holder not in said.records:
                continue
            newest = said.newest
            about[key] = (key, stamp)
            if newest is None or newest.stamp < stamp:
                voids.append((key, stamp))
            else:
                puts.append(replicas.item(key, newest))
        refused = yield from self._send(node, puts, voids)
        return [mark for key, mark in about.items() if key not in refused]

    def _send(self, node: str, puts: list[PutItem], voids: _Marks, *, force: bool = False) -> Op[set[str]]:
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
            (reply,) = yield Gather([ask])
            if isinstance(reply, TransportError) or not isinstance(replicas.heard(node, reply), int):
                refused.update(key for key, _ in voids)
        return refused

    # ------------------------------------------------------------------ recovery

    def recover(self, node: str) -> Op[bool]:
        """Make a node whole and have it vote; return whether it does. Nothing is changed for one that does already."""
        standings = self._replicas.standings
        yield from self._replicas.enlist({node})
        incarnation = standings.incarnation(node)
        if incarnation is None:
            return False
        if standings.state(node) == UP:
            return True
        for other in self._replicas.topology.node_names:
            if other != node and not (yield from self._copy(other, node)):
                return False
        if not (yield from self.replay(node)):
            return False
        try:
            reply = yield Ask(node, Rise(incarnation, standings.topology))
        except TransportError:
            return False
        return self._replicas.heard(node, reply) is True

    def _copy(self, source: str, node: str) -> Op[bool]:
        """Send a node what it shares with another, as a quorum of others has it; return whether all of it arrived."""
        cursor = 0
        while True:
            yield Pause(0)
            try:
                cursor, found = yield Ask(source, Scan(cursor, "*", _BATCH))
            except TransportError:
                return False
            keys = [key for key in found if self._is_ours(key) and self._are_owners(key, source, node)]
            if keys and not (yield from self._copy_keys(keys, node)):
                return False
            if not cursor:
                return True

    def _are_owners(self, key: str, *nodes: str) -> bool:
        owners = self._replicas.topology.owners(key)
        return all(node in owners for node in nodes)

    def _copy_keys(self, keys: Sequence[str], node: str) -> Op[bool]:
        replicas = self._replicas
        votes = replicas.topology.replication_factor - replicas.write + 1
        answers: list[Said] = yield from replicas.records(keys, votes)
        puts = []
        for key, said in zip(keys, answers, strict=True):
            if len(said.records) < votes or node in said.records:
                return False
            if (newest := said.newest) is not None and newest.stamp > NO_STAMP:
                puts.append(replicas.item(key, newest))
        return not (yield from self._send(node, puts, (), force=True))
