"""Serve cached answers that are as fresh as the database, and let writers say what they change.

One ``Freshness`` per process and settings; ``freshness()`` returns it. Readers call ``answer``, writers ``mark``,
``bump`` and ``unmark`` (``transactions`` does so around every COMMIT).
"""

from __future__ import annotations

import logging
import os
import random
import secrets
import time
import weakref
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, TypeVar, cast

from django.conf import settings as django_settings
from django.core.cache.backends.base import get_key_func
from django.core.signals import setting_changed

from distcache_django.codec.plugins import PICKLE
from distcache_django.conf import DistcacheSettings, load_settings
from distcache_django.conf.distcache import is_distributed
from distcache_django.core.effects import Load, Op
from distcache_django.core.freshness import HIT, LOAD, WAIT, Lease, Look, Versions
from distcache_django.exceptions import CodecError
from distcache_django.freshness.attempts import Attempt, MarkFailed
from distcache_django.freshness.learning import Learning
from distcache_django.freshness.placing import Placing, Wanted
from distcache_django.freshness.recording import Recorder, recorder
from distcache_django.freshness.tallies import Tallies
from distcache_django.freshness.turns import Turn, Turns
from distcache_django.runtime import CacheRuntime, runtime_for

__all__ = ["Attempt", "Freshness", "MarkFailed", "forget_service", "freshness"]

logger = logging.getLogger("distcache_django.freshness")

T = TypeVar("T")
_MOST_LOOKS = 16_384
_ABSENT = object()
#: The lease that an Op holds, with the key of the answer that it loads: one, or none.
_Held = list[tuple[str, Lease]]


