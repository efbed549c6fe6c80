"""The verdict of `distcache status` and the findings of `distcache doctor`, over reports that nodes could give."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from django.test import override_settings

from distcache_django.cluster.inspection import NodeReport
from distcache_django.management.console.diagnosis import Case, Finding, Level, examine
from distcache_django.management.console.status import judge
from distcache_django.management.console.target import open_target
from distcache_django.transport.inspect import Database, database_of

NODES = {f"cache-{letter}": f"redis://10.9.9.{i}:6379/0" for i, letter in enumerate("abcd")}
SECRET = "hunter2-of-the-cache"


def entry(location: object = NODES, **params: Any) -> dict[str, Any]:
    return {"BACKEND": "distcache_django.DistributedCache", "LOCATION": location, **params}


@pytest.fixture(autouse=True)
def site() -> Iterator[None]:
    """A site with four nodes that nobody connects to."""
    with override_settings(CACHES={"default": entry()}):
        yield


WELL = NodeReport(
    name="cache-a",
    address="10.9.9.0:6379",
    up=True,
    server="valkey",
    version="9.1.0",
    run_id="a" * 40,
    role="master",
    memory_bytes=1000,
    maxmemory_bytes=100_000,
    policy="volatile-lfu",
    clock_skew_ms=1.0,
)
OTHER = replace(WELL, name="cache-b", run_id="b" * 40)
AWAY = NodeReport(name="cache-c", address="10.9.9.2:6379", error="no answer within 0.25 s")


def examined(*reports: NodeReport, alias: str = "default") -> list[Finding]:
    return list(examine(Case(open_target(alias), reports)))


def problems(*reports: NodeReport) -> list[tuple[str, Level]]:
    return [(f.id.removeprefix("distcache."), f.level) for f in examined(*reports) if f.level is not Level.OK]


@pytest.mark.parametrize(
    ("reports", "code"),
    [
        ([WELL, OTHER], 0),
        ([WELL, AWAY], 1),
        ([AWAY, AWAY], 2),
        ([WELL, replace(OTHER, is_read_only=True)], 1),
        ([WELL, replace(OTHER, policy="noeviction", memory_bytes=100_000)], 1),
    ],
)
def test_verdict(reports: list[NodeReport], code: int) -> None:
    assert judge(reports).code == code


def test_healthy_nodes_have_no_findings() -> None:
    assert problems(WELL, OTHER) == []
    assert {finding.level for finding in examined(WELL, OTHER)} == {Level.OK}


@pytest.mark.parametrize(
    ("change", "number", "level"),
    [
        ({"version": "7.0.1"}, "E032", Level.FAIL),
        ({"server": "redis", "version": "6.0.16"}, "E032", Level.FAIL),
        ({"server": "redis", "version": "10.0"}, None, None),
        ({"server": "redis", "version": "6.2.0"}, None, None),
        ({"server": "other"}, "I004", Level.NOTE),
        ({"run_id": OTHER.run_id}, "W015", Level.WARN),
        ({"role": "replica", "is_read_only": True}, "E034", Level.FAIL),
        ({"role": "replica"}, "E034", Level.FAIL),
        ({"clock_skew_ms": 600.0}, "W016", Level.WARN),
        ({"clock_skew_ms": -600.0}, "W016", Level.WARN),
        ({"clock_skew_ms": 400.0}, None, None),
        ({"policy": "allkeys-lru"}, "E035", Level.FAIL),
        ({"policy": "noeviction"}, "W021", Level.WARN),
        ({"policy": "noeviction", "maxmemory_bytes": None}, "I001", Level.NOTE),
        ({"memory_bytes": 90_000}, "W023", Level.WARN),
        ({"memory_bytes": 89_000}, None, None),
        ({"denied": ("INFO",), "version": None}, "I003", Level.NOTE),
        ({"up": False, "error": "gone"}, "W010", Level.WARN),
        ({"up": False, "error": "LOADING", "is_loading": True}, "W024", Level.WARN),
        ({"up": False, "error": "WRONGPASS", "has_refused_credentials": True}, "E031", Level.FAIL),
    ],
)
def test_doctor_finds(change: dict[str, Any], number: str | None, level: Level | None) -> None:
    assert problems(replace(WELL, **change), OTHER) == ([] if number is None else [(number, level)])


@pytest.mark.parametrize("distcache", [{"FRESHNESS": "bounded"}, {"ENABLED": False}])
def test_eviction_of_marks_is_no_failure_where_there_are_none(distcache: dict[str, Any]) -> None:
    with override_settings(DISTCACHE=distcache):
        assert problems(replace(WELL, policy="allkeys-lru"), OTHER) == [("W020", Level.WARN)]


def test_silence_of_all_nodes_is_a_failure() -> None:
    assert problems(AWAY, replace(AWAY, name="cache-d")) == [("W010", Level.FAIL)] * 2


def test_nothing_is_called_in_order_that_nobody_could_look_at() -> None:
    assert [finding for finding in examined(AWAY) if finding.level is Level.OK] == []
    partly = [finding.text for finding in examined(WELL, AWAY) if finding.level is Level.OK]
    assert partly
    assert all("1 of 2 nodes" in text for text in partly)


def test_clocks_may_differ_as_much_as_the_settings_allow() -> None:
    with override_settings(CACHES={"default": entry(OPTIONS={"MAX_CLOCK_DRIFT": 2.0})}):
        assert problems(replace(WELL, clock_skew_ms=1900.0)) == []


@pytest.mark.parametrize(
    ("setting", "is_shared"),
    [
        ({"CELERY_BROKER_URL": f"redis://:{SECRET}@10.9.9.1:6379/0"}, True),
        ({"CELERY_BROKER_URL": "redis://10.9.9.1:6379/1"}, False),
        ({"CELERY_BROKER_URL": "amqp://guest@10.9.9.1//"}, False),
        ({"CELERY_BROKER_URL": "redis://10.8.8.8/0;redis://10.9.9.1/0"}, True),
        ({"CELERY_BROKER_URL": None}, False),
        ({"BROKER_URL": ["redis://10.9.9.1"]}, True),
        ({"CELERY": {"broker_url": "valkey://10.9.9.1"}}, True),
        ({"CELERY": {}}, False),
    ],
)
def test_broker_in_a_database_of_the_cache(setting: dict[str, Any], is_shared: bool) -> None:
    with override_settings(**setting):
        found = [finding for finding in examined(WELL, OTHER) if finding.level is not Level.OK]

    assert [finding.id for finding in found] == (["distcache.W014"] if is_shared else [])
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    ("params", "is_plain"),
    [
        ({"location": f"redis://:{SECRET}@10.9.9.1"}, True),
        ({"location": "redis://10.9.9.1", "OPTIONS": {"PASSWORD": SECRET}}, True),
        ({"location": f"rediss://:{SECRET}@10.9.9.1"}, False),
        ({"location": f"redis://:{SECRET}@127.0.0.1"}, False),
        ({"location": f"redis://:{SECRET}@localhost"}, False),
        ({"location": "redis://10.9.9.1"}, False),
    ],
)
def test_password_on_an_open_line(params: dict[str, Any], is_plain: bool) -> None:
    with override_settings(CACHES={"default": entry(**params)}):
        found = examined(WELL)

    assert any(finding.id == "distcache.W027" for finding in found) is is_plain
    assert SECRET not in repr(found)


def test_debug_is_noted() -> None:
    with override_settings(DEBUG=True):
        assert problems(WELL, OTHER) == [("I002", Level.NOTE)]


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://h", Database("h", 6379, 0)),
        ("rediss://u:p@H:1/2", Database("h", 1, 2)),
        ("redis://[::1]:1/2", Database("localhost", 1, 2)),
        ("unix:///run/r.sock?db=3", Database("/run/r.sock", 0, 3)),
        ("redis+socket:///run/r.sock?virtual_host=3", Database("/run/r.sock", 0, 3)),
        ("redis://h:none/0", None),
        ("amqp://h", None),
    ],
)
def test_where_a_url_leads(url: str, place: Database | None) -> None:
    assert database_of(url) == place


def test_places_are_named_as_people_do() -> None:
    assert str(Database("h", 1, 2)) == "h:1/2"
    assert str(Database("/run/r.sock", 0, 3)) == "/run/r.sock (3)"
