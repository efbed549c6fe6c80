"""One established blocking link to a node, used by one thread at a time."""

from __future__ import annotations

import select
import socket
import ssl
import struct
import time
from typing import Any

import hiredis

from distcache_django.core.requests import Request
from distcache_django.exceptions import NodeTimeout
from distcache_django.transport.commands import ErrorReply
from distcache_django.transport.endpoint import Endpoint

__all__ = ["CHUNK", "PROMPT", "RESETS", "SMALL", "Broken", "Link", "broken"]

_TIMEVAL = struct.Struct("ll")
#: Closing resets: what the kernel has not delivered of a request that was given up must not arrive later.
RESETS = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
#: Bytes that one system call reads at most.
CHUNK = 65536
_LATER = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
#: Requests up to this size fit into an empty socket buffer, so that sending them never waits for the node.
SMALL = 32768
#: Seconds that a straight read waits. The kernel starts anew when a signal interrupts it, which a timer's ticks could
#: do for ever; ``poll``, which takes over, keeps count.
PROMPT = 0.005


class Broken(Exception):
    """Report that the peer has closed the link."""


def broken(error: OSError) -> Exception:
    """Return what an error of a socket call stands for; a signal handler's ``TimeoutError`` stays what it is."""
    return error if error.errno is None else Broken(str(error))


class Link:
    """Send requests to one node and read the replies, in order.

    Two ways to wait: the *straight* one lets the kernel bound each ``send`` and ``recv`` (``SO_RCVTIMEO`` saves the
    two ``poll`` calls of ``settimeout``); the *timed* one polls and so can share out what is left of a deadline. A
    reply that is not there promptly is waited for the timed way. TLS sockets know only that one.

    A link whose exchange failed is never used again: a late reply would answer the next request.
    """

    __slots__ = ("endpoint", "feed", "fresh", "gets", "recv", "sendall", "sock", "timed_only", "wires")

    def __init__(self, endpoint: Endpoint, sock: socket.socket) -> None:
        self.endpoint = endpoint
        self.wires = endpoint.wires
        self.sock = sock
        self.fresh = True
        sock.setsockopt(*RESETS)
        self.timed_only = hasattr(sock, "pending")
        if self.timed_only:
            sock.settimeout(0)
        else:
            sock.settimeout(None)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(min(PROMPT, endpoint.deadline)))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(endpoint.deadline))
        self.sendall = sock.sendall
        self.recv = sock.recv
        reader = hiredis.Reader(replyError=ErrorReply, protocolError=Broken)
        self.feed = reader.feed
        self.gets = reader.gets

    def __del__(self) -> None:
        # Ended threads, closed clusters and forked children drop their links without a word.
        if hasattr(self, "sock"):  # a signal may strike in __init__
            self.sock.close()

    def close(self) -> None:
        """Close the socket; harmless when repeated."""
        self.sock.close()

    def can_go_straight(self, payload: bytes) -> bool:
        """Return whether a request may be sent without watching the deadline."""
        return not self.timed_only and len(payload) <= SMALL

    def is_dead(self) -> bool:
        """Return whether the node has closed the idle link; costs a system call, no round trip."""
        if self.timed_only:
            return bool(select.select([self.sock], (), (), 0)[0])
        try:
            self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        # Data that nobody asked for, or the end of the stream: unusable either way.
        return True

    def send(self, payload: bytes) -> None:
        """Send everything the straight way."""
        try:
            self.sendall(payload)
        except BlockingIOError:
            raise self.late() from None
        except OSError as error:
            raise broken(error) from error

    def read_promptly(self) -> Any:
        """Return the next reply, or ``False`` if it has not arrived, or not whole, within the prompt time."""
        reply = self.gets()
        if reply is not False:
            return reply
        try:
            data = self.recv(CHUNK)
        except BlockingIOError:
            return False
        except OSError as error:
            raise broken(error) from error
        if not data:
            raise Broken("connection closed by the node")
        self.feed(data)
        return self.gets()

    def read(self, expires: float) -> Any:
        """Read one reply before ``expires`` (monotonic seconds), the straight way while there is time for it."""
        if not self.timed_only and expires - time.monotonic() > PROMPT:
            reply = self.read_promptly()
            if reply is not False:
                return reply
        return self.read_timed(expires)

    def send_timed(self, payload: bytes, expires: float) -> None:
        """Send everything before ``expires`` (monotonic seconds)."""
        rest = memoryview(payload)
        while rest:
            sent = self.send_some(rest)
            rest = rest[sent:]
            if not sent:
                self._wait(select.POLLOUT, expires)

    def read_timed(self, expires: float) -> Any:
        """Read one reply before ``expires`` (monotonic seconds)."""
        reply = self.gets()
        while reply is False:
            if not self.receive_some():
                self._wait(select.POLLIN, expires)
            reply = self.gets()
        return reply

    def send_some(self, payload: memoryview) -> int:
        """Send what the kernel takes now; return how much that was."""
        try:
            if self.timed_only:
                return self.sock.send(payload)
            return self.sock.send(payload, socket.MSG_DONTWAIT)
        except _LATER:
            return 0
        except OSError as error:
            raise broken(error) from error

    def receive_some(self) -> bool:
        """Feed the parser what has arrived; return whether there was anything."""
        try:
            data = self.recv(CHUNK) if self.timed_only else self.recv(CHUNK, socket.MSG_DONTWAIT)
        except _LATER:
            return False
        except OSError as error:
            raise broken(error) from error
        if not data:
            raise Broken("connection closed by the node")
        self.feed(data)
        return True

    def _wait(self, events: int, expires: float) -> None:
        left = expires - time.monotonic()
        poll = select.poll()
        # During a TLS handshake or renegotiation a write may wait for a read.
        poll.register(self.sock, events | select.POLLIN if self.timed_only else events)
        if left <= 0 or not poll.poll(max(1, left * 1000)):
            raise self.late()

    def late(self) -> NodeTimeout:
        """Return the error for an answer that did not come in time."""
        return NodeTimeout(self.endpoint.name, f"no answer within {self.endpoint.deadline:g} s")

    def drop_form(self, request: Request) -> None:
        """Note that the node lacks the command that ``request`` is sent as."""
        self.endpoint.lacks(type(request))
        self.wires = self.endpoint.wires


def _timeval(seconds: float) -> bytes:
    return _TIMEVAL.pack(int(seconds), int(seconds % 1 * 1_000_000))
