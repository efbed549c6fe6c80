"""What a replicated key is on a node: a header that lets copies be compared, and a payload.

    0   1  0x10, which tells a record from every other value
    1   1  kind: value, tombstone, counter, lock
    2  14  stamp: 6 bytes of milliseconds, 2 of count, 6 of actor, so that stamps are compared as bytes
    16  8  when it ends, Unix milliseconds, 0 for never
    24  8  when its life was last changed without a new value, in the form of a stamp without its actor
    32  4  how the incarnation begins of the node that keeps it, written by that node
    36     payload

Equal stamps are the same write. A node keeps records beyond their end, and tombstones in place of deleted ones, until
no older copy can come back. A record that its node wrote in an earlier incarnation is *void*: it may be older than
what has been acknowledged since, and counts as missing.

A *counter* is a base, which an ordinary write gives, and fields that clients raise: each client has fields of its own
and only ever sends their totals, so a request may be repeated anywhere. Fields count for their base's stamp only.
``folded`` is what the base already contains of fields that are no longer there.

A value that somebody else stored once more (``core.agreement``) has kind ``a``, and before its payload the stamp it
had first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from struct import Struct
from typing import Final, NamedTuple

from mmh3 import hash as murmur3_32

__all__ = [
    "COUNTER",
    "LOCK",
    "NODE_TAG",
    "NO_STAMP",
    "NO_TOUCH",
    "STAMP_SIZE",
    "TAG",
    "TOMBSTONE",
    "VALUE",
    "Counter",
    "Field",
    "Folded",
    "Record",
    "Stamp",
    "counter_payload",
    "merged",
    "node_tag",
    "parse",
    "stamp_ms",
]

Stamp = bytes
STAMP_SIZE: Final = 14
NO_STAMP: Final = bytes(STAMP_SIZE)
NO_TOUCH: Final = bytes(8)

TAG: Final = b"\x10"
VALUE: Final = b"v"
TOMBSTONE: Final = b"t"
COUNTER: Final = b"c"
LOCK: Final = b"l"
_ADOPTED: Final = b"a"
_KINDS: Final = frozenset({VALUE, TOMBSTONE, COUNTER, LOCK})

_HEADER: Final = Struct(">1s1s14sQ8s4s")
_BASE: Final = Struct(">qH")
_FIELD: Final = Struct(">8sQQ")
_COUNT: Final = Struct(">H")
_FOLDED: Final = Struct(">8sQQQ")
_NO_NODE: Final = bytes(4)
#: Where a record names the incarnation of the node that keeps it: all else is the same on all nodes.
NODE_TAG: Final = slice(32, 36)


class Record(NamedTuple):
    """Be one version of a key.

    ``expires_at`` is in Unix milliseconds, 0 for never; ``origin`` the stamp of an adopted value's first form.
    """

    kind: bytes
    stamp: Stamp
    expires_at: int = 0
    payload: bytes = b""
    touched: bytes = NO_TOUCH
    node: bytes = _NO_NODE
    origin: Stamp = b""

    def pack(self) -> bytes:
        """Return the bytes that a node is sent; it writes its own incarnation into them."""
        kind = _ADOPTED if self.origin and self.kind == VALUE else self.kind
        header = _HEADER.pack(TAG, kind, self.stamp, self.expires_at, self.touched, _NO_NODE)
        return b"".join((header, self.origin if kind == _ADOPTED else b"", self.payload))

    def is_live(self, now_ms: float) -> bool:
        """Return whether there is a value: it was not deleted and has not ended."""
        return self.kind != TOMBSTONE and (not self.expires_at or self.expires_at > now_ms)

    @property
    def version(self) -> tuple[Stamp, bytes]:
        """Return what two copies are compared by."""
        return self.stamp, self.touched


class Field(NamedTuple):
    """Be what one client has added to a counter and taken from it, in all."""

    plus: int
    minus: int


class Folded(NamedTuple):
    """Be what a base contains of a field, and until when (Unix milliseconds) that has to be known."""

    plus: int
    minus: int
    until: int


class Counter(NamedTuple):
    """Be the payload of a counter."""

    base: int
    fields: Mapping[bytes, Field]
    folded: Mapping[bytes, Folded]

    @classmethod
    def parse(cls, payload: bytes) -> Counter:
        """Read a payload.

        :raises ValueError: if it is damaged.
        """
        try:
            base, count = _BASE.unpack_from(payload)
            middle = _BASE.size + count * _FIELD.size
            (kept,) = _COUNT.unpack_from(payload, middle)
            after = middle + _COUNT.size
            if len(payload) != after + kept * _FOLDED.size:
                raise ValueError("the record of a counter is damaged")
            fields = {name: Field(*rest) for name, *rest in _FIELD.iter_unpack(payload[_BASE.size : middle])}
            folded = {name: Folded(*rest) for name, *rest in _FOLDED.iter_unpack(payload[after:])}
        except Exception as error:
            raise ValueError("the record of a counter is damaged") from error
        return cls(base, fields, folded)

    @property
    def value(self) -> int:
        """Return what is counted."""
        return self.base + sum(field.plus - field.minus for field in self.fields.values())

    def pack(self) -> bytes:
        """Return the payload."""
        fields = b"".join(_FIELD.pack(name, *field) for name, field in self.fields.items())
        folded = b"".join(_FOLDED.pack(name, *field) for name, field in self.folded.items())
        return b"".join((
            _BASE.pack(self.base, len(self.fields)), fields, _COUNT.pack(len(self.folded)), folded,
        ))  # fmt: skip


def counter_payload(value: int) -> bytes:
    """Return the payload of a counter that nobody has raised yet."""
    return _BASE.pack(value, 0) + _COUNT.pack(0)


def parse(raw: bytes | None, incarnation: bytes | None = None) -> Record | None:
    """Read what a node has sent, ``None`` where there is no record, or a void one if its incarnation is given.

    Foreign and damaged bytes are no record: a cache in use before replication leaves values behind that are worth
    a miss.
    """
    if raw is None or len(raw) < _HEADER.size or raw[:1] != TAG:
        return None
    _, kind, stamp, expires_at, touched, node = _HEADER.unpack_from(raw)
    if incarnation is not None and node != incarnation[:4]:
        return None
    if kind == _ADOPTED:
        start = _HEADER.size + STAMP_SIZE
        return Record(VALUE, stamp, expires_at, raw[start:], touched, node, raw[_HEADER.size : start])
    payload = raw[_HEADER.size :]
    if kind not in _KINDS or (kind == COUNTER and not _is_counter(payload)):
        return None
    return Record(kind, stamp, expires_at, payload, touched, node)


def _is_counter(payload: bytes) -> bool:
    try:
        Counter.parse(payload)
    except ValueError:
        return False
    return True


def merged(records: Iterable[Record]) -> Record | None:
    """Return the newest of several copies; equal counters are joined, each field at its largest."""
    found = list(records)
    if not found:
        return None
    newest = max(found, key=lambda record: record.version)
    if newest.kind != COUNTER:
        return newest
    same = [record for record in found if record.stamp == newest.stamp]
    if all(record.payload == newest.payload for record in same):
        return newest
    counters = [Counter.parse(record.payload) for record in same]
    fields: dict[bytes, Field] = {}
    folded: dict[bytes, Folded] = {}
    for counter in counters:
        for name, field in counter.fields.items():
            fields[name] = Field(*map(max, field, fields.get(name, field)))
        for name, kept in counter.folded.items():
            folded[name] = Folded(*map(max, kept, folded.get(name, kept)))
    return newest._replace(payload=Counter(counters[0].base, fields, folded).pack())


def stamp_ms(stamp: Stamp) -> int:
    """Return the milliseconds of a stamp."""
    return int.from_bytes(stamp[:6])


def node_tag(name: str) -> bytes:
    """Return the four bytes that stand for a node in fences and marks."""
    return murmur3_32(name, 0, signed=False).to_bytes(4)
