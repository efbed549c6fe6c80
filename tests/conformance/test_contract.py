"""What Django documents of a cache, by one node and by four, called blocking and awaited.

Django's own backend passes this file too (DISTCACHE_CONFORMANCE_SUBJECT=django), and a careless one does not.
"""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.nodes import Nodes
from tests.support.waiting import wait_until

pytestmark = pytest.mark.servers

MANY = 1000


def test_get_returns_default_for_missing_key(cache: Any) -> None:
    missing = object()

    assert cache.get("absent") is None
    assert cache.get("absent", "fallback") == "fallback"
    assert cache.get("absent", default=missing) is missing


def test_set_replaces_value(cache: Any) -> None:
    cache.set("k", "old")
    cache.set("k", {"new": 1})

    assert cache.get("k") == {"new": 1}


def test_cached_none_is_not_a_miss(cache: Any) -> None:
    cache.set("none", None)

    assert cache.get("none", "fallback") is None
    assert cache.has_key("none") is True
    assert "none" in cache
    assert cache.get_many(["none", "absent"]) == {"none": None}
    assert cache.add("none", 1) is False
    assert cache.get_or_set("none", "fallback") is None


def test_add_stores_only_what_is_missing(cache: Any) -> None:
    assert cache.add("k", "first") is True
    assert cache.add("k", "second") is False
    assert cache.get("k") == "first"


@pytest.mark.parametrize("timeout", [0, -1, -0.5])
def test_add_that_has_expired_already_succeeds_and_stores_nothing(cache: Any, timeout: float) -> None:
    assert cache.add("k", "value", timeout=timeout) is True
    assert cache.has_key("k") is False


@pytest.mark.parametrize("timeout", [0, -1])
def test_add_that_has_expired_already_leaves_present_value(cache: Any, timeout: int) -> None:
    cache.set("k", "kept")

    assert cache.add("k", "value", timeout=timeout) is False
    assert cache.get("k") == "kept"


@pytest.mark.parametrize("timeout", [0, -1, -3600])
def test_set_that_has_expired_already_removes_present_value(cache: Any, timeout: int) -> None:
    cache.set("k", "old")
    cache.set("k", "new", timeout=timeout)
    cache.set_many({"a": 1, "b": 2})
    cache.set_many({"a": 3, "b": 4}, timeout=timeout)

    assert cache.get("k") is None
    assert cache.get_many(["a", "b"]) == {}


def test_default_timeout_applies_where_none_is_given(make_cache: Callable[..., Any], nodes: Nodes) -> None:
    cache = make_cache(TIMEOUT=100)

    cache.set("set", 1)
    cache.add("added", 1)
    cache.set_many({"many": 1})
    cache.get_or_set("made", 1)
    cache.set("touched", 1, timeout=5)
    cache.touch("touched")

    for key in ("set", "added", "many", "made", "touched"):
        assert 90_000 < nodes.pttl(f":{key}") <= 100_000


def test_default_timeout_may_be_text_or_nothing(make_cache: Callable[..., Any], nodes: Nodes) -> None:
    make_cache(TIMEOUT="50").set("text", 1)
    make_cache(TIMEOUT=None).set("never", 1)

    assert 40_000 < nodes.pttl(":text") <= 50_000
    assert nodes.pttl(":never") == -1


def test_timeout_of_none_never_expires(cache: Any, nodes: Nodes) -> None:
    cache.set("set", 1, timeout=None)
    cache.add("added", 1, timeout=None)
    cache.set_many({"many": 1}, timeout=None)
    cache.set("touched", 1, timeout=50)

    assert cache.touch("touched", timeout=None) is True
    assert [nodes.pttl(f":{key}") for key in ("set", "added", "many", "touched")] == [-1] * 4


def test_value_is_gone_when_its_time_is_over(cache: Any) -> None:
    cache.set("k", 1, timeout=1)

    wait_until(lambda: cache.get("k") is None and "k" not in cache, what="expiry after one second")


