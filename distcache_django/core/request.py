"""What all that a node can be asked to do has in common.

``repeatable``: doing it twice has the effect of doing it once, so a driver may send it again when a link
that had been idle turns out to be dead.

``replaces``: the keys whose present value it was to end, and which the node must not serve again before they
have been deleted there, if the request fails. Exclusive requests (``NX``, locks, counting) replace nothing: what
a node holds under their keys stays true when they fail, and deleting it would free another's lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

__all__ = ["OneKey", "Request"]


class Request:
    """Be one thing that a node can be asked to do."""

    __slots__ = ()
    repeatable: ClassVar[bool] = True

    @property
    def replaces(self) -> Sequence[str]:
        """Return the keys whose present value this request was to end."""
        return ()


class OneKey(Request):
    """Ask for something about one key."""

    __slots__ = ("key",)

    def __init__(self, key: str) -> None:
        self.key = key
