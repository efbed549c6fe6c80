"""One owner for every key, on nodes in memory: reads, writes, batches and outages."""

import pytest

from distcache_django.core import requests
from distcache_django.core.coordinator import Coordinator
from distcache_django.core.effects import Pause
from distcache_django.core.topology import NodeSpec, Topology
from distcache_django.exceptions import NodeTimeout, NodeUnreachable
from distcache_django.testing.memory import MemoryNodes

NAMES = ("cache-a", "cache-b", "cache-c", "cache-d")
TOPOLOGY = Topology.build({name: NodeSpec() for name in NAMES}, virtual_nodes=16)
KEYS = [f"key:{number}" for number in range(40)]


def key_of(node, serial=0):
    """Return the serial-th of the keys that a node owns."""
    return [key for key in (f"k{i}" for i in range(200)) if TOPOLOGY.owner(key) == node][serial]


@pytest.fixture
def nodes():
    return MemoryNodes(NAMES)


@pytest.fixture
def coordinator():
    return Coordinator(TOPOLOGY)


def fetched(nodes, coordinator, keys):
    """Return what a batch found, by key, and the names of the nodes that failed."""
    pieces, failures = nodes.run(coordinator.fetch_many(keys))
    found = {keys[i]: raw for _, part, raws in pieces for i, raw in zip(part, raws, strict=True) if raw is not None}
    return found, sorted(failure.node for failure in failures)


def store_all(nodes, coordinator, value=b"v", ttl_ms=60_000):
    left, failures = nodes.run(coordinator.store_many(KEYS, [value] * len(KEYS), ttl_ms))
    assert (left, failures) == ([], [])


# ---------------------------------------------------------------- one key


@pytest.mark.parametrize("key", KEYS[:8])
def test_a_key_is_read_where_it_was_written(nodes, coordinator, key):
    nodes.run(coordinator.store(key, b"v", None))

    assert nodes.run(coordinator.fetch(key)) == b"v"
    assert [name for name in NAMES if key in nodes.nodes[name]] == [TOPOLOGY.owner(key)]


def test_one_key_costs_one_request(nodes, coordinator):
    for op in (
        coordinator.store("k", b"v", None),
        coordinator.fetch("k"),
        coordinator.exists("k"),
        coordinator.store_if("k", b"w", None, "NX"),
        coordinator.remove("k"),
    ):
        nodes.requests.clear()
        nodes.run(op)
        assert len(nodes.requests) == 1


def test_remove_and_exists_tell_whether_the_key_was_there(nodes, coordinator):
    nodes.run(coordinator.store("k", b"v", None))

    assert nodes.run(coordinator.exists("k")) is True
    assert nodes.run(coordinator.remove("k")) is True
    assert nodes.run(coordinator.remove("k")) is False
    assert nodes.run(coordinator.exists("k")) is False


def test_values_expire(nodes, coordinator):
    nodes.run(coordinator.store("k", b"v", 1000))
    nodes.advance(0.999)
    assert nodes.run(coordinator.fetch("k")) == b"v"

    nodes.advance(0.001)
    assert nodes.run(coordinator.fetch("k")) is None


@pytest.mark.parametrize(
    ("condition", "present", "stored"),
    [("NX", False, True), ("NX", True, False), ("XX", False, False), ("XX", True, True)],
)
def test_conditions_decide_whether_a_value_is_stored(nodes, coordinator, condition, present, stored):
    if present:
        nodes.run(coordinator.store("k", b"old", None))

    assert nodes.run(coordinator.store_if("k", b"new", None, condition)) is stored
    assert nodes.run(coordinator.fetch("k")) == (b"new" if stored else b"old" if present else None)


# ---------------------------------------------------------------- batches


def test_batches_go_to_each_owner_once(nodes, coordinator):
    store_all(nodes, coordinator)
    assert sorted(node for node, _ in nodes.requests) == list(NAMES)

    assert fetched(nodes, coordinator, KEYS) == (dict.fromkeys(KEYS, b"v"), [])
    assert nodes.run(coordinator.remove_many(KEYS)) == ([], [])
    assert fetched(nodes, coordinator, KEYS) == ({}, [])


