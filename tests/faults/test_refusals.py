"""Nodes that answer, but not what they are asked: full, read-only, loading, with other credentials."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from distcache_django.exceptions import Unavailable
from distcache_django.testing.servers import LocalNode
from tests.faults.ground import (
    HOUR,
    VICTIM,
    Ground,
    Waits,
    cluster_of,
    is_up,
    keys_at,
    one_key_per_node,
    wait_until_up,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.servers

PASSWORD = "pass-word%3Aof the suite"


def configure(ground: Ground, **directives: str) -> None:
    """Change the victim's configuration."""
    with redis.Redis.from_url(ground.victim.url) as plain:
        for name, value in directives.items():
            plain.config_set(name.replace("_", "-"), value)


@pytest.fixture
def full(ground: Ground) -> Any:
    """Fill the victim: it refuses what needs memory, and evicts nothing."""
    yield lambda: configure(ground, maxmemory_policy="noeviction", maxmemory="1")
    configure(ground, maxmemory="0")


@pytest.fixture
def read_only(ground: Ground) -> Any:
    """Turn the victim into a replica of nobody: it answers reads from what it has, and refuses writes."""

    def turn(on: bool) -> None:
        with redis.Redis.from_url(ground.victim.url) as plain:
            plain.replicaof("127.0.0.1", 1) if on else plain.replicaof("NO", "ONE")

    yield turn
    turn(False)


def test_full_node_refuses_and_serves_nothing_old(ground: Ground, full: Callable[[], None]) -> None:
    cache = ground.cache()
    single, batched, other, absent = keys_at(cache, 4)
    moved = next(k for k in keys_at(cache, 50, stem="m") if cache.locate(k, version=2).owners[0] == VICTIM)
    healthy = {k for node, k in one_key_per_node(cache, "well").items() if node != VICTIM}
    cache.set_many(dict.fromkeys([single, batched, other, moved], "old"))
    cache.set("warm", 1)
    full()

    waits = Waits()
    with waits.call():
        assert cache.set(single, "new") is False
        assert cache.get(single) is None
        assert cache.set_many(dict.fromkeys([batched, *healthy], "new")) == [batched]
        assert cache.get_many([batched, other, *healthy]) == {other: "old", **dict.fromkeys(healthy, "new")}
        assert cache.add(absent, 1) is False
        assert cache.get(other) == "old"
        assert cache.has_key(other) is True
        assert cache.touch(other, HOUR) is True
        assert cache.get_or_set(absent, "made") == "made"
        assert cache.delete(other) is True
        assert cache.get(other) is None
    with pytest.raises(Unavailable):
        cache.incr_version(moved)
    assert len(waits) == 0
    assert is_up(cache)
    counts = cluster_of(cache).counts()
    assert (counts["degraded.set"], counts["degraded.set_many"], counts["degraded.add"]) == (1, 1, 1)


def test_full_node_serves_nothing_old_after_a_conditional_set(ground: Ground, full: Callable[[], None]) -> None:
    cache = ground.cache()
    (key,) = keys_at(cache, 1)
    cache.set(key, "old")
    full()

    assert cache.set(key, "new", xx=True) is False

    assert cache.get(key) is None


def test_full_node_raises_where_the_site_wants_that(ground: Ground, full: Callable[[], None]) -> None:
    cache = ground.cache({"ON_UNAVAILABLE": "raise"})
    (key,) = keys_at(cache, 1)
    cache.set(key, "old")
    full()

    with pytest.raises(Unavailable, match="OOM"):
        cache.set(key, "new")

    assert cache.get(key) is None


def test_full_node_serves_nothing_old_after_a_batch_that_another_node_delays(
    ground: Ground, full: Callable[[], None]
) -> None:
    cache = ground.cache({"DEADLINE": 0.5})
    (key,) = keys_at(cache, 1)
    hanging = next(node for node in ground.nodes if node != VICTIM)
    (other,) = keys_at(cache, 1, node=hanging)
    cache.set_many({key: "old", other: "old"})
    full()
    ground.nodes[hanging].pause()

    failed = cache.set_many({key: "new", other: "new"})
    found = cache.get(key)
    ground.nodes[hanging].resume()

    assert set(failed) == {key, other}
    assert found is None


@pytest.mark.parametrize("on_node_down", ["miss", "redirect"])
def test_batch_refused_in_part_leaves_nothing_old(ground: Ground, on_node_down: str) -> None:
    """A server without MSETEX gets one SET for each value, and may become full between them."""
    gate = ground.behind_gate()
    cache = ground.cache({"ON_NODE_DOWN": on_node_down})
    keys = keys_at(cache, 6)
    refused = {f":1:{key}".encode() for key in keys[::2]}
    cache.set_many(dict.fromkeys(keys, "old"))

    def refuse(words: list[bytes]) -> bytes | None:
        if words[0] == b"MSETEX":
            return b"ERR unknown command 'MSETEX'"
        if words[0] == b"SET" and words[1] in refused:
            return b"OOM command not allowed when used memory > 'maxmemory'."
        return None

    gate.refuse = refuse
    assert cache.set_many(dict.fromkeys(keys, "new")) == keys[::2]
    assert cache.get_many(keys) == dict.fromkeys(keys[1::2], "new")


