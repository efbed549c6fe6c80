"""Count on several nodes at once, so that no failure loses an increment or applies it twice.

A counter is a base record with *fields* (``core.record``). A client has a field of its own and sends its total: the
node keeps the larger of what it has and what it is sent, so the request may be repeated, and be late, anywhere. An
increment is acknowledged when enough voters have the same newest base and the field at its total or above.

A field counts for one base only. When another base has come (a ``set``, or a *fold* of too many fields into a new
base), what the new base contains of the field is looked up in it, but only once enough owners have that base: one
that only a minority has may vanish again. What it does not contain is raised under a new field.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, MutableMapping
from contextlib import suppress
from typing import Any, Final

from distcache_django.core.agreement import Agreement
from distcache_django.core.effects import Ask, Op
from distcache_django.core.record import COUNTER, Counter, Folded, Record, Stamp, merged, parse
from distcache_django.core.replicas import Replicas
from distcache_django.core.requests import STRANGE, Raise
from distcache_django.core.slots import slot_of
from distcache_django.core.votes import PATIENCE
from distcache_django.exceptions import InDoubt, NotAnInteger, QuorumNotReached, TransportError

__all__ = ["Counting", "Own"]

_ATTEMPTS: Final = 12
#: Fields of one base, beyond which they are folded into a new one.
_MOST_FIELDS: Final = 64
_LARGEST: Final = 2**63 - 1
_RAISED: Final = b"S"
_NEWER: Final = b"N"
_BEHIND: Final = b"B"
_PROMISED: Final = b"P"


class Own:
    """Be a client's field in a counter: under which base, its name, and its totals."""

    __slots__ = ("base", "field", "minus", "plus")

    def __init__(self, base: Stamp, field: bytes) -> None:
        self.base = base
        self.field = field
        self.plus = 0
        self.minus = 0

    def add(self, delta: int) -> tuple[int, int]:
        """Add to the totals; return what they have to be at a node for this to be counted."""
        if delta >= 0:
            self.plus += delta
        else:
            self.minus -= delta
        return self.plus, self.minus


class _Call:
    """Be one increment on its way."""

    __slots__ = ("counted", "delta", "expires", "is_sent", "key", "own", "value", "wanted")

    def __init__(self, key: str, delta: int, own: Own, expires: float) -> None:
        self.key = key
        self.delta = delta
        self.own = own
        self.wanted = own.add(delta)
        self.expires = expires
        #: Whether a node has it, or may have it.
        self.is_sent = False
        #: The counter as nodes had it when they counted this: asked again, they have others' increments, too.
        self.counted: dict[str, Record] = {}
        #: The counter's value, if a new base was found to contain the increment.
        self.value: int | None = None

    def move(self, own: Own) -> None:
        """Count under another field."""
        self.own = own
        self.wanted = own.add(self.delta)
        self.counted = {}

    def is_in(self, folded: Folded | None) -> bool:
        """Return whether a base contains this increment."""
        return folded is not None and folded.plus >= self.wanted[0] and folded.minus >= self.wanted[1]


class _Raised:
    """Be what owners have answered to one round."""

    def __init__(self) -> None:
        self.done: dict[str, Record] = {}
        self.newer: list[Record] = []
        self.behind: list[str] = []
        self.promised: Stamp = b""
        self.failed: dict[str, str] = {}


