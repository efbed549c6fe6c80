"""Run Ops on an event loop: one multiplexed link for each loop and node."""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from distcache_django.core.effects import Ask, Gather, Load, Op, Owe, OweBumps, Pause, Raised, step
from distcache_django.core.requests import Fetch, Request
from distcache_django.exceptions import DistcacheError, NodeTimeout
from distcache_django.transport.aiolink import AsyncLink
from distcache_django.transport.endpoint import Endpoint
from distcache_django.transport.health import Health, LinkBroken, OutOfTime, known_down, note_lost, remember, report

__all__ = ["AsyncDriver"]

T = TypeVar("T")


class _Impatience(NodeTimeout):
    """Report a later request of an Op that had less than a deadline; no reason to call the node failing."""


class _LoopLinks:
    """Hold the links of one event loop and close them when the loop shuts down.

    Loops run the end of their asynchronous generators before they close; a generator that waits is the one
    hook they offer, and it also serves the short-lived loops of ``async_to_sync``.
    """

    def __init__(self) -> None:
        self.links: dict[str, AsyncLink] = {}
        self._closer: AsyncGenerator[None] | None = None

    async def close_with_loop(self) -> None:
        """Arrange for ``close`` to be called when the running loop shuts down."""
        self._closer = self._wait_for_the_end()
        await anext(self._closer)

    async def _wait_for_the_end(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            self.close()

    def close(self) -> None:
        """Close all links."""
        for link in self.links.values():
            link.close()
        self.links.clear()


class AsyncDriver:
    """Run Ops on whichever event loop calls. ``forget`` makes it safe after a fork."""

    def __init__(self, endpoints: Mapping[str, Endpoint], health: Health, deadline: float) -> None:
        self.endpoints = endpoints
        self.health = health
        self.deadline = deadline
        self.forget()

    def forget(self) -> None:
        """Drop the links of all loops."""
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopLinks] = weakref.WeakKeyDictionary()
        #: The loop that ran the last Op and its links: most processes have one, and a weak look-up costs more.
        self._last: tuple[asyncio.AbstractEventLoop | None, dict[str, AsyncLink]] = (None, {})

    async def run(self, op: Op[T]) -> T:
        """Run ``op`` to its end and return its result."""
        loop = asyncio.get_running_loop()
        last_loop, links = self._last
        if last_loop is not loop:
            links = await self._links_of(loop)
        expires = loop.time() + self.deadline
        first = True
        try:
            effect = op.send(None)
            while True:
                if effect.__class__ is not Ask:
                    outcome, expires = await self._perform(effect, links, loop, expires)
                    effect = step(op, outcome)
                    continue
                try:
                    if first:  # the link's own timer bounds it
                        first = False
                        reply = await self._send(links, loop, effect.node, effect.request)
                    else:
                        reply = await self._send_within(links, loop, effect, expires)
                except DistcacheError as error:
                    effect = step(op, await self._failed(links, loop, effect, error, expires))
                else:
                    effect = op.send(reply)
        except StopIteration as done:
            result: T = done.value
            return result

    async def _links_of(self, loop: asyncio.AbstractEventLoop) -> dict[str, AsyncLink]:
        held = self._loops.get(loop)
        if held is None:
            held = self._loops[loop] = _LoopLinks()
            await held.close_with_loop()
        self._last = (loop, held.links)
        return held.links

    async def _send_within(
        self, links: dict[str, AsyncLink], loop: asyncio.AbstractEventLoop, ask: Any, expires: float
    ) -> Any:
        """Send a later request of an Op, with what is left of its deadline; running out of it is nobody's fault."""
        if loop.time() >= expires:
            raise OutOfTime(ask.node, "no time left")
        try:
            async with asyncio.timeout_at(expires):
                return await self._send(links, loop, ask.node, ask.request)
        except TimeoutError:
            raise _Impatience(ask.node, "no answer in what was left of the deadline") from None

    def _send(
        self, links: dict[str, AsyncLink], loop: asyncio.AbstractEventLoop, node: str, request: Request
    ) -> asyncio.Future[Any]:
        if node in self.health.down:
            raise known_down(self.health, node, request)
        link = links.get(node)
        if link is None or link.broken:
            link = links[node] = AsyncLink(self.endpoints[node], loop, partial(note_lost, self.health))
        if request.__class__ is Fetch:
            return link.fetch(request.key)
        return link.submit(request)

    async def _failed(
        self,
        links: dict[str, AsyncLink],
        loop: asyncio.AbstractEventLoop,
        ask: Any,
        error: DistcacheError,
        expires: float,
    ) -> object:
        """Repeat a request whose idle link turned out to be dead; else report the failure and return it ``Raised``."""
        request: Request = ask.request
        if isinstance(error, LinkBroken) and request.repeatable:
            try:
                return await self._send_within(links, loop, ask, expires)
            except DistcacheError as again:
                error = again
        report(self.health, request, error, blame=not isinstance(error, _Impatience))
        return Raised(error)

    async def _gather(
        self, effect: Gather, links: dict[str, AsyncLink], loop: asyncio.AbstractEventLoop, expires: float
    ) -> list[Any]:
        asks = effect.asks
        if loop.time() >= expires:
            return [OutOfTime(ask.node, "no time left") for ask in asks]
        futures: list[Any] = []
        for ask in asks:
            try:
                futures.append(self._send(links, loop, ask.node, ask.request))
            except DistcacheError as error:
                futures.append(error)
        outcomes: list[Any] = []
        silent = await _silent(futures, (expires - loop.time()) * effect.patience) if effect.patience < 1 else ()
        for ask, future in zip(asks, futures, strict=True):
            if isinstance(future, DistcacheError):
                outcomes.append(future)
                continue
            if future in silent:
                outcomes.append(NodeTimeout(ask.node, "no answer in its share of the deadline"))
                report(self.health, ask.request, outcomes[-1])
                continue
            try:
                outcomes.append(await future)
            except DistcacheError as error:
                outcome = await self._failed(links, loop, ask, error, expires)
                outcomes.append(outcome.error if isinstance(outcome, Raised) else outcome)
        return outcomes

    async def _perform(
        self, effect: Any, links: dict[str, AsyncLink], loop: asyncio.AbstractEventLoop, expires: float
    ) -> tuple[object, float]:
        """Perform an effect other than ``Ask``; return its outcome and the deadline from now on.

        The user's time and pauses do not count towards the deadline.
        """
        if isinstance(effect, Gather):
            return await self._gather(effect, links, loop, expires), expires
        left = expires - loop.time()
        outcome: object = None
        if isinstance(effect, (Owe, OweBumps)):
            remember(self.health, effect)
        elif isinstance(effect, Pause):
            await _pause(effect, loop)
            left = self.deadline
        elif isinstance(effect, Load):
            try:
                loaded = effect.function()
                outcome = await loaded if inspect.isawaitable(loaded) else loaded
            except Exception as error:  # noqa: BLE001 - it is the Op's to pass on
                outcome = Raised(error)
        return outcome, loop.time() + left


async def _pause(pause: Pause, loop: asyncio.AbstractEventLoop) -> None:
    if pause.until is None:
        await asyncio.sleep(pause.seconds)
        return
    woken = asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop has been closed
            loop.call_soon_threadsafe(woken.set)

    pause.until.call(wake)
    try:
        with suppress(TimeoutError):
            await asyncio.wait_for(woken.wait(), pause.seconds)
    finally:
        pause.until.forget(wake)


async def _silent(futures: Sequence[Any], seconds: float) -> set[asyncio.Future[Any]]:
    """Return the requests that have no answer in time; their links go on waiting for it, until their deadline."""
    waiting = [future for future in futures if isinstance(future, asyncio.Future)]
    if not waiting:
        return set()
    _, silent = await asyncio.wait(waiting, timeout=max(0.0, seconds))
    for future in silent:
        future.add_done_callback(_overlook)
    return silent


def _overlook(future: asyncio.Future[Any]) -> None:
    """Take an outcome that nobody waits for, so that an error in it is not called forgotten."""
    if not future.cancelled():
        future.exception()
