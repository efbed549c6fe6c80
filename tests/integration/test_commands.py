"""`manage.py distcache` against real nodes: well, paused, killed, refusing; its text, its JSON and its exit codes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache, caches

from distcache_django.testing.plugin import NodesFactory
from distcache_django.testing.resp import ask
from distcache_django.testing.servers import LocalNodes
from tests.support.console import call, call_json, entry, finding_ids, site
from tests.support.waiting import wait_until

pytestmark = pytest.mark.servers

ROOT = Path(__file__).resolve().parents[2]
SECRET = "hunter2/of:the@cache"
COMMANDS = [["status"], ["ring"], ["locate", "product:42"], ["doctor"]]


@pytest.fixture
def nodes(distcache_shared_nodes: LocalNodes) -> Iterator[LocalNodes]:
    """Four nodes that are the site's."""
    with site(distcache_shared_nodes.urls):
        yield distcache_shared_nodes


def key_on(node: str) -> str:
    return next(f"k{n}" for n in range(1000) if cache.locate(f"k{n}").owners == (node,))  # type: ignore[attr-defined]


# ---------------------------------------------------------------- status


def test_status_of_nodes_that_are_well(nodes: LocalNodes) -> None:
    cache.set_many({f"k{number}": number for number in range(100)})
    cache.get_many([f"k{number}" for number in range(200)])

    code, status = call_json("status")

    assert code == 0
    assert status["schema"] == "distcache-status/1"
    assert (status["verdict"], status["reason"], status["troubles"]) == ("ok", "all nodes answer", [])
    assert 0 < status["hit_ratio"] < 1
    assert [node["name"] for node in status["nodes"]] == list(nodes)
    assert sum(node["keys"] for node in status["nodes"]) == 100
    for node in status["nodes"]:
        assert node["state"] == "up"
        assert node["address"] == f"127.0.0.1:{nodes[node['name']].port}"
        assert node["owns"] == 0.25
        assert (node["server"], node["role"], node["aof"]) == ("valkey", "master", False)
        assert len(node["run_id"]) == 40
        assert node["memory_bytes"] > 0
        assert node["rtt_ms"] > 0
        assert abs(node["clock_skew_ms"]) < 500
        assert node["uptime_s"] >= 0


def test_status_begins_with_the_verdict_and_shows_every_node(nodes: LocalNodes) -> None:
    code, text = call("status")

    assert code == 0
    lines = text.splitlines()
    assert lines[0].startswith("Cluster default   OK: all nodes answer   4 nodes")
    assert [line.split()[:2] for line in lines[2:6]] == [["UN", name] for name in nodes]
    assert not any(line.startswith("!") for line in lines)


def test_status_with_one_node_paused_and_one_killed(nodes: LocalNodes) -> None:
    nodes["cache-b"].pause()
    nodes["cache-d"].kill()

    code, status = call_json("status")

    assert code == 1
    assert (status["verdict"], status["reason"]) == ("degraded", "cache-b, cache-d do not answer")
    assert [node["state"] for node in status["nodes"]] == ["up", "down", "up", "down"]
    paused, killed = status["nodes"][1], status["nodes"][3]
    assert paused["error"] == "no answer within 2 s"
    assert killed["error"].endswith("Connection refused")
    assert (paused["keys"], paused["rtt_ms"], paused["version"]) == (None, None, None)


def test_status_says_what_a_lost_node_means(nodes: LocalNodes) -> None:
    nodes["cache-b"].kill()

    code, text = call("status")

    assert code == 1
    assert text.startswith("Cluster default   DEGRADED: cache-b does not answer")
    assert "DN  cache-b" in text
    assert "! cache-b does not answer: cannot connect" in text
    assert "Its 25.0% of the keys are misses." in text


@pytest.mark.parametrize(
    ("options", "meaning"),
    [({"ON_UNAVAILABLE": "raise"}, "are errors"), ({"ON_NODE_DOWN": "redirect"}, "served by the next node")],
)
def test_what_a_lost_node_means_follows_the_settings(
    distcache_shared_nodes: LocalNodes, options: dict[str, str], meaning: str
) -> None:
    distcache_shared_nodes["cache-b"].kill()
    with site(distcache_shared_nodes.urls, OPTIONS=options):
        assert meaning in call("status")[1]


def test_status_without_any_node_is_critical(nodes: LocalNodes) -> None:
    for node in nodes.values():
        node.kill()

    code, status = call_json("status")

    assert (code, status["verdict"], status["reason"]) == (2, "critical", "no node answers")


