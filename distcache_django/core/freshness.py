"""Decide whether a cached answer is as fresh as the database, at replication factor 1.

Every dependency of an answer has a *version record* at its owner. The owner makes the versions: never used twice,
compared only for equality. An answer is stored with the versions of its dependencies as they were before it was
loaded, and is a hit only while every record has a *vote* and says exactly that. A record votes when it is of its
node's present incarnation, the node is not in quarantine, and no writer has marked it.

A link that has just opened may lead to a server that was restarted, so a node's incarnation is asked for again
whenever one opens (``generation``). Until then nothing of the node is a vote.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from distcache_django.core.effects import Ask, Gather, Op, OweBumps
from distcache_django.core.requests import Bump, FetchMany, Fill, Mark, Mint, Register, Remove, Request, Store, Unmark
from distcache_django.exceptions import NodeRefused, TransportError

__all__ = ["BYPASS", "HIT", "LOAD", "RECORD_PREFIX", "RECORD_TTL_MS", "WAIT", "Begun", "Lease", "Look", "Versions"]

#: What the keys of all version records begin with: no cache's keys do, so clear() leaves them alone.
RECORD_PREFIX = "dc:v:"
#: How long a record lives unless it is bumped or asked for on a miss. An answer outlives none of its records.
RECORD_TTL_MS = 86_400_000
_SIZE = 16  # a version: 8 bytes of incarnation, 8 of count
_Found = list[bytes | None]  # records as they were read, in the order of the dependencies
_TAG = b"\x0f"  # what a stored answer begins with

#: The answer is there, and fresh.
HIT = "hit"
#: The caller holds the lease: load, then ``fill``.
LOAD = "load"
#: Somebody else is loading: look again soon.
WAIT = "wait"
#: Too few votes: load, and store nothing.
BYPASS = "bypass"


class Lease(NamedTuple):
    """Be the right to load one answer: the key that stands for it, the holder's nonce, how long it lasts."""

    key: str
    nonce: bytes
    ttl_ms: int


class Begun(NamedTuple):
    """Be the outcome of a look-up: what to do, the answer's payload at a hit, and the versions to store it under."""

    state: str
    payload: bytes = b""
    versions: bytes = b""


class Look(NamedTuple):
    """Be how to look for an answer: made once by ``Versions.look``, of use as often as the answer is asked for."""

    key: str
    records: tuple[str, ...]
    #: The node of the answer, and that of each record.
    home: str
    nodes: tuple[str, ...]
    #: What reads them all, the first one the answer too; and where in the replies each record is.
    asks: tuple[Ask, ...]
    places: tuple[tuple[str, int], ...]
    #: What an answer with so many versions begins with, before them.
    head: bytes


class _Asked(NamedTuple):
    """Be the answer of the node that was asked for a lease: how the value begins, ``None`` where another has it."""

    head: bytes | None


class _Life(NamedTuple):
    """What is known of a node's memory, and until when (monotonic seconds) its versions prove nothing."""

    generation: int
    incarnation: bytes
    quarantined_until: float


