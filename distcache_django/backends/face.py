"""The synchronous face of the cache: each method builds an Op and runs it on the blocking driver."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache

from distcache_django.backends.client import ClientAccess
from distcache_django.backends.extras import Extras
from distcache_django.backends.keys import Unseen
from distcache_django.backends.locks import Lock
from distcache_django.backends.operations import Operations
from distcache_django.core.topology import Topology
from distcache_django.freshness.loading import service_for
from distcache_django.freshness.naming import dependencies_of
from distcache_django.runtime import runtime_for

__all__ = ["Location", "SyncCache"]

T = TypeVar("T")
#: Seconds that stand for no timeout where one is needed: ten years.
_FOR_EVER = 315_360_000.0


@dataclass(frozen=True, slots=True)
class Location:
    """Say where a key is: its full name, its slot, its owners, and all nodes in the order they would serve it."""

    key: str
    slot: int
    owners: tuple[str, ...]
    preference_list: tuple[str, ...]


class SyncCache(BaseCache):
    """Keep Django's cache contract over several nodes; see ``DistributedCache``, which adds the async twins."""

    def __init__(self, location: object, params: dict[str, Any]) -> None:
        super().__init__(params)
        self.default_timeout = _exact_timeout(params, self.default_timeout)
        self._location = location
        self._params = params

    def __getattr__(self, name: str) -> Any:
        # Django makes an object for each thread and task, and `check` makes them only to look at their class:
        # everything that needs valid settings is bound at the first use.
        if name not in _BOUND_AT_FIRST_USE:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        runtime = self._runtime = runtime_for(self._location, self._params)
        cluster = runtime.cluster
        self._ops = Operations(self, runtime)
        self._extras = Extras(self._ops)
        self._run = cluster.run
        self._arun = cluster.arun
        return self.__dict__[name]

    # ------------------------------------------------------------------ Django's contract

    def get(self, key: Any, default: Any = None, version: Any = None) -> Any:
        """Return the value, or ``default`` on a miss. One round trip."""
        return self._run(self._ops.get(key, default, version))

    def set(  # type: ignore[override]  # it says what became of the request
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: Any = None,
        *,
        nx: bool = False,
        xx: bool = False,
    ) -> bool:
        """Store a value; return whether its node acknowledged it and ``nx`` or ``xx`` was met. One round trip.

        With ``nx`` only a new key is stored, with ``xx`` only a present one.
        """
        return bool(self._run(self._ops.set(key, value, timeout, version, _condition(nx, xx))))

    def add(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> bool:
        """Store a value unless there is one; return whether it was stored. One round trip, atomic.

        ``False`` while the key's node is down, so that callers may try another key.

        :raises Unavailable: if no node answers at all, and for any node that is down under
            ``ON_UNAVAILABLE="raise"``.
        """
        return bool(self._run(self._ops.add(key, value, timeout, version)))

    def touch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> bool:
        """Give a key a new time to live; return whether it is there. One round trip."""
        return bool(self._run(self._ops.touch(key, timeout, version)))

    def delete(self, key: Any, version: Any = None) -> bool:
        """Delete a key; return whether it was there and its node acknowledged. One round trip."""
        return bool(self._run(self._ops.delete(key, version)))

    def has_key(self, key: Any, version: Any = None) -> bool:
        """Return whether a key is there. One round trip."""
        return bool(self._run(self._ops.has_key(key, version)))

    def get_many(self, keys: Iterable[Any], version: Any = None) -> dict[Any, Any]:
        """Return the values that are there, by key. One round trip per node, all at once.

        A node that does not answer costs its own keys only.
        """
        found: dict[Any, Any] = self._run(self._ops.get_many(keys, version))
        return found

    def set_many(self, data: Mapping[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> list[Any]:
        """Store values; return the keys that were not. One round trip per node, all at once."""
        failed: list[Any] = self._run(self._ops.set_many(data, timeout, version))
        return failed

    def delete_many(self, keys: Iterable[Any], version: Any = None) -> None:
        """Delete keys. One round trip per node, all at once."""
        self._run(self._ops.delete_many(keys, version))

    def get_or_set(self, key: Any, default: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> Any:
        """Return the value, storing ``default`` (called, if callable) where there is none. Up to three round trips."""
        return self._run(self._ops.get_or_set(key, default, timeout, version))

    def incr(self, key: Any, delta: int = 1, version: Any = None) -> int:
        """Add to an integer, keeping its time to live; return the new value. One round trip, atomic.

        :raises ValueError: if there is no such key. :raises NotAnInteger: if the value is not an integer.
        :raises Unavailable: if the key's node does not answer, whatever ``ON_UNAVAILABLE`` says.
        """
        return int(self._run(self._ops.incr(key, delta, version)))

    def decr(self, key: Any, delta: int = 1, version: Any = None) -> int:
        """Subtract from an integer; see ``incr``."""
        return int(self._run(self._ops.incr(key, -delta, version)))

    def incr_version(self, key: Any, delta: int = 1, version: Any = None) -> int:
        """Move a value to a higher version, keeping its time to live; return that version. Not atomic."""
        return int(self._run(self._ops.incr_version(key, delta, version)))

    def decr_version(self, key: Any, delta: int = 1, version: Any = None) -> int:
        """Move a value to a lower version; see ``incr_version``."""
        return int(self._run(self._ops.incr_version(key, -delta, version)))

    def clear(self) -> bool:  # type: ignore[override]  # it says what became of the request
        """Delete all keys of this alias, in all versions; return whether every node acknowledged.

        Other aliases (by ``KEY_PREFIX``) and foreign data on the same servers stay. Scans every node.
        """
        return bool(self._run(self._ops.clear()))

    def close(self, **kwargs: Any) -> None:
        """Do nothing: links outlive requests, and Django calls this at the end of each."""

    # ------------------------------------------------------------------ django-redis's additions

    def ttl(self, key: Any, version: Any = None) -> int | None:
        """Return the seconds left: ``None`` for ever, 0 without the key. One round trip."""
        left: int | None = self._run(self._extras.ttl(key, version))
        return left

    def pttl(self, key: Any, version: Any = None) -> int | None:
        """Return the milliseconds left: ``None`` for ever, 0 without the key. One round trip."""
        left: int | None = self._run(self._extras.pttl(key, version))
        return left

    def persist(self, key: Any, version: Any = None) -> bool:
        """Take the expiry away; return whether there was one. One round trip."""
        return bool(self._run(self._extras.persist(key, version)))

    def expire(self, key: Any, timeout: Any, version: Any = None) -> bool:
        """Set the seconds left; return whether the key is there. One round trip."""
        return bool(self._run(self._extras.expire(key, timeout, version)))

    def pexpire(self, key: Any, timeout: Any, version: Any = None) -> bool:
        """Set the milliseconds left; return whether the key is there. One round trip."""
        return bool(self._run(self._extras.pexpire(key, timeout, version)))

    def expire_at(self, key: Any, when: Any, version: Any = None) -> bool:
        """Let a key expire at a ``datetime`` or Unix time in seconds; return whether it is there. One round trip."""
        return bool(self._run(self._extras.expire_at(key, when, version)))

    def pexpire_at(self, key: Any, when: Any, version: Any = None) -> bool:
        """Let a key expire at a ``datetime`` or Unix time in milliseconds; return whether it is there."""
        return bool(self._run(self._extras.pexpire_at(key, when, version)))

    def keys(self, search: str = "*", version: Any = None) -> list[str]:
        """Return the keys that match a glob, from all nodes that answer. Scans every node."""
        found: list[str] = self._run(self._extras.keys(search, version))
        return found

    def iter_keys(self, search: str = "*", version: Any = None, *, itersize: int = 1000) -> Iterator[str]:
        """Yield the keys that match a glob, node by node, a page of about ``itersize`` at a time.

        With several owners per key this remembers the keys it has yielded.
        """
        unseen = Unseen(self.topology)
        for node in self.topology.node_names:
            cursor = 0
            while True:
                cursor, found = self._run(self._extras.page(node, cursor, search, version, itersize))
                yield from unseen(found)
                if not cursor:
                    break

    def delete_pattern(
        self, pattern: str, version: Any = None, prefix: str | None = None, *, itersize: int = 1000
    ) -> int:
        """Delete the keys that match a glob; return how many there were. Scans every node."""
        return int(self._run(self._extras.delete_pattern(pattern, version, prefix, itersize)))

    def lock(
        self,
        key: Any,
        version: Any = None,
        timeout: float | None = None,
        sleep: float = 0.1,
        blocking: bool = True,
        blocking_timeout: float | None = None,
    ) -> Lock:
        """Return a lock on ``key``, not yet taken; times are in seconds, ``timeout`` is its longest life."""
        return Lock(
            self._run,
            self._runtime.coordinator,
            self._ops.keys.full(key, version),
            timeout=timeout,
            sleep=sleep,
            blocking=blocking,
            blocking_timeout=blocking_timeout,
        )

    @property
    def client(self) -> ClientAccess:
        """Return the way to the client library underneath: ``cache.client.get_client(key=...)``."""
        return ClientAccess(self, self._runtime)

    # ------------------------------------------------------------------ beyond

    def get_or_load(
        self,
        key: Any,
        load: Callable[[], T],
        timeout: Any = DEFAULT_TIMEOUT,
        depends_on: Iterable[Any] = (),
        version: Any = None,
    ) -> T:
        """Return the value stored under ``key``, or what ``load`` returns, stored under the versions it had before.

        The value ends when anything in ``depends_on`` changes: models, instances, querysets, tags, or functions
        that return such. It is never older than the last commit that had finished before the call began
        (``FRESHNESS="strong"``). One process loads while others wait; what ``load`` raises is passed on and not
        stored. ``None`` is a value like others. One round trip at a hit, three at a miss.

        Apart from ``get`` and ``set``: these values have a name space of their own, where only their dependencies
        and their timeout end them.

        :raises InvalidDistcacheConfig: if ``depends_on`` is given to another cache than ``DISTCACHE["CACHE"]``.
        """
        name, dependencies, seconds = self._wanted(key, depends_on, timeout, version)
        service = service_for(self._runtime, self._ops.keys.own, dependencies)
        return load() if service is None or seconds <= 0 else service.answer(name, dependencies, load, seconds)

    def _wanted(
        self, key: Any, depends_on: Iterable[Any], timeout: Any, version: Any
    ) -> tuple[str, tuple[str, ...], float]:
        ttl_ms = self._ops.ttl_ms(timeout)
        seconds = _FOR_EVER if ttl_ms is None else ttl_ms / 1000
        named = self.version if version is None else version
        # Hashed, so that any text is a key, however long.
        digest = hashlib.blake2b(f"{named}:{key}".encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        return f"load:{digest}", dependencies_of(depends_on), seconds

    def put(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> bool:
        """Be ``set``, by its other name."""
        return self.set(key, value, timeout, version)

    @property
    def topology(self) -> Topology:
        """Return which node holds which slot."""
        topology: Topology = self._runtime.settings.topology
        return topology

    def locate(self, key: Any, version: Any = None) -> Location:
        """Return where ``key`` is kept, by computing it; nothing is asked."""
        full = self._ops.keys.full(key, version)
        topology = self.topology
        return Location(full, topology.slot_of(full), topology.owners(full), topology.preference_list(full))

    def handle_node_failure(self, name: str) -> None:
        """Take a node off the requests' way of this process now; it comes back when it answers again.

        :raises ValueError: if there is no node of this name.
        """
        self._runtime.cluster.handle_node_failure(name)


_BOUND_AT_FIRST_USE = frozenset({"_runtime", "_ops", "_extras", "_run", "_arun"})


def _condition(nx: bool, xx: bool) -> str | None:
    if nx and xx:
        raise ValueError("nx and xx exclude each other")
    return "NX" if nx else "XX" if xx else None


def _exact_timeout(params: Mapping[str, Any], rounded: float | None) -> float | None:
    """Return the default timeout with its fraction, which Django cuts off."""
    timeout = params.get("timeout", params.get("TIMEOUT", 300))
    return timeout if isinstance(timeout, float) and rounded is not None else rounded
