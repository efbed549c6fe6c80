"""One copy hangs: the first call that needs it gets its answer from the others, within the deadline, and no error."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from django.core.cache import cache

from distcache_django.testing.plugin import NodesFactory
from distcache_django.testing.servers import LocalNodes
from tests.support.console import site

pytestmark = pytest.mark.servers
DEADLINE = 1.0


@pytest.fixture
def nodes(distcache_nodes: NodesFactory) -> Iterator[LocalNodes]:
    """Four nodes, three copies of each key; the first owner of ``k`` hangs, which nobody knows yet."""
    nodes = distcache_nodes(4)
    with site(nodes.urls, OPTIONS={"REPLICATION_FACTOR": 3, "DEADLINE": DEADLINE, "ON_UNAVAILABLE": "raise"}):
        cache.set("k", 1)
        asyncio.run(cache.aset("k", 1))
        hanging = nodes[cache.locate("k").owners[0]]  # type: ignore[attr-defined]
        hanging.pause()
        try:
            yield nodes
        finally:
            hanging.resume()


CALLS: dict[str, tuple[Callable[[], Any], Callable[[], Awaitable[Any]], Any]] = {
    "get": (lambda: cache.get("k"), lambda: cache.aget("k"), 1),
    "set": (lambda: cache.set("k", 2), lambda: cache.aset("k", 2), True),
    "get_many": (lambda: cache.get_many(["k", "l"]), lambda: cache.aget_many(["k", "l"]), {"k": 1}),
    "incr": (lambda: cache.incr("k"), lambda: cache.aincr("k"), 2),
    "add": (lambda: cache.add("k", 3), lambda: cache.aadd("k", 3), False),
    "touch": (lambda: cache.touch("k", 60), lambda: cache.atouch("k", 60), True),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_does_without_the_node_that_hangs(nodes: LocalNodes, name: str) -> None:
    call, _, answer = CALLS[name]
    began = time.monotonic()
    assert call() == answer
    assert time.monotonic() - began < 2 * DEADLINE


@pytest.mark.parametrize("name", CALLS)
def test_a_coroutine_does_without_the_node_that_hangs(nodes: LocalNodes, name: str) -> None:
    _, acall, answer = CALLS[name]

    async def run() -> Any:
        return await acall()

    began = time.monotonic()
    assert asyncio.run(run()) == answer
    assert time.monotonic() - began < 2 * DEADLINE
