"""The ground of the fault tests. Nodes live as long as the session; caches and their knowledge as long as a test."""

from collections.abc import Iterator

import pytest

from distcache_django.runtime import forget_configuration
from distcache_django.testing.servers import LocalNodes
from tests.faults.ground import Ground
from tests.support import awaited


@pytest.fixture(params=["sync", "async"])
def mode(request: pytest.FixtureRequest) -> Iterator[str]:
    """Whether blocking methods or their awaited twins are called."""
    with awaited.event_loop():
        yield request.param


@pytest.fixture
def ground(distcache_shared_nodes: LocalNodes, mode: str) -> Iterator[Ground]:
    """Four nodes that run and are empty, for both faces."""
    yield from _ground(distcache_shared_nodes, mode)


@pytest.fixture
def sync_ground(distcache_shared_nodes: LocalNodes) -> Iterator[Ground]:
    """Four nodes that run and are empty, for what concerns blocking calls alone."""
    yield from _ground(distcache_shared_nodes, "sync")


def _ground(nodes: LocalNodes, mode: str) -> Iterator[Ground]:
    made = Ground(nodes, mode)
    try:
        yield made
    finally:
        nodes[made.victim.name].resume()
        forget_configuration(setting="CACHES")
        made.close()
