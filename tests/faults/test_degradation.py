"""What each operation answers while one of four nodes is at fault, and when all are."""

import time
from importlib import import_module
from typing import Any

import pytest
from django.core.cache import caches
from django.test import override_settings

from distcache_django.exceptions import InDoubt, Unavailable
from tests.faults.ground import (
    DEADLINE,
    PROMPT,
    SILENT,
    VICTIM,
    Ground,
    Waits,
    cluster_of,
    is_up,
    keys_at,
    note_failure,
    one_key_per_node,
    setting,
    wait_until_up,
)

pytestmark = pytest.mark.servers


@pytest.mark.parametrize("fault", SILENT + PROMPT)
def test_failed_node_costs_its_own_keys_of_a_batch_only(ground: Ground, fault: str) -> None:
    ground.prepare(fault)
    cache = ground.cache()
    keys = [key for node in cluster_of(cache).endpoints for key in keys_at(cache, 5, node=node)]
    lost = set(keys_at(cache, 5))
    assert cache.set_many(dict.fromkeys(keys, "old")) == []

    ground.begin(fault)

    waits = Waits()
    with waits.call():
        assert cache.get_many(keys) == dict.fromkeys(set(keys) - lost, "old")
    with waits.call():
        assert set(cache.set_many(dict.fromkeys(keys, "new"))) == lost
    with waits.call():
        assert cache.get_many(keys) == dict.fromkeys(set(keys) - lost, "new")
    with waits.call():
        cache.delete_many(keys)
    with waits.call():
        assert cache.get_many(keys) == {}
    assert len(waits) <= 1


@pytest.mark.parametrize("fault", ["stop", "half_open", *PROMPT])
def test_failed_node_costs_single_calls_on_its_own_keys_only(ground: Ground, fault: str) -> None:
    ground.prepare(fault)
    cache = ground.cache()
    mine = one_key_per_node(cache)
    cache.set_many(dict.fromkeys(mine.values(), 1))

    ground.begin(fault)

    waits = Waits()
    for node, key in mine.items():
        up = node != VICTIM
        with waits.call():
            assert cache.get(key, "none") == (1 if up else "none")
            assert cache.set(key, 2) is up
            assert cache.has_key(key) is up
            assert cache.touch(key, 60) is up
            assert cache.ttl(key) == (60 if up else 0)
            assert cache.delete(key) is up
            assert cache.add(key, 1) is up
            assert cache.set(key, 7, xx=True) is up
            assert cache.set(key, 7, nx=True) is False
            assert cache.set(key, 7, timeout=0) is up
            assert cache.get_or_set(key, lambda: "made", 60) == "made"
    assert len(waits) <= 1


@pytest.mark.parametrize("fault", ["stop", "kill", "loading"])
def test_counting_and_locks_raise(ground: Ground, fault: str) -> None:
    ground.prepare(fault)
    cache = ground.cache()
    key, number = keys_at(cache, 2)
    cache.set(number, 41)
    held = cache.lock(key, timeout=60)
    assert held.acquire()
    ground.begin(fault)

    waits = Waits()
    for call in (
        lambda: cache.incr(number),
        lambda: cache.decr(number),
        lambda: cache.incr_version(number),
        lambda: cache.lock(key).acquire(blocking=False),
        lambda: cache.lock(key).acquire(blocking_timeout=5),
        lambda: held.extend(60),
        held.release,
    ):
        with waits.call(), pytest.raises(Unavailable) as caught:
            call()
        assert caught.value.nodes == (VICTIM,)
    assert len(waits) <= 1


def test_count_that_a_frozen_node_may_still_make_is_in_doubt(ground: Ground) -> None:
    cache = ground.cache()
    (number,) = keys_at(cache, 1)
    cache.set(number, 41)
    ground.begin("stop")

    with pytest.raises(InDoubt):
        cache.incr(number)
    ground.end("stop")

    wait_until_up(cache)
    assert cache.get(number) in (41, 42)


def test_count_whose_reply_was_lost_is_made_once(ground: Ground) -> None:
    gate = ground.behind_gate()
    cache = ground.cache()
    (number,) = keys_at(cache, 1)
    cache.set(number, 40)
    assert cache.incr(number) == 41  # the server knows the script now
    gate.swallow = lambda words: words[0] in (b"EVALSHA", b"EVAL")

    with pytest.raises(InDoubt):
        cache.incr(number)
    gate.swallow = None

    wait_until_up(cache)
    assert cache.get(number) == 42


def test_count_that_was_never_sent_is_not_in_doubt(ground: Ground) -> None:
    cache = ground.cache()
    (number,) = keys_at(cache, 1)
    cache.set(number, 41)
    note = keys_at(cache, 1, stem="other")[0]
    ground.begin("kill")
    note_failure(cache, note)

    with pytest.raises(Unavailable) as caught:
        cache.incr(number)
    assert not isinstance(caught.value, InDoubt)


