"""A hung node executes late what it had taken in; a cluster must not let that undo what was written since."""

import pytest

from distcache_django.cluster import Cluster
from distcache_django.core import requests as r
from distcache_django.core.coordinator import Coordinator
from distcache_django.core.topology import NodeSpec, Topology
from distcache_django.exceptions import TransportError
from tests.support.waiting import wait_until
from tests.transport.conftest import ask, links_to

TOPOLOGY = Topology.build({"cache-a": NodeSpec()}, virtual_nodes=4)
KEYS = [f"k{number}" for number in range(40)]


@pytest.fixture
def node(distcache_shared_nodes):
    return distcache_shared_nodes["cache-a"]


@pytest.fixture
def cluster(node):
    cluster = Cluster({"cache-a": node.url}, deadline=0.5, connect_timeout=0.5)
    cluster.board.patterns.add("*")
    yield cluster
    node.resume()
    cluster.close()


def is_up(cluster):
    return cluster.members()["cache-a"].is_up


@pytest.mark.parametrize(("count", "size"), [(40, 10), (100, 20_000), (10, 200_000)])
def test_a_batch_that_is_executed_late_does_not_undo_what_came_after(node, cluster, count, size):
    """A server reads a large request piece by piece, and answers PINGs of other links in between."""
    coordinator = Coordinator(TOPOLOGY)
    keys = [f"k{number}" for number in range(count)]
    for round_ in range(6):
        cluster.run(coordinator.fetch("warm"))
        node.pause()
        left, _ = cluster.run(coordinator.store_many(keys, [b"late" * (size // 4)] * count, None))
        assert len(left) == count
        cluster.run(coordinator.remove_many(keys))

        node.resume()
        wait_until(lambda: is_up(cluster), what="node up")
        cluster.run(coordinator.fetch("warm"))
        # Whatever was on its way has been executed, or never will be, once its connection is gone.
        wait_until(lambda: len(links_to(node.url)) <= 1, what="broken links gone")

        ((_, _, found),), _ = cluster.run(coordinator.fetch_many(keys))
        assert found == [None] * count, f"round {round_}"


def test_nothing_that_was_deleted_during_an_outage_comes_back(node, cluster):
    coordinator = Coordinator(TOPOLOGY)
    cluster.run(coordinator.store_many(KEYS, [b"before"] * len(KEYS), None))
    node.pause()
    for key in KEYS[:10]:
        with pytest.raises(TransportError):
            cluster.run(coordinator.remove(key))
    cluster.run(coordinator.remove_many(KEYS[10:20]))
    assert cluster.board.debt_count("cache-a") == 20

    node.resume()
    wait_until(lambda: is_up(cluster), what="node up")

    found = [cluster.run(coordinator.fetch(key)) for key in KEYS]
    assert found == [None] * 20 + [b"before"] * 20
    assert cluster.board.debt_count("cache-a") == 0


def test_a_clear_during_an_outage_is_made_up_for(node, cluster):
    coordinator = Coordinator(TOPOLOGY)
    cluster.run(coordinator.store_many(KEYS, [b"before"] * len(KEYS), None))
    node.pause()
    _, failures = cluster.run(coordinator.remove_matching("k*"))
    assert len(failures) == 1

    node.resume()
    wait_until(lambda: is_up(cluster), what="node up")

    assert [cluster.run(coordinator.fetch(key)) for key in KEYS] == [None] * len(KEYS)


def test_a_lock_outlives_the_attempts_of_others_during_an_outage(node, cluster):
    token = cluster.run(ask("cache-a", r.Acquire("l", b"holder", 60_000)))
    node.pause()
    for _ in range(2):
        with pytest.raises(TransportError):
            cluster.run(ask("cache-a", r.Acquire("l", b"rival", 60_000)))
    node.resume()
    wait_until(lambda: is_up(cluster), what="node up")

    assert cluster.run(ask("cache-a", r.Acquire("l", b"third", 1000))) is None
    assert cluster.run(ask("cache-a", r.Acquire("l", b"holder", 60_000))) == token
