"""Answers whose dependencies are found while they are loaded.

Such an answer is stored under its key *and* its dependencies; which ones these are is remembered in the process and,
as a hint without any promise, on a node. A wrong hint finds nothing, or an answer that is as fresh as its
dependencies say: a load that met the same data would have met the same dependencies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from distcache_django.core.effects import Op
from distcache_django.exceptions import CodecError, TransportError
from distcache_django.freshness.recording import Recorder, recorder

if TYPE_CHECKING:
    from distcache_django.freshness.placing import Wanted
    from distcache_django.freshness.service import Freshness

__all__ = ["Learning"]

#: How many keys' dependencies a process remembers.
_BOUND = 10_000


class Learning:
    """Look for one answer whose dependencies have to be found, and keep what is found."""

    def __init__(
        self,
        service: Freshness,
        key: str,
        load: Callable[[Recorder], Callable[[], Any]],
        timeout: float,
        fixed: Sequence[str] = (),
    ) -> None:
        self._service = service
        self._key = key
        self._timeout = timeout
        self._fixed = tuple(fixed)
        self._recorder = Recorder(service, recorder())
        #: Load the answer, recording.
        self.load = load(self._recorder)
        self._hint = service.full_key(f"h:{key}")
        self.dependencies: tuple[str, ...] = ()

    def begin(self) -> Op[Wanted]:
        """Return what to look for, as far as this process remembers or the hint tells."""
        known = self._service.learned.get(self._key)
        if known is None:
            return (yield from self.again())
        return self._want(known)

    def again(self) -> Op[Wanted]:
        """Return what to look for by the present hint, in one round trip: somebody else may have loaded."""
        service = self._service
        known: Sequence[str] = self._fixed
        try:
            raw = yield from service.runtime.coordinator.fetch(self._hint)
            known = service.runtime.codec.decode(raw) if raw is not None else self._fixed
        except (TransportError, CodecError):
            pass
        self._remember(tuple(known))
        return self._want(tuple(known))

    def prime(self, versions: bytes) -> None:
        """Start to record with what the look-up has read before the load."""
        size = len(versions) // max(1, len(self.dependencies))
        for index, name in enumerate(self.dependencies):
            self._recorder.versions[name] = versions[index * size : (index + 1) * size]
        self._recorder.used.update(self._fixed)

    def place(self) -> Op[tuple[str, bytes] | None]:
        """Return the key and the versions to store under, ``None``: not at all. Keeps the hint up to date."""
        if self._recorder.spoiled:
            return None
        found = self._recorder.found()
        # Those that are always among them come first: the first one says on which node the answer is.
        names = (*self._fixed, *(name for name in found if name not in self._fixed))
        if names != self.dependencies:
            self._remember(names)
            service = self._service
            try:
                value = service.encode(list(names))
                yield from service.runtime.coordinator.store(self._hint, value, round(self._timeout * 1000))
            except TransportError:
                pass
        return self._want(names).look.key, b"".join(found[name] for name in names)

    def _remember(self, names: tuple[str, ...]) -> None:
        learned = self._service.learned
        if len(learned) >= _BOUND:
            learned.clear()
        learned[self._key] = names

    def _want(self, names: tuple[str, ...]) -> Wanted:
        self.dependencies = names
        digest = hashlib.blake2b("\n".join(names).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        return self._service.want_learned(self, f"{self._key}:{digest}", names, self._timeout)
