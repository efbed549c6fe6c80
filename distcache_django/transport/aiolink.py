"""One multiplexed link to a node for one event loop.

All requests of one loop tick leave in one write, and the reads among them as one MGET: with a hundred tasks
that is worth a factor of three over a write per request. Replies are matched to requests by their order.

A request waits at most the deadline: one timer watches the oldest request of the link. When it is late, the
link is broken off as a whole, because replies behind a late one are late too.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis

from distcache_django.core.requests import Fetch, Request
from distcache_django.exceptions import NodeTimeout, NodeUnreachable, TransportError
from distcache_django.transport.commands import ErrorReply, error_for, pack
from distcache_django.transport.endpoint import Endpoint
from distcache_django.transport.health import LinkBroken, NeedsFallback, decode
from distcache_django.transport.link import RESETS, Broken

__all__ = ["AsyncLink"]

#: Reads that share one MGET; more would keep the node from answering others.
_LARGEST_MGET = 128


class _Read:
    """Be the reads of one tick."""

    __slots__ = ("futures", "sent")

    def __init__(self, futures: list[asyncio.Future[Any]], sent: float) -> None:
        self.futures = futures
        self.sent = sent


class _Call:
    """Be one request and the replies it has had so far."""

    __slots__ = ("form", "future", "missing", "replies", "request", "sent", "wire")

    def __init__(self, request: Request, future: asyncio.Future[Any], endpoint: Endpoint) -> None:
        self.request = request
        self.future = future
        self.wire = endpoint.wires[type(request)]
        self.missing = 1 if self.wire.replies is None else self.wire.replies(request)
        self.replies: list[Any] = []
        self.sent = 0.0


class AsyncLink(asyncio.Protocol):
    """Carry the requests of one event loop to one node; made idle, connects with the first request."""

    def __init__(
        self, endpoint: Endpoint, loop: asyncio.AbstractEventLoop, lost: Callable[[str, Request], None]
    ) -> None:
        self.endpoint = endpoint
        self.loop = loop
        #: Told of requests whose tasks were cancelled and whose outcome nobody will know.
        self._lost = lost
        self._create_future = loop.create_future
        self._keys: list[str] = []
        self._futures: list[asyncio.Future[Any]] = []
        self._calls: list[_Call] = []
        self._waiting: deque[_Read | _Call] = deque()
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._keepalive: object = None
        self._connecting: asyncio.Task[None] | None = None
        self._reader = hiredis.Reader(replyError=ErrorReply, protocolError=Broken)
        self.broken = False

    def fetch(self, key: str) -> asyncio.Future[Any]:
        """Read one key with the others of this tick."""
        future = self._create_future()
        self._keys.append(key)
        self._futures.append(future)
        if not self._scheduled:
            self._schedule()
        return future

    def submit(self, request: Request) -> asyncio.Future[Any]:
        """Send any request with the others of this tick."""
        if request.__class__ is Fetch:
            return self.fetch(request.key)
        future = self._create_future()
        self._calls.append(_Call(request, future, self.endpoint))
        if not self._scheduled:
            self._schedule()
        return future

    def close(self) -> None:
        """Break the link off; requests on their way fail."""
        self._fail(NodeTimeout(self.endpoint.name, "the link was closed"))

    # ------------------------------------------------------------------ sending

    def _schedule(self) -> None:
        self._scheduled = True
        if self._transport is not None:
            self.loop.call_soon(self._flush)
        elif self._connecting is None:
            self._connecting = self.loop.create_task(self._connect())

    async def _connect(self) -> None:
        started = self.loop.time()
        try:
            transport, self._keepalive = await self.endpoint.aopen(self.endpoint.deadline)
        except TransportError as error:
            self._connecting = None
            self._fail(error)
            return
        except asyncio.CancelledError:
            self._fail(NodeUnreachable(self.endpoint.name, "the event loop ended while connecting"))
            raise
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(*RESETS)
        transport.set_protocol(self)
        # What has waited for the connection has used up a part of its deadline.
        self._flush(started)

    def _flush(self, since: float = 0.0) -> None:
        self._scheduled = False
        if self.broken or self._transport is None:
            return
        now = since or self.loop.time()
        payloads: list[bytes] = []
        if self._keys:
            keys, futures, self._keys, self._futures = self._keys, self._futures, [], []
            for start in range(0, len(keys), _LARGEST_MGET):
                payloads.append(pack((b"MGET", *keys[start : start + _LARGEST_MGET])))
                self._waiting.append(_Read(futures[start : start + _LARGEST_MGET], now))
        if self._calls:
            calls, self._calls = self._calls, []
            for call in calls:
                payloads.append(call.wire.encode(call.request))
                call.sent = now
                self._waiting.append(call)
        if not payloads:
            return
        self._transport.write(b"".join(payloads) if len(payloads) > 1 else payloads[0])
        if self._timer is None:
            self._timer = self.loop.call_at(now + self.endpoint.deadline, self._check_oldest)

    def _check_oldest(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        due = self._waiting[0].sent + self.endpoint.deadline
        if due <= self.loop.time():
            self._fail(NodeTimeout(self.endpoint.name, f"no answer within {self.endpoint.deadline:g} s"))
        else:
            self._timer = self.loop.call_at(due, self._check_oldest)

    # ------------------------------------------------------------------ receiving

    def data_received(self, data: bytes) -> None:
        """Take replies off the wire and hand them to who waits."""
        try:
            self._take_replies(data)
        except Broken as error:
            self._fail(LinkBroken(self.endpoint.name, f"link broke: {error}"))

    def _take_replies(self, data: bytes) -> None:
        reader = self._reader
        reader.feed(data)
        gets = reader.gets
        waiting = self._waiting
        while (reply := gets()) is not False:
            first = waiting[0]
            if isinstance(first, _Read):
                waiting.popleft()
                self._hand_out(first.futures, reply)
                continue
            first.replies.append(reply)
            if len(first.replies) == first.missing:
                waiting.popleft()
                self._complete(first)

    def _hand_out(self, futures: list[asyncio.Future[Any]], values: Any) -> None:
        if values.__class__ is ErrorReply:
            for future in futures:
                if not future.done():
                    future.set_exception(error_for(self.endpoint.name, Fetch(""), str(values)))
            return
        for future, value in zip(futures, values, strict=True):
            if not future.done():  # its task may have been cancelled
                future.set_result(value)

    def _complete(self, call: _Call) -> None:
        future = call.future
        if future.done():
            return
        reply = call.replies[0] if call.wire.replies is None else call.replies
        try:
            future.set_result(decode(self.endpoint.name, call.request, call.wire, reply))
        except NeedsFallback:
            self._fall_back(call)
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to who waits
            future.set_exception(error)

    def _fall_back(self, call: _Call) -> None:
        wire = call.wire
        if wire.sticky:
            self.endpoint.lacks(type(call.request))
        again = _Call(call.request, call.future, self.endpoint)
        if not wire.sticky and wire.fallback is not None:
            again.wire = wire.fallback
        self._calls.append(again)
        if not self._scheduled:
            self._schedule()

    # ------------------------------------------------------------------ ending

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what is on its way when the node closes the link."""
        self._fail(LinkBroken(self.endpoint.name, f"link broke: {exc or 'closed by the node'}"))

    def _fail(self, error: TransportError) -> None:
        if self.broken:
            return
        self.broken = True
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        elif self._connecting is not None and not self.loop.is_closed():
            self._connecting.cancel()
        for future in self._given_up():
            if not future.done() and not self.loop.is_closed():
                future.set_exception(type(error)(error.node, error.reason))
                future.exception()  # a waiter that is gone leaves no warning behind
        self._waiting.clear()

    def _given_up(self) -> list[asyncio.Future[Any]]:
        """Return the futures of all requests, and tell of those whose tasks were cancelled."""
        futures = list(self._futures)
        for waiting in (*self._calls, *self._waiting):
            if isinstance(waiting, _Read):
                futures += waiting.futures
            elif waiting.future.cancelled():
                self._lost(self.endpoint.name, waiting.request)
            else:
                futures.append(waiting.future)
        return futures
