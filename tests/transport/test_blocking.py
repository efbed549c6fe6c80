"""Blocking sockets: interrupted exchanges, idle links that died, threads, forks, and large and hung fan-outs."""

import contextlib
import gc
import os
import signal
import socket
import threading
import time

import pytest

from distcache_django.core import requests as r
from distcache_django.core.effects import Ask
from distcache_django.exceptions import DistcacheError, NodeTimeout, TransportError
from distcache_django.transport import blocking as module
from tests.support.waiting import wait_until
from tests.transport.conftest import NAMES, ask, close_links, gather, links_to, observer

SPARE = module._SPARE_LINKS


def kill_links(url):
    with observer(url) as client:
        for entry in links_to(url):
            client.client_kill_filter(_id=entry["id"])


@pytest.fixture
def nodes(distcache_shared_nodes):
    """Four nodes; nothing that a paused one has taken in is left for the next test."""
    yield distcache_shared_nodes
    for node in distcache_shared_nodes.values():
        node.resume()
        if node.is_running():
            kill_links(node.url)


@pytest.fixture
def driver(nodes, blocking):
    return blocking(nodes.urls)


class Interrupted(Exception):
    """What a time limit raises, of a task queue for example."""


class Stopped(BaseException):
    """What ends a worker."""


@contextlib.contextmanager
def signal_soon(handler):
    """Have ``handler`` called in this thread, in the middle of what it does."""
    before = signal.signal(signal.SIGUSR1, lambda *_: handler())
    timer = threading.Timer(0.05, signal.pthread_kill, (threading.get_ident(), signal.SIGUSR1))
    timer.start()
    try:
        yield
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)


def raising(error):
    def handler():
        raise error

    return handler


def fill(driver, keys=("k", "l")):
    for name in NAMES:
        for key in keys:
            driver.run(ask(name, r.Store(key, f"{name} {key}".encode(), None)))


# ---------------------------------------------------------------- interruptions


@pytest.mark.parametrize(
    "error", [Interrupted(), Stopped(), TimeoutError("time limit")], ids=lambda e: type(e).__name__
)
@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
def test_an_exception_between_request_and_reply_leaves_no_reply_behind(nodes, driver, error, warm):
    fill(driver)
    if not warm:
        close_links(driver)
        driver.forget()
    nodes["cache-a"].pause()

    with signal_soon(raising(error)), pytest.raises(type(error)):
        driver.run(ask("cache-a", r.Fetch("k")))
    nodes["cache-a"].resume()

    for _ in range(3):
        assert driver.run(ask("cache-a", r.Fetch("l"))) == b"cache-a l"
    gc.collect()


@pytest.mark.parametrize(
    "error", [Interrupted(), Stopped(), TimeoutError("time limit")], ids=lambda e: type(e).__name__
)
def test_an_exception_in_a_fan_out_leaves_no_reply_behind(nodes, driver, error):
    fill(driver)
    nodes["cache-b"].pause()

    with signal_soon(raising(error)), pytest.raises(type(error)):
        driver.run(gather(*[(name, r.Fetch("k")) for name in NAMES]))
    nodes["cache-b"].resume()

    for _ in range(3):
        found = driver.run(gather(*[(name, r.Fetch("l")) for name in NAMES]))
        assert found == [f"{name} l".encode() for name in NAMES]
    gc.collect()


def test_a_signal_handler_may_use_the_cache_in_the_middle_of_an_exchange(nodes, driver):
    fill(driver)
    seen = []
    nodes["cache-a"].pause()

    def handler():
        nodes["cache-a"].resume()
        seen.append(driver.run(ask("cache-a", r.Fetch("l"))))

    with signal_soon(handler):
        outer = driver.run(ask("cache-a", r.Fetch("k")))

    assert (outer, seen) == (b"cache-a k", [b"cache-a l"])
    assert driver.run(ask("cache-a", r.Fetch("l"))) == b"cache-a l"
    gc.collect()  # a link that was put aside without being closed would warn here


# ---------------------------------------------------------------- links that the server closed


