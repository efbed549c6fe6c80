"""Ask all nodes at once how they are: one frozen report for each, whatever state it is in."""

from __future__ import annotations

import re
import statistics
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from distcache_django.exceptions import NodeRefused, TransportError
from distcache_django.transport.endpoint import Endpoint
from distcache_django.transport.inspect import Asking, questions

__all__ = ["KeyReport", "NodeReport", "brief_reason", "inspect_key", "inspect_nodes"]

_PINGS = 5
#: A node is waited for as long as this many deadlines; one that hangs is given up after the first.
_DEADLINES = 12
#: First words of refusals that concern who asks.
_CREDENTIALS = ("NOAUTH", "WRONGPASS")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReport:
    """Be what one node said of itself; ``None`` is what it did not say.

    ``up`` is whether it serves at present. ``hits``, ``misses`` and ``ops_per_second`` are the whole server's,
    ``keys`` those of the database, whoever wrote them. ``clock_skew_ms`` is how far its clock is ahead of the one
    here, give or take half of ``rtt_ms``, which is the median of a few PINGs.
    """

    name: str
    address: str
    up: bool = False
    error: str = ""
    has_refused_credentials: bool = False
    is_loading: bool = False
    #: Commands that the node's user may not run.
    denied: tuple[str, ...] = ()
    server: str | None = None
    version: str | None = None
    run_id: str | None = None
    role: str | None = None
    is_read_only: bool = False
    keys: int | None = None
    memory_bytes: int | None = None
    maxmemory_bytes: int | None = None
    policy: str | None = None
    ops_per_second: int | None = None
    hits: int | None = None
    misses: int | None = None
    rtt_ms: float | None = None
    clock_skew_ms: float | None = None
    uptime_s: int | None = None
    aof: bool | None = None

    @property
    def is_full(self) -> bool:
        """Return whether the node has no room and makes none, so that it refuses writes."""
        has_room = not self.maxmemory_bytes or (self.memory_bytes or 0) < self.maxmemory_bytes
        return not has_room and self.policy == "noeviction"

    @property
    def hit_ratio(self) -> float | None:
        """Return the share of look-ups that found something since the server started."""
        looked = (self.hits or 0) + (self.misses or 0)
        return (self.hits or 0) / looked if looked else None


@dataclass(frozen=True, slots=True)
class KeyReport:
    """Be what the node of a key says about it; the value itself is not read.

    ``ttl_ms`` is ``None`` for a key without expiry, ``size_bytes`` for one that is no plain value.
    """

    present: bool
    type: str | None = None
    ttl_ms: int | None = None
    size_bytes: int | None = None


def inspect_nodes(endpoints: Mapping[str, Endpoint]) -> tuple[NodeReport, ...]:
    """Ask every node, each in a thread of its own; none is slowed by another that hangs. About ten round trips."""
    reports: dict[str, NodeReport] = {}
    threads = [_Inspection(endpoint, reports) for endpoint in endpoints.values()]
    for thread in threads:
        thread.start()
    longest = max((endpoint.deadline for endpoint in endpoints.values()), default=0.0)
    expires = time.monotonic() + _DEADLINES * longest
    for thread in threads:
        thread.join(max(0.0, expires - time.monotonic()))
    late = f"no report within {_DEADLINES * longest:g} s"
    return tuple(
        reports.get(name) or NodeReport(name=name, address=endpoint.address, error=late)
        for name, endpoint in endpoints.items()
    )


def inspect_key(endpoint: Endpoint, key: str) -> KeyReport:
    """Ask one node about a key: four round trips, the value stays where it is.

    :raises TransportError: if the node does not answer, or refuses.
    """
    with questions(endpoint) as ask:
        kind = _word(ask("TYPE", key))
        if kind == "none":
            return KeyReport(present=False)
        ttl_ms = int(ask("PTTL", key))
        size = int(ask("STRLEN", key)) if kind == "string" else None
    # -2: the key expired between the questions.
    return KeyReport(ttl_ms != -2, kind, ttl_ms if ttl_ms >= 0 else None, size)


class _Inspection(threading.Thread):
    """Inspect one node. A daemon: looking up a host's name cannot be bounded, and must not keep a process."""

    def __init__(self, endpoint: Endpoint, reports: dict[str, NodeReport]) -> None:
        super().__init__(name=f"distcache-inspect-{endpoint.name}", daemon=True)
        self._endpoint = endpoint
        self._reports = reports

    def run(self) -> None:
        """Leave the report where the caller looks for it."""
        endpoint = self._endpoint
        try:
            report = _inspect(endpoint)
        except Exception as error:  # noqa: BLE001 - whatever the client library says of its arguments
            reason = f"{type(error).__name__}: {error}"
            report = NodeReport(name=endpoint.name, address=endpoint.address, error=reason)
        self._reports[endpoint.name] = report


