"""The nodes and caches of the conformance suites. Nodes live as long as the session, their data as long as a test."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from distcache_django.testing.processes import MissingServer
from distcache_django.testing.servers import LocalNodes
from tests.support import awaited, subjects
from tests.support.nodes import Nodes

LARGEST = 5


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


@pytest.fixture(params=["1-sync", "1-async", "4-sync", "4-async"])
def layout(request: pytest.FixtureRequest) -> Iterator[tuple[int, str]]:
    """How many nodes the cache has, and whether its blocking methods or their awaited twins are called."""
    count, mode = request.param.split("-")
    if int(count) > 1 and not subjects.SUBJECTS[subjects.chosen()].is_sharded:
        pytest.skip(f"{subjects.chosen()} does not shard")
    with awaited.event_loop():
        yield int(count), mode


@pytest.fixture
def make_cache(nodes: Nodes, layout: tuple[int, str]) -> Callable[..., Any]:
    """Build caches of the chosen subject on the same nodes; parameters are those of a CACHES entry."""
    count, mode = layout

    def make(**params: object) -> Any:
        setting = subjects.alias(subjects.chosen(), nodes.at(count), mode=mode, **params)
        return subjects.build(setting)

    return make


@pytest.fixture
def cache(make_cache: Callable[..., Any]) -> Any:
    """A cache of the chosen subject, empty."""
    return make_cache()
