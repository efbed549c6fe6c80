"""The scripts on replicated records, executed on a ``MemoryNode`` exactly as ``transport/lua`` has them.

Same names, same keys, same bytes. What is apart from the dict of keys is ``missed``, which stands for the hashes
``dc:missed:…`` and ``dc:slots:…``. What is no record counts as missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any
from zlib import crc32

from distcache_django.core import requests as r
from distcache_django.core.record import COUNTER, TAG, TOMBSTONE
from distcache_django.core.record import STAMP_SIZE as _STAMP_SIZE
from distcache_django.testing.memory_records import FENCE, incarnation

if TYPE_CHECKING:
    from distcache_django.testing.memory_node import MemoryNode

__all__ = ["missed", "noted", "prepare", "put", "raise_field", "rise", "settle", "void"]

_PROMISE = "dc:p:"
_MISSED = "dc:missed:"
_SLOTS = "dc:slots:"
_SERIAL = "dc:serial"
_FOUNDERS = "dc:founders"
_STATE = slice(57, 58)
_TOPOLOGY = slice(58, 66)
_BEHIND = 66
_KIND = slice(1, 2)
_STAMP = slice(2, 16)
_LIFE = slice(16, 32)
_TOUCHED = slice(24, 32)
_NODE = slice(32, 36)
_HEADER = 36
_FIELD, _FOLDED = 24, 32
_NEVER = 2**53 - 1
_OVER = (1).to_bytes(8)


def _script(function: Callable[[MemoryNode, Any], Any]) -> Callable[[MemoryNode, Any], r.Scripted]:
    """Do what ``replicas.lua`` does before and after each script."""

    @wraps(function)
    def execute(node: MemoryNode, request: Any) -> r.Scripted:
        fence = node.text(FENCE) or b""
        if node.now_ms() > getattr(request, "not_after_ms", _NEVER):
            return r.Scripted(fence, node.now_ms(), r.LATE)
        if incarnation(node) is None or fence[_TOPOLOGY] != request.topology:
            return r.Scripted(fence, node.now_ms(), r.STRANGE)
        outcome = function(node, request)
        return r.Scripted(_fence(node), node.now_ms(), outcome)

    return execute


def _fence(node: MemoryNode) -> bytes:
    fence = node.text(FENCE)
    assert fence is not None
    return fence


def _present(node: MemoryNode) -> bytes:
    """Return the tag of the node's incarnation, which valid records have."""
    return _fence(node)[1:5]


def _record(node: MemoryNode, key: str) -> bytes | None:
    found: bytes | None = node.execute(r.Fetch(key))
    return found if found is not None and len(found) >= _HEADER and found[:1] == TAG else None


def _valid(node: MemoryNode, key: str) -> bytes | None:
    record = _record(node, key)
    return record if record is not None and record[_NODE] == _present(node) else None


def _promise(node: MemoryNode, key: str) -> bytes:
    return node.text(_PROMISE + key) or b""


def _is_ahead(node: MemoryNode, stamp: bytes, drift_ms: int) -> bool:
    return int.from_bytes(stamp[:6]) > node.now_ms() + drift_ms


# ---------------------------------------------------------------- what others miss


def _note(node: MemoryNode, key: str, record: bytes, request: Any, absent: bytes, slot: int) -> None:
    """Note the owners that miss what has been written; each is called behind."""
    for at in range(0, len(absent), 4):
        tag = absent[at : at + 4]
        _note_one(node, tag.hex(), key, record, request.missed_bound, slot)
        fence = _fence(node)
        if tag not in _behind(fence):
            node.put(FENCE, fence + tag)


def _renote(node: MemoryNode, key: str, stamp: bytes, ends: bytes) -> None:
    """Let what is noted of a key be about what has come in the place of the record it was about."""
    for tag in _behind(_fence(node)):
        keys = node.missed.get(_MISSED + tag.hex(), {})
        if key in keys and keys[key][:_STAMP_SIZE] <= stamp:
            keys[key] = stamp + keys[key][_STAMP_SIZE:-8] + ends


def _ending(record: bytes) -> bytes:
    """Return when a record ends, as notes have it."""
    return _OVER if record[_KIND] == TOMBSTONE else record[_LIFE][:8]