def test_node_that_is_full_refuses_writes(distcache_nodes: NodesFactory) -> None:
    with site(distcache_nodes(2, config={"maxmemory": "1mb", "maxmemory-policy": "noeviction"}).urls):
        for number in range(60):
            cache.set(f"k{number}", os.urandom(50_000))
        code, status = call_json("status")
        findings = finding_ids(call_json("doctor")[1])

    assert code == 1
    assert "refuse" in status["reason"]
    assert "is full" in status["troubles"][0]
    assert findings == {"W021": "warn", "W023": "warn"}


def test_replica_is_named_as_such(distcache_nodes: NodesFactory) -> None:
    started = distcache_nodes(2)
    ask(started["cache-b"].url, ("REPLICAOF", "127.0.0.1", str(started["cache-a"].port)))
    with site(started.urls):
        code, status = call_json("status")
        doctor_code, report = call_json("doctor")

    assert (code, status["reason"]) == (1, "cache-b refuses writes")
    assert [node["role"] for node in status["nodes"]] == ["master", "replica"]
    assert doctor_code == 2
    assert finding_ids(report)["E034"] == "fail"


# ---------------------------------------------------------------- locate


def test_locate_a_key_that_is_there(nodes: LocalNodes) -> None:
    cache.set("product:42", "x" * 500, timeout=60)

    code, found = call_json("locate", "product:42")

    assert code == 0
    assert (found["key"], found["present"], found["type"]) == (":1:product:42", True, "string")
    assert 0 < found["ttl_ms"] <= 60_000
    assert found["size_bytes"] > 500
    assert found["owner"] == found["preference_list"][0]
    assert sorted(found["preference_list"]) == list(nodes)
    assert ask(nodes[found["owner"]].url, ("EXISTS", ":1:product:42")) == [b":1"]


def test_locate_never_shows_a_value(nodes: LocalNodes) -> None:
    cache.set("product:42", "text of the value")

    assert "text of the value" not in call("locate", "product:42")[1]


def test_locate_says_what_is_missing_and_what_stays_for_ever(nodes: LocalNodes) -> None:
    cache.set("kept", 1, timeout=None)

    assert call("locate", "gone") == (0, call("locate", "gone")[1])
    assert "missing" in call("locate", "gone")[1]
    assert "present: string, 1 B, without expiry" in call("locate", "kept")[1]


def test_locate_a_version_of_a_key(nodes: LocalNodes) -> None:
    cache.set("k", "v", version=7)

    assert call_json("locate", "k")[1]["present"] is False
    found = call_json("locate", "k", "--key-version", "7")[1]
    assert (found["key"], found["present"]) == (":7:k", True)


def test_locate_a_key_that_is_no_plain_value(nodes: LocalNodes) -> None:
    key = cache.client.make_key("basket")  # type: ignore[attr-defined]
    cache.client.get_client(key="basket").rpush(key, "a", "b")  # type: ignore[attr-defined]

    found = call_json("locate", "basket")[1]

    assert (found["present"], found["type"], found["size_bytes"]) == (True, "list", None)


def test_locate_follows_ranges(distcache_shared_nodes: LocalNodes) -> None:
    with site(distcache_shared_nodes.urls, OPTIONS={"RANGES": {"user:": [(1, 100, "cache-c")]}}):
        cache.set("user:42", "v")
        found = call_json("locate", "user:42")[1]
        text = call("locate", "user:42")[1]

    assert (found["owner"], found["placed_by"], found["present"]) == ("cache-c", "range", True)
    assert "by its range" in text


def test_locate_on_a_node_that_does_not_answer(nodes: LocalNodes) -> None:
    key = key_on("cache-c")
    nodes["cache-c"].pause()

    code, found = call_json("locate", key)
    _, text = call("locate", key)

    assert code == 1
    assert (found["answers"], found["present"], found["redirected_to"]) == (False, None, None)
    assert "! cache-c" in text
    assert "reads of it are misses" in text


@pytest.mark.parametrize(
    ("options", "meaning"),
    [({"ON_UNAVAILABLE": "raise"}, "raises Unavailable"), ({"ON_NODE_DOWN": "redirect"}, "serves it")],
)
def test_locate_says_who_serves_meanwhile(
    distcache_shared_nodes: LocalNodes, options: dict[str, str], meaning: str
) -> None:
    with site(distcache_shared_nodes.urls, OPTIONS=options):
        key = key_on("cache-c")
        distcache_shared_nodes["cache-c"].kill()
        _, found = call_json("locate", key)
        text = call("locate", key)[1]

    assert meaning in text
    assert found["redirected_to"] == (found["preference_list"][1] if "ON_NODE_DOWN" in options else None)


