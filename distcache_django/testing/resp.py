"""Ask a Redis or Valkey server a few plain questions, without a client library.

Enough for fixtures: it sends commands in one write and returns each reply as raw bytes. Not for production.
"""

from __future__ import annotations

import socket
import ssl
import urllib.parse
from typing import BinaryIO

__all__ = ["ask"]


def ask(url: str, *commands: tuple[str, ...], timeout: float = 5.0) -> list[bytes]:
    """Send commands to the server of ``url`` and return their replies, errors as ``b"-ERR ..."``.

    ``redis://`` and ``rediss://`` URLs with user, password and database are understood. Raises ``OSError``
    when the server cannot be reached, does not answer in time, or does not accept the user or the database,
    and ``ValueError`` for a reply that is an array.
    """
    parts = urllib.parse.urlsplit(url)
    preamble = _preamble(parts)
    with _connect(parts, timeout) as connection, connection.makefile("rb") as replies:
        connection.sendall(b"".join(_pack(command) for command in (*preamble, *commands)))
        for command in preamble:
            if (reply := _read_reply(replies)).startswith(b"-"):
                raise ConnectionError(f"{parts.hostname}:{parts.port} refused {command[0]}: {reply.decode()}")
        return [_read_reply(replies) for _ in commands]


def _preamble(parts: urllib.parse.SplitResult) -> list[tuple[str, ...]]:
    commands: list[tuple[str, ...]] = []
    if parts.password:
        user = (urllib.parse.unquote(parts.username),) if parts.username else ()
        commands.append(("AUTH", *user, urllib.parse.unquote(parts.password)))
    if (database := parts.path.strip("/")) not in ("", "0"):
        commands.append(("SELECT", database))
    return commands


def _connect(parts: urllib.parse.SplitResult, timeout: float) -> socket.socket:
    host = parts.hostname or "127.0.0.1"
    connection = socket.create_connection((host, parts.port or 6379), timeout)
    if parts.scheme != "rediss":
        return connection
    return ssl.create_default_context().wrap_socket(connection, server_hostname=host)


def _pack(command: tuple[str, ...]) -> bytes:
    words = [word.encode() for word in command]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def _read_reply(replies: BinaryIO) -> bytes:
    line = replies.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionError("the server closed the connection")
    if line.startswith(b"*"):
        raise ValueError("replies that are arrays are not understood")
    if line.startswith(b"$") and line != b"$-1\r\n":
        return replies.read(int(line[1:]) + 2)[:-2]
    return line[:-2]
