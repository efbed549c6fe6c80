"""Put plain questions to one node on a link of their own, outside the drivers' way.

For commands that look at nodes: nothing is shared with the requests of the site, and what a node's answers say
about its health is told to nobody.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qs, urlsplit

import hiredis

from distcache_django.exceptions import NodeRefused, NodeTimeout
from distcache_django.transport.commands import ErrorReply
from distcache_django.transport.endpoint import Endpoint
from distcache_django.transport.link import Broken, Link

__all__ = ["Asking", "Database", "database_of", "questions"]


class Asking(Protocol):
    """Send one command to a node and return its reply."""

    def __call__(self, *words: str) -> Any:
        """Return the reply.

        :raises NodeRefused: if it is an error.
        :raises NodeTimeout: if there is none before the deadline; the link is of no use then.
        """


@contextmanager
def questions(endpoint: Endpoint) -> Iterator[Asking]:
    """Open a link and yield a way to ask; each question may take as long as an operation, ``DEADLINE``.

    :raises NodeUnreachable: if the node cannot be connected to, or refuses the credentials.
    """
    link = Link(endpoint, endpoint.open(endpoint.deadline))

    def ask(*words: str) -> Any:
        expires = time.monotonic() + endpoint.deadline
        try:
            payload = hiredis.pack_command(words)  # type: ignore[arg-type]  # the stub knows one word only
            link.send_timed(payload, expires)
            reply = link.read_timed(expires)
        except Broken as error:
            raise NodeTimeout(endpoint.name, str(error)) from error
        if isinstance(reply, ErrorReply):
            raise NodeRefused(endpoint.name, str(reply))
        return reply

    try:
        yield ask
    finally:
        link.close()


class Database(NamedTuple):
    """Be where a URL leads, without credentials: two equal ones are the same keys."""

    host: str
    port: int
    number: int

    def __str__(self) -> str:
        """Name the place as people do."""
        return f"{self.host}:{self.port}/{self.number}" if self.port else f"{self.host} ({self.number})"


def database_of(url: str) -> Database | None:
    """Return where a Redis URL leads; ``None`` for one that is something else. Resolves no names.

    Kombu's ``redis+socket://`` and comma-free ``valkey://`` URLs are understood too.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or 6379
    except ValueError:
        return None
    query = parse_qs(parts.query)
    if parts.scheme in ("unix", "redis+socket"):
        return Database(parts.path, 0, _number((query.get("db") or query.get("virtual_host") or ["0"])[0]))
    if parts.scheme not in ("redis", "rediss", "valkey", "valkeys"):
        return None
    host = (parts.hostname or "localhost").lower()
    host = "localhost" if host in ("127.0.0.1", "::1") else host
    return Database(host, port, _number((query.get("db") or [parts.path.strip("/")])[0]))


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0
