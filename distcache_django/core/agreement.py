"""Let a majority of owners agree on the next record of a key, where a plain write would not do.

``add``, locks and the folding of counters depend on what is there. Each is a round of prepare and accept (Paxos, with
a record's stamp for the ballot): a majority of voting owners promises to store nothing older than the ballot and tells
what it has; what follows from the newest of that is stored under the ballot, at a majority again. Of two that try at
once, one finds itself overtaken and looks again.

What only a minority has was perhaps never acknowledged, and may vanish. Before anybody acts on it, it is made to last:
stored anew under the ballot, with the stamp it had first as its *origin*, so that its author knows it again and
does not take it for another's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, Generic, NamedTuple, TypeVar

from distcache_django.core.drafts import Draft
from distcache_django.core.effects import Ask, Op, Pause
from distcache_django.core.record import COUNTER, NO_TOUCH, Counter, Field, Folded, Record, Stamp, merged, parse
from distcache_django.core.replicas import Replicas
from distcache_django.core.requests import STRANGE, Prepare, WireValue
from distcache_django.core.votes import Reading
from distcache_django.exceptions import InDoubt, QuorumNotReached, Unavailable

__all__ = ["Agreement", "Decision", "folded"]

T = TypeVar("T")
_ATTEMPTS: Final = 20
#: Shares of the time left: for prepare, and for accept.
_PREPARING, _ACCEPTING = 0.35, 0.5
_OLDER: Final = b"O"
_PROMISED: Final = b"P"


class Decision(NamedTuple, Generic[T]):
    """Be what follows from the newest record: an answer, and the record to store before it is given, if any.

    ``is_own``: the answer acknowledges that record, which this call has stored before.
    """

    answer: T
    record: Record | None = None
    is_own: bool = False


class _Talk:
    """Be one call: what it has proposed, and how far it came."""

    def __init__(self, operation: str, key: str, owners: Sequence[str], expires: float) -> None:
        self.operation = operation
        self.key = key
        self.owners = owners
        self.majority = len(owners) // 2 + 1
        self.expires = expires
        #: The answers that follow if what was proposed under these ballots lasts.
        self.proposed: dict[Stamp, Any] = {}
        self.received = 0
        self.failed: Mapping[str, str] = {}
        #: Whether something that was proposed may be at an owner, and others may make it last.
        self.doubt = False

    def is_overtaken_by(self, top: Record | None) -> bool:
        """Return whether a newer record hides what became of what was proposed, and may have lasted for a while."""
        if top is None or not self.doubt or top.stamp < max(self.proposed):
            return False
        return not any(_comes_from(top, stamp) for stamp in self.proposed)

    @property
    def failure(self) -> Unavailable:
        """Return the error that says why there was no agreement."""
        kind = InDoubt if self.doubt else QuorumNotReached
        reasons = "; ".join(f"{node}: {why}" for node, why in self.failed.items())
        nodes = sorted(self.failed) or self.owners
        return kind(self.operation, required=self.majority, received=self.received, nodes=nodes, reason=reasons)


class Agreement:
    """Build the Ops that agree; shared by threads. ``uniform(a, b)`` returns a random number."""

    def __init__(self, replicas: Replicas, uniform: Callable[[float, float], float]) -> None:
        self._replicas = replicas
        self._uniform = uniform

    def settle(
        self,
        operation: str,
        key: str,
        decide: Callable[[Record | None], Decision[T]],
        *,
        names_its_author: bool = False,
    ) -> Op[T]:
        """Store what follows from a key's newest record, two round trips if nobody else is at it; return the answer.

        :param decide: may be called several times; is given tombstones and what has ended, too.
        :param names_its_author: whether ``decide`` tells by a record whether it is of this call, as a lock's does.
        :raises QuorumNotReached: if nothing was stored. :raises InDoubt: if that is not certain.
        """
        replicas = self._replicas
        talk = _Talk(operation, key, replicas.topology.owners(key), replicas.expires())
        yield from replicas.acquaint(talk.owners)
        for attempt in range(_ATTEMPTS):
            if attempt:
                yield Pause(self._uniform(0, min(0.02, 0.001 * 2**attempt)))
            if replicas.standings.wall() >= talk.expires:
                break
            ballot = replicas.stamps.next(replicas.standings.now())
            promised = yield from self._prepare(talk, ballot)
            if len(promised) < talk.majority:
                continue
            top = merged(filter(None, promised.values()))
            if not names_its_author and talk.is_overtaken_by(top):
                break
            decision = _next(top, talk.proposed, decide)
            answer: T = decision.answer
            record = self._to_store(talk, decision, promised)
            if record is None:
                return answer
            talk.proposed[ballot] = answer
            if (yield from self._accept(talk, ballot, record)):
                return answer
        raise talk.failure

    def _to_store(self, talk: _Talk, decision: Decision[Any], promised: Mapping[str, Record | None]) -> Record | None:
        """Return what has to be stored before the answer is given."""
        top = merged(filter(None, promised.values()))
        if decision.record is not None or top is None:
            return decision.record
        holders = sum(record is not None and record.stamp == top.stamp for record in promised.values())
        # One's own is acknowledged by the answer: who has it not has to be noted, as with any write.
        needed = len(talk.owners) if decision.is_own else max(talk.majority, self._replicas.write)
        if holders >= needed:
            return None
        return _adopted(top, round(self._replicas.now_ms()) + self._replicas.limits.grace_ms)

    def _prepare(self, talk: _Talk, ballot: Stamp) -> Op[dict[str, Record | None]]:
        """Ask for promises; return what those have that vote and have promised."""
        replicas, standings = self._replicas, self._replicas.standings
        drift_ms, grace_ms = replicas.limits.drift_ms, replicas.limits.grace_ms
        limits = {node: standings.not_after(node, talk.expires) for node in talk.owners}
        asks = [
            Ask(node, Prepare(talk.key, ballot, standings.topology, limits[node], drift_ms, grace_ms))
            for node in talk.owners
        ]
        found: dict[str, bytes | None] = {}
        failed: dict[str, str] = {}
        answered, strangers = set(), set()
        for node, outcome in (yield from replicas.ask(asks, _PREPARING)).items():
            if isinstance(outcome, tuple):
                answered.add(node)
            status, told = outcome if isinstance(outcome, tuple) else (None, None)
            if status == _PROMISED:
                found[node] = told
            elif status == _OLDER:
                replicas.observe(told)
            elif outcome is STRANGE:
                strangers.add(node)
            failed[node] = str(outcome)
        yield from replicas.enlist(strangers)
        fit = standings.fit(answered)
        voting = {node: raw for node, raw in found.items() if node in fit}
        talk.received, talk.failed = len(voting), {node: why for node, why in failed.items() if node not in voting}
        return {node: parse(raw, standings.incarnation(node)) for node, raw in voting.items()}

    def _accept(self, talk: _Talk, ballot: Stamp, record: Record) -> Op[bool]:
        """Have owners store a record; return whether a majority of voters, and as many as a write needs, have it."""
        replicas = self._replicas
        draft = Draft(talk.key, talk.owners, lambda stamp: record._replace(stamp=stamp, touched=NO_TOUCH))
        draft.renew(ballot)
        yield from replicas.send([draft], talk.expires, _ACCEPTING)
        lasts = len(replicas.standings.fit(draft.stored)) >= talk.majority and len(draft.stored) >= replicas.write
        if lasts and draft.acknowledged < len(draft.stored):  # what does not last is nobody's loss
            yield from replicas.send([draft], talk.expires, 1.0, only_stored=True)
        talk.received, talk.failed = len(replicas.standings.fit(draft.stored)), draft.failed
        talk.doubt = talk.doubt or draft.doubt or bool(draft.stored)
        if draft.newer:
            replicas.observe(draft.newer)
        return talk.received >= talk.majority and draft.acknowledged >= replicas.write

    # ------------------------------------------------------------------ what is agreed on

    def add(self, operation: str, key: str, value: WireValue, ttl_ms: int | None) -> Op[bool]:
        """Store a value unless there is one; return whether it was stored.

        One round trip where there is one for certain, which is left alone: a promise would keep it from counting.
        """
        replicas = self._replicas
        needed = max(len(replicas.topology.owners(key)) // 2 + 1, replicas.write)
        (said,) = yield from Reading(replicas, (key,), needed).run()
        found = said.newest
        if found is not None and found.is_live(replicas.now_ms()) and said.count(found.stamp) >= needed:
            return False

        def decide(top: Record | None) -> Decision[bool]:
            there = top is not None and top.is_live(replicas.now_ms())
            return Decision(False) if there else Decision(True, replicas.draft(key, value, ttl_ms).record)

        return (yield from self.settle(operation, key, decide))

    def replace(self, operation: str, key: str, value: WireValue, ttl_ms: int | None) -> Op[bool]:
        """Store a value if there is one; return whether it was stored."""
        replicas = self._replicas

        def decide(top: Record | None) -> Decision[bool]:
            there = top is not None and top.is_live(replicas.now_ms())
            return Decision(True, replicas.draft(key, value, ttl_ms).record) if there else Decision(False)

        return (yield from self.settle(operation, key, decide))

    def prolong(self, operation: str, key: str, expires_at: int) -> Op[Record | None]:
        """Store what is there once more with another end; return what it was before."""
        until = round(self._replicas.now_ms()) + self._replicas.limits.grace_ms

        def decide(top: Record | None) -> Decision[Record | None]:
            if top is None or not top.is_live(self._replicas.now_ms()):
                return Decision(None)
            new = folded(top, until, self._replicas.now_ms()) if top.kind == COUNTER else top
            return Decision(top, new._replace(expires_at=expires_at))

        return (yield from self.settle(operation, key, decide))

    def fold(self, operation: str, key: str) -> Op[Record | None]:
        """Give a counter a new base that contains its fields; return what is there then."""
        until = round(self._replicas.now_ms()) + self._replicas.limits.grace_ms

        def decide(top: Record | None) -> Decision[Record | None]:
            if top is None or top.kind != COUNTER:
                return Decision(top)
            # Without fields, too: a promise, such as an ``add`` that answers False leaves, stops all counting.
            new = folded(top, until, self._replicas.now_ms())
            return Decision(new, new)

        return (yield from self.settle(operation, key, decide, names_its_author=True))


def folded(record: Record, until: int, now_ms: float) -> Record:
    """Return a counter whose base contains its fields, and that says so of them, and of older ones, for some time."""
    counter = Counter.parse(record.payload)
    kept = {name: old for name, old in counter.folded.items() if old.until > now_ms}
    for name, field in counter.fields.items():
        kept[name] = Folded(*_sum(field, kept.get(name)), until)
    return record._replace(payload=Counter(counter.value, {}, kept).pack())


def _sum(field: Field, before: Folded | None) -> tuple[int, int]:
    """Add up; a field's name is used for one base only, but its totals must never seem to shrink."""
    return (field.plus, field.minus) if before is None else (field.plus + before.plus, field.minus + before.minus)


def _next(
    top: Record | None, proposed: Mapping[Stamp, T], decide: Callable[[Record | None], Decision[T]]
) -> Decision[T]:
    """Return what follows from the newest record, which may be what was proposed here before."""
    if top is not None:
        for stamp, answer in proposed.items():
            if _comes_from(top, stamp):
                return Decision(answer, is_own=True)
    return decide(top)


def _comes_from(record: Record, stamp: Stamp) -> bool:
    """Return whether a record is the one that was proposed under a stamp, or that record once more."""
    if stamp in (record.stamp, record.origin):
        return True
    return record.kind == COUNTER and _mark(stamp) in Counter.parse(record.payload).folded


def _adopted(record: Record, until: int) -> Record:
    """Return a record to store anew for its author."""
    if record.kind != COUNTER:
        return record._replace(origin=record.origin or record.stamp)
    counter = Counter.parse(folded(record, until, 0.0).payload)
    marked = {**counter.folded, _mark(record.stamp): Folded(0, 0, until)}
    return record._replace(payload=counter._replace(folded=marked).pack())


def _mark(stamp: Stamp) -> bytes:
    """Return the name of a field that nobody raises, and that says whose base this was."""
    return sha256(stamp).digest()[:8]
