"""Run Ops on blocking sockets: one persistent link for each thread and node, no lock on the way.

A thread takes its link out of its table while it uses it and puts it back after a whole exchange. So an
exception between request and reply (a signal, a time limit of the task queue) drops the link instead of
leaving a reply behind for the next request, and code that runs inside an exchange (a signal handler, a
finalizer) gets a link of its own.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from itertools import chain
from typing import Any, TypeVar

from distcache_django.core.effects import Ask, Gather, Load, Op, Owe, OweBumps, Pause, Raised, step
from distcache_django.core.requests import Request
from distcache_django.exceptions import DistcacheError, NodeTimeout
from distcache_django.transport import fanout
from distcache_django.transport.commands import ErrorReply, Wire
from distcache_django.transport.endpoint import Endpoint
from distcache_django.transport.health import (
    Health,
    LinkBroken,
    NeedsFallback,
    OutOfTime,
    decode,
    known_down,
    note_lost,
    remember,
    report,
)
from distcache_django.transport.link import CHUNK, PROMPT, SMALL, Broken, Link, broken

__all__ = ["BlockingDriver"]

T = TypeVar("T")

#: Idle links that ended threads leave for new ones, for each node.
_SPARE_LINKS = 8


class _ThreadLinks:
    """Hold the links of one thread; when the thread ends, they are left for others."""

    __slots__ = ("links", "spare")

    def __init__(self, spare: Mapping[str, deque[Link]]) -> None:
        self.links: dict[str, Link] = {}
        self.spare = spare

    def __del__(self) -> None:
        for node, link in self.links.items():
            if len(self.spare[node]) < _SPARE_LINKS:
                self.spare[node].append(link)
            else:
                link.close()


class BlockingDriver:
    """Run Ops in the calling thread. Safe to share between threads; ``forget`` makes it safe after a fork."""

    def __init__(self, endpoints: Mapping[str, Endpoint], health: Health, deadline: float) -> None:
        self.endpoints = endpoints
        self.health = health
        self.deadline = deadline
        self._spare: dict[str, deque[Link]] = {node: deque() for node in endpoints}
        self._local = threading.local()

    def forget(self) -> None:
        """Drop every link of every thread, saying nothing to the nodes: in a forked child they are the parent's."""
        held, spare = self._held().links, self._spare
        self._spare = {node: deque() for node in self.endpoints}
        self._local = threading.local()
        # Frames of errors may keep these from being finalized in good order. Other threads' links end with them.
        for link in chain(held.values(), *spare.values()):
            link.close()
        held.clear()

    def run(self, op: Op[T]) -> T:
        """Run ``op`` to its end and return its result; its requests share one deadline."""
        expires = time.monotonic() + self.deadline
        unhurried = True
        try:
            effect = op.send(None)
            while True:
                kind = effect.__class__
                if kind is Ask:
                    try:
                        reply = self.ask(effect.node, effect.request, expires, unhurried)  # type: ignore[union-attr]
                    except DistcacheError as error:
                        effect = op.throw(error)
                    except BaseException:  # a signal handler's: the request may or may not be done
                        note_lost(self.health, effect.node, effect.request)  # type: ignore[union-attr]
                        raise
                    else:
                        effect = op.send(reply)
                else:
                    outcome, expires = self._perform(effect, expires)
                    effect = step(op, outcome)
                unhurried = expires - time.monotonic() > PROMPT
        except StopIteration as done:
            result: T = done.value
            return result

    def _perform(self, effect: Any, expires: float) -> tuple[object, float]:
        """Perform an effect other than ``Ask``; return its outcome and the deadline from now on.

        The user's time and pauses do not count towards the deadline.
        """
        if isinstance(effect, Gather):
            return fanout.gather(self, effect, expires), expires
        if isinstance(effect, (Owe, OweBumps)):
            remember(self.health, effect)
            return None, expires
        left = expires - time.monotonic()
        outcome: object = None
        if isinstance(effect, Load):
            try:
                outcome = effect.function()
            except Exception as error:  # noqa: BLE001 - it is the Op's to pass on
                outcome = Raised(error)
        elif isinstance(effect, Pause):
            (effect.until.wait if effect.until else time.sleep)(effect.seconds)
            left = self.deadline
        return outcome, time.monotonic() + left

    def ask(self, node: str, request: Request, expires: float, unhurried: bool) -> Any:
        """Send one request and return its decoded reply.

        The body is the straight path, spelled out because every call of the cache takes it: a link that is
        there, a small request, one reply that arrives whole. All else is ``_ask_with_care``'s.

        :raises TransportError: as the node failed; its health has been told.
        """
        if node in self.health.down:
            raise known_down(self.health, node, request)
        links = self._held().links
        link = links.pop(node, None)
        if link is None or not unhurried or link.timed_only:
            return self._ask_with_care(node, request, expires, link)
        wire = link.wires[request.__class__]
        if not wire.straight:
            return self._ask_with_care(node, request, expires, link)
        payload = wire.encode(request)
        if len(payload) > SMALL:
            return self._ask_with_care(node, request, expires, link)
        try:
            link.sendall(payload)
            link.feed(link.recv(CHUNK))
            reply = link.gets()
            if reply is False:
                reply = link.read_timed(expires)
        except (OSError, Broken, NodeTimeout) as error:
            return self._recover(link, request, expires, error)
        links[node] = link
        if reply.__class__ is ErrorReply:
            return self._refused(node, request, wire, reply)
        return reply if wire.decode is None else wire.decode(reply)

    def _refused(self, node: str, request: Request, wire: Wire, reply: ErrorReply) -> Any:
        try:
            return decode(node, request, wire, reply)
        except DistcacheError as error:
            report(self.health, request, error)
            raise

    def _ask_with_care(self, node: str, request: Request, expires: float, link: Link | None) -> Any:
        """Do what ``ask`` does, for all requests and links."""
        left = expires - time.monotonic()
        if left <= 0:
            if link is not None:
                self.put(link)
            raise OutOfTime(node, "no time left")
        try:
            link = self._checked(link, node, request, expires)
            try:
                return self._exchange(link, request, expires)
            except Broken as error:
                return self.again(link, request, expires, error)
        except DistcacheError as error:
            report(self.health, request, error, blame=left >= self.deadline / 2)
            raise

    def _recover(self, link: Link, request: Request, expires: float, error: Exception) -> Any:
        """Go on where the straight path ended: wait for a slow reply, or replace a link that had died idle."""
        if isinstance(error, BlockingIOError):
            return self._finish_reading(link, request, expires)
        link.close()
        failure = broken(error) if isinstance(error, OSError) else error
        try:
            if not isinstance(failure, Broken):
                raise failure
            return self.again(link, request, expires, failure)
        except DistcacheError as final:
            report(self.health, request, final)
            raise

    def _finish_reading(self, link: Link, request: Request, expires: float) -> Any:
        node, wire = link.endpoint.name, link.wires[request.__class__]
        try:
            try:
                reply = link.read_timed(expires)
            except BaseException:
                link.close()
                raise
            self.put(link)
            return decode(node, request, wire, reply)
        except Broken as error:
            failure = LinkBroken(node, f"link broke: {error}")
            report(self.health, request, failure)
            raise failure from error
        except DistcacheError as error:
            report(self.health, request, error)
            raise

    def _held(self) -> _ThreadLinks:
        try:
            held: _ThreadLinks = self._local.held
        except AttributeError:
            held = self._local.held = _ThreadLinks(self._spare)
        return held

    def take(self, node: str, request: Request, expires: float) -> Link:
        """Take this thread's link to ``node`` out of its table, or open one."""
        return self._checked(self._held().links.pop(node, None), node, request, expires)

    def _checked(self, link: Link | None, node: str, request: Request, expires: float) -> Link:
        """Return ``link`` if it will do for ``request``, else a spare or a new one."""
        if link is None:
            return self._spare_link(node) or self.open(node, expires)
        if not request.repeatable and link.is_dead():
            link.close()
            return self.open(node, expires)
        return link

    def put(self, link: Link) -> None:
        """Put a link back after a whole exchange."""
        link.fresh = False
        self._held().links[link.endpoint.name] = link

    def open(self, node: str, expires: float) -> Link:
        """Open a new link within what is left of the deadline."""
        endpoint = self.endpoints[node]
        left = expires - time.monotonic()
        if left <= 0:
            raise OutOfTime(node, "no time left to connect")
        return Link(endpoint, endpoint.open(left))

    def _spare_link(self, node: str) -> Link | None:
        spare = self._spare[node]
        while spare:
            try:
                link = spare.pop()
            except IndexError:  # another thread was faster
                return None
            if not link.is_dead():
                return link
            link.close()
        return None

    def _exchange(self, link: Link, request: Request, expires: float) -> Any:
        """Send ``request`` on ``link``, read the reply and put the link back; a failed link is closed."""
        wire = link.wires[request.__class__]
        try:
            link.send_timed(wire.encode(request), expires)
            if wire.replies is None:
                reply = link.read(expires)
            else:
                reply = [link.read_timed(expires) for _ in range(wire.replies(request))]
        except BaseException:
            link.close()
            raise
        self.put(link)
        try:
            return decode(link.endpoint.name, request, wire, reply)
        except NeedsFallback:
            return self.fall_back(link.endpoint.name, request, expires)

    def fall_back(self, node: str, request: Request, expires: float) -> Any:
        """Send the form of ``request`` that the server of ``node`` does understand."""
        link = self.take(node, request, expires)
        wire = link.wires[type(request)]
        if wire.sticky:
            link.drop_form(request)
            return self._exchange(link, request, expires)
        spelled_out = wire.fallback
        if spelled_out is None:
            raise NeedsFallback
        try:
            link.send_timed(spelled_out.encode(request), expires)
            reply = link.read_timed(expires)
        except BaseException:
            link.close()
            raise
        self.put(link)
        return decode(node, request, spelled_out, reply)

    def again(self, link: Link, request: Request, expires: float, error: Broken) -> Any:
        """Repeat a request whose idle link turned out to be dead; a new link that breaks is a failure."""
        node = link.endpoint.name
        if link.fresh or not request.repeatable:
            raise LinkBroken(node, f"link broke: {error}") from error
        try:
            return self._exchange(self.open(node, expires), request, expires)
        except Broken as again:
            raise LinkBroken(node, f"link broke: {again}") from again
