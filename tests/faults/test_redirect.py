"""``ON_NODE_DOWN="redirect"``: the next node serves the keys of one that is down, for a short time."""

import random
from typing import Any

import pytest
import redis

from distcache_django.exceptions import Unavailable
from tests.faults.ground import (
    HOUR,
    VICTIM,
    Ground,
    Waits,
    is_up,
    keys_at,
    note_failure,
    one_key_per_node,
    wait_until_up,
)

pytestmark = pytest.mark.servers

REDIRECT = {"ON_NODE_DOWN": "redirect"}
LONGEST_MS = 10_000


def holders(ground: Ground, cache: Any, key: str) -> dict[str, int]:
    """Return which running nodes hold a key, and for how many milliseconds more."""
    found = {}
    for name, node in ground.nodes.items():
        if name == VICTIM and not is_up(cache):
            continue
        with redis.Redis.from_url(node.url) as plain:
            left = plain.pttl(cache.make_key(key))
            if left != -2:
                found[name] = left
    return found


def test_keys_of_a_down_node_are_served_by_the_next_for_a_short_time(ground: Ground) -> None:
    cache = ground.cache(REDIRECT)
    key, short, forever, batched = keys_at(cache, 4)
    cache.set(key, "old")
    ground.begin("stop")
    note_failure(cache, key)

    assert cache.set(key, "new", HOUR) is True
    assert cache.set(short, "new", 2) is True
    assert cache.set(forever, "new", None) is True
    assert cache.set_many({batched: "new"}, HOUR) == []

    assert cache.get_many([key, short, forever, batched]) == dict.fromkeys([key, short, forever, batched], "new")
    for name in (key, short, forever, batched):
        following = cache.locate(name).preference_list[1]
        ((holder, left),) = holders(ground, cache, name).items()
        assert holder == following
        assert 0 < left <= (2000 if name == short else LONGEST_MS)
        assert cache.has_key(name) is True
    cache.delete(key)
    cache.delete_many([short])
    assert cache.get_many([key, short, forever]) == {forever: "new"}


def test_exclusive_operations_are_never_redirected(ground: Ground) -> None:
    cache = ground.cache(REDIRECT)
    key, number, locked = keys_at(cache, 3)
    cache.set(number, 41)
    ground.begin("stop")
    note_failure(cache, key)

    assert cache.add(key, 1) is False
    assert cache.add(key, 1, timeout=0) is False
    assert cache.set(key, 1, nx=True) is False
    assert cache.set(key, 1, xx=True) is False
    assert cache.set(number, 1) is True  # where a copy could be counted by mistake
    for call in (
        lambda: cache.incr(number),
        lambda: cache.lock(locked).acquire(blocking=False),
        lambda: cache.incr_version(number),
    ):
        with pytest.raises(Unavailable):
            call()
    assert holders(ground, cache, key) == {}
    assert holders(ground, cache, locked) == {}


@pytest.mark.parametrize("fault", ["stop", "blackhole"])
def test_owner_serves_nothing_old_and_no_copy_when_it_is_back(ground: Ground, fault: str) -> None:
    ground.prepare(fault)
    cache = ground.cache(REDIRECT)
    written, deleted, batched, untouched, in_flight = keys_at(cache, 5)
    cache.set_many(dict.fromkeys([written, deleted, batched, untouched, in_flight], "old"))
    ground.begin(fault)

    cache.set(in_flight, "new")
    assert cache.set(written, "new") is True
    assert cache.set_many({batched: "new"}) == []
    cache.delete(deleted)
    ground.end(fault)

    wait_until_up(cache)
    assert cache.get(in_flight) is None
    assert cache.get_many([written, deleted, batched, untouched]) == {untouched: "old"}


def test_node_that_fails_again_soon_is_not_redirected_to_old_copies(ground: Ground) -> None:
    cache = ground.cache(REDIRECT)
    (key,) = keys_at(cache, 1)
    ground.begin("kill")
    note_failure(cache, key)
    assert cache.set(key, "copy") is True
    ground.end("kill")
    wait_until_up(cache)
    assert cache.set(key, "newer") is True

    ground.begin("kill")

    assert cache.get(key) is None
    assert cache.get_many([key]) == {}
    assert cache.has_key(key) is False
    assert cache.set(key, "dropped") is False
    assert cache.get(key) is None


def test_batch_and_single_calls_say_the_same(ground: Ground) -> None:
    cache = ground.cache(REDIRECT)
    one, other = keys_at(cache, 2)
    ground.begin("kill")
    note_failure(cache, one)

    # Only the owner can acknowledge a deletion.
    assert cache.set(one, 1, timeout=0) is False
    assert cache.set_many({other: 1}, timeout=0) == [other]
    strict = ground.cache({**REDIRECT, "ON_UNAVAILABLE": "raise"})
    with pytest.raises(Unavailable):
        strict.delete(one)
    with pytest.raises(Unavailable):
        strict.delete_many([other])