class Freshness:
    """Answer from the cache under the promise of ``FRESHNESS``; thread-safe, for all loops of the process.

    ``"strong"``: an answer is never older than the last commit that had finished before the call began.
    ``"bounded"``: at most 100 ms older, and no promise if a writer dies between COMMIT and its bump. Neither
    promise depends on the nodes: without enough of them an answer is loaded.
    """

    def __init__(self, settings: DistcacheSettings, runtime: CacheRuntime, full_key: Callable[[str], str]) -> None:
        self.settings = settings
        #: Whether writes are told to the nodes, and whether answers are taken from them.
        self.enabled = True
        self.answers = settings.enabled
        self.is_strong = settings.freshness == "strong"
        self.runtime = runtime
        self.tallies = Tallies()
        self.full_key = full_key
        self._cluster = runtime.cluster
        # Rows hold decimals, dates and UUIDs, which must come back as such: other serializers may change them.
        self._codec = replace(runtime.codec, serializer=PICKLE)
        endpoints = runtime.cluster.endpoints
        for endpoint in endpoints.values():
            endpoint.greets = True
        topology = runtime.settings.topology
        self._placing = Placing(runtime.settings.key_prefix, settings.max_dependencies, topology.owner)
        self._versions = Versions(
            self._placing.owner,
            lambda node: endpoints[node].generation,
            clock=time.monotonic,
            wall=time.time,
            random=os.urandom,
            mark_ms=round(settings.mark_timeout * 1000),
        )
        # What hot answers are looked for by, some 0.8 KiB each. A partial: a cycle would keep the service alive.
        self._look = lru_cache(_MOST_LOOKS)(partial(_find_look, self._placing, self._versions))
        self._turns = Turns(settings.lease)
        _living.add(self)
        #: The dependencies of answers that had to be found, by key.
        self.learned: dict[str, tuple[str, ...]] = {}

    def forget(self) -> None:
        """Wait for no thread of the parent, as a forked child must: they are not in it."""
        self._turns.forget()

    # ------------------------------------------------------------------ readers

    def answer(
        self,
        key: str,
        dependencies: Sequence[str],
        load: Callable[[], T],
        timeout: float,
    ) -> T:
        """Return the answer stored under ``key``, or load it and store it for ``timeout`` seconds.

        One round trip at a hit. At a miss one process loads, once, while the others wait for it: two round trips
        more. What ``load`` raises is passed on and not stored. Dependencies are part of the answer's identity: the
        same key with others is another answer.

        :param key: tells this answer from all others; the caller's digest.
        :param timeout: seconds; shortened at random by up to ``TTL_JITTER``.
        """
        held: _Held = []
        result: T = self._run(self._answer(self.want(key, dependencies, load, timeout), held), held)
        return result

    async def aanswer(
        self, key: str, dependencies: Sequence[str], load: Callable[[], Awaitable[T] | T], timeout: float
    ) -> T:
        """Be ``answer`` for coroutines; what ``load`` returns is awaited if it can be."""
        held: _Held = []
        result: T = await self._arun(self._answer(self.want(key, dependencies, load, timeout), held), held)
        return result

    def recorded(self, key: str, load: Callable[[], T], timeout: float, fixed: Sequence[str] = ()) -> T:
        """Be ``answer`` for a load whose dependencies are found from the queries it runs.

        The dependencies of the last load are remembered, in this process and, as a hint, on the key's node: one
        round trip at a hit, two at the first one in a process. While it loads, each query with dependencies not
        met before costs one round trip more. A load that cannot be recorded in full is not stored.

        :param fixed: dependencies that it has in any case.
        """
        learning = Learning(self, key, lambda recorder: lambda: recorder.run(load), timeout, fixed)
        held: _Held = []
        result: T = self._run(self._learn(learning, held), held)
        return result

    async def arecorded(
        self, key: str, load: Callable[[], Awaitable[T]], timeout: float, fixed: Sequence[str] = ()
    ) -> T:
        """Be ``recorded`` for coroutines."""
        learning = Learning(self, key, lambda recorder: lambda: recorder.arun(load), timeout, fixed)
        held: _Held = []
        result: T = await self._arun(self._learn(learning, held), held)
        return result

    def versions_of(self, dependencies: Sequence[str]) -> list[bytes] | None:
        """Return the present versions of dependencies, ``None`` if one cannot be known; one round trip or two."""
        return self._cluster.run(self._versions.votes(self._placing.first(dependencies)))

    async def aversions_of(self, dependencies: Sequence[str]) -> list[bytes] | None:
        """Be ``versions_of`` for coroutines."""
        return await self._cluster.arun(self._versions.votes(self._placing.first(dependencies)))

    def want(self, key: str, dependencies: Sequence[str], load: Callable[[], Any], timeout: float) -> Wanted:
        """Return where an answer is and what vouches for it: records that are there too, if there are any."""
        place = self.full_key(self._placing.key(key, dependencies))
        return Wanted(self._look(place, tuple(dependencies)), dependencies, load, timeout)

    def want_learned(self, learning: Learning, key: str, dependencies: Sequence[str], timeout: float) -> Wanted:
        """Return the same for an answer whose dependencies are found: versions are kept by name while it loads."""
        place = self.full_key(self._placing.key(key, dependencies))
        look = self._versions.look(place, self._placing.first(dependencies))
        return Wanted(look, dependencies, learning.load, timeout, learning)

    def _run(self, op: Op[Any], held: _Held) -> Any:
        """Run ``op``; whatever ends it, a signal or a time limit too, frees the lease it holds."""
        try:
            return self._cluster.run(op)
        except BaseException:
            op.close()  # now, not when the last frame that the exception keeps has gone
            for key, lease in held:
                self._cluster.run(self._versions.fill(key, None, b"", 0, lease))
            raise

    async def _arun(self, op: Op[Any], held: _Held) -> Any:
        """Be ``_run`` for coroutines: a loader's cancellation takes a round trip, a deadline at most."""
        try:
            return await self._cluster.arun(op)
        except GeneratorExit:  # the coroutine is destroyed and cannot await: the lease expires
            raise
        except BaseException:
            op.close()
            for key, lease in held:
                await self._cluster.arun(self._versions.fill(key, None, b"", 0, lease))
            raise

    def _learn(self, learning: Learning, held: _Held) -> Op[Any]:
        wanted = yield from learning.begin()
        return (yield from self._answer(wanted, held))

    def _answer(self, wanted: Wanted, held: _Held) -> Op[Any]:
        turn = Turn(self._turns)
        try:
            while True:
                key = wanted.look.key
                if (outer := recorder()) is not None:
                    yield from self._tell(outer, wanted.dependencies)
                begun = yield from self._versions.begin(wanted.look, partial(turn.ask, key))
                if begun.state is HIT:
                    value = self._decode(key, begun.payload)
                    if value is not _ABSENT:
                        self.tallies.hit()
                        return value
                    if (yield from self._versions.drop(key)):
                        continue
                elif begun.state is LOAD:
                    self.tallies.miss()
                    held.append((key, cast("Lease", turn.lease)))
                    return (yield from self._load(wanted, begun.versions, held))
                if begun.state is not WAIT or turn.waited > 2 * self.settings.lease:
                    self.tallies.bypass()
                    return (yield Load(wanted.load))
                wanted = yield from self._wait(wanted, turn)
        finally:
            turn.end()

    def _wait(self, wanted: Wanted, turn: Turn) -> Op[Wanted]:
        """Give another time to load; return what to look for then."""
        self.tallies.wait()
        yield from turn.wait()
        if wanted.learning is not None:
            wanted = yield from wanted.learning.again()
            turn.end(unless=wanted.look.key)
        return wanted

    def _tell(self, outer: Recorder, dependencies: Sequence[str]) -> Op[None]:
        """Let the answer that this one is a part of know of the dependencies, before the look-up."""
        if new := outer.missing(dependencies):
            outer.learn(new, (yield from self._versions.votes(self._placing.first(new))))

    def _load(self, wanted: Wanted, versions: bytes, held: _Held) -> Op[Any]:
        if wanted.learning is not None:
            wanted.learning.prime(versions)
        value = yield Load(wanted.load)
        payload = self._encoded(wanted.look.key, value)
        ttl_ms = max(1, round(wanted.timeout * 1000 * (1 - random.random() * self.settings.ttl_jitter)))
        if wanted.learning is not None:
            place = yield from wanted.learning.place()
            if place is not None and payload is not None:
                yield from self._versions.fill(place[0], payload, place[1], ttl_ms, None)
            payload = None
        _, lease = held.pop()
        yield from self._versions.fill(wanted.look.key, payload, versions, ttl_ms, lease)
        return value

    def _encoded(self, key: str, value: Any) -> bytes | None:
        try:
            return self.encode(value)
        except Exception as error:  # noqa: BLE001 - whatever a serializer raises: the answer is right all the same
            logger.warning("the answer %r cannot be stored: %s: %s", key, type(error).__name__, error)
            return None

    def encode(self, value: Any) -> bytes:
        """Return the stored form of a value."""
        encoded = self._codec.encode(value)
        return encoded if isinstance(encoded, bytes) else b"%d" % encoded

    def _decode(self, key: str, payload: bytes) -> Any:
        try:
            return self._codec.decode(payload)
        except CodecError as error:
            self.tallies.unreadable()
            self.runtime.policy.unreadable(key, error)
            return _ABSENT

    # ------------------------------------------------------------------ writers

    def mark(self, dependencies: Collection[str]) -> Attempt:
        """Mark dependencies before COMMIT, under a fresh token; one round trip to all nodes at once.

        :raises MarkFailed: if one could not be marked: after COMMIT its answers may be served old until the bump.
        """
        records = self._placing.all(dependencies)
        attempt = Attempt(secrets.token_bytes(8), tuple(dependencies), time.monotonic(), records)
        failures = self._cluster.run(self._versions.mark(records, attempt.token))
        if failures:
            self.tallies.add("mark_failures")
            raise MarkFailed(attempt, failures)
        self.tallies.add("marks")
        return attempt

    def renew(self, attempt: Attempt) -> bool:
        """Prolong the marks of an attempt while its COMMIT runs; return whether all were."""
        sent = time.monotonic()
        if self._cluster.run(self._versions.mark(attempt.records, attempt.token)):
            return False
        attempt.marked_at = sent
        return True

    def bump(self, dependencies: Collection[str], attempt: Attempt | None = None) -> None:
        """End the answers that depend on these, after a COMMIT that is known; take the attempt's marks off.

        One round trip. A node that cannot be reached is owed the bump: this process does not use it before.
        """
        records = self._placing.all(dependencies)
        failures = self._cluster.run(self._versions.bump(records, attempt.token if attempt else b""))
        self.tallies.add("bumps", len(records))
        if failures:
            self.tallies.add("owed")
            if attempt is None or not self.is_strong:
                logger.error("bumps are owed to %s: others may serve old answers there", ", ".join(sorted(failures)))

    def unmark(self, attempt: Attempt) -> None:
        """Take the attempt's marks off after a rollback that is known; what cannot be reached expires."""
        self._cluster.run(self._versions.unmark(attempt.records, attempt.token))
        self.tallies.add("unmarks")

    def counts(self) -> dict[str, int]:
        """Return how often each thing happened in this process."""
        return self.tallies.read()