@pytest.mark.parametrize(
    ("request_", "value"),
    [(r.Fetch("k"), b"cache-a k"), (r.Store("k", b"new", None), True), (r.Remove(["k"]), 1), (r.Exists("k"), True),
     (r.Increase("n", 1), 8), (r.StoreIf("new", b"v", None, "NX"), True), (r.Inspect("k"), (b"cache-a k", -1)),
     (r.StoreMany([("k", b"v")], None), True), (r.Store("k", b"x" * 100_000, None), True)],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
@pytest.mark.parametrize("together", [False, True], ids=["alone", "gathered"])
def test_an_idle_link_that_was_closed_is_replaced(nodes, driver, told, request_, value, together):
    fill(driver)
    driver.run(ask("cache-a", r.Store("n", 7, None)))
    for url in nodes.urls.values():
        kill_links(url)

    if together:
        found = driver.run(gather(("cache-a", request_), ("cache-b", r.Fetch("k"))))[0]
    else:
        found = driver.run(ask("cache-a", request_))

    assert found == value or (found == b"OK" and value is True)
    assert told.failures == []
    assert driver.run(ask("cache-a", r.Fetch("n"))) == (b"8" if isinstance(request_, r.Increase) else b"7")


def test_counting_never_counts_twice(nodes, driver):
    driver.run(ask("cache-a", r.Store("n", 0, None)))
    acknowledged, doubtful = 0, 0
    for round_ in range(40):
        if round_ % 2:
            kill_links(nodes["cache-a"].url)
        try:
            driver.run(ask("cache-a", r.Increase("n", 1)))
            acknowledged += 1
        except NodeTimeout:
            doubtful += 1

    assert acknowledged <= int(driver.run(ask("cache-a", r.Fetch("n")))) <= acknowledged + doubtful
    assert doubtful == 0


def test_a_restarted_node_is_used_again(nodes, driver):
    fill(driver)
    nodes["cache-a"].restart()

    assert driver.run(ask("cache-a", r.Fetch("k"))) is None
    assert driver.run(ask("cache-a", r.Store("k", b"v", None))) in (True, b"OK")


# ---------------------------------------------------------------- how many links


def test_one_thread_has_one_link_to_each_node(nodes, driver):
    for number in range(10_000):
        driver.run(ask(NAMES[number % 4], r.Fetch(f"k{number}")))
    driver.run(gather(*[(name, r.Ping()) for name in NAMES]))

    assert [len(links_to(url)) for url in nodes.urls.values()] == [1, 1, 1, 1]


def test_threads_that_end_leave_a_bounded_number_of_links(nodes, driver):
    barrier = threading.Barrier(50)

    def work():
        barrier.wait()
        driver.run(ask("cache-a", r.Ping()))
        barrier.wait()

    threads = [threading.Thread(target=work) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()

    wait_until(lambda: len(links_to(nodes["cache-a"].url)) <= SPARE, what="links of ended threads closed")


def test_threads_one_after_another_hand_their_links_on(nodes, driver):
    for _ in range(50):
        thread = threading.Thread(target=lambda: driver.run(ask("cache-a", r.Ping())))
        thread.start()
        thread.join()
    gc.collect()

    assert len(links_to(nodes["cache-a"].url)) <= SPARE


def test_forgetting_closes_links_without_a_warning(nodes, driver):
    driver.run(gather(*[(name, r.Ping()) for name in NAMES]))

    driver.forget()
    gc.collect()

    wait_until(lambda: not any(links_to(url) for url in nodes.urls.values()), what="links closed")


def test_a_key_that_cannot_be_sent_costs_no_link(nodes, driver):
    driver.run(ask("cache-a", r.Ping()))

    for _ in range(3):
        with pytest.raises(UnicodeEncodeError):
            driver.run(ask("cache-a", r.Fetch("\ud800")))
        with pytest.raises(UnicodeEncodeError):
            driver.run(gather(("cache-a", r.Fetch("\ud800")), ("cache-b", r.Ping())))
    assert driver.run(ask("cache-a", r.Fetch("k"))) is None
    gc.collect()


# ---------------------------------------------------------------- forks


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_shares_no_link_with_its_parent(nodes, driver):
    fill(driver)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            driver.forget()
            answers = {driver.run(ask("cache-a", r.Fetch("l"))) for _ in range(300)}
            own = driver._local.held.links["cache-a"].sock.getsockname()[1]
            os.write(writing, f"{answers == {b'cache-a l'}} {own}".encode())
        finally:
            os._exit(0)

    parents = {driver.run(ask("cache-a", r.Fetch("k"))) for _ in range(300)}
    os.waitpid(pid, 0)
    right, port = os.read(reading, 100).decode().split()
    os.close(reading)
    os.close(writing)

    assert parents == {b"cache-a k"}
    assert right == "True"
    assert int(port) != driver._local.held.links["cache-a"].sock.getsockname()[1]
    assert driver.run(ask("cache-a", r.Fetch("k"))) == b"cache-a k"


# ---------------------------------------------------------------- hung nodes


def test_a_hung_node_costs_one_deadline(nodes, driver, told):
    fill(driver)
    nodes["cache-a"].pause()
    began = time.monotonic()

    with pytest.raises(NodeTimeout):
        driver.run(ask("cache-a", r.Fetch("k")))

    assert time.monotonic() - began >= driver.deadline * 0.9
    assert told.failing == ["cache-a"]
    told.down = frozenset({"cache-a"})
    began = time.monotonic()
    for _ in range(100):
        with pytest.raises(TransportError):
            driver.run(ask("cache-a", r.Fetch("k")))
    assert time.monotonic() - began < driver.deadline


def test_an_op_that_has_no_time_left_blames_nobody_else(nodes, driver, told):
    """A redirected read asks the next node after the first has used the deadline up."""
    fill(driver)
    nodes["cache-a"].pause()

    def op():
        with contextlib.suppress(NodeTimeout):
            yield Ask("cache-a", r.Fetch("k"))
        with contextlib.suppress(TransportError):
            yield Ask("cache-b", r.Fetch("k"))
        return (yield from gather(("cache-c", r.Fetch("k")), ("cache-d", r.Remove(["k"]))))

    driver.run(op())

    assert told.failing == ["cache-a"]
    assert {node for node, _, _ in told.owed} <= {"cache-d"}


@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
@pytest.mark.parametrize("hung", ["cache-a", "cache-d"])
def test_large_requests_with_one_hung_node_cost_its_keys_only(nodes, driver, told, warm, hung):
    if warm:
        fill(driver)
    nodes[hung].pause()
    value = b"x" * 4_000_000

    outcomes = driver.run(gather(*[(name, r.StoreMany([("k", value)], None)) for name in NAMES]))

    assert [name for name, outcome in zip(NAMES, outcomes, strict=True) if outcome is not True] == [hung]
    assert told.failing == [hung]


@pytest.mark.parametrize("hung", ["cache-a", "cache-d"])
@pytest.mark.parametrize("size", [1_000, 8_000_000])
def test_large_replies_with_one_hung_node_cost_its_keys_only(nodes, driver, told, hung, size):
    value = b"x" * size
    for name in NAMES:
        with observer(nodes[name].url) as client:
            client.set("k", value)
    driver.run(gather(*[(name, r.Ping()) for name in NAMES]))
    nodes[hung].pause()

    outcomes = driver.run(gather(*[(name, r.FetchMany(["k"])) for name in NAMES]))

    assert [name for name, outcome in zip(NAMES, outcomes, strict=True) if outcome != [value]] == [hung]
    assert told.failing == [hung]


@pytest.mark.parametrize("fault", ["blackhole", "half_open"])
def test_a_silent_link_costs_one_deadline_and_answers_after_healing(nodes, blocking, told, distcache_proxy, fault):
    proxy = distcache_proxy(nodes["cache-a"].port)
    driver = blocking({"cache-a": proxy.url_for(nodes["cache-a"].url)})
    driver.run(ask("cache-a", r.Store("k", b"v", None)))
    getattr(proxy, fault)()

    with pytest.raises(TransportError):
        driver.run(ask("cache-a", r.Fetch("k")))
    proxy.heal()

    assert driver.run(ask("cache-a", r.Fetch("k"))) == b"v"
    assert told.failing == ["cache-a"]


def test_a_server_that_speaks_another_protocol_is_a_failed_node(blocking, told):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            link, _ = server.accept()
            with link, contextlib.suppress(OSError):
                link.recv(1000)
                link.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                link.recv(1000)

        threading.Thread(target=serve, daemon=True).start()
        driver = blocking({"cache-a": f"redis://127.0.0.1:{server.getsockname()[1]}/0"})

        with pytest.raises(DistcacheError):
            driver.run(ask("cache-a", r.Fetch("k")))
    assert told.failing == ["cache-a"]