def test_touch_changes_only_the_expiry(cache: Any, nodes: Nodes) -> None:
    cache.set("k", "value", timeout=50)

    assert cache.touch("k", 500) is True
    assert 490_000 < nodes.pttl(":k") <= 500_000
    assert cache.get("k") == "value"


def test_touch_of_missing_key_is_false(cache: Any) -> None:
    assert cache.touch("absent") is False
    assert cache.touch("absent", None) is False
    assert cache.touch("absent", 0) is False


@pytest.mark.parametrize("timeout", [0, -1])
def test_touch_into_the_past_removes_key(cache: Any, timeout: int) -> None:
    cache.set("k", 1)

    assert cache.touch("k", timeout) is True
    assert cache.get("k") is None


def test_delete_tells_whether_there_was_something(cache: Any) -> None:
    cache.set("k", None)

    assert cache.delete("k") is True
    assert cache.delete("k") is False
    assert cache.has_key("k") is False


def test_get_many_returns_present_keys(cache: Any) -> None:
    cache.set_many({"a": 1, "b": "two", "c": [3]})

    assert cache.get_many(["a", "c", "absent"]) == {"a": 1, "c": [3]}
    assert cache.get_many([]) == {}
    assert cache.get_many(["a", "a"]) == {"a": 1}


@pytest.mark.parametrize("shape", [iter, tuple, set, dict.fromkeys, lambda keys: (key for key in keys)])
def test_batches_take_any_iterable(cache: Any, shape: Callable[[list[str]], Any]) -> None:
    keys = [f"k{i}" for i in range(20)]
    assert cache.set_many(dict.fromkeys(keys, 1)) == []

    assert cache.get_many(shape(keys)) == dict.fromkeys(keys, 1)
    assert cache.delete_many(shape(keys)) is None
    assert cache.get_many(shape(keys)) == {}


def test_batches_of_nothing_do_nothing(cache: Any) -> None:
    assert cache.set_many({}) == []
    assert cache.get_many([]) == {}
    assert cache.delete_many(()) is None


def test_batches_of_a_thousand_keys(cache: Any) -> None:
    data = {f"key-{i}": {"number": i} for i in range(MANY)}

    assert cache.set_many(data, timeout=60) == []
    assert cache.get_many(data) == data
    assert cache.get("key-999") == {"number": 999}
    assert cache.delete_many(list(data)[:-1]) is None
    assert cache.get_many(data) == {"key-999": {"number": 999}}


def test_incr_and_decr_change_a_number(cache: Any) -> None:
    cache.set("n", 41)

    assert cache.incr("n") == 42
    assert cache.incr("n", 10) == 52
    assert cache.decr("n", 2) == 50
    assert cache.incr("n", -100) == -50
    assert cache.decr("n", -1) == -49
    assert cache.get("n") == -49
    assert type(cache.get("n")) is int


@pytest.mark.parametrize("method", ["incr", "decr", "incr_version", "decr_version"])
def test_changing_a_missing_key_raises_and_stores_nothing(cache: Any, nodes: Nodes, method: str) -> None:
    with pytest.raises(ValueError, match="absent"):
        getattr(cache, method)("absent")

    assert nodes.keys("*absent*") == set()


def test_incr_keeps_the_expiry(cache: Any, nodes: Nodes) -> None:
    cache.set("short", 1, timeout=50)
    cache.set("never", 1, timeout=None)

    cache.incr("short")
    cache.decr("never")

    assert 0 < nodes.pttl(":short") <= 50_000
    assert nodes.pttl(":never") == -1


def test_added_number_counts(cache: Any) -> None:
    cache.add("hits", 0, timeout=60)

    assert [cache.incr("hits") for _ in range(3)] == [1, 2, 3]


def test_get_or_set_calls_only_on_a_miss(cache: Any) -> None:
    calls: list[int] = []

    def load() -> str:
        calls.append(1)
        return "loaded"

    assert cache.get_or_set("k", load) == "loaded"
    assert cache.get_or_set("k", load) == "loaded"
    assert cache.get_or_set("k", "other") == "loaded"
    assert calls == [1]