def test_batches_of_no_keys_ask_nobody(nodes, coordinator):
    assert nodes.run(coordinator.fetch_many([])) == ([], [])
    assert nodes.run(coordinator.store_many([], [], 1000)) == ([], [])
    assert nodes.run(coordinator.remove_many([])) == ([], [])
    assert nodes.requests == []


@pytest.mark.parametrize("fault", ["hang", "kill"])
def test_a_failed_node_costs_a_batch_its_own_keys_only(nodes, coordinator, fault):
    store_all(nodes, coordinator)
    lost = {key for key in KEYS if TOPOLOGY.owner(key) == "cache-b"}
    getattr(nodes, fault)("cache-b")

    found, failed = fetched(nodes, coordinator, KEYS)
    left, failures = nodes.run(coordinator.store_many(KEYS, [b"w"] * len(KEYS), None))

    assert (set(found), failed) == (set(KEYS) - lost, ["cache-b"])
    assert {KEYS[i] for i in left} == lost
    assert [failure.node for failure in failures] == ["cache-b"]
    left, failures = nodes.run(coordinator.remove_many(KEYS))
    assert {KEYS[i] for i in left} == lost
    assert [failure.node for failure in failures] == ["cache-b"]


def test_a_batch_for_one_failed_node_fails_as_a_batch(nodes, coordinator):
    nodes.kill("cache-b")
    key = key_of("cache-b")

    pieces, failures = nodes.run(coordinator.fetch_many([key]))

    assert (pieces, [failure.node for failure in failures]) == ([], ["cache-b"])


def test_a_hung_node_costs_one_deadline_once(nodes, coordinator):
    nodes.hang("cache-b")
    began = nodes.now
    for _ in range(5):
        fetched(nodes, coordinator, KEYS)
        with pytest.raises((NodeTimeout, NodeUnreachable)):
            nodes.run(coordinator.fetch(key_of("cache-b")))

    assert nodes.now - began == pytest.approx(nodes.deadline)
    assert sum(node == "cache-b" for node, _ in nodes.requests) == 1


# ---------------------------------------------------------------- outages


def test_what_was_overwritten_or_deleted_during_an_outage_does_not_come_back(nodes, coordinator):
    written, deleted, untouched = (key_of("cache-b", serial) for serial in range(3))
    for key in (written, deleted, untouched):
        nodes.run(coordinator.store(key, b"old", None))
    nodes.kill("cache-b")
    for op in (coordinator.store(written, b"new", None), coordinator.remove(deleted)):
        with pytest.raises(NodeUnreachable):
            nodes.run(op)

    nodes.mend("cache-b")

    assert nodes.run(coordinator.fetch(written)) is None
    assert nodes.run(coordinator.fetch(deleted)) is None
    assert nodes.run(coordinator.fetch(untouched)) == b"old"


def test_a_write_that_a_hung_node_executes_late_does_not_undo_a_later_one(nodes, coordinator):
    key = key_of("cache-b")
    nodes.hang("cache-b")
    with pytest.raises(NodeTimeout):
        nodes.run(coordinator.store(key, b"first", None))
    with pytest.raises(NodeUnreachable):
        nodes.run(coordinator.remove(key))

    nodes.mend("cache-b")

    assert nodes.run(coordinator.fetch(key)) is None


def test_clear_reaches_every_node_and_is_made_up_for_at_one_that_was_away(nodes, coordinator):
    store_all(nodes, coordinator)
    nodes.kill("cache-c")

    removed, failures = nodes.run(coordinator.remove_matching("key:*"))

    assert [failure.node for failure in failures] == ["cache-c"]
    assert removed == len([key for key in KEYS if TOPOLOGY.owner(key) != "cache-c"])
    nodes.mend("cache-c")
    assert fetched(nodes, coordinator, KEYS) == ({}, [])