def _inspect(endpoint: Endpoint) -> NodeReport:
    found: dict[str, Any] = {}
    try:
        with questions(endpoint) as ask:
            found.update(_told(ask))
            found.update(_measured(ask))
    except TransportError as error:
        found.update(_failure(error))
    else:
        found["up"] = True
    return NodeReport(name=endpoint.name, address=endpoint.address, **found)


def _failure(error: TransportError) -> dict[str, Any]:
    return {
        "error": brief_reason(error),
        "is_loading": isinstance(error, NodeRefused) and error.code == "LOADING",
        "has_refused_credentials": _is_about_credentials(error),
    }


def _is_about_credentials(error: TransportError) -> bool:
    if isinstance(error, NodeRefused):
        return error.code in _CREDENTIALS
    # While connecting, the client library puts refusals into words of its own.
    cause = type(error.__cause__).__name__
    return cause.startswith("Authentication") or "invalid username-password" in error.reason


def brief_reason(error: TransportError) -> str:
    """Return a reason without what the client library says twice."""
    return re.sub(r"Error -?\d+ connecting to \S+ ", "", error.reason).rstrip(".")


def _told(ask: Asking) -> dict[str, Any]:
    """Return what the server's own figures say; they can be read while it loads its data, too."""
    found: dict[str, Any] = {}
    denied = []
    try:
        found = _parsed(_info(ask("INFO")))
    except NodeRefused as error:
        if error.code != "NOPERM":
            raise
        denied.append("INFO")
    try:
        found["keys"] = int(ask("DBSIZE"))
    except NodeRefused as error:
        if error.code not in ("NOPERM", "LOADING"):
            raise
        denied += ["DBSIZE"] if error.code == "NOPERM" else []
    return {**found, "denied": tuple(denied)}


def _measured(ask: Asking) -> dict[str, Any]:
    """Return the round trip and the distance of the clocks; a node that is loading refuses here."""
    trips = []
    for _ in range(_PINGS):
        started = time.perf_counter()
        ask("PING")
        trips.append(time.perf_counter() - started)
    try:
        before = time.time()
        seconds, microseconds = ask("TIME")
        after = time.time()
    except NodeRefused as error:
        if error.code != "NOPERM":
            raise
        return {"rtt_ms": _ms(statistics.median(trips))}
    theirs = int(seconds) + int(microseconds) / 1_000_000
    return {"rtt_ms": _ms(statistics.median(trips)), "clock_skew_ms": _ms(theirs - (before + after) / 2)}


def _parsed(info: Mapping[str, str]) -> dict[str, Any]:
    role = info.get("role")
    return {
        "server": _server(info),
        "version": info.get("valkey_version") or info.get("redis_version"),
        "run_id": info.get("run_id"),
        "role": "replica" if role == "slave" else role,
        "is_read_only": role == "slave" and info.get("slave_read_only", "1") == "1",
        "memory_bytes": _whole(info, "used_memory"),
        # 0 means without a bound.
        "maxmemory_bytes": _whole(info, "maxmemory") or None,
        "policy": info.get("maxmemory_policy"),
        "ops_per_second": _whole(info, "instantaneous_ops_per_sec"),
        "hits": _whole(info, "keyspace_hits"),
        "misses": _whole(info, "keyspace_misses"),
        "uptime_s": _whole(info, "uptime_in_seconds"),
        "aof": {"0": False, "1": True}.get(info.get("aof_enabled", "")),
    }


def _server(info: Mapping[str, str]) -> str | None:
    if name := info.get("server_name"):
        return name
    return "redis" if "redis_version" in info else None


def _info(reply: Any) -> dict[str, str]:
    return dict(line.split(":", 1) for line in _lines(reply) if ":" in line and not line.startswith("#"))


def _lines(reply: Any) -> Iterable[str]:
    return _word(reply).splitlines()


def _word(reply: Any) -> str:
    return reply.decode(errors="replace") if isinstance(reply, bytes) else str(reply)


def _whole(info: Mapping[str, str], name: str) -> int | None:
    text = info.get(name, "")
    return int(text) if text.isdecimal() else None


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
