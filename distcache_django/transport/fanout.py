"""Ask several nodes at once from one thread: write to all of them, then read.

The common case has small requests and prompt nodes: blocking writes to every link, then blocking reads in the
same order; the slowest node decides, without a selector. As soon as a request is large, a link speaks TLS, or
a reply is slow, what is left goes through ``poll`` with the rest of the deadline.
"""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING, Any

from distcache_django.core.effects import Ask, Gather
from distcache_django.core.requests import Request
from distcache_django.exceptions import DistcacheError, NodeTimeout
from distcache_django.transport.commands import Wire
from distcache_django.transport.health import (
    LinkBroken,
    NeedsFallback,
    OutOfTime,
    decode,
    known_down,
    note_lost,
    report,
)
from distcache_django.transport.link import Broken, Link

if TYPE_CHECKING:
    from distcache_django.transport.blocking import BlockingDriver

__all__ = ["gather"]


class _Exchange:
    """Hold one request on its way: what is still to be sent, and the replies so far."""

    __slots__ = ("index", "link", "missing", "replies", "request", "rest", "wire")

    def __init__(self, index: int, link: Link, request: Request) -> None:
        self.index = index
        self.link = link
        self.request = request
        self.wire: Wire = link.wires[request.__class__]
        self.rest = memoryview(self.wire.encode(request))
        self.missing = 1 if self.wire.replies is None else self.wire.replies(request)
        self.replies: list[Any] = []

    @property
    def reply(self) -> Any:
        return self.replies[0] if self.wire.replies is None else self.replies


def gather(driver: BlockingDriver, effect: Gather, expires: float) -> list[Any]:
    """Return the outcome of each request, in order: its value, or the ``TransportError`` it failed with."""
    asks = effect.asks
    outcomes: list[Any] = [None] * len(asks)
    now = time.monotonic()
    fair = expires - now >= driver.deadline / 2
    expires = now + (expires - now) * effect.patience
    exchanges: list[_Exchange] = []
    for index, ask in enumerate(asks):
        try:
            exchanges.append(_begin(driver, index, ask, expires))
        except DistcacheError as error:
            outcomes[index] = _bare(error)
    try:
        straight = fair and all(e.link.can_go_straight(e.rest.obj) for e in exchanges)  # type: ignore[arg-type]
        if not straight or not _straight(exchanges, outcomes):
            _pump([e for e in exchanges if e.missing and outcomes[e.index] is None], outcomes, expires)
    except BaseException:  # a signal handler's
        for exchange in exchanges:
            if exchange.missing:
                note_lost(driver.health, exchange.link.endpoint.name, exchange.request)
        raise
    for exchange in exchanges:
        outcomes[exchange.index] = _finish(driver, exchange, outcomes[exchange.index], expires, blame=fair)
    return outcomes


def _bare(error: Exception) -> Exception:
    """Take an error's frames off: they hold the outcomes, it among them, and would keep every link and value."""
    return error.with_traceback(None)


def _begin(driver: BlockingDriver, index: int, ask: Ask, expires: float) -> _Exchange:
    if ask.node in driver.health.down:
        raise known_down(driver.health, ask.node, ask.request)
    if time.monotonic() >= expires:
        raise OutOfTime(ask.node, "no time left")
    try:
        return _Exchange(index, driver.take(ask.node, ask.request, expires), ask.request)
    except DistcacheError as error:
        report(driver.health, ask.request, error)
        raise


def _straight(exchanges: list[_Exchange], outcomes: list[Any]) -> bool:
    """Write to all, then read in the same order; return whether that was all, ``False`` at the first slow reply."""
    for exchange in exchanges:
        try:
            exchange.link.send(exchange.rest.obj)  # type: ignore[arg-type]
            exchange.rest = exchange.rest[:0]
        except (Broken, NodeTimeout) as error:
            outcomes[exchange.index] = _bare(error)
    for exchange in exchanges:
        try:
            while exchange.missing and outcomes[exchange.index] is None:
                reply = exchange.link.read_promptly()
                if reply is False:
                    return False
                exchange.replies.append(reply)
                exchange.missing -= 1
        except Broken as error:
            outcomes[exchange.index] = _bare(error)
    return True


def _pump(exchanges: list[_Exchange], outcomes: list[Any], expires: float) -> None:
    """Drive all exchanges with one ``poll`` until each is done, broken or late."""
    active = {exchange.link.sock.fileno(): exchange for exchange in exchanges}
    poll = select.poll()
    for fileno in active:
        poll.register(fileno, select.POLLIN | select.POLLOUT)
    while active:
        for fileno, exchange in list(active.items()):
            if _settled(exchange, outcomes):
                poll.unregister(fileno)
                del active[fileno]
            elif not exchange.rest:
                poll.modify(fileno, select.POLLIN)
        left = expires - time.monotonic()
        if active and (left <= 0 or not poll.poll(max(1, left * 1000))):
            break
    for exchange in active.values():
        outcomes[exchange.index] = exchange.link.late()


def _settled(exchange: _Exchange, outcomes: list[Any]) -> bool:
    """Advance one exchange; return whether it is done or broken."""
    try:
        return _advance(exchange)
    except Broken as error:
        outcomes[exchange.index] = error
        return True


def _advance(exchange: _Exchange) -> bool:
    """Send and receive what is possible now; return whether all replies are there."""
    link = exchange.link
    while exchange.rest and (sent := link.send_some(exchange.rest)):
        exchange.rest = exchange.rest[sent:]
    while exchange.missing:
        reply = link.gets()
        if reply is False:
            if not link.receive_some():
                return False
        else:
            exchange.replies.append(reply)
            exchange.missing -= 1
    return True


def _finish(
    driver: BlockingDriver, exchange: _Exchange, failure: Exception | None, expires: float, *, blame: bool
) -> Any:
    """Return one exchange's value, repeating it where that is harmless, or the error it failed with.

    Its link is put back or closed.
    """
    link, request = exchange.link, exchange.request
    try:
        if failure is None:
            driver.put(link)
            return _decoded(driver, exchange, expires)
        link.close()
        if not isinstance(failure, Broken):
            raise failure
        return driver.again(link, request, expires, failure)
    except DistcacheError as error:
        report(driver.health, request, error, blame=blame)
        return error


def _decoded(driver: BlockingDriver, exchange: _Exchange, expires: float) -> Any:
    node = exchange.link.endpoint.name
    try:
        return decode(node, exchange.request, exchange.wire, exchange.reply)
    except NeedsFallback:
        try:
            return driver.fall_back(node, exchange.request, expires)
        except Broken as error:
            raise LinkBroken(node, f"link broke: {error}") from error
