"""Translate node requests to RESP and Lua, and replies back: pure, and shared by both drivers.

``WIRES`` has one ``Wire`` for each request class; those on replicated records are in ``replication_commands``. A server
that lacks a command, or has not loaded a script, answers with an error that starts with one of ``Wire.fallback_on``;
the driver then sends the fallback.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from distcache_django.core import requests
from distcache_django.exceptions import NodeRefused, NotAnInteger
from distcache_django.transport.replication_commands import REPLICATION_WIRES
from distcache_django.transport.wire import ErrorReply, Script, Wire, pack

__all__ = ["NOT_SERVING", "WIRES", "ErrorReply", "Wire", "error_for", "pack", "wires_without"]

#: First words of errors that say that a node does not serve at all at present, whatever it is asked.
NOT_SERVING = frozenset({"LOADING", "MASTERDOWN", "CLUSTERDOWN", "BUSY", "NOAUTH"})


def error_for(node: str, request: requests.Request, message: str) -> Exception:
    """Return the exception that an error reply of ``node`` to ``request`` stands for."""
    if isinstance(request, requests.Increase) and ("not an integer" in message or "overflow" in message):
        return NotAnInteger(f"the value of key {request.key!r} is not an integer that can be counted: {message}")
    return NodeRefused(node, message)


def _fetch(request: requests.Fetch) -> bytes:
    key = request.key.encode()
    return b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key)


def _fetch_many(request: requests.FetchMany) -> bytes:
    return pack((b"MGET", *request.keys))


def _store(request: requests.Store) -> bytes:
    key = request.key.encode()
    value = request.value if isinstance(request.value, bytes) else b"%d" % request.value
    if request.ttl_ms is None:
        return b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(value), value)
    ttl = b"%d" % request.ttl_ms
    return b"*5\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$2\r\nPX\r\n$%d\r\n%b\r\n" % (
        len(key),
        key,
        len(value),
        value,
        len(ttl),
        ttl,
    )


def _store_if(request: requests.StoreIf) -> bytes:
    ttl_ms = request.ttl_ms
    expiry: tuple[bytes | int, ...] = () if ttl_ms is None else (b"PX", ttl_ms)
    return pack((b"SET", request.key, request.value, *expiry, request.condition))


def _store_many(request: requests.StoreMany) -> bytes:
    expiry = () if request.ttl_ms is None else (b"PX", request.ttl_ms)
    return pack((b"MSETEX", len(request.items), *chain.from_iterable(request.items), *expiry))


def _store_each(request: requests.StoreMany) -> bytes:
    ttl_ms = request.ttl_ms
    return b"".join([_store(requests.Store(key, value, ttl_ms)) for key, value in request.items])


def _persist(request: requests.Persist) -> bytes:
    return pack((b"PERSIST", request.key)) + pack((b"EXISTS", request.key))


def _inspect(request: requests.Inspect) -> bytes:
    return _fetch(request) + pack((b"PTTL", request.key))  # type: ignore[arg-type]


def _scan(request: requests.Scan) -> bytes:
    return pack((b"SCAN", request.cursor, b"MATCH", request.pattern, b"COUNT", request.count))


def _first_error(replies: Sequence[Any]) -> None:
    for reply in replies:
        if reply.__class__ is ErrorReply:
            raise reply


def _decode_pair(replies: Sequence[Any]) -> tuple[Any, Any]:
    _first_error(replies)
    return replies[0], replies[1]


def _decode_persist(replies: Sequence[Any]) -> tuple[bool, bool]:
    _first_error(replies)
    return bool(replies[0]), bool(replies[1])


def _decode_stored_each(replies: Sequence[Any]) -> list[bool]:
    if all(reply.__class__ is ErrorReply for reply in replies):
        _first_error(replies)
    return [reply == b"OK" for reply in replies]


def _decode_ok(reply: Any) -> bool:
    return reply is not None


def _decode_token(reply: Any) -> int | None:
    return None if reply is None else int(reply)


def _decode_scan(reply: Any) -> tuple[int, list[str]]:
    keys = []
    for key in reply[1]:
        try:
            keys.append(key.decode())
        except UnicodeDecodeError:
            continue  # no key of a cache is anything but UTF-8
    return int(reply[0]), keys


def _mint_keys(request: requests.Mint) -> Sequence[str]:
    return request.keys if request.lease is None else [*request.keys, request.lease[0], request.guarded]


def _mint_arguments(request: requests.Mint) -> tuple[bytes | int, ...]:
    lease = (b"", 0) if request.lease is None else request.lease[1:]
    return (len(request.keys), request.ttl_ms, *lease, request.head_size)


def _decode_mint(reply: Any) -> tuple[list[bytes], bytes | None] | None:
    return None if reply is None else (reply[1:], reply[0] if isinstance(reply[0], bytes) else None)


def _several(request: Any) -> Sequence[str]:
    keys: Sequence[str] = request.keys
    return keys


def _done(reply: Any) -> bool | None:
    return None if reply is None else True


_BUMP = Script("bump", after=["records"])


def _pipelined(_: Any) -> int:
    return 2


_STORE_EACH = Wire(_store_each, _decode_stored_each, replies=lambda request: len(request.items))

#: How each request travels on a server that has everything.
WIRES: Mapping[type[requests.Request], Wire] = {
    requests.Ping: Wire(lambda _: b"*1\r\n$4\r\nPING\r\n"),
    requests.Fetch: Wire(_fetch, straight=True),
    requests.FetchMany: Wire(_fetch_many, straight=True),
    requests.Exists: Wire(lambda r: pack((b"EXISTS", r.key)), bool, straight=True),
    requests.TimeToLive: Wire(lambda r: pack((b"PTTL", r.key)), straight=True),
    requests.Inspect: Wire(_inspect, _decode_pair, replies=_pipelined),
    requests.Store: Wire(_store, _decode_ok, straight=True),
    requests.StoreIf: Wire(_store_if, _decode_ok),
    requests.StoreMany: Wire(
        _store_many,
        bool,
        fallback=_STORE_EACH,
        fallback_on=("ERR unknown command", "NOPERM"),
        sticky=True,
    ),
    requests.Remove: Wire(lambda r: pack((b"UNLINK", *r.keys)), straight=True),
    requests.Increase: Script("increase").wire(lambda r: (r.delta,)),
    requests.Expire: Wire(lambda r: pack((b"PEXPIRE", r.key, r.ttl_ms)), bool, straight=True),
    requests.Deadline: Wire(lambda r: pack((b"PEXPIREAT", r.key, r.unix_ms)), bool),
    requests.Persist: Wire(_persist, _decode_persist, replies=_pipelined),
    requests.Scan: Wire(_scan, _decode_scan),
    requests.Acquire: Script("acquire").wire(lambda r: (r.nonce, r.ttl_ms or 0), _decode_token),
    requests.Release: Script("release").wire(lambda r: (r.nonce,), bool),
    requests.Prolong: Script("prolong").wire(lambda r: (r.nonce, r.ttl_ms, int(r.add)), bool),
    requests.Register: Script("register", after=["records"]).wire(
        lambda r: (r.incarnation, r.quarantine_ms, r.topology), tuple, lambda _: ()
    ),
    requests.Mint: Script("mint", after=["records"]).wire(_mint_arguments, _decode_mint, _mint_keys),
    requests.Mark: Script("mark", after=["records"]).wire(lambda r: (r.life_ms, r.token, r.ttl_ms), _done, _several),
    requests.Bump: _BUMP.wire(lambda r: (r.ttl_ms, r.token, 1), _done, _several),
    requests.Unmark: _BUMP.wire(lambda r: (r.ttl_ms, r.token, 0), _done, _several),
    requests.Fill: Script("fill").wire(lambda r: (r.value or b"", r.ttl_ms, r.nonce), bool, lambda r: (r.key, r.lease)),
    **REPLICATION_WIRES,
}


def wires_without(
    wires: Mapping[type[requests.Request], Wire], request_class: type[requests.Request]
) -> Mapping[type[requests.Request], Wire]:
    """Return ``wires`` with the fallback in place of the first form of ``request_class``."""
    fallback = wires[request_class].fallback
    return wires if fallback is None else {**wires, request_class: fallback}
