"""Nodes that refuse a write, because they are full or read-only: what was to be replaced is not served any more."""

import contextlib

import pytest

from distcache_django.core import requests
from distcache_django.core.coordinator import Coordinator
from distcache_django.core.effects import Ask, Owe
from distcache_django.core.topology import NodeSpec, Topology
from distcache_django.exceptions import NodeRefused, NodeUnreachable
from distcache_django.testing.memory import MemoryNodes
from distcache_django.transport.health import OutOfTime

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


def test_a_refused_write_drops_the_value_it_would_have_replaced(nodes, coordinator):
    key = key_of("cache-a")
    nodes.run(coordinator.store(key, b"old", None))
    nodes.refuse("cache-a")

    with pytest.raises(NodeRefused) as caught:
        nodes.run(coordinator.store(key, b"new", None))

    assert caught.value.code == "OOM"
    assert nodes.run(coordinator.fetch(key)) is None


def test_a_refused_batch_drops_the_values_it_would_have_replaced(nodes, coordinator):
    store_all(nodes, coordinator)
    nodes.refuse("cache-a")
    refused = {key for key in KEYS if TOPOLOGY.owner(key) == "cache-a"}

    left, failures = nodes.run(coordinator.store_many(KEYS, [b"new"] * len(KEYS), None))

    assert {KEYS[i] for i in left} == refused
    assert [type(failure) for failure in failures] == [NodeRefused]
    assert fetched(nodes, coordinator, KEYS) == (dict.fromkeys(set(KEYS) - refused, b"new"), [])


def test_a_batch_that_is_refused_in_part_drops_the_old_values_of_that_part(coordinator):
    """A server without MSETEX gets a SET for each key, and may run out of memory between two of them."""
    first, second = key_of("cache-a"), key_of("cache-a", 1)
    op = coordinator.store_many([first, second], [b"new", b"new"], None)
    assert isinstance(op.send(None).request, requests.StoreMany)

    effect = op.send([True, False])

    assert isinstance(effect, Ask)
    assert isinstance(effect.request, requests.Remove)
    assert list(effect.request.keys) == [second]
    with pytest.raises(StopIteration) as done:
        op.send(1)
    assert done.value.value[0] == [1]


def test_a_refused_add_leaves_the_value_that_it_could_not_have_replaced(nodes, coordinator):
    """``add`` is used as a lock: deleting the present value would give the lock to a second process."""
    key = key_of("cache-a")
    nodes.run(coordinator.store_if(key, b"holder", None, "NX"))
    nodes.refuse("cache-a")

    with pytest.raises(NodeRefused):
        nodes.run(coordinator.store_if(key, b"rival", None, "NX"))

    assert nodes.run(coordinator.fetch(key)) == b"holder"


def test_a_refused_batch_drops_its_old_values_when_another_node_has_taken_all_the_time(nodes, coordinator):
    store_all(nodes, coordinator)
    nodes.refuse("cache-a")
    nodes.hang("cache-b")

    nodes.run(coordinator.store_many(KEYS, [b"new"] * len(KEYS), None))

    found, _ = fetched(nodes, coordinator, KEYS)
    assert set(found.values()) == {b"new"}


@pytest.mark.parametrize(
    ("op_of", "refuses"),
    [
        (lambda c, key: c.store(key, b"v", None), lambda op: op.throw(NodeRefused("cache-a", "OOM full"))),
        (lambda c, key: c.store_if(key, b"v", None, "XX"), lambda op: op.throw(NodeRefused("cache-a", "OOM full"))),
        (lambda c, key: c.store_many([key], [b"v"], None), lambda op: op.throw(NodeRefused("cache-a", "OOM full"))),
        (lambda c, key: c.store_many([key], [b"v"], None), lambda op: op.send([False])),
    ],
    ids=["store", "store_if", "store_many", "store_many-in-part"],
)
@pytest.mark.parametrize(
    "failure", [OutOfTime("cache-a", "no time left"), NodeRefused("cache-a", "READONLY")], ids=repr
)
def test_what_a_refused_write_could_not_drop_is_owed(coordinator, op_of, refuses, failure):
    """Where nobody else notes it: a request that was refused, or never sent, is no failure of the node."""
    key = key_of("cache-a")
    op = op_of(coordinator, key)
    op.send(None)
    removal = refuses(op)
    assert isinstance(removal.request, requests.Remove)

    owe = op.throw(failure)

    assert isinstance(owe, Owe)
    assert (owe.node, list(owe.keys)) == ("cache-a", [key])
    with pytest.raises((StopIteration, NodeRefused)):
        op.send(None)


@pytest.mark.parametrize(
    "change_of",
    [
        lambda c, keys: c.store(keys[0], b"new", None),
        lambda c, keys: c.store_if(keys[0], b"new", None, "XX"),
        lambda c, keys: c.store_many(keys, [b"new"] * len(keys), None),
        lambda c, keys: c.remove(keys[0]),
        lambda c, keys: c.remove_many(keys),
        lambda c, keys: c.remove_matching("k*"),
        lambda c, keys: c.ask_owner(keys[0], requests.Expire(keys[0], 0)),
    ],
    ids=["store", "set-xx", "store_many", "remove", "remove_many", "clear", "touch-0"],
)
def test_a_node_that_refuses_every_write_serves_nothing_that_was_to_change(nodes, coordinator, change_of):
    keys = [key_of("cache-a", serial) for serial in range(3)]
    nodes.run(coordinator.store_many(keys, [b"old"] * 3, None))
    nodes.demote("cache-a")

    with contextlib.suppress(NodeRefused):
        nodes.run(change_of(coordinator, keys))

    with contextlib.suppress(NodeUnreachable):
        assert nodes.run(coordinator.fetch(keys[0])) is None
    nodes.mend("cache-a")
    assert nodes.run(coordinator.fetch(keys[0])) is None


def test_a_node_that_dies_after_refusing_fails_the_write_with_the_refusal(nodes, coordinator):
    key = key_of("cache-a")
    op = coordinator.store(key, b"v", None)
    op.send(None)
    effect = op.throw(NodeRefused("cache-a", "OOM full"))
    assert isinstance(effect.request, requests.Remove)

    owed = op.throw(NodeUnreachable("cache-a", "gone"))
    assert (owed.node, owed.keys) == ("cache-a", [key])

    with pytest.raises(NodeRefused):
        op.send(None)