def _note_one(node: MemoryNode, name: str, key: str, record: bytes, bound: int, slot: int) -> None:
    serial = int(node.text(_SERIAL) or b"0") + 1
    node.put(_SERIAL, serial)
    keys = node.missed.get(_MISSED + name, {})
    if key in keys or len(keys) < bound:
        before, stamp = keys.get(key, b""), record[_STAMP]
        ends = _ending(record)
        if before[:_STAMP_SIZE] > stamp:
            stamp, ends = before[:_STAMP_SIZE], before[-8:]
        node.missed.setdefault(_MISSED + name, {})[key] = stamp + serial.to_bytes(8) + ends
    else:
        node.missed.setdefault(_SLOTS + name, {})[str(slot)] = b"%d" % serial


def _behind(fence: bytes) -> list[bytes]:
    return [fence[at : at + 4] for at in range(_BEHIND, len(fence), 4)]


def missed(node: MemoryNode, request: r.Missed) -> tuple[int, list[r.Noticed], dict[int, int]]:
    """Do what HSCAN and HGETALL do: a key that is there all the time is listed, in an order that no change disturbs."""
    name = request.node_tag.hex()
    keys = node.missed.get(_MISSED + name, {})
    places = sorted((crc32(key.encode()) + 1, key) for key in keys)
    left = [place for place in places if place[0] >= request.cursor]
    last = left[: max(1, request.count)][-1:]
    page = [place for place in left if place <= last[0] or place[0] == last[0][0]] if last else []
    cursor = last[0][0] + 1 if len(page) < len(left) else 0
    slots = {} if request.cursor else node.missed.get(_SLOTS + name, {})
    found = [r.Noticed(key, keys[key][:_STAMP_SIZE], keys[key][_STAMP_SIZE:]) for _, key in page]
    return cursor, found, {int(slot): int(serial) for slot, serial in slots.items()}


@_script
def noted(node: MemoryNode, request: r.Noted) -> list[tuple[bytes | None, bytes, bytes]]:
    """Execute ``noted.lua``."""
    behind = _behind(_fence(node))
    found = []
    for key, slot in request.items:
        marks = [node.missed.get(_MISSED + tag.hex(), {}).get(key, b"") for tag in behind]
        largest = max(marks, key=lambda mark: mark[:_STAMP_SIZE], default=b"")
        tags = [tag for tag in behind if str(slot) in node.missed.get(_SLOTS + tag.hex(), {})]
        found.append((_record(node, key), largest[:_STAMP_SIZE] + largest[-8:] if largest else b"", b"".join(tags)))
    return found


@_script
def settle(node: MemoryNode, request: r.Settle) -> int:
    """Execute ``settle.lua``."""
    tag = request.node_tag
    keys = {key: stamp + serial for key, stamp, serial in request.items}
    count = _unnote(node, _MISSED + tag.hex(), keys)
    slots = {str(slot): b"%d" % serial for slot, serial in request.slots}
    if _unnote(node, _SLOTS + tag.hex(), slots):
        return count or -1
    fence = _fence(node)
    if count == 0 and tag in _behind(fence):
        node.put(FENCE, fence[:_BEHIND] + b"".join(other for other in _behind(fence) if other != tag))
    return count


def _unnote(node: MemoryNode, name: str, settled: Mapping[str, bytes]) -> int:
    """Take back what is noted still as it is given here, and return the number of what is left."""
    noted = node.missed.get(name, {})
    for field, value in settled.items():
        if noted.get(field) == value:
            del noted[field]
    if not noted:
        node.missed.pop(name, None)
    return len(noted)


# ---------------------------------------------------------------- records


@_script
def put(node: MemoryNode, request: r.Put) -> list[bytes]:
    """Execute ``put.lua``."""
    answers = []
    for item in request.items:
        answer = _put(node, item, request)
        if answer in (b"S", b"="):
            there = _record(node, item.key)
            assert there is not None
            _renote(node, item.key, there[_STAMP], _ending(there))
            _note(node, item.key, item.record, request, item.absent, item.slot)
        answers.append(answer)
    return answers


def _put(node: MemoryNode, item: r.PutItem, request: r.Put) -> bytes:
    stamp = item.record[_STAMP]
    if _is_ahead(node, stamp, request.drift_ms):
        return b"A"
    held = _record(node, item.key)
    there = held[_STAMP] if held is not None else b""
    if held is not None and request.force and there != stamp and held[_NODE] != _present(node):
        held, there = None, b""
    if there > stamp:
        return b"O" + there
    if (promise := _promise(node, item.key)) > stamp:
        return b"P" + promise
    if held is not None and there == stamp:
        _join(node, item, held)
        return b"="
    node.put(item.key, item.record[:32] + _present(node) + item.record[_HEADER:], _kept(item.ttl_ms))
    return b"S"


