"""The methods people know from django-redis: same names, order of parameters, and answers."""

import datetime
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.test import override_settings
from django_redis import get_redis_connection

from tests.support import subjects
from tests.support.nodes import Nodes
from tests.support.subjects import Layout

pytestmark = pytest.mark.servers


def test_set_nx_stores_only_what_is_missing(cache: Any, nodes: Nodes) -> None:
    assert cache.set("k", "first", timeout=50, nx=True) is True
    assert cache.set("k", "second", timeout=50, nx=True) is False
    assert cache.get("k") == "first"
    assert 0 < nodes.pttl(":k") <= 50_000


def test_set_xx_stores_only_what_is_present(cache: Any) -> None:
    assert cache.set("k", "first", xx=True) is False
    assert cache.has_key("k") is False
    cache.set("k", "old")
    assert cache.set("k", "new", xx=True) is True
    assert cache.get("k") == "new"


def test_set_nx_that_has_expired_already_leaves_present_value(cache: Any) -> None:
    assert cache.set("k", "value", timeout=0, nx=True) is True
    assert cache.has_key("k") is False
    cache.set("k", "kept")
    assert cache.set("k", "value", timeout=0, nx=True) is False
    assert cache.get("k") == "kept"


def test_ttl_is_seconds_none_without_expiry_and_zero_when_missing(cache: Any) -> None:
    cache.set("short", 1, timeout=50)
    cache.set("never", 1, timeout=None)

    assert cache.ttl("short") in range(45, 51)
    assert cache.ttl("never") is None
    assert cache.ttl("absent") == 0


def test_pttl_is_milliseconds_none_without_expiry_and_zero_when_missing(cache: Any) -> None:
    cache.set("short", 1, timeout=50.5)
    cache.set("never", 1, timeout=None)

    assert 45_000 < cache.pttl("short") <= 50_500
    assert cache.pttl("never") is None
    assert cache.pttl("absent") == 0


def test_ttl_sees_its_version(cache: Any) -> None:
    cache.set("k", 1, timeout=50, version=2)

    assert cache.ttl("k") == 0
    assert cache.ttl("k", version=2) > 0


def test_expire_sets_seconds(cache: Any, nodes: Nodes) -> None:
    cache.set("k", 1, timeout=None)

    assert cache.expire("k", 20) is True
    assert 10_000 < nodes.pttl(":k") <= 20_000
    assert cache.expire("absent", 20) is False
    assert cache.expire("k", timeout=20, version=2) is False


def test_pexpire_sets_milliseconds(cache: Any, nodes: Nodes) -> None:
    cache.set("k", 1, timeout=None)

    assert cache.pexpire("k", 20_500) is True
    assert 10_000 < nodes.pttl(":k") <= 20_500
    assert cache.pexpire("absent", 20_500) is False


def test_expire_at_takes_a_moment_or_seconds_since_the_epoch(cache: Any, nodes: Nodes) -> None:
    cache.set("k", 1)
    tomorrow = datetime.datetime.now(tz=datetime.UTC) + datetime.timedelta(days=1)

    assert cache.expire_at("k", tomorrow) is True
    assert 86_300_000 < nodes.pttl(":k") <= 86_401_000
    assert cache.expire_at("k", int(time.time()) + 50) is True
    assert 40_000 < nodes.pttl(":k") <= 51_000
    assert cache.expire_at("absent", tomorrow) is False


def test_pexpire_at_takes_a_moment_or_milliseconds_since_the_epoch(cache: Any, nodes: Nodes) -> None:
    cache.set("k", 1)
    tomorrow = datetime.datetime.now(tz=datetime.UTC) + datetime.timedelta(days=1)

    assert cache.pexpire_at("k", tomorrow) is True
    assert 86_300_000 < nodes.pttl(":k") <= 86_401_000
    assert cache.pexpire_at("k", int(time.time() * 1000) + 50_000) is True
    assert 40_000 < nodes.pttl(":k") <= 50_000
    assert cache.pexpire_at("absent", tomorrow) is False


