"""Real server processes do as they are told, alone and as fixtures of the pytest plugin."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from distcache_django.testing import LocalNode, LocalNodes, MissingServer, ServerFailed, node, plugin
from distcache_django.testing.processes import reserve_port
from distcache_django.testing.programs import server_program
from distcache_django.testing.resp import ask
from distcache_django.testing.servers import urls_from_environment
from tests.support.processes import ROOT, is_answering, is_gone, run_python

pytestmark = pytest.mark.servers

PERSISTENT = {"appendonly": "yes"}


# ---------------------------------------------------------------- one node's life


def test_nodes_have_names_urls_and_processes_of_their_own(distcache_nodes: plugin.NodesFactory) -> None:
    nodes = distcache_nodes(2)

    assert list(nodes) == ["cache-a", "cache-b"]
    assert nodes.urls == {name: f"redis://127.0.0.1:{nodes[name].port}/0" for name in nodes}
    assert len({local.pid for local in nodes.values()}) == 2
    assert all(is_answering(local) for local in nodes.values())


def test_nodes_take_the_names_they_are_given(distcache_nodes: plugin.NodesFactory) -> None:
    assert list(distcache_nodes(["paris", "oslo"]).urls) == ["paris", "oslo"]
    with pytest.raises(ValueError, match="must differ"):
        LocalNodes(["oslo", "oslo"])


def test_stopped_node_refuses_and_starts_again_on_its_port(distcache_nodes: plugin.NodesFactory) -> None:
    local = distcache_nodes(1)["cache-a"]
    port = local.port

    local.stop()

    assert not local.is_running()
    with pytest.raises(ConnectionRefusedError):
        ask(local.url, ("PING",))
    with pytest.raises(ServerFailed, match="is down"):
        _ = local.pid
    local.start()
    assert (local.port, is_answering(local)) == (port, True)


def test_paused_node_accepts_and_says_nothing_until_resumed(distcache_nodes: plugin.NodesFactory) -> None:
    local = distcache_nodes(1)["cache-a"]

    local.pause()
    local.pause()

    assert Path(f"/proc/{local.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    with pytest.raises(TimeoutError):
        ask(local.url, ("PING",), timeout=0.1)
    with pytest.raises(ServerFailed, match="did not answer"):
        local.wait_ready(timeout=0.1)
    assert local.is_running()
    local.resume()
    local.wait_ready()
    assert is_answering(local)


@pytest.mark.parametrize("end", [LocalNode.stop, LocalNode.kill, LocalNode.close])
def test_paused_node_can_be_ended(end: object, distcache_nodes: plugin.NodesFactory) -> None:
    local = distcache_nodes(1)["cache-a"]
    pid = local.pid
    local.pause()

    assert callable(end)
    end(local)

    assert is_gone(pid)
    assert not local.is_running()


def test_stopping_a_paused_node_lets_it_save(distcache_nodes: plugin.NodesFactory) -> None:
    local = distcache_nodes(1, config={"save": "3600 1"})["cache-a"]
    ask(local.url, ("SET", "colour", "blue"))
    local.pause()

    local.stop()

    local.start()
    assert ask(local.url, ("GET", "colour")) == [b"blue"]


def test_killed_node_restarts_with_every_write_it_had_answered(distcache_nodes: plugin.NodesFactory) -> None:
    local = distcache_nodes(1, config=PERSISTENT)["cache-a"]
    port, pid = local.port, local.pid
    ask(local.url, ("SET", "colour", "blue"))

    local.kill()
    local.restart(empty=False)

    assert ask(local.url, ("GET", "colour")) == [b"blue"]
    assert local.port == port
    assert local.pid != pid


def test_node_restarts_with_data_from_running(distcache_nodes: plugin.NodesFactory) -> None:
    local = distcache_nodes(1, config=PERSISTENT)["cache-a"]
    ask(local.url, ("SET", "colour", "blue"))

    local.restart(empty=False)

    assert ask(local.url, ("GET", "colour")) == [b"blue"]


def test_node_restarts_empty_though_it_persists(distcache_nodes: plugin.NodesFactory) -> None:
    local = distcache_nodes(1, config=PERSISTENT)["cache-a"]
    ask(local.url, ("SET", "colour", "blue"))

    local.restart()

    assert ask(local.url, ("DBSIZE",)) == [b":0"]


def test_restart_with_data_is_refused_where_none_is_kept(distcache_nodes: plugin.NodesFactory) -> None:
    local = distcache_nodes(1)["cache-a"]

    with pytest.raises(ValueError, match="appendonly"):
        local.restart(empty=False)

    assert is_answering(local)


def test_configuration_and_password_reach_the_server(distcache_nodes: plugin.NodesFactory) -> None:
    limits = {"maxmemory": "64mb", "maxmemory-policy": "volatile-lfu"}
    local = distcache_nodes(1, config=limits, password='p@ss "w/rd')["cache-a"]

    with pytest.raises(ConnectionError, match="AUTH"):
        ask(f"redis://:wrong@127.0.0.1:{local.port}", ("DBSIZE",))
    assert "w/rd" not in repr(local)
    memory = ask(local.url, ("INFO", "memory"))[0]
    assert b"maxmemory_human:64.00M" in memory
    assert b"maxmemory_policy:volatile-lfu" in memory


def test_server_that_cannot_start_shows_its_log() -> None:
    local = LocalNode("cache-a", config={"no-such-directive": "1"})

    with pytest.raises(ServerFailed, match="no-such-directive"):
        local.start()

    local.close()


def test_flush_empties_a_node(distcache_nodes: plugin.NodesFactory) -> None:
    local = distcache_nodes(1)["cache-a"]
    ask(local.url, ("SET", "a", "1"), ("SELECT", "3"), ("SET", "b", "1"))

    local.flush()

    assert b"keys=" not in ask(local.url, ("INFO", "keyspace"))[0]


def test_redis_server_works_too(distcache_nodes: plugin.NodesFactory) -> None:
    local = distcache_nodes(1, server="redis")["cache-a"]

    assert is_answering(local)


def test_missing_redis_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distcache_django.testing.programs.shutil.which", lambda *_, **__: None)

    with pytest.raises(MissingServer, match="redis-server"):
        LocalNode("cache-a", server="redis").start()


def test_named_server_program_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    program = server_program()

    monkeypatch.setenv("DISTCACHE_SERVER_BIN", str(program))
    assert server_program() == program
    monkeypatch.setenv("DISTCACHE_SERVER_BIN", "/no/such/program")
    with pytest.raises(MissingServer, match="/no/such/program"):
        server_program()


# ---------------------------------------------------------------- ports and files


def test_first_start_leaves_a_taken_port_to_its_owner(
    distcache_nodes: plugin.NodesFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = distcache_nodes(["stranger"])["stranger"]
    reservations = [socket.socket(fileno=os.dup(stranger._reservation.fileno()))]  # type: ignore[union-attr]
    monkeypatch.setattr(node, "reserve_port", lambda: reservations.pop() if reservations else reserve_port())

    local = distcache_nodes(1)["cache-a"]

    assert reservations == []
    assert local.port != stranger.port
    assert is_answering(local)


def test_restart_never_moves_to_another_port(distcache_nodes: plugin.NodesFactory) -> None:
    local = distcache_nodes(1)["cache-a"]
    port = local.port
    local.stop()

    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(("127.0.0.1", port))
        thief.listen()
        with pytest.raises(ServerFailed, match="in use"):
            local.start()

    local.start()
    assert local.port == port


def test_port_of_a_node_that_is_down_is_kept_for_it(distcache_nodes: plugin.NodesFactory) -> None:
    local = distcache_nodes(1)["cache-a"]
    local.kill()

    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", local.port))


def test_processes_that_start_nodes_at_once_do_not_meet() -> None:
    script = (
        "from distcache_django.testing import LocalNodes\n"
        "with LocalNodes(3) as nodes: print(*[node.port for node in nodes.values()], flush=True); input()"
    )
    processes = [run_python(script) for _ in range(4)]

    ports = [process.stdout.readline().split() for process in processes if process.stdout]
    for process in processes:
        process.communicate("\n", timeout=30)

    assert len({port for line in ports for port in line}) == 12
    assert [process.returncode for process in processes] == [0] * 4


def test_files_are_removed_with_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with LocalNode("cache-a", config=PERSISTENT):
        assert len(list(tmp_path.iterdir())) == 1

    assert list(tmp_path.iterdir()) == []


def test_given_directory_is_kept(tmp_path: Path) -> None:
    with LocalNode("cache-a", config=PERSISTENT, directory=tmp_path) as local:
        ask(local.url, ("SET", "colour", "blue"))
    with LocalNode("cache-b", config=PERSISTENT, directory=tmp_path) as local:
        assert ask(local.url, ("GET", "colour")) == [b"blue"]


# ---------------------------------------------------------------- the environment


def test_servers_are_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISTCACHE_REDIS_URLS", raising=False)
    assert urls_from_environment() is None
    monkeypatch.setenv("DISTCACHE_REDIS_URLS", "redis://h:1/0, rediss://h:2?x=y")
    assert urls_from_environment() == {"cache-a": "redis://h:1/0", "cache-b": "rediss://h:2?x=y"}
    monkeypatch.setenv("DISTCACHE_REDIS_URLS", "oslo=redis://h:1/0 rome=redis://h:2/0")
    assert urls_from_environment() == {"oslo": "redis://h:1/0", "rome": "redis://h:2/0"}


@pytest.mark.parametrize("value", ["redis://:secret@h:1 secret", "a=redis://:secret@h:1 redis://h:2"])
def test_bad_server_lists_are_refused_without_repeating_them(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTCACHE_REDIS_URLS", value)

    with pytest.raises(ValueError, match="DISTCACHE_REDIS_URLS") as caught:
        urls_from_environment()

    assert "secret" not in str(caught.value)


# ---------------------------------------------------------------- the pytest plugin


def run_suite(folder: Path, suite: str, **environment: str) -> str:
    """Run a suite as a user of the plugin does and return what pytest printed."""
    (folder / "conftest.py").write_text('pytest_plugins = ["distcache_django.testing.plugin"]\n')
    (folder / "test_site.py").write_text("from distcache_django.testing.resp import ask\n" + suite)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("DISTCACHE_", "DJANGO_", "PYTEST_"))}
    environment = {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment}
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, f"--rootdir={folder}", "-ra", str(folder)]
    result = subprocess.run(command, env=clean | environment, capture_output=True, text=True, timeout=90, check=False)
    return result.stdout + result.stderr


SUITE = """
def test_breaks_the_shared_nodes(distcache_shared_nodes):
    nodes = distcache_shared_nodes
    ask(nodes.urls["cache-a"], ("SET", "colour", "blue"))
    nodes["cache-b"].kill()
    nodes["cache-c"].pause()

