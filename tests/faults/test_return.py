"""What a node that was away may serve when it is back: nothing that was to be replaced or deleted meanwhile."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distcache_django.cluster import debts
from distcache_django.core.effects import Gather, Op
from distcache_django.core.requests import Remove
from distcache_django.exceptions import DistcacheError, Unavailable
from tests.faults.ground import (
    HOUR,
    PROMPT,
    SILENT,
    VICTIM,
    Ground,
    cluster_of,
    is_up,
    keys_at,
    note_failure,
    runtime_of,
    wait_until_up,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.servers

#: Every way to end the value of a key.
ENDINGS: dict[str, Callable[[Any, str], Any]] = {
    "set": lambda cache, key: cache.set(key, "new"),
    "set-xx": lambda cache, key: cache.set(key, "new", xx=True),
    "set-timeout-0": lambda cache, key: cache.set(key, "new", timeout=0),
    "set_many": lambda cache, key: cache.set_many({key: "new"}),
    "set_many-timeout-0": lambda cache, key: cache.set_many({key: "new"}, timeout=0),
    "delete": lambda cache, key: cache.delete(key),
    "delete_many": lambda cache, key: cache.delete_many([key]),
    "put": lambda cache, key: cache.put(key, "new"),
}
#: Ways to end it by letting it expire.
EXPIRIES: dict[str, Callable[[Any, str], Any]] = {
    "touch-0": lambda cache, key: cache.touch(key, 0),
    "touch-negative": lambda cache, key: cache.touch(key, -1),
    "expire-0": lambda cache, key: cache.expire(key, 0),
    "pexpire-0": lambda cache, key: cache.pexpire(key, 0),
}
#: Faults after which the victim still has what it had.
KEEPING = [fault for fault in SILENT + PROMPT if fault != "kill"]


@pytest.mark.parametrize("fault", KEEPING)
def test_nothing_ended_during_an_outage_is_served_after_it(ground: Ground, fault: str) -> None:
    ground.prepare(fault)
    cache = ground.cache()
    ended = dict(zip(ENDINGS, keys_at(cache, len(ENDINGS)), strict=True))
    (in_flight,) = keys_at(cache, 1, stem="flight")
    untouched = keys_at(cache, 20, stem="untouched")
    cache.set_many(dict.fromkeys([*ended.values(), in_flight, *untouched], "old"))

    ground.begin(fault)
    assert cache.set(in_flight, "new") is False  # the one that finds out
    for way, key in ended.items():
        ENDINGS[way](cache, key)
    ground.end(fault)

    wait_until_up(cache)
    served = {way: cache.get(key) for way, key in ended.items() if cache.get(key) is not None}
    assert served == {}
    assert cache.get(in_flight) is None
    assert cache.get_many(untouched) == dict.fromkeys(untouched, "old")


def test_value_that_was_let_expire_during_an_outage_is_not_served(ground: Ground) -> None:
    ground.prepare("blackhole")
    cache = ground.cache()
    ended = dict(zip(EXPIRIES, keys_at(cache, len(EXPIRIES)), strict=True))
    cache.set_many(dict.fromkeys(ended.values(), "old"))
    ground.begin("blackhole")
    note_failure(cache, keys_at(cache, 1)[0])

    for way, key in ended.items():
        assert EXPIRIES[way](cache, key) is False
    ground.end("blackhole")

    wait_until_up(cache)
    assert {way: cache.get(key) for way, key in ended.items()} == dict.fromkeys(ended)


@pytest.mark.parametrize("way", ENDINGS)
def test_ending_that_finds_out_about_the_fault_counts_too(ground: Ground, way: str) -> None:
    proxy = ground.behind_proxy()
    cache = ground.cache({"DEADLINE": 0.3})
    (key,) = keys_at(cache, 1)
    cache.set(key, "old")

    proxy.blackhole()
    ENDINGS[way](cache, key)
    proxy.heal()

    wait_until_up(cache)
    assert cache.get(key) is None


@pytest.mark.parametrize("fault", ["stop", "blackhole"])
def test_move_between_versions_leaves_no_old_value(ground: Ground, fault: str) -> None:
    ground.prepare(fault)
    cache = ground.cache({"DEADLINE": 0.5})
    target = next(
        k
        for k in map(str, range(1000))
        if cache.locate(k, version=2).owners[0] == VICTIM and cache.locate(k).owners[0] != VICTIM
    )
    cache.set(target, "older", version=2)
    cache.set(target, "value")
    ground.begin(fault)

    with pytest.raises(Unavailable):
        cache.incr_version(target)
    ground.end(fault)

    wait_until_up(cache)
    assert cache.get(target, version=2) in (None, "value")
    assert cache.get(target) == "value"


def test_restarted_node_serves_the_values_of_its_file_that_nobody_ended(distcache_nodes: Any, ground: Ground) -> None:
    kept = distcache_nodes([VICTIM], config={"appendonly": "yes", "appendfsync": "always"})
    ground.urls[VICTIM] = kept[VICTIM].url
    cache = ground.cache()
    ended, untouched, removed = keys_at(cache, 3)
    cache.set_many(dict.fromkeys([ended, untouched, removed], "old"))
    kept[VICTIM].kill()

    assert cache.set(ended, "new") is False
    assert cache.delete(removed) is False
    kept[VICTIM].restart(empty=False)

    wait_until_up(cache)
    assert cache.get_many([ended, untouched, removed]) == {untouched: "old"}


@pytest.mark.parametrize("fault", ["stop", "kill"])
def test_node_comes_back_after_few_probes(ground: Ground, fault: str) -> None:
    gate = ground.behind_gate()
    cache = ground.cache()
    (key,) = keys_at(cache, 1)
    gate.refuse = lambda words: b"LOADING not yet"
    note_failure(cache, key)
    gate.seen.clear()
    gate.refuse = None

    wait_until_up(cache)

    # One may have been on its way when the fault ended.
    assert 2 <= gate.seen.count(b"PING") <= 3
    assert cache.set(key, 1) is True
    assert cache.get(key) == 1


def test_what_others_hold_exclusively_is_not_taken_from_them(ground: Ground) -> None:
    cache = ground.cache()
    lock_key, added, number, other = keys_at(cache, 4)
    holder = cache.lock(lock_key, timeout=HOUR)
    assert holder.acquire()
    assert cache.add(added, "first", HOUR)
    cache.set(number, 41)
    cache.set(other, "old")
    ground.begin("stop")

    assert cache.set(other, "new") is False
    for call in (lambda: cache.lock(lock_key).acquire(blocking=False), lambda: cache.incr(number)):
        with pytest.raises(Unavailable):
            call()
    assert cache.add(added, "second") is False
    assert cache.set(added, "third", nx=True) is False
    ground.end("stop")

    wait_until_up(cache)
    assert cache.get(other) is None
    assert cache.get(added) == "first"
    assert cache.get(number) == 41
    assert cache.lock(lock_key, timeout=HOUR).acquire(blocking=False) is False
    holder.release()


@pytest.fixture
def small_bound(monkeypatch: pytest.MonkeyPatch) -> int:
    """Let a process remember few keys."""
    monkeypatch.setattr(debts, "BOUND", 50)
    return 50


def test_more_ended_keys_than_can_be_remembered(ground: Ground, small_bound: int) -> None:
    cache = ground.cache(KEY_PREFIX="mine")
    other = ground.cache(KEY_PREFIX="other")
    ended = keys_at(cache, small_bound + 1)
    others = keys_at(other, 10, stem="others")
    cache.set_many(dict.fromkeys(ended, "old"))
    cache.set_many(dict.fromkeys(ended, "old"), version=2)
    other.set_many(dict.fromkeys(others, "theirs"))
    lock = other.lock(keys_at(other, 1, stem="lock")[0], timeout=HOUR)
    assert lock.acquire()
    broker = other.client.get_client(key=others[0])
    broker.lpush("celery", "task")
    ground.begin("stop")
    note_failure(cache, ended[0])

    assert cache.set_many(dict.fromkeys(ended, "new")) == ended
    ground.end("stop")

    wait_until_up(cache)
    assert cache.get_many(ended) == {}
    assert broker.llen("celery") == 1
    broker.close()
    assert other.get_many(others) == dict.fromkeys(others, "theirs")
    lock.release()


def test_more_ended_keys_than_can_be_remembered_under_hidden_names(ground: Ground, small_bound: int) -> None:
    cache = ground.cache(KEY_FUNCTION="tests.faults.ground.hidden")
    ended = keys_at(cache, small_bound + 1)
    cache.set_many(dict.fromkeys(ended, "old"))
    ground.begin("stop")
    note_failure(cache, ended[0])

    assert cache.set_many(dict.fromkeys(ended, "new")) == ended
    ground.end("stop")

    wait_until_up(cache)
    assert cache.get_many(ended) == {}


@pytest.mark.parametrize("way", ["clear", "delete_pattern"])
def test_ending_by_pattern_is_made_up_for(ground: Ground, way: str) -> None:
    cache, other = ground.cache(KEY_PREFIX="mine"), ground.cache(KEY_PREFIX="other")
    mine, others = keys_at(cache, 5, stem="gone"), keys_at(other, 5)
    cache.set_many(dict.fromkeys(mine, "old"))
    cache.set_many(dict.fromkeys(mine, "old"), version=2)
    other.set_many(dict.fromkeys(others, "theirs"))
    ground.begin("stop")

    if way == "clear":
        assert cache.clear() is False
    else:
        cache.delete_pattern("gone*")
    ground.end("stop")

    wait_until_up(cache)
    assert cache.get_many(mine) == {}
    if way == "clear":
        assert cache.get_many(mine, version=2) == {}
    assert other.get_many(others) == dict.fromkeys(others, "theirs")


def test_pattern_spares_what_it_does_not_match(ground: Ground) -> None:
    cache = ground.cache()
    gone, kept = keys_at(cache, 5, stem="gone"), keys_at(cache, 5, stem="kept")
    cache.set_many(dict.fromkeys([*gone, *kept], "old"))
    ground.begin("stop")

    cache.delete_pattern("gone*")
    ground.end("stop")

    wait_until_up(cache)
    assert cache.get_many(gone) == {}
    assert cache.get_many(kept) == dict.fromkeys(kept, "old")


def test_pattern_over_more_keys_than_a_deadline_allows_takes_no_other_key(sync_ground: Ground) -> None:
    cache = sync_ground.cache({"DEADLINE": 0.02})
    roomy = sync_ground.cache()
    kept = [f"kept{number}" for number in range(40_000)]
    assert roomy.set_many(dict.fromkeys(kept, 1)) == []
    roomy.set("gone", 1)

    cache.delete_pattern("gone*")

    for node in cluster_of(cache).endpoints:
        wait_until_up(cache, node)
    assert len(roomy.get_many(kept)) == len(kept)


def test_clear_that_is_cut_short_while_it_deletes_is_made_up_for(ground: Ground) -> None:
    cache = ground.cache({"DEADLINE": 0.5})
    keys = keys_at(cache, 1500)
    cache.set_many(dict.fromkeys(keys, "old"))

    def freezing(op: Op[Any]) -> Op[Any]:
        """Pass effects on, and freeze the node when it has listed its keys and is to delete them."""
        effect = op.send(None)
        while True:
            if isinstance(effect, Gather) and isinstance(effect.asks[0].request, Remove) and ground.victim.is_running():
                ground.begin("stop")
            try:
                outcome = yield effect
            except DistcacheError as error:
                effect = op.throw(error)
            else:
                try:
                    effect = op.send(outcome)
                except StopIteration as done:
                    return done.value

    coordinator = runtime_of(cache).coordinator
    _, failures = cluster_of(cache).run(freezing(coordinator.remove_matching(":*")))
    assert [failure.node for failure in failures] == [VICTIM]
    ground.end("stop")

    wait_until_up(cache)
    assert cache.get_many(keys) == {}


def test_debts_grow_while_they_are_paid_and_yet_end(sync_ground: Ground) -> None:
    """A busy site goes on writing while its node returns."""
    cache = sync_ground.cache()
    keys = keys_at(cache, 50)
    cache.set_many(dict.fromkeys(keys, "old"))
    sync_ground.begin("stop")
    note_failure(cache, keys[0])
    done = threading.Event()

    def write() -> None:
        mine = sync_ground.cache()
        while not done.is_set():
            for key in keys:
                mine.set(key, "new")

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        sync_ground.end("stop")
        wait_until(lambda: is_up(cache), seconds=10, what="in use again although writes go on")
    finally:
        done.set()
        for writer in writers:
            writer.join()
    assert set(cache.get_many(keys).values()) <= {"new"}


def test_large_write_that_a_frozen_node_reads_late_replaces_nothing_newer(sync_ground: Ground) -> None:
    """What a closed link still carries reaches a node after it is in use again, unless the link was reset."""
    cache = sync_ground.cache({"DEADLINE": 0.5})
    (key,) = keys_at(cache, 1)
    for size in (200_000, 1_000_000, 2_000_000, 3_000_000):
        cache.set(key, "old")
        sync_ground.begin("stop")
        assert cache.set(key, b"x" * size) is False
        left = bytes_that_closed_links_still_carry(sync_ground.victim.port)
        sync_ground.end("stop")
        wait_until_up(cache)
        assert left == 0, f"{left} bytes of a {size} byte value are still on their way"
        assert cache.get(key) is None


def bytes_that_closed_links_still_carry(port: int) -> int:
    """Return how much the kernel goes on sending to a port on behalf of sockets that are closed."""
    waiting = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, _, remote, state, queues, *_ = line.split()
        if int(remote.split(":")[1], 16) == port and state in ("04", "0B"):  # FIN_WAIT1, CLOSING
            waiting += int(queues.split(":")[0], 16)
    return waiting