def _find_look(placing: Placing, versions: Versions, key: str, dependencies: tuple[str, ...]) -> Look:
    return versions.look(key, placing.beside(key, dependencies))


class _Off:
    """Stand in where there is no distributed cache."""

    enabled = answers = False

    def __init__(self, settings: DistcacheSettings) -> None:
        self.settings = settings

    def counts(self) -> dict[str, int]:
        """Return nothing: nothing is counted."""
        return {}


_service: Any = None
_living: weakref.WeakSet[Freshness] = weakref.WeakSet()


def freshness() -> Freshness:
    """Return the service of this process for ``settings.DISTCACHE``; made at the first call, connects to nothing.

    Where ``ENABLED`` is false and there is no distributed cache at all, only ``enabled``, ``settings`` and
    ``counts`` of it can be used.

    :raises InvalidDistcacheConfig: with every error of the settings.
    """
    global _service  # noqa: PLW0603 - made once; two threads that both make it make the same
    service = _service
    if service is None:
        service = _service = _make()
    return service  # type: ignore[no-any-return]


def _make() -> Any:
    settings = load_settings()
    entry: dict[str, Any] = dict(django_settings.CACHES.get(settings.cache, {}))
    if not settings.enabled and not is_distributed(entry):
        return _Off(settings)
    entry.pop("BACKEND", None)
    runtime = runtime_for(entry.pop("LOCATION", ""), entry)
    make = get_key_func(entry.get("KEY_FUNCTION"))
    prefix, version = str(entry.get("KEY_PREFIX", "")), int(entry.get("VERSION", 1))
    return Freshness(settings, runtime, lambda key: str(make(key, prefix, version)))


def forget_service(**kwargs: Any) -> None:
    """Read the settings anew at the next use; receiver of ``setting_changed``."""
    global _service  # noqa: PLW0603 - see freshness
    if kwargs.get("setting") in {None, "DISTCACHE", "CACHES", "SECRET_KEY", "SECRET_KEY_FALLBACKS"}:
        _service = None


def _forget_after_fork() -> None:
    for service in list(_living):
        service.forget()


os.register_at_fork(after_in_child=_forget_after_fork)
setting_changed.connect(forget_service, dispatch_uid="distcache_django.freshness")