def test_a_pattern_selects_what_is_listed_and_removed(nodes, coordinator):
    for key in ("a:1", "a:2", "b:1", "[x]", "x"):
        nodes.run(coordinator.store(key, b"v", None))

    assert sorted(nodes.run(coordinator.scan("a:*"))[0]) == ["a:1", "a:2"]
    assert nodes.run(coordinator.scan("\\[x\\]"))[0] == ["[x]"]
    assert sorted(nodes.run(coordinator.scan("[ab]:?"))[0]) == ["a:1", "a:2", "b:1"]
    assert nodes.run(coordinator.remove_matching("[^b]:*"))[0] == 2
    assert sorted(nodes.run(coordinator.scan("*"))[0]) == ["[x]", "b:1", "x"]


def test_scans_of_many_pages_find_every_key(nodes, coordinator):
    keys = [f"page:{number}" for number in range(4500)]
    nodes.run(coordinator.store_many(keys, [b"v"] * len(keys), None))

    assert sorted(nodes.run(coordinator.scan("page:*"))[0]) == sorted(keys)
    assert nodes.run(coordinator.remove_matching("page:*")) == (len(keys), [])


def test_a_node_that_fails_between_scan_and_removal_is_reported(nodes, coordinator):
    store_all(nodes, coordinator)
    op = coordinator.remove_matching("key:*")
    effect = op.send(None)
    while isinstance(effect, Pause) or isinstance(effect.asks[0].request, requests.Scan):
        outcome = None if isinstance(effect, Pause) else [nodes.run(ask_one(ask)) for ask in effect.asks]
        effect = op.send(outcome)

    owed = [op.send([NodeTimeout(ask.node, "late") for ask in effect.asks])]
    owed += [op.send(None) for _ in NAMES[1:]]
    with pytest.raises(StopIteration) as done:
        op.send(None)

    removed, failures = done.value.value
    assert (removed, sorted(failure.node for failure in failures)) == (0, list(NAMES))
    assert sorted((owe.node, owe.keys, owe.patterns) for owe in owed) == [(name, (), ("key:*",)) for name in NAMES]


def ask_one(ask):
    return (yield ask)


# ---------------------------------------------------------------- exclusive operations during outages


@pytest.mark.parametrize("fault", ["hang", "kill"])
@pytest.mark.parametrize(
    "request_of",
    [
        lambda key: requests.Acquire(key, b"rival", 1000),
        lambda key: requests.Prolong(key, b"rival", 1000, add=False),
        lambda key: requests.Release(key, b"rival"),
    ],
    ids=["acquire", "prolong", "release"],
)
def test_a_try_for_a_lock_during_an_outage_does_not_free_it(nodes, coordinator, fault, request_of):
    key = key_of("cache-b")
    token = nodes.run(coordinator.ask_owner(key, requests.Acquire(key, b"holder", 60_000)))
    getattr(nodes, fault)("cache-b")
    for _ in range(2):  # the first finds out, the second knows
        with pytest.raises((NodeTimeout, NodeUnreachable)):
            nodes.run(coordinator.ask_owner(key, request_of(key)))

    nodes.mend("cache-b")

    assert nodes.run(coordinator.ask_owner(key, requests.Acquire(key, b"third", 1000))) is None
    assert nodes.run(coordinator.ask_owner(key, requests.Acquire(key, b"holder", 60_000))) == token


@pytest.mark.parametrize("fault", ["hang", "kill"])
def test_an_add_during_an_outage_does_not_delete_what_was_there(nodes, coordinator, fault):
    key = key_of("cache-b")
    nodes.run(coordinator.store_if(key, b"holder", 60_000, "NX"))
    getattr(nodes, fault)("cache-b")
    for _ in range(2):
        with pytest.raises((NodeTimeout, NodeUnreachable)):
            nodes.run(coordinator.store_if(key, b"rival", 60_000, "NX"))

    nodes.mend("cache-b")

    assert nodes.run(coordinator.store_if(key, b"third", 60_000, "NX")) is False
