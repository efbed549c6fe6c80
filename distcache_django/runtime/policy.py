"""Decide what an operation answers when its node does not: a miss, or an exception."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from distcache_django.exceptions import CodecError, InDoubt, QuorumNotReached, TransportError, Unavailable

__all__ = ["Policy", "unavailable"]

logger = logging.getLogger("distcache_django.backends")

T = TypeVar("T")
#: Seconds between two log lines about the same operation on the same node.
_LOG_INTERVAL = 10.0


def unavailable(operation: str, error: TransportError | Unavailable) -> Unavailable:
    """Return the exception that tells a caller that ``operation`` failed on its node, or on too many."""
    if isinstance(error, Unavailable):
        return error
    kind = InDoubt if error.in_doubt else QuorumNotReached
    return kind(operation, required=1, received=0, nodes=(error.node,), reason=error.reason)


class Policy:
    """Apply ``ON_UNAVAILABLE``; each degraded answer is counted, and logged once per interval.

    Shared by all threads without a lock: two of them may log the same line, and a fork can leave nothing locked.
    """

    def __init__(self, on_unavailable: str, count: Callable[[str], None]) -> None:
        self._raises = on_unavailable == "raise"
        self._count = count
        self._logged: dict[tuple[str, str], float] = {}

    def degrade(self, operation: str, error: TransportError | Unavailable, answer: T) -> T:
        """Return ``answer`` in place of the real one, or raise ``Unavailable`` where the site wants that."""
        self._count(f"degraded.{operation}")
        if self._raises:
            raise unavailable(operation, error) from error
        nodes = ", ".join(error.nodes) if isinstance(error, Unavailable) else error.node
        if self._is_due(operation, nodes):
            logger.warning("%s degraded: %s", operation, error, extra={"node": nodes, "operation": operation})
        return answer

    def unreadable(self, key: str, error: CodecError) -> None:
        """Count a stored value that cannot be trusted or decoded; it is a miss."""
        self._count("unreadable")
        if self._is_due("unreadable", ""):
            logger.warning("the value of key %r is taken as missing: %s", key, error)

    def _is_due(self, operation: str, node: str) -> bool:
        now = time.monotonic()
        if now - self._logged.get((operation, node), -_LOG_INTERVAL) < _LOG_INTERVAL:
            return False
        self._logged[operation, node] = now
        return True
