"""The scripts on version records, executed on a ``MemoryNode`` exactly as ``transport/lua`` has them.

Same names, same keys, same bytes: a record that a server made is the record that is made here. Two things are
apart from the dict of keys: ``marked``, which stands for the sorted set ``dc:marked``, and the node's ``run_id``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from distcache_django.core import requests as r
    from distcache_django.testing.memory_node import MemoryNode

__all__ = [
    "COUNT",
    "FENCE",
    "FORMAT",
    "NEWBORN",
    "NO_TOPOLOGY",
    "RUN_ID_SIZE",
    "bump",
    "fence_of",
    "fill",
    "mark",
    "mint",
    "register",
    "unmark",
]

FENCE = "dc:node"
COUNT = "dc:count"
FORMAT = b"2"
RUN_ID_SIZE = 40
NO_TOPOLOGY = bytes(8)
NEWBORN = b"n" + NO_TOPOLOGY
_TOPOLOGY, _BEHIND = 58, 66
_VERSION = 16
#: How many records whose writers never came back are settled by one ``Mark``.
_SWEPT = 8

_Marks = list[tuple[int, bytes]]


class Record(NamedTuple):
    """Be a record as a script finds it: without expired marks, of which ``is_changed`` tells."""

    version: bytes
    kind: bytes
    marks: _Marks
    is_changed: bool


def incarnation(node: MemoryNode) -> bytes | None:
    """Return the node's present incarnation, ``None`` where it has to be registered first."""
    fence = node.text(FENCE)
    return fence[1:9] if fence is not None and fence[:1] == FORMAT and COUNT in node else None


def fresh(node: MemoryNode) -> bytes:
    """Return a version that the node has never given."""
    count = int(node.text(COUNT) or b"0") + 1
    node.put(COUNT, count)
    return (incarnation(node) or b"") + count.to_bytes(8)


def read(node: MemoryNode, key: str) -> Record | None:
    """Return a record, ``None`` where it is missing or void; with an expired mark, its version is a new one."""
    record = node.text(key)
    if record is None or record[:8] != incarnation(node):
        return None
    version = record[:_VERSION]
    if len(record) == _VERSION:
        return Record(version, b"k", [], is_changed=False)
    marks = [(int.from_bytes(record[at : at + 8]), record[at + 8 : at + 16]) for at in range(17, len(record), 16)]
    alive = [entry for entry in marks if entry[0] > node.now_ms()]
    is_changed = len(alive) < len(marks)
    return Record(fresh(node) if is_changed else version, record[16:17], alive, is_changed)


def write(node: MemoryNode, key: str, version: bytes, kind: bytes, marks: _Marks, ttl_ms: int) -> None:
    """Keep a record; without marks it expires, or ceases if a mark created it."""
    if marks:
        node.put(key, version + kind + b"".join(deadline.to_bytes(8) + token for deadline, token in marks))
        node.marked[key] = max(deadline for deadline, _ in marks)
        return
    node.marked.pop(key, None)
    if kind == b"d":
        node.discard(key)
    else:
        node.put(key, version, ttl_ms)


def without(marks: _Marks, token: bytes) -> _Marks:
    """Return the marks other than ``token``."""
    return [entry for entry in marks if entry[1] != token]


def register(node: MemoryNode, request: r.Register) -> tuple[bytes, int, bytes, int]:
    """Execute ``register.lua``."""
    before = node.text(FENCE) or b""
    fence = before
    if incarnation(node) is None or fence[9:49] != node.run_id:
        # Who knows a past has old data, maybe, and still knows who misses what.
        rest = b"r" + fence[_TOPOLOGY:] if fence[:1] == FORMAT else NEWBORN
        fence = fence_of(request.incarnation, node.run_id, node.now_ms() + request.quarantine_ms, rest)
        node.put(COUNT, 0)
    if request.topology and fence[_TOPOLOGY:_BEHIND] == NO_TOPOLOGY:
        fence = fence[:_TOPOLOGY] + request.topology + fence[_BEHIND:]
    if fence != before:
        node.put(FENCE, fence)
    left = int.from_bytes(fence[49:57]) - node.now_ms()
    return fence[1:9], max(0, min(left, request.quarantine_ms)), fence, node.now_ms()


def fence_of(taken: bytes, run_id: bytes, quarantined_until: int, rest: bytes = NEWBORN) -> bytes:
    """Return the bytes of ``dc:node``; ``rest`` is its state, its topology, and who is behind."""
    return FORMAT + taken + run_id + quarantined_until.to_bytes(8) + rest


def mint(node: MemoryNode, request: r.Mint) -> tuple[list[bytes | None], bytes | None] | None:
    """Execute ``mint.lua``."""
    if incarnation(node) is None:
        return None
    records = [_minted(node, key, request.ttl_ms) for key in request.keys]
    if request.lease is None:
        return records, None
    name, nonce, ttl_ms = request.lease
    if name in node:
        return records, None
    node.put(name, nonce, ttl_ms)
    return records, (node.text(request.guarded) or b"")[: request.head_size]


def _minted(node: MemoryNode, key: str, ttl_ms: int) -> bytes | None:
    found = read(node, key)
    if found is None or (found.kind == b"d" and not found.marks):
        write(node, key, fresh(node), b"k", [], ttl_ms)
    elif found.is_changed:
        write(node, key, *found[:3], ttl_ms)
    elif not found.marks and node.ttl_ms(key) < ttl_ms / 2:
        node.expire_in(key, ttl_ms)
    return node.text(key)


def mark(node: MemoryNode, request: r.Mark) -> bool | None:
    """Execute ``mark.lua``."""
    if incarnation(node) is None:
        return None
    for key in request.keys:
        version, kind, marks, _ = read(node, key) or Record(fresh(node), b"d", [], is_changed=False)
        marks = [*without(marks, request.token), (node.now_ms() + request.life_ms, request.token)]
        write(node, key, version, kind, marks, request.ttl_ms)
    sweep(node, request.ttl_ms)
    return True


def sweep(node: MemoryNode, ttl_ms: int) -> None:
    """Settle a few records whose writers never came back."""
    due = sorted((deadline, key) for key, deadline in node.marked.items() if deadline <= node.now_ms())
    for _, key in due[:_SWEPT]:
        found = read(node, key)
        if found is None:
            node.discard(key)
            node.marked.pop(key, None)
        else:
            write(node, key, *found[:3], ttl_ms)


def bump(node: MemoryNode, request: r.Bump) -> bool:
    """Execute ``bump.lua`` for new versions."""
    return _changed(node, request, is_bump=True)


def unmark(node: MemoryNode, request: r.Unmark) -> bool:
    """Execute ``bump.lua`` without new versions."""
    return _changed(node, request, is_bump=False)


def _changed(node: MemoryNode, request: r.Bump, *, is_bump: bool) -> bool:
    for key in request.keys:
        found = read(node, key)
        if found is None:
            node.discard(key)
            continue
        version = fresh(node) if is_bump else found.version
        write(node, key, version, found.kind, without(found.marks, request.token), request.ttl_ms)
    return True


def fill(node: MemoryNode, request: r.Fill) -> bool:
    """Execute ``fill.lua``."""
    if request.value:
        node.put(request.key, request.value, request.ttl_ms)
    if node.text(request.lease) == request.nonce:
        node.discard(request.lease)
    return True
