"""How one kind of request travels: as commands, or as a script that is kept in a file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any, NamedTuple

import hiredis

__all__ = ["ErrorReply", "Script", "Wire", "pack"]

#: Pack words into one command; hiredis's own stub knows tuples of one word only.
pack: Callable[[tuple[Any, ...]], bytes] = hiredis.pack_command


class ErrorReply(Exception):
    """Hold an error that a server answered; the parser returns it in place of a value."""


class Wire(NamedTuple):
    """Say how one kind of request travels.

    ``decode`` gets the reply, or with ``replies`` the list of that many of them, which may hold ``ErrorReply``.
    ``sticky``: a node that once needed the fallback is not offered the first form again.
    """

    encode: Callable[[Any], bytes]
    decode: Callable[[Any], Any] | None = None
    replies: Callable[[Any], int] | None = None
    fallback: Wire | None = None
    fallback_on: tuple[str, ...] = ()
    sticky: bool = False
    #: One request that may be repeated, one reply: a driver needs no second look.
    straight: bool = False


class Script:
    """Hold the text of one Lua file, after those of others that it needs, and its EVALSHA and EVAL forms."""

    def __init__(self, name: str, *, after: Sequence[str] = ()) -> None:
        self.text = b"".join(_lua(part) for part in (*after, name))
        self.sha = hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode()

    def wire(
        self,
        arguments: Callable[[Any], tuple[bytes | int, ...]],
        decode: Callable[[Any], Any] | None = None,
        keys: Callable[[Any], Sequence[str]] = lambda request: (request.key,),
    ) -> Wire:
        """Return the wire of requests that have these keys and arguments."""

        def by_sha(request: Any) -> bytes:
            named = keys(request)
            return pack((b"EVALSHA", self.sha, len(named), *named, *arguments(request)))

        def by_text(request: Any) -> bytes:
            named = keys(request)
            return pack((b"EVAL", self.text, len(named), *named, *arguments(request)))

        return Wire(by_sha, decode, fallback=Wire(by_text, decode), fallback_on=("NOSCRIPT",))


def _lua(name: str) -> bytes:
    return resources.files(__package__).joinpath("lua", f"{name}.lua").read_bytes()
