"""``manage.py distcache agent`` on real nodes: one that comes back empty gets everything, and votes again."""

from collections.abc import Iterator

import pytest
from django.core.cache import cache

from distcache_django.testing.plugin import NodesFactory
from distcache_django.testing.servers import LocalNodes
from tests.support.console import call, call_json, site
from tests.support.waiting import wait_until

pytestmark = pytest.mark.servers
KEYS = {f"k{number}": number for number in range(300)}


@pytest.fixture
def nodes(distcache_nodes: NodesFactory) -> Iterator[LocalNodes]:
    """Three nodes of the test's own, each with a copy of every key."""
    nodes = distcache_nodes(3)
    with site(nodes.urls, OPTIONS={"REPLICATION_FACTOR": 3}):
        assert cache.set_many(KEYS) == []
        yield nodes


def states() -> dict[str, str]:
    _, found = call_json("agent", "--once")
    return dict(found["nodes"])


def test_nodes_that_are_well_are_up(nodes: LocalNodes) -> None:
    assert call_json("agent", "--once") == (
        0, {"schema": "distcache-agent/1", "alias": "default", "nodes": dict.fromkeys(nodes, "up")},
    )  # fmt: skip


def test_an_empty_node_is_made_whole(nodes: LocalNodes) -> None:
    first, second, _ = nodes
    nodes[first].kill()
    assert cache.set_many({"k0": "new"}) == []
    code, found = call_json("agent", "--once")
    assert (code, found["nodes"][first]) == (1, "away")

    nodes[first].start()
    wait_until(lambda: set(states().values()) == {"up"}, what="all nodes vote")

    nodes[second].kill()  # now the first has to vouch for all of it
    wait_until(lambda: cache.get_many(KEYS) == {**KEYS, "k0": "new"}, what="all keys are read without the second")


def test_without_copies_there_is_nothing_to_do(distcache_shared_nodes: LocalNodes) -> None:
    with site(distcache_shared_nodes.urls):
        assert call("agent", "--once") == (64, "")
