"""Carry the bytes of one proxied connection, late, in drips or not at all."""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["End", "Fault", "Link", "Weather"]

_DRIPS_PER_SECOND = 20
_MAX_WAITING = 256 * 1024


class Fault(enum.Enum):
    """Name what is wrong with the network."""

    NONE = "none"
    CUT = "cut"
    BLACKHOLE = "blackhole"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Weather:
    """Say what becomes of bytes: the fault, the seconds each way takes, and the rate (None: unlimited)."""

    fault: Fault = Fault.NONE
    delay: float = 0.0
    bytes_per_second: int | None = None

    @property
    def is_silent(self) -> bool:
        """Tell whether nothing passes although the links stay open."""
        return self.fault in (Fault.BLACKHOLE, Fault.HALF_OPEN)

    @property
    def is_slow(self) -> bool:
        """Tell whether bytes pass late."""
        return self.delay > 0 or self.bytes_per_second is not None


class End(asyncio.Protocol):
    """Own one socket of a link and send what it receives to the link's other end."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._transport: asyncio.Transport | None = None
        # When it is due, and the bytes; None is the end of the stream.
        self._waiting: deque[tuple[float, bytes | None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._free_at = 0.0  # when the last of the waiting bytes will have dripped out
        self._is_choked = False
        self._is_finished = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket; nothing is read before the link says so."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.pause_reading()
        self._link.connected(self)

    def data_received(self, data: bytes) -> None:
        """Send the bytes on, keep them for later, or lose them."""
        self._arrive(data)

    def eof_received(self) -> bool:
        """Send the end of the stream on; the other direction stays open."""
        self._arrive(None)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the other end too, unless the fault hides the loss from it."""
        self._drop_waiting()
        if self._link.weather.is_silent:
            self._link.is_spoiled = True
        else:
            self._link.abort()

    def pause_writing(self) -> None:
        """Stop reading from the other end, whose bytes this one cannot take."""
        self._is_choked = True
        self._link.other(self).adapt()

    def resume_writing(self) -> None:
        """Read from the other end again."""
        self._is_choked = False
        self._link.other(self).adapt()

    def adapt(self) -> None:
        """Do what the weather asks now: stop or start to read, lose what waits or send it."""
        weather = self._link.weather
        if weather.is_silent:
            self._drop_waiting()
        elif not weather.is_slow:
            self._send_due(everything=True)
            self._free_at = 0.0
        if self._transport is None or self._transport.is_closing() or self._is_finished:
            return
        if self._may_read():
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def write(self, data: bytes | None) -> None:
        """Send bytes, or the end of the stream, out of this end."""
        if self._transport is None or self._transport.is_closing():
            return
        if data is None:
            self._transport.write_eof()
        else:
            # Counted first: who has received the bytes finds them counted.
            self._link.count(len(data))
            self._transport.write(data)

    def close(self, *, abort: bool) -> None:
        """Close the socket, at once or after what was written has left."""
        self._drop_waiting()
        if self._transport is not None:
            self._transport.abort() if abort else self._transport.close()

    @property
    def is_finished(self) -> bool:
        """Tell whether the end of this end's stream was sent on."""
        return self._is_finished

    def _may_read(self) -> bool:
        match self._link.weather.fault:
            case Fault.BLACKHOLE:
                return True
            case Fault.HALF_OPEN:
                return False
        backlog = sum(len(data) for _, data in self._waiting if data)
        return self._link.is_complete and backlog < _MAX_WAITING and not self._link.other(self)._is_choked

    def _arrive(self, data: bytes | None) -> None:
        weather = self._link.weather
        if weather.is_silent:
            self._link.is_spoiled = True
        elif weather.is_slow:
            self._postpone(data, weather)
        else:
            self._pass(data)

    def _postpone(self, data: bytes | None, weather: Weather) -> None:
        due = asyncio.get_running_loop().time() + weather.delay
        rate = weather.bytes_per_second
        if data is None or rate is None:
            self._waiting.append((max(due, self._free_at), data))
        else:
            size = max(1, rate // _DRIPS_PER_SECOND)
            for start in range(0, len(data), size):
                piece = data[start : start + size]
                self._free_at = max(due, self._free_at) + len(piece) / rate
                self._waiting.append((self._free_at, piece))
        self.adapt()
        self._send_due()

    def _send_due(self, *, everything: bool = False) -> None:
        loop = asyncio.get_running_loop()
        self._cancel_timer()
        while self._waiting and (everything or self._waiting[0][0] <= loop.time()):
            self._pass(self._waiting.popleft()[1])
        if self._waiting:
            self._timer = loop.call_at(self._waiting[0][0], self._send_due_and_read)

    def _send_due_and_read(self) -> None:
        self._send_due()
        self.adapt()

    def _pass(self, data: bytes | None) -> None:
        self._link.other(self).write(data)
        if data is None:
            self._is_finished = True
            self._link.finish_if_done()

    def _drop_waiting(self) -> None:
        self._cancel_timer()
        self._free_at = 0.0
        if self._waiting:
            self._link.is_spoiled = True
            self._waiting.clear()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Link:
    """Join a client's socket to one of the server's; lives on the proxy's event loop only."""

    def __init__(
        self,
        target: tuple[str, int],
        weather: Callable[[], Weather],
        count: Callable[[int], None],
        forget: Callable[[Link], None],
    ) -> None:
        self._target = target
        self._weather = weather
        self._forget = forget
        self._connecting: asyncio.Task[None] | None = None
        self.count = count
        self.client = End(self)
        self.server = End(self)
        self.is_complete = False
        #: Bytes were lost, or an end was: the link cannot be used once the fault has passed.
        self.is_spoiled = False

    @property
    def weather(self) -> Weather:
        """Give the proxy's present weather."""
        return self._weather()

    def other(self, end: End) -> End:
        """Return the end across from this one."""
        return self.server if end is self.client else self.client

    def connected(self, end: End) -> None:
        """Go on to the server when the client's socket is there, and read when both are."""
        if end is self.server:
            self.is_complete = True
            self.adapt()
        elif self.weather.fault is Fault.CUT:
            self.abort()
        elif self.weather.is_silent:
            self.is_spoiled = True
            self.adapt()
        else:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    def adapt(self) -> None:
        """Do what the weather asks now."""
        self.client.adapt()
        self.server.adapt()

    def finish_if_done(self) -> None:
        """Close the link in good order when both streams have ended."""
        if self.client.is_finished and self.server.is_finished:
            self._close(abort=False)

    def abort(self) -> None:
        """Close both ends at once."""
        self._close(abort=True)

    def _close(self, *, abort: bool) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        self._forget(self)
        for end in (self.client, self.server):
            end.close(abort=abort)

    async def _connect(self) -> None:
        host, port = self._target
        try:
            await asyncio.get_running_loop().create_connection(lambda: self.server, host, port)
        except OSError:
            self.abort()
