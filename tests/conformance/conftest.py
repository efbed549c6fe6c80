"""The nodes and caches of the conformance suites. Nodes live as long as the session, their data as long as a test."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from distcache_django.testing.processes import MissingServer
from distcache_django.testing.servers import LocalNodes
from tests.support import awaited, subjects
from tests.support.nodes import Nodes
from tests.support.subjects import Layout

LARGEST = 5

LAYOUTS = [Layout(count, replicas, mode) for count, replicas in ((1, 1), (4, 1), (4, 3)) for mode in ("sync", "async")]
LAYOUTS.append(Layout(2, 2, "sync"))


@pytest.fixture(scope="session")
def all_nodes() -> Iterator[Nodes]:
    """Run the largest set of nodes a test asks for, once per test process."""
    try:
        running = LocalNodes(LARGEST)
        running.start()
    except MissingServer as missing:
        if os.environ.get("DISTCACHE_REQUIRE_SERVERS") == "1":
            raise
        pytest.skip(str(missing))
    with running:
        nodes = Nodes([url.removesuffix("/0") for url in running.urls.values()])
        yield nodes
        nodes.close()


@pytest.fixture
def nodes(all_nodes: Nodes) -> Nodes:
    """The nodes, empty."""
    all_nodes.flush()
    return all_nodes


@pytest.fixture(params=LAYOUTS, ids=str)
def layout(request: pytest.FixtureRequest) -> Iterator[Layout]:
    """Where the cache is, and how it is called; `one_owner` tells which tests are not for replicated ones."""
    layout: Layout = request.param
    subject = subjects.SUBJECTS[subjects.chosen()]
    if layout.nodes > 1 and not subject.is_sharded:
        pytest.skip(f"{subjects.chosen()} does not shard")
    if layout.replicas > 1 and not subject.is_replicated:
        pytest.skip(f"{subjects.chosen()} does not replicate")
    if layout.replicas > 1 and (differs := request.node.get_closest_marker("one_owner")):
        pytest.skip(f"REPLICATION_FACTOR {layout.replicas}: {differs.args[0]}")
    with awaited.event_loop():
        yield layout


@pytest.fixture
def make_cache(nodes: Nodes, layout: Layout) -> Callable[..., Any]:
    """Build caches of the chosen subject on the same nodes; parameters are those of a CACHES entry."""

    def make(**params: object) -> Any:
        urls = nodes.at(layout.nodes)
        return subjects.build(
            subjects.alias(subjects.chosen(), urls, mode=layout.mode, replicas=layout.replicas, **params)
        )

    return make


@pytest.fixture
def cache(make_cache: Callable[..., Any]) -> Any:
    """A cache of the chosen subject, empty."""
    return make_cache()
