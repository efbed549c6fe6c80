"""What a driver needs to know and to tell about the health of nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from distcache_django.core.requests import Request
from distcache_django.exceptions import NodeRefused, NodeTimeout, NodeUnreachable, TransportError
from distcache_django.transport.commands import NOT_SERVING, ErrorReply, Wire, error_for

__all__ = ["Health", "LinkBroken", "NeedsFallback", "decode", "known_down", "report"]


class Health(Protocol):
    """Keep what all threads and loops of a process know about its nodes."""

    #: Names of the nodes that are not asked at present; replaced as a whole, so that it is read without a lock.
    down: frozenset[str]

    def failed(self, node: str, reason: str) -> None:
        """Note that a request to ``node`` failed, so that no other waits for it."""

    def owe(self, node: str, keys: Sequence[str], *, everything: bool = False) -> None:
        """Note keys of ``node`` that missed a write."""


class LinkBroken(NodeTimeout):
    """Report a link that the node closed before it answered."""


class NeedsFallback(Exception):
    """Report that the server lacks the first form of a request."""


def known_down(node: str) -> NodeUnreachable:
    """Return the error for a node that is not asked because it is known to be down."""
    return NodeUnreachable(node, "is known to be down")


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
        if message.startswith(wire.fallback_on or ("\0",)):
            raise NeedsFallback from None
        raise error_for(node, request, message) from None


def report(health: Health, request: Request, error: Exception, *, blame: bool = True) -> None:
    """Tell ``health`` about a failed request: that the node is failing, and which keys it may have missed.

    Without ``blame`` the node had too little time to be called failing.
    """
    if not isinstance(error, TransportError):
        return
    if not isinstance(error, NodeRefused) or error.code in NOT_SERVING:
        if blame:
            health.failed(error.node, error.reason)
        if keys := request.replaces:
            health.owe(error.node, keys)