class Versions:
    """Build the Ops on the version records of one cluster; shared by threads.

    ``clock`` returns monotonic seconds, ``wall`` Unix time, ``random(n)`` n random bytes; ``generation`` changes when
    a link to a node opens; ``mark_ms`` is the life of a mark, and of a quarantine.
    """

    def __init__(
        self,
        owner: Callable[[str], str],
        generation: Callable[[str], int],
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
        random: Callable[[int], bytes],
        mark_ms: int,
    ) -> None:
        self._owner = owner
        self._generation = generation
        self._clock = clock
        self._wall = wall
        self._random = random
        self._mark_ms = mark_ms
        self._lives: dict[str, _Life] = {}

    # ------------------------------------------------------------------ readers

    def look(self, key: str, records: Sequence[str]) -> Look:
        """Return how to look for an answer and its records: all at once, mostly at one node."""
        home = self._owner(key)
        nodes = tuple(map(self._owner, records))
        wanted: dict[str, list[str]] = {home: [key]}
        places = []
        for node, record in zip(nodes, records, strict=True):
            part = wanted.setdefault(node, [])
            places.append((node, len(part)))
            part.append(record)
        asks = tuple(Ask(node, FetchMany(part)) for node, part in wanted.items())
        return Look(key, tuple(records), home, nodes, asks, tuple(places), _head(len(nodes)))

    def begin(self, look: Look, claim: Callable[[], Lease | None]) -> Op[Begun]:
        """Look for an answer: one round trip at a hit, two at a miss.

        At a miss, missing records are made and the right to load is asked for in the same round trip: the lease
        that ``claim`` names. If it names none, a miss is ``WAIT``. Never raises for a node: an answer without votes
        is bypassed.
        """
        try:
            entry, found = yield from self._read(look)
            payload = self._vouched(entry, look, found)
            if payload is None and (yield from self._acquaint(look.nodes, found)):
                payload = self._vouched(entry, look, found)
            if payload is not None:
                return Begun(HIT, payload)
            return (yield from self._miss(look, found, claim))
        except TransportError:
            return Begun(BYPASS)

    def _read(self, look: Look) -> Op[tuple[bytes | None, _Found]]:
        """Read an answer and records at once."""
        if len(look.asks) == 1:
            entry, *found = yield look.asks[0]
            return entry, found
        replies: dict[str, _Found] = {}
        for ask, reply in zip(look.asks, (yield Gather(look.asks)), strict=True):
            if isinstance(reply, TransportError):
                raise reply
            replies[ask.node] = reply
        return replies[look.home][0], [replies[node][place] for node, place in look.places]

    def _vouched(self, entry: bytes | None, look: Look, found: _Found) -> bytes | None:
        """Return the payload of an answer if every record has a vote and says what the answer says, else ``None``."""
        if entry is None or None in found:
            return None
        head = look.head + b"".join(found)  # type: ignore[arg-type]
        # Records are no shorter than a version, so none is longer if all together are not.
        if not entry.startswith(head) or len(head) != len(look.head) + _SIZE * len(found):
            return None
        node, life = "", None
        for place, record in zip(look.nodes, found, strict=True):
            if place != node:
                node, life = place, self._life(place)
            if life is None or not record.startswith(life.incarnation):  # type: ignore[union-attr]
                return None
        return entry[len(head) :]

    def _acquaint(self, nodes: Sequence[str], found: _Found) -> Op[bool]:
        """Ask for the incarnations that are not known, in a round trip if there are any; return whether there were."""
        unknown = {node for node, record in zip(nodes, found, strict=True) if not self._knows(node, record)}
        if unknown:
            yield from self._register(unknown)
        return bool(unknown)

    def _miss(self, look: Look, found: _Found, claim: Callable[[], Lease | None]) -> Op[Begun]:
        lacking = self._lacking(look.nodes, found)
        if lacking is None:
            return Begun(BYPASS)
        lease = claim()
        if lease is None:
            return Begun(WAIT)
        if not self._knows(look.home, None):
            yield from self._register({look.home})
        reply = yield from self._mint(look, found, lacking, lease)
        state = self._judge(reply, look, found)
        if state is not LOAD and reply is not None and reply.head is not None:
            yield from self.fill(look.key, None, b"", 0, lease)
        return Begun(state, versions=b"".join(found) if state is LOAD else b"")  # type: ignore[arg-type]

    def _judge(self, reply: _Asked | None, look: Look, found: _Found) -> str:
        """Return what to do after asking for the lease."""
        if reply is None or not all(map(self._votes, look.nodes, found)):
            return BYPASS
        if reply.head is None or reply.head == look.head + b"".join(found):  # type: ignore[arg-type]
            return WAIT  # somebody else loads, or has just done so
        return LOAD

    def _lacking(self, nodes: Sequence[str], found: _Found) -> list[int] | None:
        """Return which records have no vote yet; ``None`` where one will have none for now."""
        lacking = [index for index, node in enumerate(nodes) if not self._votes(node, found[index])]
        hopeless = any(self._life(nodes[i]) is None or self._is_marked(nodes[i], found[i]) for i in lacking)
        return None if hopeless else lacking

    def _mint(self, look: Look, found: _Found, lacking: Sequence[int], lease: Lease | None = None) -> Op[_Asked | None]:
        """Have records made, put them into ``found``, and ask for the lease of the answer, if one is named.

        It is kept beside the answer wherever its own name would put it: ``fill`` frees it there. ``None``: that node
        could not be asked, or cannot store.
        """
        parts: dict[str, list[int]] = {look.home: []} if lease else {}
        for index in lacking:
            parts.setdefault(look.nodes[index], []).append(index)
        asks = []
        for node, part in parts.items():
            keys = [look.records[i] for i in part]
            head_size = len(look.head) + _SIZE * len(look.records)
            guarded = (lease, look.key, head_size) if lease and node == look.home else ()
            asks.append(Ask(node, Mint(keys, RECORD_TTL_MS, *guarded)))
        asked = None
        for ask, reply in zip(asks, (yield Gather(asks)), strict=True):
            if reply is None or isinstance(reply, TransportError):
                self._lives.pop(ask.node, None)
                continue
            for index, record in zip(parts[ask.node], reply[0], strict=True):
                found[index] = record
            if lease and ask.node == look.home:
                asked = _Asked(reply[1])
        return asked

    def drop(self, key: str) -> Op[bool]:
        """Delete an answer that cannot be read, in one round trip; return whether it is gone."""
        try:
            yield Ask(self._owner(key), Remove((key,)))
        except TransportError:
            return False
        return True

    def fill(self, key: str, payload: bytes | None, versions: bytes, ttl_ms: int, lease: Lease | None) -> Op[bool]:
        """Store an answer under the versions of ``begin`` and free the lease; return whether it was stored.

        One round trip. Without a payload the lease is freed, no more.
        """
        value = None if payload is None else _head(len(versions) // _SIZE) + versions + payload
        request: Request
        if lease is not None:
            request = Fill(key, value, ttl_ms, lease.key, lease.nonce)
        else:
            request = Store(key, value or b"", ttl_ms)
        try:
            yield Ask(self._owner(key), request)
        except TransportError:
            return False
        return True

    def votes(self, records: Sequence[str]) -> Op[list[bytes] | None]:
        """Return the versions of records, made where they are missing; ``None`` without a vote of each.

        One round trip, two where records are missing.
        """
        look = self.look(records[0], records)
        try:
            _, found = yield from self._read(look)
            yield from self._acquaint(look.nodes, found)
            if lacking := self._lacking(look.nodes, found):
                yield from self._mint(look, found, lacking)
        except TransportError:
            return None
        return found if all(map(self._votes, look.nodes, found)) else None  # type: ignore[return-value]

    # ------------------------------------------------------------------ writers

    def mark(self, records: Sequence[str], token: bytes) -> Op[dict[str, TransportError]]:
        """Mark records before COMMIT, in one round trip to all owners at once; return the failures by node.

        P1 holds for a COMMIT only if there are none. A mark that is there already is prolonged.
        """
        return (yield from self._tell(records, lambda keys: Mark(keys, RECORD_TTL_MS, token, self._mark_ms)))

    def bump(self, records: Sequence[str], token: bytes) -> Op[dict[str, TransportError]]:
        """Give records new versions after COMMIT and take the mark ``token`` off, in one round trip.

        A node that fails is owed the bump: this process does not use it before it has had it.
        """
        failures = yield from self._tell(records, lambda keys: Bump(keys, RECORD_TTL_MS, token))
        for node in failures:
            yield OweBumps(node, [record for record in records if self._owner(record) == node])
        return failures

    def unmark(self, records: Sequence[str], token: bytes) -> Op[dict[str, TransportError]]:
        """Take the mark ``token`` off after a rollback that is known, in one round trip; elsewhere it expires."""
        return (yield from self._tell(records, lambda keys: Unmark(keys, RECORD_TTL_MS, token)))

    def _tell(
        self, records: Sequence[str], request: Callable[[Sequence[str]], Request]
    ) -> Op[dict[str, TransportError]]:
        parts: dict[str, list[str]] = {}
        for record in records:
            parts.setdefault(self._owner(record), []).append(record)
        failures: dict[str, TransportError] = {}
        strange: set[str] = set()
        for _ in range(2):  # a node that has to be registered first is asked again
            asks = [Ask(node, request(part)) for node, part in parts.items()]
            strange = set()
            for ask, reply in zip(asks, (yield Gather(asks)) if asks else (), strict=True):
                if isinstance(reply, TransportError):
                    failures[ask.node] = reply
                elif reply is None:
                    strange.add(ask.node)
            if not strange:
                break
            yield from self._register(strange)
            parts = {node: parts[node] for node in strange}
        for node in strange:  # its answer said that it has done nothing
            failures[node] = NodeRefused(node, "UNREGISTERED the node takes no part, and could not be registered")
        return failures

    # ------------------------------------------------------------------ incarnations

    def _register(self, nodes: set[str]) -> Op[None]:
        # Taken before asking: a link that opens meanwhile may lead to a server that has been restarted since.
        generations = {node: self._generation(node) for node in nodes}
        asks = [Ask(node, Register(self._random(8), self._mark_ms)) for node in sorted(nodes)]
        for ask, reply in zip(asks, (yield Gather(asks)), strict=True):
            if isinstance(reply, TransportError):
                self._lives.pop(ask.node, None)
                continue
            incarnation, left_ms, _, _ = reply
            self._lives[ask.node] = _Life(generations[ask.node], incarnation, self._clock() + left_ms / 1000)

    def _life(self, node: str) -> _Life | None:
        """Return what is known of a node that may vote, ``None`` where that is nothing, or not enough."""
        life = self._lives.get(node)
        if life is None or life.generation != self._generation(node) or self._clock() < life.quarantined_until:
            return None
        return life

    def _knows(self, node: str, record: bytes | None) -> bool:
        """Return whether what is known of a node is up to date, as far as a record of it tells.

        In a quarantine there is nothing to learn from void records: none has a vote.
        """
        life = self._lives.get(node)
        if life is None or life.generation != self._generation(node):
            return False
        return record is None or record.startswith(life.incarnation) or self._clock() < life.quarantined_until

    def _votes(self, node: str, record: bytes | None) -> bool:
        life = self._life(node)
        return life is not None and record is not None and len(record) == _SIZE and record.startswith(life.incarnation)

    def _is_marked(self, node: str, record: bytes | None) -> bool:
        """Return whether a mark is likely to be alive; if it is not, the node is asked to settle it."""
        life = self._life(node)
        if life is None or record is None or len(record) == _SIZE or not record.startswith(life.incarnation):
            return False
        deadlines = [int.from_bytes(record[at : at + 8]) for at in range(_SIZE + 1, len(record), _SIZE)]
        return self._wall() * 1000 <= max(deadlines, default=0)


def _head(number: int) -> bytes:
    """Return what an answer under so many versions begins with: the number keeps longer lists apart from shorter."""
    return _TAG + number.to_bytes(2)