@pytest.mark.parametrize("refusal", ["READONLY", "MISCONF"])
@pytest.mark.parametrize("way", ["set", "set_many", "delete", "delete_many", "clear"])
def test_node_that_refuses_deletions_too_serves_nothing_old(ground: Ground, refusal: str, way: str) -> None:
    gate = ground.behind_gate()
    cache = ground.cache()
    (key,) = keys_at(cache, 1)
    cache.set(key, "old")
    writes = {b"SET", b"MSETEX", b"UNLINK", b"DEL", b"PEXPIRE"}
    gate.refuse = lambda words: f"{refusal} cannot write".encode() if words[0] in writes else None

    {
        "set": lambda: cache.set(key, "new"),
        "set_many": lambda: cache.set_many({key: "new"}),
        "delete": lambda: cache.delete(key),
        "delete_many": lambda: cache.delete_many([key]),
        "clear": cache.clear,
    }[way]()
    assert cache.get(key) is None

    gate.refuse = None
    wait_until_up(cache)
    assert cache.get(key) is None


def test_replica_is_read_and_acknowledges_nothing(ground: Ground, read_only: Callable[[bool], None]) -> None:
    cache = ground.cache()
    kept, number, absent = keys_at(cache, 3)
    cache.set(kept, "old")
    cache.set(number, 41)
    read_only(True)

    assert cache.get(kept) == "old"
    assert cache.add(absent, 1) is False
    with pytest.raises(Unavailable):
        cache.incr(number)
    with pytest.raises(Unavailable):
        cache.lock(absent).acquire(blocking=False)
    assert cache.set(kept, "new") is False
    assert cache.get(kept) is None
    read_only(False)

    wait_until(lambda: cache.set(kept, "newer"), what="a master that takes writes again")
    assert cache.get(kept) == "newer"
    assert cache.get(number) == 41


def test_loading_node_is_not_asked_before_it_has_loaded(ground: Ground) -> None:
    gate = ground.behind_gate()
    cache = ground.cache()
    (key,) = keys_at(cache, 1)
    cache.set(key, "old")
    gate.refuse = lambda words: b"LOADING the dataset is being loaded in memory"

    assert cache.get(key) is None
    gate.seen.clear()
    for _ in range(50):
        assert cache.get(key) is None
    assert set(gate.seen) <= {b"PING"}
    gate.refuse = None

    wait_until_up(cache)
    assert cache.get(key) == "old"


@pytest.mark.parametrize("given", ["wrong", "none"])
def test_node_with_another_password_costs_its_own_keys_only(
    ground: Ground, caplog: pytest.LogCaptureFixture, given: str
) -> None:
    caplog.set_level(logging.DEBUG)
    with ExitStack() as stack:
        locked = stack.enter_context(LocalNode(VICTIM, password="the right one"))
        at = f"127.0.0.1:{locked.port}/0"
        ground.urls[VICTIM] = f"redis://:{PASSWORD.replace(' ', '%20')}@{at}" if given == "wrong" else f"redis://{at}"
        cache = ground.cache()
        mine = one_key_per_node(cache)
        lost = mine.pop(VICTIM)

        waits = Waits()
        with waits.call():
            assert cache.set_many(dict.fromkeys([lost, *mine.values()], 1)) == [lost]
            assert cache.get_many([lost, *mine.values()]) == dict.fromkeys(mine.values(), 1)
            assert cache.get(lost) is None
            assert cache.set(lost, 1) is False
            assert cache.add(lost, 1) is False
        with pytest.raises(Unavailable) as caught:
            cache.incr(lost)
        assert len(waits) == 0

        texts = [record.getMessage() for record in caplog.records] + [str(caught.value), repr(caught.value)]
        assert any(VICTIM in text for text in texts)
        chain: BaseException | None = caught.value
        while chain is not None:
            texts.append(f"{chain} {chain!r}")
            chain = chain.__cause__ or chain.__context__
        for secret in (PASSWORD, PASSWORD.replace(" ", "%20"), "pass-word:of the suite"):
            assert not any(secret in text for text in texts)
        assert secret not in repr(cluster_of(cache).endpoints)
        locked_up = cluster_of(cache).members()[VICTIM]
        assert secret not in repr(locked_up)


def test_password_that_is_put_right_brings_the_node_back(ground: Ground) -> None:
    with LocalNode(VICTIM, password="first") as locked:
        ground.urls[VICTIM] = f"redis://:second@127.0.0.1:{locked.port}/0"
        cache = ground.cache()
        (key,) = keys_at(cache, 1)
        assert cache.set(key, 1) is False

        with redis.Redis.from_url(locked.url) as plain:
            plain.config_set("requirepass", "second")
            wait_until_up(cache)
            assert cache.set(key, 1) is True
            assert cache.get(key) == 1
            plain.config_set("requirepass", "first")


def test_opening_a_link_is_bounded_as_a_whole(ground: Ground) -> None:
    """Credentials and the choice of a database are round trips too; all of them share the deadline."""
    gate = ground.behind_gate()
    ground.urls[VICTIM] = f"redis://user:word@127.0.0.1:{gate.port}/3"
    cache = ground.cache()
    (key,) = keys_at(cache, 1)
    gate.hold = lambda words: 0.9
    # The node believes whatever it is told.
    gate.refuse = None

    waits = Waits()
    with waits.call():
        assert cache.get(key) is None

    assert waits.lengths[0] < 1.5
