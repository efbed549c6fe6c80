"""A relay that understands commands: it refuses, delays or watches some of them and passes the others on."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Self

import hiredis

#: Gets the words of a command; returns the text of the error to answer it with, or None to pass it on.
Refusal = Callable[[list[bytes]], bytes | None]


class Gate:
    """Own a loopback port and relay commands to a server, one at a time on each link; a context manager.

    ``refuse`` and the others may be set from any thread. ``hold`` returns the seconds a
    command waits at the gate.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self.refuse: Refusal | None = None
        self.hold: Callable[[list[bytes]], float] | None = None
        #: Commands that end the link, after they were held.
        self.drop: Callable[[list[bytes]], bool] | None = None
        #: Commands that the server does, and whose link ends before the reply.
        self.swallow: Callable[[list[bytes]], bool] | None = None
        #: First words of the commands seen, in order.
        self.seen: list[bytes] = []
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._is_open = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._is_open.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._listen())
            self._is_open.set()
            self._loop.run_forever()
            runner.run(self._close())

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        for _ in range(5):  # aborted transports, and those of cancelled connects, close in the loop's next rounds
            await asyncio.sleep(0)

    def _accept(self, client: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        self._writers.add(out)
        task = self._loop.create_task(self._relay(client, out))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _relay(self, client: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        back: asyncio.StreamWriter | None = None
        commands = hiredis.Reader()
        try:
            server, back = await asyncio.open_connection("127.0.0.1", self._target_port)
            self._writers.add(back)
            while data := await client.read(65536):
                commands.feed(data)
                while (words := commands.gets()) is not False:
                    out.write(await self._answer(words, server, back))
        except OSError:
            pass
        finally:
            for writer in (out, back):
                if writer is not None:
                    writer.transport.abort()
                    self._writers.discard(writer)

    async def _answer(self, words: list[Any], server: asyncio.StreamReader, back: asyncio.StreamWriter) -> bytes:
        self.seen.append(words[0])
        if self.hold is not None:
            await asyncio.sleep(self.hold(words))
        if self.drop is not None and self.drop(words):
            raise ConnectionResetError
        error = self.refuse(words) if self.refuse is not None else None
        if error is not None:
            return b"-%b\r\n" % error
        back.write(hiredis.pack_command(tuple(words)))
        replies = hiredis.Reader()
        raw = b""
        while replies.gets() is False:
            data = await server.read(65536)
            if not data:
                raise ConnectionResetError
            raw += data
            replies.feed(data)
        if self.swallow is not None and self.swallow(words):
            raise ConnectionResetError
        return raw
