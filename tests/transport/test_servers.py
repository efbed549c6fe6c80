"""Servers that lack a command, are full, want a password, speak TLS or are not there: both drivers alike."""

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
import threading

import pytest

from distcache_django.core import requests as r
from distcache_django.exceptions import NodeRefused, NodeUnreachable, TransportError
from distcache_django.testing.processes import reserve_port
from tests.transport.conftest import ask, gather, observer

ITEMS: list[tuple[str, bytes | int]] = [("a", b"1"), ("b", 2), ("c", b"3")]


@pytest.fixture(params=["blocking", "asyncio"])
def run_on(request, blocking, asynchronous):
    """Return a function that makes ``run(op)`` for given URLs, with either driver."""
    if request.param == "blocking":
        yield lambda urls, **options: blocking(urls, **options).run
        return
    with asyncio.Runner() as runner:

        def make(urls, **options):
            driver = asynchronous(urls, **options)
            return lambda op: runner.run(driver.run(op))

        yield make


# ---------------------------------------------------------------- without MSETEX


@pytest.fixture(params=["forbidden", "unknown"])
def lacking(request, distcache_nodes):
    """Return the URL of a node on which nobody can use MSETEX, and why."""
    config = {"rename-command": 'MSETEX ""'} if request.param == "unknown" else None
    node = distcache_nodes(1, config=config)["cache-a"]
    if request.param == "forbidden":
        with observer(node.url) as client:
            client.execute_command("ACL", "SETUSER", "default", "-msetex")
    return node.url


@pytest.mark.parametrize("ttl_ms", [None, 60_000])
@pytest.mark.parametrize("together", [False, True], ids=["alone", "gathered"])
def test_values_are_stored_one_by_one_without_msetex(lacking, run_on, told, ttl_ms, together):
    run = run_on({"cache-a": lacking})
    for _ in range(2):
        request = r.StoreMany(ITEMS, ttl_ms)
        found = run(gather(("cache-a", request)))[0] if together else run(ask("cache-a", request))
        assert found in (True, [True, True, True])

    assert run(ask("cache-a", r.FetchMany(["a", "b", "c"]))) == [b"1", b"2", b"3"]
    assert (run(ask("cache-a", r.TimeToLive("b"))) == -1) is (ttl_ms is None)
    assert told.failures == []


def test_msetex_is_tried_once_only(lacking, run_on):
    run = run_on({"cache-a": lacking})
    for _ in range(5):
        run(ask("cache-a", r.StoreMany(ITEMS, None)))

    with observer(lacking) as client:
        stats = client.info("commandstats")
    assert stats.get("cmdstat_msetex", {}).get("rejected_calls", 0) <= 1
    assert stats["cmdstat_set"]["calls"] == 15


# ---------------------------------------------------------------- full


def test_a_full_node_refuses_and_is_not_taken_for_a_failed_one(distcache_nodes, run_on, told):
    node = distcache_nodes(1, config={"maxmemory": "1", "maxmemory-policy": "noeviction"})["cache-a"]
    run = run_on({"cache-a": node.url})

    for request in (r.Store("k", b"v", None), r.StoreMany(ITEMS, None), r.StoreIf("k", b"v", None, "NX")):
        with pytest.raises(NodeRefused) as caught:
            run(ask("cache-a", request))
        assert caught.value.code == "OOM"
    with pytest.raises(NodeRefused):
        run(ask("cache-a", r.Acquire("l", b"n", 1000)))
    assert run(ask("cache-a", r.Fetch("k"))) is None
    assert run(ask("cache-a", r.Remove(["k"]))) == 0
    assert (told.failures, told.owed) == ([], [])


# ---------------------------------------------------------------- passwords


def test_the_right_password_opens_and_a_wrong_one_is_not_repeated(distcache_nodes, run_on, told):
    node = distcache_nodes(1, password="right/pass word")["cache-a"]
    run = run_on(
        {
            "cache-a": node.url,
            "cache-b": node.url.replace("right", "hunter2"),
            "cache-c": f"redis://127.0.0.1:{node.port}",
        }
    )

    assert run(ask("cache-a", r.Exists("k"))) is False
    for name in ("cache-b", "cache-c"):
        with pytest.raises(TransportError) as caught:
            run(ask(name, r.Fetch("k")))
        assert "hunter2" not in str(caught.value)
        assert "right" not in str(caught.value)
    assert told.failing == ["cache-b", "cache-c"]