class Counting:
    """Build the Ops that count; shared by threads.

    :param own: returns the fields of the running thread, by key. Totals of one field must be raised by one thread
        only, or nodes could keep a total that was never sent.
    """

    def __init__(
        self,
        replicas: Replicas,
        agreement: Agreement,
        own: Callable[[], MutableMapping[str, Own]],
        random: Callable[[int], bytes],
    ) -> None:
        self._replicas = replicas
        self._agreement = agreement
        self._own = own
        self._random = random

    def increase(self, key: str, delta: int) -> Op[int | None]:
        """Add to an integer, keeping its end; return the new value, ``None`` where there is no such key.

        One round trip where this thread has counted before and all owners answer.

        :raises NotAnInteger: if something else is there. :raises QuorumNotReached: if nothing was counted.
        :raises InDoubt: if that is not certain; it is counted at most once.
        """
        expires = self._replicas.expires()
        own = self._own().get(key)
        if own is None:
            own = yield from self._look_up(key)
            if own is None:
                return None
        call = _Call(key, delta, own, expires)
        try:
            value = yield from self._count(call)
        except BaseException:
            self._forget(call)  # what is in doubt must not be part of later totals
            raise
        return value

    def _look_up(self, key: str) -> Op[Own | None]:
        """Find the base to count on."""
        record = yield from self._replicas.record("incr", key)
        return None if record is None else self._field(key, record)

    def _field(self, key: str, record: Record) -> Own:
        """Return this thread's field under a base: another of its calls may have begun one."""
        if record.kind != COUNTER:
            raise NotAnInteger(f"the value of key {key!r} is not an integer that can be counted")
        fields = self._own()
        own = fields.get(key)
        if own is None or own.base != record.stamp:
            own = fields[key] = Own(record.stamp, self._random(8))
        return own

    def _forget(self, call: _Call) -> None:
        fields = self._own()
        if fields.get(call.key) is call.own:
            del fields[call.key]

    def _count(self, call: _Call) -> Op[int | None]:
        replicas = self._replicas
        owners = frozenset(replicas.topology.owners(call.key))
        raised = _Raised()
        absent: frozenset[str] | None = None
        for _ in range(_ATTEMPTS):
            if replicas.standings.wall() >= call.expires:
                break
            noted = owners & {*replicas.down()} if absent is None else absent
            raised = yield from self._raise(call, owners if absent is None else owners - absent, noted)
            if len(replicas.standings.fit(raised.done)) >= replicas.write:
                absent = owners - raised.done.keys()
                if absent <= noted:
                    return (yield from self._answer(call, raised))
            elif not (yield from self._adapt(call, raised)):
                self._forget(call)
                if call.is_sent:
                    break  # an owner has counted it, and where it has gone, nobody can tell
                return None
            elif call.value is not None:
                return call.value
        kind = InDoubt if call.is_sent else QuorumNotReached
        reasons = "; ".join(f"{node}: {why}" for node, why in raised.failed.items())
        raise kind(
            "incr", required=replicas.write, received=len(raised.done), nodes=sorted(raised.failed), reason=reasons
        )

    def _raise(self, call: _Call, nodes: Collection[str], noted: Collection[str]) -> Op[_Raised]:
        """Send the field's totals to owners, which note for others that these have them not."""
        replicas, standings = self._replicas, self._replicas.standings
        yield from replicas.acquaint(nodes)
        slot = slot_of(call.key)
        asks = []
        for node in nodes:
            limit = standings.not_after(node, call.expires)
            name, base = call.own.field, call.own.base
            tags = replicas.tags({*noted} - {node})
            asks.append(Ask(node, Raise(call.key, base, name, *call.wanted, tags, slot, standings.topology, limit)))
        raised = _Raised()
        strangers = set()
        for node, outcome in (yield from replicas.ask(asks, PATIENCE)).items():
            if outcome is STRANGE:
                strangers.add(node)
            self._judge(call, raised, node, outcome)
        for node in raised.done.keys() - standings.fit(raised.done):
            del call.counted[node]  # it may lack what others have been told
        yield from replicas.enlist(strangers)
        return raised

    def _judge(self, call: _Call, raised: _Raised, node: str, outcome: Any) -> None:
        if isinstance(outcome, TransportError):
            call.is_sent = call.is_sent or outcome.in_doubt
            raised.failed[node] = outcome.reason
            return
        status, found = outcome if isinstance(outcome, tuple) else (None, None)
        record = parse(found) if status in (_RAISED, _NEWER) else None
        if status == _RAISED and record is not None:
            call.is_sent = True
            raised.done[node] = call.counted.setdefault(node, record)
            return
        raised.failed[node] = "has another base" if status in (_NEWER, _BEHIND, _PROMISED) else str(outcome)
        if status == _NEWER and record is not None:
            raised.newer.append(record)
        elif status == _BEHIND:
            raised.behind.append(node)
        elif status == _PROMISED:
            raised.promised = max(raised.promised, found)

    def _answer(self, call: _Call, raised: _Raised) -> Op[int | None]:
        """Return the value as the first owner that votes has it: gapless while it stays the first."""
        replicas = self._replicas
        voting = replicas.standings.fit(raised.done)
        first = next(node for node in replicas.topology.owners(call.key) if node in voting)
        record = raised.done[first]
        if not record.is_live(replicas.now_ms()):
            self._forget(call)
            return None
        counter = Counter.parse(record.payload)
        if len(counter.fields) > _MOST_FIELDS:
            with suppress(QuorumNotReached, InDoubt):  # the next one will; this increment is acknowledged
                yield from self._agreement.fold("incr", call.key)
        return counter.value

    def _adapt(self, call: _Call, raised: _Raised) -> Op[bool]:
        """Do what stands in the way of an increment; return whether there still is a counter."""
        if raised.newer:
            return (yield from self._rebase(call, merged(raised.newer)))
        if raised.promised:
            self._replicas.observe(raised.promised)
            yield from self._agreement.fold("incr", call.key)
        elif raised.behind:
            return (yield from self._catch_up(call, raised))
        return True

    def _catch_up(self, call: _Call, raised: _Raised) -> Op[bool]:
        """Give the base to owners that have none or an older one; if no owner has it, ask a quorum what there is."""
        newest = merged(raised.done.values())
        if newest is None:
            newest = yield from self._replicas.record("incr", call.key)
            if newest is None:
                return False
        yield from self._push(call, newest, raised.behind)
        return True

    def _push(self, call: _Call, record: Record, nodes: Collection[str]) -> Op[int]:
        """Send a base to nodes; return how many voters have it then."""
        replicas = self._replicas
        item = replicas.item(call.key, record)
        outcomes = yield from replicas.put({node: [item] for node in nodes}, call.expires, PATIENCE)
        have = {node for node, outcome in outcomes.items() if outcome in ([b"S"], [b"="])}
        return len(replicas.standings.fit(have))

    def _rebase(self, call: _Call, newest: Record | None) -> Op[bool]:
        """Count under a new base, once enough owners have it, unless it contains the increment."""
        replicas = self._replicas
        assert newest is not None
        if (yield from self._push(call, newest, replicas.topology.owners(call.key))) < replicas.write:
            yield from self._agreement.fold("incr", call.key)
            return True
        if not newest.is_live(replicas.now_ms()):
            return False
        own = self._field(call.key, newest)
        counter = Counter.parse(newest.payload)
        if call.is_in(counter.folded.get(call.own.field)):
            call.value = counter.value
        else:
            call.move(own)
        return True
