"""Each fault of the proxy does to both ends of a link what it says."""

from __future__ import annotations

import os
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from distcache_django.testing import FaultProxy
from tests.support.waiting import wait_until

SILENCE = 0.15  # how long a test listens before it believes that nothing comes


class Echo(socketserver.BaseRequestHandler):
    """Send back what arrives until the peer's stream ends, then say goodbye."""

    def handle(self) -> None:
        server = self.server
        assert isinstance(server, EchoServer)
        server.links += 1
        try:
            while data := self.request.recv(65536):
                server.received += len(data)
                self.request.sendall(data)
            self.request.sendall(b"bye")
        except OSError:
            pass
        finally:
            server.links -= 1


class EchoServer(socketserver.ThreadingTCPServer):
    """Count the links that are open and the bytes that came."""

    daemon_threads = True
    allow_reuse_address = True
    links = 0
    received = 0


@pytest.fixture
def server() -> Iterator[EchoServer]:
    with EchoServer(("127.0.0.1", 0), Echo) as echo:
        thread = threading.Thread(target=echo.serve_forever, args=[0.01])
        thread.start()
        yield echo
        echo.shutdown()
        thread.join()


@pytest.fixture
def proxy(server: EchoServer) -> Iterator[FaultProxy]:
    with FaultProxy(server.server_address[1]) as fault_proxy:
        yield fault_proxy


