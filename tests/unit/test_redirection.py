"""``ON_NODE_DOWN="redirect"``, on nodes in memory: who serves a down node's keys, how long, and what never moves."""

import contextlib

import pytest

from distcache_django.core import requests
from distcache_django.core.coordinator import REDIRECTED_TTL_MS, Coordinator
from distcache_django.core.topology import NodeSpec, Topology
from distcache_django.exceptions import NodeRefused, NodeTimeout, NodeUnreachable, TransportError
from distcache_django.testing.memory import MemoryNodes

NAMES = ("cache-a", "cache-b", "cache-c", "cache-d")
TOPOLOGY = Topology.build({name: NodeSpec() for name in NAMES}, virtual_nodes=16)
ALONE = Topology.build({"cache-a": NodeSpec()}, virtual_nodes=16)
KEYS = [f"key:{number}" for number in range(40)]


def key_of(node, serial=0):
    """Return the serial-th of the keys that a node owns."""
    return [key for key in (f"k{i}" for i in range(200)) if TOPOLOGY.owner(key) == node][serial]


@pytest.fixture
def nodes():
    return MemoryNodes(NAMES)


@pytest.fixture
def redirecting(nodes):
    return Coordinator(TOPOLOGY, nodes.may_redirect)


def fetched(nodes, coordinator, keys):
    """Return what a batch found, by key, and the names of the nodes that failed."""
    pieces, failures = nodes.run(coordinator.fetch_many(keys))
    found = {keys[i]: raw for _, part, raws in pieces for i, raw in zip(part, raws, strict=True) if raw is not None}
    return found, sorted(failure.node for failure in failures)


@pytest.mark.parametrize("fault", ["hang", "kill"])
def test_redirected_values_are_read_where_they_were_written(nodes, redirecting, fault):
    key = key_of("cache-b")
    getattr(nodes, fault)("cache-b")
    with contextlib.suppress(NodeTimeout):  # a node that hangs leaves its finder no time to ask another
        nodes.run(redirecting.fetch(key))

    nodes.run(redirecting.store(key, b"v", None))

    assert nodes.run(redirecting.fetch(key)) == b"v"
    assert nodes.run(redirecting.exists(key)) is True
    assert key in nodes.nodes[TOPOLOGY.preference_list(key)[1]]


@pytest.mark.parametrize(("ttl_ms", "kept_ms"), [(None, REDIRECTED_TTL_MS), (60_000, REDIRECTED_TTL_MS), (500, 500)])
def test_redirected_values_live_ten_seconds_at_most(nodes, redirecting, ttl_ms, kept_ms):
    keys = [key for key in KEYS if TOPOLOGY.owner(key) == "cache-b"]
    nodes.kill("cache-b")

    nodes.run(redirecting.store(keys[0], b"v", ttl_ms))
    nodes.run(redirecting.store_many(keys[1:], [b"v"] * len(keys[1:]), ttl_ms))

    for key in keys:
        home = nodes.nodes[TOPOLOGY.preference_list(key)[1]]
        assert home.execute(requests.TimeToLive(key)) == kept_ms


def test_redirection_goes_to_the_next_node_and_no_further(nodes, redirecting):
    """A node further on would keep what the next one, back again, knows nothing of."""
    key = key_of("cache-b")
    nodes.kill("cache-b")
    nodes.kill(TOPOLOGY.preference_list(key)[1])

    for op in (redirecting.store(key, b"v", None), redirecting.fetch(key), redirecting.exists(key)):
        with pytest.raises(NodeUnreachable) as caught:
            nodes.run(op)
        assert caught.value.node == "cache-b"
    left, failures = nodes.run(redirecting.store_many([key], [b"v"], None))

    assert (left, len(failures)) == ([0], 1)
    assert {node for node, _ in nodes.requests} == set(TOPOLOGY.preference_list(key)[:2])
    assert not any(key in node for node in nodes.nodes.values())


def test_redirected_batches_reach_the_next_nodes(nodes, redirecting):
    nodes.kill("cache-b")

    left, failures = nodes.run(redirecting.store_many(KEYS, [b"v"] * len(KEYS), None))

    assert (left, failures) == ([], [])
    assert fetched(nodes, redirecting, KEYS) == (dict.fromkeys(KEYS, b"v"), [])


def test_a_redirected_delete_removes_the_copy_and_is_not_acknowledged(nodes, redirecting):
    key = key_of("cache-b")
    nodes.kill("cache-b")
    nodes.run(redirecting.store(key, b"v", None))

    with pytest.raises(NodeUnreachable):
        nodes.run(redirecting.remove(key))

    assert nodes.run(redirecting.fetch(key)) is None


def test_a_redirected_batch_of_deletes_is_not_acknowledged_either(nodes, redirecting):
    key, other = key_of("cache-b"), key_of("cache-a")
    nodes.kill("cache-b")

    left, failures = nodes.run(redirecting.remove_many([key, other]))

    assert left == [0]
    assert [failure.node for failure in failures] == ["cache-b"]