# ---------------------------------------------------------------- as a process


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the command as `manage.py` does, in a process of its own, with these settings."""

    def run(*words: str, caches: object, **settings: object) -> "subprocess.CompletedProcess[str]":
        extra = "".join(f"{name} = {value!r}\n" for name, value in settings.items())
        (tmp_path / "site_settings.py").write_text(f"from tests.settings import *\nCACHES = {caches!r}\n{extra}")
        return subprocess.run(
            [sys.executable, "-m", "django", "distcache", *words],
            cwd=tmp_path,
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "site_settings", "PYTHONPATH": f"{tmp_path}:{ROOT}"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def test_exit_codes_of_the_process(run: Run, distcache_shared_nodes: LocalNodes) -> None:
    setting = {"default": entry(distcache_shared_nodes.urls)}
    well = run("status", "--json", caches=setting)
    distcache_shared_nodes["cache-a"].kill()
    degraded = run("status", "--no-color", caches=setting)
    wrong = run("status", caches={"default": entry([], OPTIONS={"DEADLIN": 1})})
    usage = run("status", "--nope", caches=setting)
    alias = run("ring", "--using", "nope", caches=setting)

    assert [done.returncode for done in (well, degraded, wrong, usage, alias)] == [0, 1, 2, 64, 64]
    assert json.loads(well.stdout)["verdict"] == "ok"
    assert "DEGRADED" in degraded.stdout
    assert degraded.stderr == well.stderr == ""
    assert ["distcache.E001" in wrong.stderr, "distcache.E005" in wrong.stderr] == [True, True]
    assert "--nope" in usage.stderr
    assert "'default'" in alias.stderr
    assert "Traceback" not in degraded.stderr + wrong.stderr + usage.stderr + alias.stderr


@pytest.mark.parametrize("place", ["url", "options"])
def test_passwords_are_never_shown(run: Run, distcache_nodes: NodesFactory, place: str) -> None:
    started = distcache_nodes(2, password=SECRET)
    ports = {name: node.port for name, node in started.items()}
    plain = {name: f"redis://127.0.0.1:{port}/0" for name, port in ports.items()}
    setting = entry(
        started.urls if place == "url" else plain, OPTIONS={"PASSWORD": SECRET} if place == "options" else {}
    )
    encoded = started.urls["cache-a"].split("@")[0].rpartition(":")[2]

    def shown(**changes: Any) -> list[int]:
        codes = []
        for words in COMMANDS:
            done = run(*words, caches={"default": {**setting, **changes}}, CELERY_BROKER_URL=started.urls["cache-a"])
            for secret in (SECRET, encoded, "hunter2"):
                assert secret not in done.stdout + done.stderr
            codes.append(done.returncode)
        return codes

    assert shown() == [0, 0, 0, 2]
    assert shown(OPTIONS={**setting["OPTIONS"], "NOPE": 1}) == [2, 2, 2, 2]
    started["cache-a"].pause()
    started["cache-b"].kill()
    assert shown() == [2, 0, 1, 2]


def test_wrong_password_is_not_shown_either(run: Run, distcache_nodes: NodesFactory) -> None:
    port = distcache_nodes(1, password="right")["cache-a"].port
    setting = {
        "default": entry({"cache-a": f"redis://shop:{SECRET.replace('/', '%2F').replace('@', '%40')}@127.0.0.1:{port}"})
    }

    for words in COMMANDS:
        done = run(*words, "--traceback", caches=setting)

        assert "hunter2" not in done.stdout + done.stderr
        assert done.returncode == {"status": 2, "ring": 0, "locate": 1, "doctor": 2}[words[0]]


def test_inspection_leaves_no_connection_behind(nodes: LocalNodes) -> None:
    caches["default"].get("k")
    before = ask(nodes["cache-a"].url, ("INFO", "clients"))[0].split(b"connected_clients:")[1].split()[0]

    call("status")
    call("doctor")

    def is_as_before() -> bool:
        info = ask(nodes["cache-a"].url, ("INFO", "clients"))[0]
        return info.split(b"connected_clients:")[1].split()[0] == before

    wait_until(is_as_before, what="the connections of the inspection are closed")
