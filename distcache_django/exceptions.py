"""The errors of distcache_django: one tree, split by who has to act.

``InvalidDistcacheConfig`` is the operator's, ``TransportError`` a node's, ``Unavailable`` the cluster's,
``CodecError`` the stored data's and ``NotAnInteger`` the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "FAILURES",
    "CodecError",
    "DistcacheError",
    "InDoubt",
    "InvalidDistcacheConfig",
    "LockNotOwned",
    "NodeRefused",
    "NodeTimeout",
    "NodeUnreachable",
    "NotAnInteger",
    "QuorumNotReached",
    "TransportError",
    "Unavailable",
]


class DistcacheError(Exception):
    """Be the root of every error this package raises on its own account."""


class InvalidDistcacheConfig(DistcacheError, ValueError):
    """Report settings that cannot work; ``problems`` lists each of them with the name of the setting."""

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class TransportError(DistcacheError):
    """Report that one node did not do what it was asked; ``node`` is its name."""

    #: Whether the node may have executed, or may yet execute, the request.
    in_doubt = False

    def __init__(self, node: str, reason: str) -> None:
        super().__init__(f"node {node}: {reason}")
        self.node = node
        self.reason = reason


class NodeUnreachable(TransportError):
    """Report a node that could not be connected to, or that is known to be down; nothing was sent."""


class NodeTimeout(TransportError):
    """Report a node that did not answer before the deadline, or broke the link after the request left."""

    in_doubt = True


class NodeRefused(TransportError):
    """Report a node that answered with an error (``code`` is its first word: ``OOM``, ``READONLY``, ...)."""

    def __init__(self, node: str, message: str) -> None:
        super().__init__(node, message)
        self.code = message.split(" ", 1)[0]


class Unavailable(DistcacheError):
    """Report an operation for which too few nodes answered; raised under ``ON_UNAVAILABLE="raise"``."""

    def __init__(self, operation: str, *, required: int, received: int, nodes: Sequence[str], reason: str) -> None:
        super().__init__(
            f"{operation}: {received} of {required} required answers; nodes {', '.join(nodes) or '-'}: {reason}"
        )
        self.required = required
        self.received = received
        self.nodes = tuple(nodes)


class QuorumNotReached(Unavailable):
    """Report that fewer nodes than the consistency level requires acknowledged."""


class InDoubt(Unavailable):
    """Report a change that may have happened, or may still happen, at most once."""


#: How an operation fails for its nodes: one that it needs, or too many of several.
FAILURES = (TransportError, Unavailable)


class CodecError(DistcacheError):
    """Report stored bytes that cannot be trusted or decoded; the cache counts them and answers a miss."""


class NotAnInteger(DistcacheError, TypeError):
    """Report ``incr`` or ``decr`` of a value that is not a stored integer."""


class LockNotOwned(DistcacheError):
    """Report a release or extension of a lock that its caller does not hold (any more)."""