def test_a_batch_fails_when_nobody_can_take_over(nodes, redirecting):
    for name in NAMES:
        nodes.kill(name)

    _, failures = nodes.run(redirecting.fetch_many(KEYS))
    left, store_failures = nodes.run(redirecting.store_many(KEYS, [b"v"] * len(KEYS), None))

    assert {failure.node for failure in failures} == set(NAMES)
    assert left == list(range(len(KEYS)))
    assert {failure.node for failure in store_failures} == set(NAMES)


def test_a_batch_fails_when_the_next_nodes_turn_out_to_be_down_too(nodes, redirecting):
    keys = [key for key in KEYS if TOPOLOGY.owner(key) == "cache-b"]
    for name in NAMES:
        nodes.kill(name)

    _, failures = nodes.run(redirecting.fetch_many(keys))

    assert failures


def test_a_cluster_of_one_has_nowhere_to_redirect_to():
    nodes = MemoryNodes(["cache-a"])
    coordinator = Coordinator(ALONE, nodes.may_redirect)
    nodes.kill("cache-a")

    with pytest.raises(NodeUnreachable):
        nodes.run(coordinator.fetch("k"))
    assert [failure.node for failure in nodes.run(coordinator.fetch_many(["k"]))[1]] == ["cache-a"]


@pytest.mark.parametrize(
    "op_of",
    [
        lambda c, key: c.store_if(key, b"v", None, "NX"),
        lambda c, key: c.store_if(key, b"v", None, "XX"),
        lambda c, key: c.ask_owner(key, requests.Increase(key, 1)),
        lambda c, key: c.ask_owner(key, requests.Acquire(key, b"n", 1000)),
        lambda c, key: c.ask_owner(key, requests.Release(key, b"n")),
    ],
    ids=["add", "set-xx", "incr", "acquire", "release"],
)
def test_exclusive_operations_are_never_redirected(nodes, redirecting, op_of):
    key = key_of("cache-b")
    nodes.kill("cache-b")

    with pytest.raises(NodeUnreachable):
        nodes.run(op_of(redirecting, key))

    assert {node for node, _ in nodes.requests} == {"cache-b"}


def test_refusals_are_not_redirected(nodes, redirecting):
    key = key_of("cache-a")
    nodes.refuse("cache-a")

    with pytest.raises(NodeRefused):
        nodes.run(redirecting.store(key, b"v", None))
    left, failures = nodes.run(redirecting.store_many([key, key_of("cache-b")], [b"v", b"v"], None))

    assert (left, [type(failure) for failure in failures]) == ([0], [NodeRefused])
    assert not any(key in nodes.nodes[name] for name in NAMES)


def test_a_node_that_has_just_returned_is_not_redirected_from(nodes, redirecting):
    """What the last outage left at the next node may be older than what its owner acknowledged since."""
    key = key_of("cache-b")
    nodes.kill("cache-b")
    nodes.run(redirecting.store(key, b"during", None))
    nodes.mend("cache-b")
    nodes.run(redirecting.store(key, b"after", None))
    nodes.kill("cache-b")

    with pytest.raises(NodeUnreachable):
        nodes.run(redirecting.fetch(key))
    assert [failure.node for failure in nodes.run(redirecting.fetch_many([key]))[1]] == ["cache-b"]

    nodes.advance(REDIRECTED_TTL_MS / 1000 + 0.001)
    assert nodes.run(redirecting.fetch(key)) is None


@pytest.mark.parametrize(
    "change_of",
    [
        lambda c, key: c.store(key, b"new", None),
        lambda c, key: c.store_many([key], [b"new"], None),
        lambda c, key: c.remove(key),
        lambda c, key: c.remove_many([key]),
        lambda c, key: c.remove_matching("k*"),
    ],
    ids=["store", "store_many", "remove", "remove_many", "remove_matching"],
)
@pytest.mark.parametrize("fault", ["hang", "kill", "refuse", "demote"])
def test_a_copy_that_the_next_node_did_not_change_does_not_come_back(nodes, redirecting, change_of, fault):
    """It was redirected there; the change that was redirected too failed there, or was refused."""
    key = key_of("cache-b")
    first = TOPOLOGY.preference_list(key)[1]
    nodes.kill("cache-b")
    nodes.run(redirecting.store(key, b"old", None))
    getattr(nodes, fault)(first)
    with contextlib.suppress(TransportError):
        nodes.run(change_of(redirecting, key))

    for _ in range(2):
        with contextlib.suppress(TransportError):
            assert nodes.run(redirecting.fetch(key)) is None
        with contextlib.suppress(TransportError):
            assert nodes.run(redirecting.exists(key)) is False
        assert fetched(nodes, redirecting, [key])[0] == {}
        nodes.mend(first)