def test_finds_them_mended_and_empty(distcache_shared_nodes):
    assert [ask(url, ("DBSIZE",)) for url in distcache_shared_nodes.urls.values()] == [[b":0"]] * 4

def test_has_nodes_of_its_own(distcache_nodes, distcache_proxy):
    node = distcache_nodes(1, password="secret")["cache-a"]
    proxy = distcache_proxy(node.port)
    assert ask(proxy.url_for(node.url), ("PING",)) == [b"+PONG"]

def test_has_urls(distcache_urls):
    assert list(distcache_urls) == ["cache-a", "cache-b", "cache-c", "cache-d"]
"""


def test_plugin_serves_a_suite(tmp_path: Path) -> None:
    printed = run_suite(tmp_path, SUITE)

    assert "4 passed" in printed
    assert "distcache: valkey " in printed
    assert f"python {sys.version_info.major}.{sys.version_info.minor}." in printed


USES_NODES = "def test_uses_nodes(distcache_nodes): distcache_nodes(1)\n"


def test_missing_server_skips_at_home_and_fails_where_it_is_demanded(tmp_path: Path) -> None:
    missing = {"DISTCACHE_SERVER_BIN": "/no/such/program"}

    assert "1 skipped" in run_suite(tmp_path, USES_NODES, **missing)
    assert "1 failed" in run_suite(tmp_path, USES_NODES, **missing, DISTCACHE_REQUIRE_SERVERS="1")


USES_URLS = """
def test_uses_urls(distcache_urls):
    assert list(distcache_urls) == ["mine"]
    assert ask(distcache_urls["mine"], ("DBSIZE",)) == [b":0"]
"""


def test_named_servers_serve_tests_that_only_need_urls(distcache_nodes: plugin.NodesFactory, tmp_path: Path) -> None:
    local = distcache_nodes(1, password="p@ss")["cache-a"]
    url = local.url.removesuffix("0") + "5"
    ask(url, ("SET", "colour", "blue"))
    ask(local.url, ("SET", "other", "kept"))

    printed = run_suite(
        tmp_path, USES_URLS, DISTCACHE_REDIS_URLS=f"mine={url}", DISTCACHE_SERVER_BIN="/no/such/program"
    )

    assert "1 passed" in printed
    assert ask(local.url, ("GET", "other")) == [b"kept"]