@pytest.mark.parametrize("fault", ["stop", "kill", "loading"])
def test_raise_policy_raises_for_failed_nodes_only(ground: Ground, fault: str) -> None:
    ground.prepare(fault)
    cache = ground.cache({"ON_UNAVAILABLE": "raise"})
    mine = one_key_per_node(cache)
    cache.set_many(dict.fromkeys(mine.values(), 1))
    ground.begin(fault)
    lost = mine.pop(VICTIM)

    waits = Waits()
    for call in (
        lambda: cache.get(lost),
        lambda: cache.set(lost, 2),
        lambda: cache.add(lost, 2),
        lambda: cache.delete(lost),
        lambda: cache.touch(lost),
        lambda: cache.has_key(lost),
        lambda: cache.incr(lost),
        lambda: cache.get_many([lost, *mine.values()]),
        lambda: cache.set_many(dict.fromkeys([lost, *mine.values()], 2)),
        lambda: cache.delete_many([lost]),
        cache.clear,
    ):
        with waits.call(), pytest.raises(Unavailable) as caught:
            call()
        assert VICTIM in caught.value.nodes
    assert len(waits) <= 1
    for key in mine.values():
        assert cache.set(key, 3) is True
        assert cache.get(key) == 3


def test_degraded_answers_are_counted_and_logged_once(ground: Ground, caplog: pytest.LogCaptureFixture) -> None:
    cache = ground.cache()
    keys = keys_at(cache, 20)
    ground.begin("kill")

    for key in keys:
        cache.set(key, 1)
        ground.cache().set(key, 1)  # another thread or task has another object
        cache.get(key)

    counts = cluster_of(cache).counts()
    assert (counts["degraded.set"], counts["degraded.get"]) == (40, 20)
    degraded = [record for record in caplog.records if "degraded" in record.getMessage()]
    assert len(degraded) == 2


def test_sessions_start_while_one_node_is_down(sync_ground: Ground) -> None:
    ground = sync_ground
    with override_settings(CACHES={"default": setting(ground.urls)}):
        store = import_module("django.contrib.sessions.backends.cache").SessionStore
        ground.begin("stop")
        waits = Waits()
        made = []
        for _ in range(40):
            session = store()
            with waits.call():
                session.create()
            made.append(session.session_key)

        assert len(waits) <= 1
        used: Any = caches["default"]
        assert all(used.locate(session.cache_key).owners[0] != VICTIM for session in map(store, made))
        assert all(store(key).exists(key) for key in made)


def test_sessions_fail_at_once_while_all_nodes_are_down(sync_ground: Ground) -> None:
    ground = sync_ground
    with override_settings(CACHES={"default": setting(ground.urls)}):
        store = import_module("django.contrib.sessions.backends.cache").SessionStore
        for node in ground.nodes.values():
            node.pause()
        waits = Waits()
        try:
            for _ in range(3):
                with pytest.raises(Unavailable), waits.call():
                    store().create()
        finally:
            for node in ground.nodes.values():
                node.resume()
        # The first may find out about one node after the other.
        assert max(waits.lengths[1:]) < DEADLINE / 2
        assert waits.lengths[0] < 4 * DEADLINE + DEADLINE / 2


@pytest.mark.parametrize("on_node_down", ["miss", "redirect"])
def test_nothing_is_acknowledged_while_all_nodes_are_down(ground: Ground, on_node_down: str) -> None:
    cache = ground.cache({"ON_NODE_DOWN": on_node_down})
    mine = [*one_key_per_node(cache).values()]
    assert cache.set_many(dict.fromkeys(mine, 1)) == []
    for node in ground.nodes.values():
        node.kill()

    assert cache.get_many(mine) == {}
    assert sorted(cache.set_many(dict.fromkeys(mine, 1))) == sorted(mine)
    assert sorted(cache.set_many(dict.fromkeys(mine, 1), timeout=0)) == sorted(mine)
    cache.delete_many(mine)
    for key in mine:
        assert cache.get(key) is None
        assert cache.set(key, 1) is False
        assert cache.delete(key) is False
        with pytest.raises(Unavailable):
            cache.add(key, 1)
        with pytest.raises(Unavailable):
            cache.add(key, 1, timeout=0)
    assert cache.clear() is False
    counts = cluster_of(cache).counts()
    assert counts["degraded.get_many"] >= 1
    assert counts["degraded.set_many"] >= 1
    assert counts["degraded.delete_many"] >= 1


def test_node_reported_by_the_site_is_left_alone_and_comes_back(ground: Ground) -> None:
    cache = ground.cache()
    (key,) = keys_at(cache, 1)
    cache.set(key, 1)
    ground.begin("stop")
    waits = Waits()

    cache.handle_node_failure(VICTIM)
    with waits.call():
        assert cache.get(key) is None

    assert len(waits) == 0
    ground.end("stop")
    wait_until_up(cache)
    assert cache.get(key) == 1


def test_answers_that_come_too_late_do_not_bring_a_node_back(ground: Ground) -> None:
    proxy = ground.behind_proxy()
    cache = ground.cache({"DEADLINE": 0.25})
    (key,) = keys_at(cache, 1)
    cache.set(key, 1)
    # A probe's first PING is waited for longer than a request is: one alone would succeed.
    proxy.delay(0.6)
    note_failure(cache, key)

    # Down and recovering in turn, several times.
    changes, state = 0, cluster_of(cache).members()[VICTIM].state
    expires = time.monotonic() + 10
    while changes < 4 and time.monotonic() < expires:
        assert cache.get(key) is None
        before, state = state, cluster_of(cache).members()[VICTIM].state
        assert not is_up(cache)
        changes += state is not before
    assert changes == 4
