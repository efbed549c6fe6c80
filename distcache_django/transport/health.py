"""What a driver needs to know and to tell about the health of nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from distcache_django.core.effects import Owe, OweBumps
from distcache_django.core.requests import Bump, Fetch, Request
from distcache_django.exceptions import NodeRefused, NodeTimeout, NodeUnreachable, TransportError
from distcache_django.transport.commands import NOT_SERVING, ErrorReply, Wire, error_for

__all__ = [
    "Health",
    "KnownDown",
    "LinkBroken",
    "NeedsFallback",
    "OutOfTime",
    "decode",
    "known_down",
    "note_lost",
    "remember",
    "report",
]


class Health(Protocol):
    """Keep what all threads and loops of a process know about its nodes."""

    #: Names of the nodes that are not asked at present; replaced as a whole, so that it is read without a lock.
    down: frozenset[str]

    def failed(self, node: str, reason: str, owed: Sequence[str] = ()) -> None:
        """Note that a request to ``node`` failed, so that no other waits for it, and the keys it may have missed."""

    def owe_bumps(self, node: str, keys: Sequence[str]) -> None:
        """Take a node off the requests' way until these version records of it have been bumped."""

    def owe(self, node: str, keys: Sequence[str], patterns: Sequence[str] = ()) -> None:
        """Note keys, and glob patterns of keys, of ``node`` that missed a write."""


class KnownDown(NodeUnreachable):
    """Report a node that was not asked because it is known to be down."""


class LinkBroken(NodeTimeout):
    """Report a link that the node closed before it answered."""


class OutOfTime(NodeTimeout):
    """Report an Op whose deadline ran out before a later request of it was sent: nobody's fault, nothing in doubt."""

    in_doubt = False


class NeedsFallback(Exception):
    """Report that the server lacks the first form of a request."""


def remember(health: Health, debt: Owe | OweBumps) -> None:
    """Note what a node missed."""
    if isinstance(debt, Owe):
        health.owe(debt.node, debt.keys, debt.patterns)
    else:
        health.owe_bumps(debt.node, debt.keys)


def known_down(health: Health, node: str, request: Request) -> KnownDown:
    """Return the error for a node that is not asked, having noted what it misses."""
    if keys := request.replaces:
        health.owe(node, keys)
    return KnownDown(node, "is known to be down")


def note_lost(health: Health, node: str, request: Request) -> None:
    """Note what a request was to replace that nobody waits for any more, and that may or may not be executed."""
    if type(request) is Bump:
        health.owe_bumps(node, request.keys)
    if keys := request.replaces:
        health.owe(node, keys)


def decode(node: str, request: Request, wire: Wire, reply: Any) -> Any:
    """Turn the reply, or list of replies, to ``request`` into its value.

    :raises NeedsFallback: if the server lacks the form that was sent.
    """
    try:
        if reply.__class__ is ErrorReply:
            raise reply
        return reply if wire.decode is None else wire.decode(reply)
    except ErrorReply as error:
        message = str(error)
        if isinstance(request, Fetch) and message.startswith("WRONGTYPE"):
            return None  # as MGET answers: what is there is not a value of a cache
        if message.startswith(wire.fallback_on or ("\0",)):
            raise NeedsFallback from None
        raise error_for(node, request, message) from None


def report(health: Health, request: Request, error: Exception, *, blame: bool = True) -> None:
    """Tell ``health`` about a failed request: that the node is failing, and which keys it may have missed.

    Without ``blame`` the node had too little time to be called failing.
    """
    if not isinstance(error, TransportError) or isinstance(error, (KnownDown, OutOfTime)):
        return
    if isinstance(error, NodeRefused) and error.code not in NOT_SERVING:
        return
    if type(request) is Bump:
        # Now, and not when the Op hears of it: the node may have been probed, and be in use again, by then.
        health.owe_bumps(error.node, request.keys)
    if blame:
        health.failed(error.node, error.reason, request.replaces)
    elif keys := request.replaces:
        health.owe(error.node, keys)
