"""`manage.py distcache doctor` on real nodes and on servers that say what real ones rarely do."""

from collections.abc import Iterator

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from distcache_django.testing.plugin import NodesFactory
from distcache_django.testing.servers import LocalNodes
from tests.support.console import bulk, call, call_json, entry, finding_ids, impostor, site

pytestmark = pytest.mark.servers

SECRET = "hunter2/of:the@cache"


@pytest.fixture
def nodes(distcache_shared_nodes: LocalNodes) -> Iterator[LocalNodes]:
    """Four nodes that are the site's."""
    with site(distcache_shared_nodes.urls):
        yield distcache_shared_nodes


def test_doctor_of_nodes_that_are_well(distcache_nodes: NodesFactory) -> None:
    config = {"maxmemory": "100mb", "maxmemory-policy": "volatile-lfu"}
    with site(distcache_nodes(3, config=config).urls):
        code, text = call("doctor")

    assert code == 0
    lines = text.splitlines()
    assert "[ ok ] all nodes answer" in lines
    assert lines[-1] == "0 problems (0 critical)"
    assert all(line.startswith("[ ok ] ") for line in lines[:-1])


def test_doctor_finds_nodes_that_do_not_answer(nodes: LocalNodes) -> None:
    nodes["cache-a"].pause()
    nodes["cache-b"].kill()

    code, report = call_json("doctor")

    assert (code, report["verdict"]) == (1, "degraded")
    silent = [finding for finding in report["findings"] if finding["id"] == "distcache.W010"]
    assert [finding["text"].split()[0] for finding in silent] == ["cache-a", "cache-b"]


def test_doctor_finds_wrong_settings_and_asks_nobody(nodes: LocalNodes) -> None:
    with site(nodes.urls, OPTIONS={"DEADLIN": 1, "ACCEPT_UNSIGNED": True}):
        code, report = call_json("doctor")

    assert (code, report["critical"]) == (2, 1)
    assert finding_ids(report) == {"E005": "fail", "W002": "warn"}


def test_doctor_names_the_other_alias_of_an_overlap(nodes: LocalNodes) -> None:
    overlapping = {"default": entry(nodes.urls), "other": entry(nodes.urls), "apart": entry(nodes.urls, KEY_PREFIX="x")}
    with override_settings(CACHES=overlapping):
        reports = {name: finding_ids(call_json("doctor", "--using", name)[1]) for name in overlapping}

    assert ["W004" in reports[name] for name in overlapping] == [True, True, False]


def test_doctor_finds_one_server_under_two_names(distcache_nodes: NodesFactory) -> None:
    url = distcache_nodes(1)["cache-a"].url
    with site({"one": url, "two": url}):
        same = call_json("doctor")[1]
    with site({"one": url, "two": url.replace("/0", "/1")}):
        apart = call_json("doctor")[1]

    texts = [[f["text"] for f in report["findings"] if f["id"] == "distcache.W015"] for report in (same, apart)]
    assert texts[0] == ["one, two are the same server and database: one failure takes them all."]
    assert texts[1] == ["one, two are the same server: one failure takes them all."]


def test_doctor_finds_the_broker_in_the_caches_database(nodes: LocalNodes) -> None:
    with override_settings(CELERY_BROKER_URL=nodes["cache-b"].url):
        code, report = call_json("doctor")

    assert code == 2
    assert finding_ids(report)["W014"] == "fail"


def test_wrong_password_is_told_from_silence(distcache_nodes: NodesFactory) -> None:
    started = distcache_nodes(1, password=SECRET)
    port = started["cache-a"].port
    for location, options in (
        (f"redis://127.0.0.1:{port}", {}),
        (f"redis://:wrong@127.0.0.1:{port}", {}),
        (f"redis://127.0.0.1:{port}", {"PASSWORD": "wrong"}),
        (f"redis://127.0.0.1:{port}/2", {}),
    ):
        with site({"cache-a": location}, OPTIONS=options):
            code, report = call_json("doctor")
            assert call("status")[0] == 2

        assert code == 2
        assert finding_ids(report) == {"E031": "fail"}, location


def test_user_that_may_not_look_gets_what_it_may(distcache_nodes: NodesFactory) -> None:
    user = "shop on >let-me-in ~* &* +@all -info -dbsize -time"
    port = distcache_nodes(1, config={"user": user})["cache-a"].port
    with site({"cache-a": f"redis://shop:let-me-in@127.0.0.1:{port}"}):
        code, status = call_json("status")
        doctor_code, report = call_json("doctor")

    (node,) = status["nodes"]
    assert (code, doctor_code) == (0, 0)
    assert (node["state"], node["denied"]) == ("up", ["INFO", "DBSIZE"])
    assert (node["keys"], node["version"], node["clock_skew_ms"]) == (None, None, None)
    assert node["rtt_ms"] > 0
    assert finding_ids(report) == {"I003": "note"}


def test_node_that_is_loading() -> None:
    loading = b"-LOADING the dataset is in memory soon\r\n"
    info = bulk("# Server\r\nserver_name:valkey\r\nvalkey_version:9.1.0\r\nrun_id:abc\r\nrole:master\r\n")
    with impostor(INFO=info, DBSIZE=loading, PING=loading) as url, site({"cache-a": url}):
        code, status = call_json("status")
        _, text = call("status")
        doctor_code, report = call_json("doctor")

    assert code == 2
    assert status["nodes"][0]["state"] == "loading"
    assert status["nodes"][0]["version"] == "9.1.0"
    assert "DR  cache-a" in text
    assert "is loading its data" in text
    assert doctor_code == 1
    assert finding_ids(report) == {"W024": "warn"}


def test_server_of_another_kind_with_a_clock_of_its_own() -> None:
    info = bulk("redis_version:5.0.7\r\nmaxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n")
    clock = b"*2\r\n$1\r\n9\r\n$1\r\n0\r\n"
    with impostor(INFO=info, DBSIZE=b":7\r\n", PING=b"+PONG\r\n", TIME=clock) as url, site({"cache-a": url}):
        code, report = call_json("doctor")

    assert code == 2
    assert finding_ids(report) == {"E032": "fail", "W016": "warn", "E035": "fail"}


@pytest.mark.parametrize("answer", [b"-ERR no\r\n", b"", b"$-3\r\n"])
def test_server_that_talks_nonsense_is_down(answer: bytes) -> None:
    with impostor(INFO=answer) as url, site({"cache-a": url}, OPTIONS={"DEADLINE": 0.5}):
        code, status = call_json("status")

    assert code == 2
    assert status["nodes"][0]["error"]


def test_arguments_that_the_client_library_refuses_are_an_error_of_the_settings(nodes: LocalNodes) -> None:
    with (
        site(nodes.urls, OPTIONS={"CONNECTION_POOL_KWARGS": {"no_such_argument": 1}}),
        pytest.raises(CommandError, match=r"distcache\.E012.*no_such_argument") as raised,
    ):
        call_command("distcache", "status")

    assert raised.value.returncode == 2
