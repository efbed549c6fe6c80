"""Find out what an answer depends on while it is loaded: from the queries that ran.

A dependency's version has to be read before the first query that uses it, or the answer could carry a version
newer than its data. So whoever is about to query calls ``note`` first; what could not be noted in time spoils the
recording, and the answer is not stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distcache_django.freshness.service import Freshness

__all__ = ["Recorder", "account", "anote", "note", "recorder", "spoil"]

_current: ContextVar[Recorder | None] = ContextVar("distcache_recorder", default=None)


class Recorder:
    """Collect the dependencies of one answer, with their versions as they were before its first query.

    ``parent`` is the recorder of the answer that this one is a part of: what this one depends on, that one does.
    """

    __slots__ = ("parent", "service", "spoiled", "texts", "used", "versions")

    def __init__(self, service: Freshness, parent: Recorder | None = None) -> None:
        self.service = service
        self.parent = parent
        self.versions: dict[str, bytes] = {}
        self.used: set[str] = set()
        self.spoiled = ""
        #: SQL whose dependencies have been noted by who compiled it.
        self.texts: set[str] = set()

    def missing(self, dependencies: Iterable[str]) -> list[str]:
        """Note that these are used; return those whose versions this recorder, or one it is a part of, lacks."""
        wanted = dict.fromkeys(dependencies)
        lacking: set[str] = set()
        layer: Recorder | None = self
        while layer is not None:
            if not layer.spoiled:
                layer.used.update(wanted)
                lacking.update(wanted.keys() - layer.versions.keys())
            layer = layer.parent
        return [name for name in wanted if name in lacking]

    def learn(self, dependencies: list[str], versions: list[bytes] | None) -> None:
        """Keep versions that have just been read, ``None`` where they could not be; older ones stay."""
        if versions is None:
            self.spoil("the versions of what it depends on could not be read")
            return
        layer: Recorder | None = self
        while layer is not None:
            for name, version in zip(dependencies, versions, strict=True):
                layer.versions.setdefault(name, version)
            layer = layer.parent

    def found(self) -> dict[str, bytes]:
        """Return what was used, with its versions, in the order of the names."""
        return {name: self.versions[name] for name in sorted(self.used)}

    def spoil(self, reason: str) -> None:
        """Give up: the answer depends on something that cannot be known."""
        layer: Recorder | None = self
        while layer is not None:
            layer.spoiled = layer.spoiled or reason
            layer = layer.parent

    def run(self, load: Callable[[], Any]) -> Any:
        """Call ``load`` while recording."""
        token = _current.set(self)
        try:
            return load()
        finally:
            _current.reset(token)

    async def arun(self, load: Callable[[], Any]) -> Any:
        """Await what ``load`` returns while recording."""
        token = _current.set(self)
        try:
            return await load()
        finally:
            _current.reset(token)


def recorder() -> Recorder | None:
    """Return the recorder of the answer that is being loaded, if there is one."""
    return _current.get()


def note(dependencies: Iterable[str]) -> None:
    """Say that the answer being loaded depends on these; before the query. One round trip, for new ones only."""
    current = _current.get()
    if current is not None and (new := current.missing(dependencies)):
        current.learn(new, current.service.versions_of(new))


async def anote(dependencies: Iterable[str]) -> None:
    """Be ``note`` for coroutines."""
    current = _current.get()
    if current is not None and (new := current.missing(dependencies)):
        current.learn(new, await current.service.aversions_of(new))


def account(text: str) -> None:
    """Say that the dependencies of this SQL are noted, or spoil the answer: its text needs no look of its own."""
    current = _current.get()
    if current is not None:
        current.texts.add(text)


def spoil(reason: str) -> None:
    """Say that the answer being loaded must not be stored."""
    current = _current.get()
    if current is not None:
        current.spoil(reason)