def test_expiry_in_the_past_removes_key(cache: Any) -> None:
    cache.set_many({"a": 1, "b": 1})

    assert cache.expire_at("a", int(time.time()) - 10) is True
    assert cache.pexpire_at("b", int(time.time() * 1000) - 10_000) is True
    assert cache.get_many(["a", "b"]) == {}


def test_persist_removes_the_expiry(cache: Any, nodes: Nodes) -> None:
    cache.set("k", 1, timeout=50)

    assert cache.persist("k") is True
    assert nodes.pttl(":k") == -1
    assert cache.persist("absent") is False


@pytest.fixture
def fruit(make_cache: Callable[..., Any]) -> Any:
    """A cache with a prefix that needs escaping, and keys in two versions."""
    cache = make_cache(KEY_PREFIX="a*b[c]")
    make_cache(KEY_PREFIX="axb").set("apple-other", 1)
    cache.set_many({f"apple-{i}": i for i in range(30)})
    cache.set_many({"pear-1": 1, "pear:2": 2})
    cache.set("apple-v2", 1, version=2)
    return cache


def test_keys_are_those_of_the_caller(fruit: Any) -> None:
    assert sorted(fruit.keys("pear*")) == ["pear-1", "pear:2"]
    assert sorted(fruit.keys("apple-?")) == [f"apple-{i}" for i in range(10)]
    assert len(fruit.keys("*")) == 32
    assert fruit.keys("*", version=2) == ["apple-v2"]
    assert fruit.keys("nothing*") == []


def test_iter_keys_yields_each_key_once(fruit: Any) -> None:
    assert sorted(fruit.iter_keys("apple-*")) == sorted(f"apple-{i}" for i in range(30))
    assert sorted(fruit.iter_keys("apple-*", itersize=5)) == sorted(f"apple-{i}" for i in range(30))
    assert list(fruit.iter_keys("*", version=2)) == ["apple-v2"]


def test_delete_pattern_deletes_what_matches_and_counts_it(fruit: Any) -> None:
    assert fruit.delete_pattern("apple-1*") == 11
    assert fruit.delete_pattern("apple-*", itersize=7) == 19
    assert fruit.delete_pattern("apple-*", version=2) == 1
    assert fruit.delete_pattern("apple-*") == 0
    assert sorted(fruit.keys("*")) == ["pear-1", "pear:2"]


def test_delete_pattern_may_name_another_prefix(fruit: Any, nodes: Nodes) -> None:
    assert fruit.delete_pattern("*", prefix="axb") == 1
    assert nodes.keys("axb:*") == set()
    assert len(fruit.keys("*")) == 32


@pytest.mark.one_owner("a node keeps records, which a plain client cannot read as numbers")
def test_client_of_a_key_holds_that_key(cache: Any) -> None:
    for i in range(20):
        cache.set(f"n{i}", i)
        name = cache.make_key(f"n{i}")
        assert cache.client.get_client(write=True, key=f"n{i}").get(name) == str(i).encode()


def test_client_of_a_key_keeps_sets_hashes_and_sorted_sets(cache: Any) -> None:
    connection = cache.client.get_client(key="basket")

    connection.sadd("basket:items", "cup", "pot")
    connection.hset("basket:prices", mapping={"cup": 3})
    connection.zadd("basket:rank", {"pot": 2, "cup": 1})

    assert connection.smembers("basket:items") == {b"cup", b"pot"}
    assert connection.hgetall("basket:prices") == {b"cup": b"3"}
    assert connection.zrange("basket:rank", 0, -1) == [b"cup", b"pot"]


def test_django_redis_helper_finds_the_connection(nodes: Nodes, layout: Layout) -> None:
    setting = subjects.alias(subjects.chosen(), nodes.at(layout.nodes), mode=layout.mode, replicas=layout.replicas)

    with override_settings(CACHES={"default": setting}):
        connection = get_redis_connection("default")
        assert connection.ping() is True
        assert get_redis_connection("default", write=False).ping() is True
