"""Put a TCP proxy in front of a server and break the connections that go through it.

The proxy runs on an event loop of its own in a daemon thread. Its methods may be called from any thread and
return when the fault is in force; each replaces the fault before it. What the two ends then see:

=============  ==============================  ==================================  ===========================
fault          links that exist                new connections                     after ``heal()``
=============  ==============================  ==================================  ===========================
``cut``        closed                          refused                             accepted again
``delay``      each round trip takes longer    the same                            what waits is sent at once
``drip``       bytes trickle                   the same                            what waits is sent at once
``blackhole``  bytes are read and lost         accepted, what they send is lost    links that lost bytes close
``half_open``  bytes are never read            accepted, never read nor answered   all of these links close
=============  ==============================  ==================================  ===========================

``blackhole`` and ``half_open`` also hide the end of a link from its other side: a client that gives up leaves
the server with a link it believes in. An entry of the first three rows makes a spoiled link close as
``heal()`` does: a stream with a hole in it must not go on.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Coroutine
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from distcache_django.testing.link import End, Fault, Link, Weather
from distcache_django.testing.processes import reserve_port

__all__ = ["FaultProxy"]

_CALL_TIMEOUT = 10.0


class FaultProxy:
    """Own a loopback port and forward its connections to a server; a context manager.

    The port stays the proxy's until ``close()``, also while it refuses connections.
    """

    def __init__(self, target_port: int, target_host: str = "127.0.0.1") -> None:
        self._target = (target_host, target_port)
        self._owner = os.getpid()
        # Only the loop's thread writes these; len() and the integer may be read from any.
        self._weather = Weather()
        self._links: set[Link] = set()
        self._bytes_forwarded = 0
        self._listener: asyncio.Server | None = None
        self._reservation: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<FaultProxy {self._weather.fault.value} {len(self._links)} links>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def port(self) -> int:
        """Give the port to connect to; a proxy that is not started has none."""
        if self._reservation is None:
            raise RuntimeError("the proxy is not started and has no port")
        return int(self._reservation.getsockname()[1])

    @property
    def connections(self) -> int:
        """Give the number of links that are open now."""
        return len(self._links)

    @property
    def bytes_forwarded(self) -> int:
        """Give the number of bytes sent on so far, both ways together."""
        return self._bytes_forwarded

    def url_for(self, url: str) -> str:
        """Return the URL with the proxy's address in place of the server's; credentials and path stay."""
        parts = urlsplit(url)
        credentials, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{credentials}{at}127.0.0.1:{self.port}"))

    def start(self) -> None:
        """Begin to listen and forward; do nothing when started."""
        if self._thread is not None:
            return
        self._reservation = reserve_port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, args=[self._loop], daemon=True)
        self._thread.start()
        self.heal()

    def close(self) -> None:
        """Close every link and the port; harmless when done twice, and in a forked copy of the owner."""
        if self._thread is None or self._loop is None or os.getpid() != self._owner:
            return
        self._call(self._set(Weather(Fault.CUT)))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CALL_TIMEOUT)
        self._loop.close()
        if self._reservation is not None:
            self._reservation.close()
        self._thread = self._loop = self._reservation = None

    def heal(self) -> None:
        """End the fault; links that lost bytes are closed, the others go on."""
        self._call(self._set(Weather()))

    def cut(self) -> None:
        """Close all links and refuse new connections, as a host does whose server has ended."""
        self._call(self._set(Weather(Fault.CUT)))

    def delay(self, seconds: float) -> None:
        """Let each round trip take ``seconds`` more, half of them each way; order and pipelining are kept."""
        self._call(self._set(Weather(delay=seconds / 2)))

    def drip(self, bytes_per_second: int) -> None:
        """Let at most ``bytes_per_second`` through on each link and each way."""
        if bytes_per_second < 1:
            raise ValueError(f"bytes_per_second must be at least 1, not {bytes_per_second}")
        self._call(self._set(Weather(bytes_per_second=bytes_per_second)))

    def blackhole(self) -> None:
        """Accept connections and bytes, and let nothing out on either side."""
        self._call(self._set(Weather(Fault.BLACKHOLE)))

    def half_open(self) -> None:
        """Leave every link open and dead, as after a power cut; new ones are accepted, never answered."""
        self._call(self._set(Weather(Fault.HALF_OPEN)))

    def _call(self, change: Coroutine[None, None, None]) -> None:
        if self._loop is None or os.getpid() != self._owner:
            change.close()
            raise RuntimeError("the proxy is not started in this process")
        asyncio.run_coroutine_threadsafe(change, self._loop).result(_CALL_TIMEOUT)

    @staticmethod
    def _serve(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()

    async def _set(self, weather: Weather) -> None:
        self._weather = weather
        if weather.fault is Fault.CUT and self._listener is not None:
            self._listener.close()
            self._listener = None
        elif weather.fault is not Fault.CUT and self._listener is None:
            self._listener = await self._listen()
        for link in tuple(self._links):
            self._apply(link)
        await asyncio.sleep(0)  # closed transports tell their protocols in the loop's next round

    def _apply(self, link: Link) -> None:
        if self._weather.fault is Fault.HALF_OPEN:
            link.is_spoiled = True
        if self._weather.fault is Fault.CUT or (link.is_spoiled and not self._weather.is_silent):
            link.abort()
        else:
            link.adapt()

    async def _listen(self) -> asyncio.Server:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        return await asyncio.get_running_loop().create_server(self._accept, sock=listener)

    def _accept(self) -> End:
        link = Link(self._target, lambda: self._weather, self._count, self._links.discard)
        self._links.add(link)
        return link.client

    def _count(self, size: int) -> None:
        self._bytes_forwarded += size