def _kept(ttl_ms: int | None) -> int | None:
    return None if ttl_ms is None else max(1, ttl_ms)


def _join(node: MemoryNode, item: r.PutItem, held: bytes) -> None:
    """Take over what the same write has here and there, in place: the key keeps its expiry unless its life changes."""
    given = item.record
    is_later = given[_TOUCHED] > held[_TOUCHED]
    life = given[_LIFE] if is_later else held[_LIFE]
    payload = held[_HEADER:]
    if held[_KIND] == given[_KIND] == COUNTER:
        payload = _joined_counters(payload, given[_HEADER:])
    node.amend(item.key, held[:16] + life + _present(node) + payload)
    if is_later:
        node.expire_in(item.key, _kept(item.ttl_ms))


def _joined_counters(held: bytes, given: bytes) -> bytes:
    value, fields, folded = _counter(held)
    _, more_fields, more_folded = _counter(given)
    return value + _joined(fields, more_fields, _FIELD) + _joined(folded, more_folded, _FOLDED)


def _counter(payload: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the value, the fields and the folded fields of a counter, the latter two without their number."""
    middle = 10 + int.from_bytes(payload[8:10]) * _FIELD
    after = middle + 2
    return payload[:8], payload[10:middle], payload[after : after + int.from_bytes(payload[middle:after]) * _FOLDED]


def _joined(held: bytes, given: bytes, size: int) -> bytes:
    """Return the number of entries, and the entries, of both: what has one name in both, each number at its largest."""
    entries = {held[at : at + 8]: held[at + 8 : at + size] for at in range(0, len(held), size)}
    for at in range(0, len(given), size):
        name, numbers = given[at : at + 8], given[at + 8 : at + size]
        entries[name] = _largest(entries.get(name, numbers), numbers)
    return len(entries).to_bytes(2) + b"".join(name + numbers for name, numbers in entries.items())


def _largest(one: bytes, other: bytes) -> bytes:
    return b"".join(max(one[at : at + 8], other[at : at + 8]) for at in range(0, len(one), 8))


@_script
def prepare(node: MemoryNode, request: r.Prepare) -> tuple[bytes, bytes | None]:
    """Execute ``prepare.lua``."""
    if _fence(node)[_STATE] != b"u":
        return b"R", b""
    if _is_ahead(node, request.ballot, request.drift_ms):
        return b"A", b""
    held, promise = _record(node, request.key), _promise(node, request.key)
    there = held[_STAMP] if held is not None else b""
    if max(there, promise) > request.ballot or there == request.ballot:
        return b"O", max(there, promise)
    node.put(_PROMISE + request.key, request.ballot, _kept(request.grace_ms))
    return b"P", _valid(node, request.key)


@_script
def raise_field(node: MemoryNode, request: r.Raise) -> tuple[bytes, bytes | None]:
    """Execute ``raise.lua``."""
    record, base = _valid(node, request.key), request.base
    if record is not None and record[_STAMP] > base:
        return b"N", record
    promise = _promise(node, request.key)
    if promise > base:
        return b"P", promise
    if record is None or record[_STAMP] != base:
        return b"B", record
    if record[_KIND] != COUNTER:
        return b"N", record
    value, fields, folded = _counter(record[_HEADER:])
    fields = _joined(fields, request.field + request.plus.to_bytes(8) + request.minus.to_bytes(8), _FIELD)
    record = record[:_HEADER] + value + fields + _joined(folded, b"", _FOLDED)
    node.amend(request.key, record)
    _note(node, request.key, record, request, request.absent, request.slot)
    return b"S", record


@_script
def void(node: MemoryNode, request: r.Void) -> int:
    """Execute ``void.lua``."""
    count = 0
    for key, stamp in request.items:
        record = _record(node, key)
        if record is None or record[_STAMP] <= stamp:
            count += record is not None
            if record is not None:
                node.discard(key)
            _renote(node, key, stamp, _OVER)
    return count


@_script
def rise(node: MemoryNode, request: r.Rise) -> bool:
    """Execute ``rise.lua``."""
    fence = _fence(node)
    if fence[1:9] != request.incarnation:
        return False
    node.put(FENCE, fence[:57] + b"u" + fence[58:])
    if request.founders:
        node.put(_FOUNDERS, request.founders)
    return True
