"""Open links to one node: the only file that touches the insides of redis-py (or valkey-py).

The client library resolves the URL, connects, does TLS and authenticates; then its established socket is
taken over, because its own request path costs more than the round trip. Works with redis-py 6.4, 7 and 8 and
valkey-py 6.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import itertools
import re
import socket
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

from distcache_django.core.requests import Request
from distcache_django.exceptions import InvalidDistcacheConfig, NodeUnreachable
from distcache_django.transport import commands

__all__ = ["Endpoint"]


class Endpoint:
    """Know how to reach one node; shared by all threads and loops of a process.

    ``client`` names the library (``redis`` or ``valkey``); ``options`` are keyword arguments of its connection
    class; what the URL says wins over them, as it does in the library. Nothing connects before ``open`` or ``aopen``.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        deadline: float,
        connect_timeout: float,
        client: str = "redis",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.deadline = deadline
        self.connect_timeout = connect_timeout
        self._url = url
        self._options = dict(options or {})
        self._library = client
        self._client: Any = None
        self._kwargs: dict[bool, tuple[Any, dict[str, Any]]] = {}
        #: How requests travel here; drivers replace it when the server turns out to lack a command.
        self.wires: Mapping[type[Request], commands.Wire] = commands.WIRES
        #: Whether a new link asks which run of the server it has reached, before anything else is sent on it.
        self.greets = False
        #: Changes when a new link reaches another run of the server than the last one did. A server that restarts
        #: ends all links, so what was learned of its memory holds for as long as this stays the same.
        self.generation = 0
        self._count = itertools.count(1).__next__
        self._run: bytes | None = None

    def __repr__(self) -> str:
        return f"<Endpoint {self.name} {self.address}>"

    @property
    def address(self) -> str:
        """Return where the node is, without user and password."""
        parts = urlsplit(self._url)
        if parts.scheme == "unix":
            return parts.path
        return f"{parts.hostname or 'localhost'}:{parts.port or 6379}"

    def lacks(self, request_class: type[Request]) -> None:
        """Use the fallback form of ``request_class`` on this node from now on."""
        self.wires = commands.wires_without(self.wires, request_class)

    def open(self, timeout: float) -> socket.socket:
        """Connect, authenticate and return the socket; each wait is bounded by ``timeout`` seconds.

        :raises NodeUnreachable: whatever went wrong, without the password.
        """
        connection = self._connection(timeout, asynchronous=False)
        try:
            connection.connect()
            if self.greets:
                connection.send_command("INFO", "server")
                with self._noting_refusal():
                    self._note_run(connection.read_response())
        except (self._errors(), OSError) as error:
            connection.disconnect()
            raise self._unreachable(error) from error
        sock: socket.socket = connection._sock
        connection._sock = None
        connection._parser.on_disconnect()
        return sock

    async def aopen(self, timeout: float) -> tuple[asyncio.Transport, object]:
        """Connect on the running loop; return the transport and an object to keep alive beside it.

        :raises NodeUnreachable: whatever went wrong, without the password.
        """
        connection = self._connection(timeout, asynchronous=True)
        try:
            async with asyncio.timeout(timeout):
                await connection.connect()
                if self.greets:
                    await connection.send_command("INFO", "server")
                    with self._noting_refusal():
                        self._note_run(await connection.read_response())
        except (self._errors(), OSError, TimeoutError) as error:
            self._discard(connection)
            raise self._unreachable(error) from error
        except BaseException:
            self._discard(connection)
            raise
        writer: asyncio.StreamWriter = connection._writer
        connection._writer = connection._reader = None
        connection._parser.on_disconnect()
        transport: asyncio.Transport = writer.transport  # type: ignore[assignment]
        if not transport.is_reading():
            transport.resume_reading()
        return transport, writer

    @contextlib.contextmanager
    def _noting_refusal(self) -> Iterator[None]:
        """Take a server that does not say which run it is for another one each time."""
        try:
            yield
        except self._module().ResponseError:
            self._note_run(b"")

    def _note_run(self, info: bytes | str) -> None:
        text = info if isinstance(info, bytes) else info.encode()
        found = re.search(rb"run_id:(\w+)", text)
        run = found[1] if found else None
        if run is None or run != self._run:
            # In this order: whoever finds the run noted has to find the generation changed.
            self.generation = self._count()
            self._run = run

    def client(self) -> Any:
        """Return the library's own thread-safe client of this node, made once; bounded by the same deadline."""
        if self._client is None:
            library = self._module()
            _, kwargs = self._connection_arguments(asynchronous=False)
            connection_class = kwargs.pop("connection_class", None) or self._connection_class(library)
            pool = library.ConnectionPool(
                connection_class=connection_class,
                max_connections=2**16,
                **_bounded(kwargs, self.deadline, self.connect_timeout),
            )
            client_class = library.Redis if self._library == "redis" else library.Valkey
            self._client = client_class(connection_pool=pool)
        return self._client

    def close(self) -> None:
        """Close what ``client`` opened; harmless when repeated."""
        client, self._client = self._client, None
        if client is not None:
            client.connection_pool.disconnect()

    def problem(self) -> str:
        """Return what is wrong with the URL or the options, or nothing; connects to nothing."""
        try:
            self._connection(self.deadline, asynchronous=False)
        except InvalidDistcacheConfig as error:
            return str(error)
        return ""

    def _connection(self, timeout: float, *, asynchronous: bool) -> Any:
        try:
            connection_class, kwargs = self._connection_arguments(asynchronous=asynchronous)
            # A busy event loop would take its own delay for the node's: there the deadline alone bounds connecting.
            connect_timeout = timeout if asynchronous else self.connect_timeout
            return connection_class(**_bounded(kwargs, timeout, connect_timeout))
        except (TypeError, ValueError, self._errors()) as error:
            raise InvalidDistcacheConfig(
                f"node {self.name}: the URL or CONNECTION_POOL_KWARGS cannot be used: {error}"
            ) from error

    @staticmethod
    def _discard(connection: Any) -> None:
        writer = connection._writer
        connection._writer = connection._reader = None
        if writer is not None:
            writer.transport.abort()

    def _unreachable(self, error: BaseException) -> NodeUnreachable:
        reason = str(error) or type(error).__name__
        in_url = urlsplit(self._url).password or ""
        for password in {str(self._options.get("password") or ""), in_url, unquote(in_url)} - {""}:
            reason = reason.replace(password, "***")
        return NodeUnreachable(self.name, f"cannot connect to {self.address}: {reason}")

    def _errors(self) -> type[Exception]:
        module = self._module()
        error: type[Exception] = module.RedisError if self._library == "redis" else module.ValkeyError
        return error

    def _module(self, asynchronous: bool = False) -> ModuleType:
        return importlib.import_module(f"{self._library}.asyncio" if asynchronous else self._library)

    def _connection_class(self, library: ModuleType) -> Any:
        return importlib.import_module(f"{library.__name__}.connection").Connection

    def _connection_arguments(self, *, asynchronous: bool) -> tuple[Any, dict[str, Any]]:
        """Return the connection class and its arguments, computed once for each flavour."""
        found = self._kwargs.get(asynchronous)
        if found is None:
            found = self._kwargs[asynchronous] = self._resolve(self._module(asynchronous))
        return found[0], dict(found[1])

    def _resolve(self, library: ModuleType) -> tuple[Any, dict[str, Any]]:
        connection_module = importlib.import_module(f"{library.__name__}.connection")
        kwargs: dict[str, Any] = {**self._options, **connection_module.parse_url(self._url)}
        connection_class = kwargs.pop("connection_class", connection_module.Connection)
        backoff = importlib.import_module(f"{self._library}.backoff")
        retry = importlib.import_module(f"{library.__name__}.retry")
        kwargs.update(retry=retry.Retry(backoff.NoBackoff(), 0), protocol=2, health_check_interval=0)
        # CLIENT SETINFO would cost every new link two round trips.
        parameters = inspect.signature(connection_module.AbstractConnection.__init__).parameters
        silent = ("driver_info",) if "driver_info" in parameters else ("lib_name", "lib_version")
        kwargs.update(dict.fromkeys(silent))
        return connection_class, kwargs


def _bounded(kwargs: dict[str, Any], timeout: float, connect_timeout: float) -> dict[str, Any]:
    return {**kwargs, "socket_timeout": timeout, "socket_connect_timeout": min(timeout, connect_timeout)}