class Client:
    """Speak to the proxy and tell apart answers, silence and a closed link."""

    def __init__(self, proxy: FaultProxy) -> None:
        self.socket = socket.create_connection(("127.0.0.1", proxy.port), 5)

    def ask(self, data: bytes) -> bytes:
        self.socket.sendall(data)
        return self.read(len(data))

    def read(self, size: int) -> bytes:
        received = b""
        while len(received) < size and (data := self.socket.recv(65536)):
            received += data
        return received

    def hears_nothing(self) -> bool:
        self.socket.settimeout(SILENCE)
        try:
            self.socket.recv(1)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(5)
        return False

    def is_stuck_sending(self) -> bool:
        """Send more than all the sockets on the way can hold, and tell whether somebody reads it."""
        self.socket.settimeout(1)
        try:
            self.socket.sendall(bytes(64 << 20))
        except TimeoutError:
            return True
        return False

    def resets(self) -> None:
        """Leave as a process does that crashes with unread data."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def is_closed(self) -> bool:
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


@pytest.fixture
def connect(proxy: FaultProxy) -> Iterator[type[Client]]:
    with ExitStack() as stack:

        def make(proxy: FaultProxy) -> Client:
            client = Client(proxy)
            stack.enter_context(client.socket)
            return client

        yield make  # type: ignore[misc]  # called like the class


def test_healthy_proxy_is_transparent(proxy: FaultProxy, connect: type[Client]) -> None:
    first, second = connect(proxy), connect(proxy)

    assert (first.ask(b"one"), second.ask(b"two")) == (b"one", b"two")
    assert proxy.connections == 2
    assert proxy.bytes_forwarded == 12


def test_end_of_one_stream_leaves_the_other(proxy: FaultProxy, connect: type[Client]) -> None:
    client = connect(proxy)
    client.ask(b"one")

    client.socket.shutdown(socket.SHUT_WR)

    assert client.read(3) == b"bye"
    assert client.is_closed()
    wait_until(lambda: proxy.connections == 0, what="the end of the link")


def test_close_of_a_client_reaches_the_server(server: EchoServer, proxy: FaultProxy, connect: type[Client]) -> None:
    client = connect(proxy)
    client.ask(b"one")

    client.socket.close()

    wait_until(lambda: server.links == 0 and proxy.connections == 0, what="the end of the link")


def test_slow_reader_gets_every_byte(proxy: FaultProxy, connect: type[Client]) -> None:
    client = connect(proxy)
    data = os.urandom(1 << 20) * 16
    sender = threading.Thread(target=client.socket.sendall, args=[data])
    sender.start()

    received = client.read(len(data))
    sender.join()

    assert received == data


def test_target_that_is_down_closes_the_link(connect: type[Client]) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        with FaultProxy(reserved.getsockname()[1]) as proxy:
            assert connect(proxy).is_closed()
            wait_until(lambda: proxy.connections == 0, what="the end of the link")


def test_cut_closes_links_and_refuses_until_healed(
    server: EchoServer, proxy: FaultProxy, connect: type[Client]
) -> None:
    client = connect(proxy)
    client.ask(b"one")
    port = proxy.port

    proxy.cut()

    assert client.is_closed()
    assert proxy.connections == 0
    wait_until(lambda: server.links == 0, what="the end of the server's link")
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.heal()
    assert (proxy.port, connect(proxy).ask(b"two")) == (port, b"two")


def test_delay_holds_answers_back_in_order(proxy: FaultProxy, connect: type[Client]) -> None:
    client = connect(proxy)
    proxy.delay(0.2)
    began = time.monotonic()

    for number in range(50):
        client.socket.sendall(b"%02d" % number)
    answer = client.read(100)

    assert answer == b"".join(b"%02d" % number for number in range(50))
    assert time.monotonic() - began >= 0.2
    proxy.heal()
    assert client.ask(b"on") == b"on"


def test_healed_delay_sends_what_waits(server: EchoServer, proxy: FaultProxy, connect: type[Client]) -> None:
    client = connect(proxy)
    client.ask(b"one")
    proxy.delay(3600)
    client.socket.sendall(b"two")
    client.socket.shutdown(socket.SHUT_WR)
    assert client.hears_nothing()

    proxy.heal()

    assert client.read(6) == b"twobye"


def test_drip_lets_only_so_much_through(proxy: FaultProxy, connect: type[Client]) -> None:
    client = connect(proxy)
    proxy.drip(1000)
    began = time.monotonic()

    assert client.ask(b"x" * 200) == b"x" * 200

    assert time.monotonic() - began >= 0.2
    with pytest.raises(ValueError, match="at least 1"):
        proxy.drip(0)


def test_drip_does_not_hoard_a_large_stream(proxy: FaultProxy, connect: type[Client]) -> None:
    client = connect(proxy)
    proxy.drip(1_000_000)

    assert client.is_stuck_sending()


def test_healed_drip_leaves_nothing_to_a_later_fault(proxy: FaultProxy, connect: type[Client]) -> None:
    client = connect(proxy)
    proxy.drip(1)
    client.socket.sendall(b"x" * 100)
    assert client.hears_nothing()

    proxy.heal()

    assert client.read(100) == b"x" * 100
    proxy.delay(0.01)
    assert client.ask(b"one") == b"one"


def test_blackhole_swallows_both_ways(server: EchoServer, proxy: FaultProxy, connect: type[Client]) -> None:
    spoiled, untouched = connect(proxy), connect(proxy)
    spoiled.ask(b"one"), untouched.ask(b"one")

    proxy.blackhole()
    spoiled.socket.sendall(b"lost" * (1 << 20))  # more than any socket buffer: somebody reads it
    late = connect(proxy)
    late.socket.sendall(b"lost")

    assert spoiled.hears_nothing()
    assert late.hears_nothing()
    assert (server.received, server.links) == (6, 2)
    proxy.heal()
    assert spoiled.is_closed()
    assert late.is_closed()
    assert untouched.ask(b"two") == b"two"


def test_blackhole_hides_a_clients_crash_from_the_server(
    server: EchoServer, proxy: FaultProxy, connect: type[Client]
) -> None:
    crashing, witness = connect(proxy), connect(proxy)
    crashing.ask(b"one"), witness.ask(b"one")

    proxy.blackhole()
    crashing.resets()

    assert witness.hears_nothing()
    assert server.links == 2
    proxy.heal()
    wait_until(lambda: server.links == 1, what="the end of the server's link")


def test_half_open_links_stay_and_are_dead(server: EchoServer, proxy: FaultProxy, connect: type[Client]) -> None:
    client, leaving = connect(proxy), connect(proxy)
    client.ask(b"one"), leaving.ask(b"one")

    proxy.half_open()
    client.socket.sendall(b"two")
    leaving.socket.close()
    late = connect(proxy)
    late.socket.sendall(b"hello")

    assert client.hears_nothing()
    assert late.hears_nothing()
    assert client.is_stuck_sending(), "nobody reads"
    assert (server.received, server.links) == (6, 2), "the server still believes in both links"
    proxy.heal()
    assert client.is_closed()
    assert late.is_closed()
    wait_until(lambda: server.links == 0, what="the end of the server's links")
    assert connect(proxy).ask(b"new") == b"new"


def test_faults_replace_each_other(server: EchoServer, proxy: FaultProxy, connect: type[Client]) -> None:
    proxy.cut()
    proxy.blackhole()
    client = connect(proxy)
    client.socket.sendall(b"lost")
    assert client.hears_nothing()

    proxy.delay(0.01)

    assert client.is_closed(), "a stream with a hole must not go on"
    assert connect(proxy).ask(b"new") == b"new"


def test_url_keeps_all_but_the_address(proxy: FaultProxy) -> None:
    assert proxy.url_for("redis://me:p%40ss@10.0.0.1:6379/3?x=y") == (f"redis://me:p%40ss@127.0.0.1:{proxy.port}/3?x=y")
    assert proxy.url_for("redis://10.0.0.1") == f"redis://127.0.0.1:{proxy.port}"


def test_closed_proxy_refuses_and_leaves_no_thread(server: EchoServer) -> None:
    threads = threading.active_count()
    proxy = FaultProxy(server.server_address[1])
    with proxy:
        port = proxy.port
        client = Client(proxy)
        client.ask(b"one")

    assert client.is_closed()
    client.socket.close()
    proxy.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)
    with pytest.raises(RuntimeError, match="not started"):
        proxy.heal()
    wait_until(lambda: threading.active_count() <= threads, what="the end of the threads")
