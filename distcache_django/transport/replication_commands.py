"""Translate the requests on replicated records to scripts, and what those reply back.

Each script begins with ``replicas.lua``, which takes the topology and the last moment from its first two arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from distcache_django.core import requests
from distcache_django.transport.wire import ErrorReply, Script, Wire, pack

__all__ = ["REPLICATION_WIRES"]

Words = tuple[bytes | int, ...]

#: A moment in ms after all others, which a double still holds exactly.
_NEVER: Final = 2**53 - 1
_VERDICTS: Final = (None, requests.LATE, requests.STRANGE)


def _scripted(outcome: Callable[[Any], Any]) -> Callable[[Any], requests.Scripted]:
    """Read what ``replicas.lua`` replies, and the outcome with ``outcome``."""

    def decode(reply: Any) -> requests.Scripted:
        fence, now_ms, verdict, *rest = reply
        return requests.Scripted(fence, now_ms, _VERDICTS[verdict] or outcome(rest[0]))

    return decode


def _ttl(ttl_ms: int | None) -> bytes | int:
    return b"" if ttl_ms is None else max(1, ttl_ms)


def _put(request: requests.Put) -> Words:
    head = (request.topology, request.not_after_ms, request.missed_bound, request.drift_ms, int(request.force))
    words: list[bytes | int] = []
    for _, record, ttl_ms, absent, slot in request.items:
        words += (record, _ttl(ttl_ms), absent, slot)
    return (*head, *words)


def _prepare(request: requests.Prepare) -> Words:
    head = (request.topology, request.not_after_ms)
    return (*head, request.drift_ms, _ttl(request.grace_ms), request.ballot)


def _raise(request: requests.Raise) -> Words:
    entry = request.field + request.plus.to_bytes(8) + request.minus.to_bytes(8)
    head = (request.topology, request.not_after_ms, request.missed_bound)
    return (*head, request.base, entry, request.absent, request.slot)


def _void(request: requests.Void) -> Words:
    return (request.topology, request.not_after_ms, *(stamp for _, stamp in request.items))


def _settle(request: requests.Settle) -> Words:
    words: list[Any] = []
    for key, stamp, serial in request.items:
        words += (key, stamp + serial)
    for slot in request.slots:
        words += slot
    return (request.topology, _NEVER, request.node_tag, len(request.items), *words)


def _missed(request: requests.Missed) -> bytes:
    name = request.node_tag.hex()
    keys = pack((b"HSCAN", f"dc:missed:{name}", request.cursor, b"COUNT", request.count))
    return keys if request.cursor else keys + pack((b"HGETALL", f"dc:slots:{name}"))


def _decode_missed(replies: Sequence[Any]) -> tuple[int, list[requests.Noticed], dict[int, int]]:
    for reply in replies:
        if reply.__class__ is ErrorReply:
            raise reply
    (cursor, flat), *rest = replies
    keys = [requests.Noticed(key.decode(), note[:14], note[14:]) for key, note in _pairs(flat)]
    slots = _pairs(rest[0]) if rest else ()
    return int(cursor), keys, {int(slot): int(serial) for slot, serial in slots}


def _pairs(flat: Sequence[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _decode_noted(flat: Sequence[bytes]) -> list[tuple[bytes | None, bytes, bytes]]:
    return [(record or None, mark, tags) for record, mark, tags in zip(*[iter(flat)] * 3, strict=True)]


def _named(request: Any) -> Sequence[str]:
    return [item[0] for item in request.items]


def _none(_: Any) -> Sequence[str]:
    return ()


#: How each request on replicated records travels.
REPLICATION_WIRES: Mapping[type[requests.Request], Wire] = {
    requests.Put: Script("put", after=["replicas", "misses", "counters"]).wire(_put, _scripted(list), _named),
    requests.Prepare: Script("prepare", after=["replicas"]).wire(_prepare, _scripted(tuple)),
    requests.Raise: Script("raise", after=["replicas", "misses", "counters"]).wire(_raise, _scripted(tuple)),
    requests.Void: Script("void", after=["replicas", "misses"]).wire(_void, _scripted(int), _named),
    requests.Missed: Wire(_missed, _decode_missed, replies=lambda request: 1 if request.cursor else 2),
    requests.Noted: Script("noted", after=["replicas"]).wire(
        lambda r: (r.topology, _NEVER, *(slot for _, slot in r.items)), _scripted(_decode_noted), _named
    ),
    requests.Settle: Script("settle", after=["replicas"]).wire(_settle, _scripted(int), _none),
    requests.Rise: Script("rise", after=["replicas"]).wire(
        lambda r: (r.topology, _NEVER, r.incarnation, r.founders), _scripted(bool), _none
    ),
}