def test_a_password_among_the_options_opens_too(distcache_nodes, run_on):
    node = distcache_nodes(1, password="right")["cache-a"]

    assert (
        run_on({"cache-a": f"redis://127.0.0.1:{node.port}/3"}, password="right")(ask("cache-a", r.Exists("k")))
        is False
    )


# ---------------------------------------------------------------- not there


def test_a_refused_connection_is_unreachable_at_once(run_on, told):
    with reserve_port() as nobody:
        run = run_on({"cache-a": f"redis://127.0.0.1:{nobody.getsockname()[1]}"})

        with pytest.raises(NodeUnreachable):
            run(ask("cache-a", r.Store("k", b"v", None)))

    assert told.failing == ["cache-a"]
    assert told.owed == [("cache-a", ("k",), ())]


def test_a_node_that_is_known_to_be_down_is_not_asked(distcache_nodes, run_on, told):
    run = run_on(distcache_nodes(1).urls)
    told.down = frozenset({"cache-a"})

    with pytest.raises(NodeUnreachable):
        run(ask("cache-a", r.Store("k", b"v", None)))
    assert isinstance(run(gather(("cache-a", r.Remove(["l"]))))[0], NodeUnreachable)
    told.down = frozenset()

    assert set(told.owed) == {("cache-a", ("k",), ()), ("cache-a", ("l",), ())}
    assert run(ask("cache-a", r.Exists("k"))) is False


# ---------------------------------------------------------------- TLS


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """Make a certificate for loopback, signed by itself."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl to make a certificate with")
    directory = tmp_path_factory.mktemp("tls")
    paths = {"key": directory / "key.pem", "cert": directory / "cert.pem"}
    options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost".split()
    names = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    subprocess.run(
        [openssl, *options, *names, "-keyout", paths["key"], "-out", paths["cert"]],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    return paths


def carry(source, target):
    """Copy bytes until one of the two ends."""
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    finally:
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def terminate_tls(listener, context, port):
    """Put TLS in front of a node, as a load balancer does: the servers of wheels are built without it."""
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            threading.Thread(target=serve_tls, args=(client, context, port), daemon=True).start()


def serve_tls(client, context, port):
    try:
        with (
            context.wrap_socket(client, server_side=True) as outside,
            socket.create_connection(("127.0.0.1", port)) as inside,
        ):
            back = threading.Thread(target=carry, args=(inside, outside), daemon=True)
            back.start()
            carry(outside, inside)
            back.join(5)
    except OSError:
        client.close()


@pytest.fixture
def tls_url(certificate, distcache_shared_nodes):
    """Return a URL at which a node is reached through TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate["cert"], certificate["key"])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = distcache_shared_nodes["cache-a"].port
        threading.Thread(target=terminate_tls, args=(listener, context, port), daemon=True).start()
        yield f"rediss://127.0.0.1:{listener.getsockname()[1]}/0"
        listener.shutdown(socket.SHUT_RDWR)


def test_tls_links_carry_everything(tls_url, certificate, run_on, told):
    run = run_on({"cache-a": tls_url}, deadline=2.0, ssl_ca_certs=str(certificate["cert"]))
    value = b"x" * 3_000_000

    run(ask("cache-a", r.Store("k", value, None)))

    assert run(ask("cache-a", r.Fetch("k"))) == value
    assert run(gather(("cache-a", r.FetchMany(["k", "l"])))) == [[value, None]]
    assert [run(ask("cache-a", r.Exists("k"))) for _ in range(20)] == [True] * 20
    assert told.failures == []


def test_a_certificate_that_is_not_trusted_is_unreachable(tls_url, run_on):
    with pytest.raises(NodeUnreachable, match="cannot connect"):
        run_on({"cache-a": tls_url}, deadline=2.0)(ask("cache-a", r.Ping()))
