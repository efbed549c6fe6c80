"""What an Op may ask of the driver that runs it.

An *Op* is a generator. It yields effects, gets their outcomes back and returns its result; it never does
I/O itself. The blocking driver, the asyncio driver and the in-memory nodes of the tests run the same Ops:

* ``Ask``: one request to one node. The reply is sent into the Op; a failure is thrown into it as a
  ``TransportError``.
* ``Gather``: several requests at once, one round trip in all. The outcomes come back in order, failures as
  ``TransportError`` values among them, so that one dead node costs its own requests only.
* ``Owe``: remember that keys of a node missed a write. They are removed there before the node is used again.
* ``OweBumps``: remember that version records of a node missed a bump, which they get before the node is used again.
* ``Load``: call a function of the user's; its result, awaited where it is awaitable, is sent back.
* ``Pause``: wait, at most until something has happened that is named.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol, TypeVar

from distcache_django.core.requests import Request

__all__ = ["Ask", "Effect", "Gather", "Load", "Op", "Owe", "OweBumps", "Pause", "Raised", "Until", "step"]

T = TypeVar("T")


class Ask:
    """Send one request to one node."""

    __slots__ = ("node", "request")

    def __init__(self, node: str, request: Request) -> None:
        self.node = node
        self.request = request


class Gather:
    """Send several requests at once, at most one to each node, and wait for all of them.

    With ``patience``, a share of the time that is left, only so long: who has not answered by then has failed, and
    there is time to do without.
    """

    __slots__ = ("asks", "patience")

    def __init__(self, asks: Sequence[Ask], patience: float = 1.0) -> None:
        self.asks = asks
        self.patience = patience


class Owe:
    """Note keys, and glob patterns of keys, of a node that missed a write."""

    __slots__ = ("keys", "node", "patterns")

    def __init__(self, node: str, keys: Sequence[str], patterns: Sequence[str] = ()) -> None:
        self.node = node
        self.keys = keys
        self.patterns = patterns


class OweBumps:
    """Note version records of a node that missed a bump."""

    __slots__ = ("keys", "node")

    def __init__(self, node: str, keys: Sequence[str]) -> None:
        self.node = node
        self.keys = keys


class Load:
    """Call a function of the user's."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function


class Until(Protocol):
    """Be what a pause may end with, known to drivers that have threads or loops."""

    def wait(self, seconds: float, /) -> object:
        """Block until it has happened, no longer than ``seconds``."""

    def call(self, function: Callable[[], None], /) -> None:
        """Have ``function`` called, on any thread, when it happens; at once if it has."""

    def forget(self, function: Callable[[], None], /) -> None:
        """Call a function no more."""


class Pause:
    """Wait for ``seconds``, or only ``until`` something has happened; a driver without threads may ignore that."""

    __slots__ = ("seconds", "until")

    def __init__(self, seconds: float, until: Until | None = None) -> None:
        self.seconds = seconds
        self.until = until


class Raised:
    """Be the outcome of an effect that ended with an exception, which a mere value may be too."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


Effect = Ask | Gather | Owe | OweBumps | Load | Pause

#: A generator that yields effects and returns a ``T``. What is sent into it depends on the effect it yielded.
Op = Generator[Effect, Any, T]


def step(op: Op[T], outcome: object) -> Effect:
    """Give ``op`` the outcome of its last effect, thrown if it was ``Raised``, and take the next effect."""
    if isinstance(outcome, Raised):
        return op.throw(outcome.error)
    return op.send(outcome)