def test_get_or_set_stores_for_its_timeout_and_version(cache: Any, nodes: Nodes) -> None:
    assert cache.get_or_set("k", "value", 50, version=7) == "value"

    assert cache.get("k") is None
    assert cache.get("k", version=7) == "value"
    assert 0 < nodes.pttl(":7:k") <= 50_000


def test_get_or_set_keeps_none(cache: Any) -> None:
    assert cache.get_or_set("k", None) is None
    assert cache.get_or_set("k", "value") is None


def test_get_or_set_wants_a_default(cache: Any) -> None:
    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'default'"):
        cache.get_or_set("k")


def test_get_or_set_lets_the_loaders_error_out(cache: Any) -> None:
    def load() -> None:
        raise LookupError("source is down")

    with pytest.raises(LookupError, match="source is down"):
        cache.get_or_set("k", load)

    assert cache.has_key("k") is False


def test_versions_are_apart(cache: Any) -> None:
    cache.set("k", "one")
    cache.set("k", "two", version=2)
    cache.set_many({"m": "two"}, version=2)

    assert cache.get("k") == "one"
    assert cache.get("k", version=2) == "two"
    assert cache.get_many(["k", "m"], version=2) == {"k": "two", "m": "two"}
    assert cache.has_key("m") is False
    assert cache.has_key("m", version=2) is True
    assert cache.add("m", "one") is True
    assert cache.touch("m", version=3) is False
    assert cache.delete("k", version=2) is True
    assert cache.get("k") == "one"
    cache.delete_many(["m"], version=2)
    assert cache.get("m") == "one"


def test_versions_count_apart(cache: Any) -> None:
    cache.set("n", 1)
    cache.set("n", 10, version=2)

    assert cache.incr("n", version=2) == 11
    assert cache.decr("n") == 0


def test_incr_version_moves_the_value(cache: Any) -> None:
    cache.set("k", ["value"])

    assert cache.incr_version("k") == 2
    assert cache.get("k") is None
    assert cache.get("k", version=2) == ["value"]
    assert cache.incr_version("k", delta=3, version=2) == 5
    assert cache.decr_version("k", version=5) == 4
    assert cache.get("k", version=4) == ["value"]
    assert cache.has_key("k", version=5) is False


def test_incr_version_moves_a_cached_none(cache: Any) -> None:
    cache.set("k", None)

    assert cache.incr_version("k") == 2
    assert cache.has_key("k") is False
    assert cache.get("k", "fallback", version=2) is None


def test_alias_has_its_own_default_version(make_cache: Callable[..., Any]) -> None:
    first, second = make_cache(), make_cache(VERSION=2)

    second.set("k", "second")

    assert first.get("k") is None
    assert first.get("k", version=2) == "second"


def test_prefixes_are_apart(make_cache: Callable[..., Any]) -> None:
    shop, blog = make_cache(KEY_PREFIX="shop"), make_cache(KEY_PREFIX="blog")

    shop.set("k", "shop")

    assert blog.get("k") is None
    assert shop.get("k") == "shop"


def _shouting(key: str, prefix: str, version: int) -> str:
    return f"{prefix}!{version}!{key.upper()}"


def test_key_function_is_used(make_cache: Callable[..., Any], nodes: Nodes) -> None:
    cache = make_cache(KEY_FUNCTION=_shouting, KEY_PREFIX="p")

    cache.set("word", 1)

    assert nodes.keys() >= {"p!1!WORD"}
    assert cache.get("WoRd") == 1


def test_clear_removes_everything_of_every_version(cache: Any) -> None:
    cache.set_many({f"k{i}": i for i in range(50)})
    cache.set("k", "two", version=2)

    cache.clear()

    assert cache.get_many([f"k{i}" for i in range(50)]) == {}
    assert cache.get("k", version=2) is None


def test_close_ends_nothing(cache: Any) -> None:
    cache.set("k", 1)

    cache.close()
    cache.close(signal=object(), sender=None)

    assert cache.get("k") == 1