def test_keys_whose_next_node_refuses_are_named(ground: Ground) -> None:
    cache = ground.cache(REDIRECT)
    (key,) = keys_at(cache, 1)
    second = cache.locate(key).preference_list[1]
    ground.begin("kill")
    note_failure(cache, key)
    with redis.Redis.from_url(ground.nodes[second].url) as plain:
        plain.config_set("maxmemory", "1")
        try:
            assert cache.set(key, 1) is False
            assert cache.set_many({key: 1}) == [key]
        finally:
            plain.config_set("maxmemory", "0")


@pytest.mark.parametrize("call", ["get", "set", "set_many", "delete"])
def test_call_that_waited_harms_no_healthy_node(ground: Ground, call: str, caplog: pytest.LogCaptureFixture) -> None:
    """The call that finds out has used up its deadline when it turns to the next node."""
    cache = ground.cache({**REDIRECT, "DEADLINE": 0.4})
    mine = one_key_per_node(cache)
    cache.set_many(dict.fromkeys(mine.values(), "old"))
    ground.begin("stop")
    (key,) = keys_at(cache, 1)

    answer = {
        "get": lambda: cache.get(key),
        "set": lambda: cache.set(key, "new"),
        "set_many": lambda: cache.set_many(dict.fromkeys(mine.values(), "new")),
        "delete": lambda: cache.delete(key),
    }[call]()

    suspects = {record.getMessage().split()[1] for record in caplog.records if " is suspect" in record.getMessage()}
    assert suspects == {VICTIM}
    healthy = {name: k for name, k in mine.items() if name != VICTIM}
    assert cache.get_many(healthy.values()).keys() == set(healthy.values())
    if call == "set_many" and answer == []:
        assert cache.get(mine[VICTIM]) == "new"


@pytest.mark.parametrize(("on_node_down", "least"), [("miss", 0.6), ("redirect", 0.9)])
def test_hit_ratio_during_an_outage(sync_ground: Ground, on_node_down: str, least: float) -> None:
    cache = sync_ground.cache({"ON_NODE_DOWN": on_node_down})
    keys = [f"page{number}" for number in range(100)]
    cache.set_many(dict.fromkeys(keys, 1))
    sync_ground.begin("stop")
    note_failure(cache, keys_at(cache, 1)[0])
    draw = random.Random(1)
    waits, hits = Waits(), 0

    for _ in range(3000):
        key = draw.choice(keys)
        with waits.call():
            if cache.get(key) is None:
                cache.set(key, 1)
            else:
                hits += 1

    assert len(waits) == 0
    assert hits / 3000 >= least
    if on_node_down == "miss":
        assert hits / 3000 < 0.9


def test_full_next_node_keeps_no_older_copy(ground: Ground) -> None:
    cache = ground.cache(REDIRECT)
    (single,) = keys_at(cache, 1)
    batched = next(
        k for k in keys_at(cache, 50) if k != single and cache.locate(k).preference_list[1] == _second(cache, single)
    )
    ground.begin("kill")
    note_failure(cache, single)
    assert cache.set_many({single: "older", batched: "older"}) == []
    with redis.Redis.from_url(ground.nodes[_second(cache, single)].url) as plain:
        plain.config_set("maxmemory", "1")
        try:
            assert cache.set(single, "newer") is False
            assert cache.set_many({batched: "newer"}) == [batched]
        finally:
            plain.config_set("maxmemory", "0")

    assert cache.get_many([single, batched]) == {}


@pytest.mark.parametrize("way", ["set_many", "delete_many"])
def test_batch_that_another_node_delays_leaves_no_older_copy(ground: Ground, way: str) -> None:
    """One node is down and its keys are redirected; a second one hangs and uses up the time of a batch with both."""
    cache = ground.cache({**REDIRECT, "DEADLINE": 0.5})
    (key,) = keys_at(cache, 1)
    home = _second(cache, key)
    hanging = next(node for node in ground.nodes if node not in (VICTIM, home))
    (other,) = keys_at(cache, 1, node=hanging)
    ground.begin("kill")
    note_failure(cache, key)
    assert cache.set(key, "older") is True
    cache.set(other, "x")
    ground.nodes[hanging].pause()

    failed = None
    if way == "set_many":
        failed = cache.set_many({key: "newer", other: "y"})
    else:
        cache.delete_many([key, other])

    found = cache.get(key)
    ground.nodes[hanging].resume()
    assert found in ((None, "newer") if way == "set_many" else (None,))
    assert failed is None or found == "newer" or key in failed


def _second(cache: Any, key: str) -> str:
    return str(cache.locate(key).preference_list[1])
