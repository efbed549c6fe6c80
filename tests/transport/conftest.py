"""Transports by name: what each test of the contract runs its Ops on, and what it may do behind their backs."""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import pytest
import redis

from distcache_django.core.effects import Ask, Gather
from distcache_django.testing import LocalNodes
from distcache_django.testing.memory import MemoryNodes
from distcache_django.transport.asynchronous import AsyncDriver
from distcache_django.transport.blocking import BlockingDriver
from distcache_django.transport.endpoint import Endpoint

NAMES = ("cache-a", "cache-b", "cache-c", "cache-d")
#: Longer than the default: a machine that is busy with other tests must not look like a hung node.
DEADLINE = 0.4
OBSERVER = "observer"

#: A node, the keys and the patterns of keys that missed a write there.
Owed = tuple[str, tuple[Any, ...], tuple[str, ...]]


def ask(node, request):
    """Be the Op of one request."""
    return (yield Ask(node, request))


def gather(*asks):
    """Be the Op of several requests at once, given as (node, request)."""
    return (yield Gather([Ask(node, request) for node, request in asks]))


class Told:
    """Be the health of nodes as drivers see it, and write down what they say."""

    def __init__(self) -> None:
        self.down: frozenset[str] = frozenset()
        self.failures: list[tuple[str, str]] = []
        self.owed: list[Owed] = []
        self.owed_bumps: list[tuple[str, tuple[str, ...]]] = []

    def failed(self, node: str, reason: str, owed: Sequence[str] = ()) -> None:
        self.failures.append((node, reason))
        if owed:
            self.owe(node, owed)

    def owe(self, node: str, keys: Sequence[str], patterns: Sequence[str] = ()) -> None:
        self.owed.append((node, tuple(keys), tuple(patterns)))

    def owe_bumps(self, node: str, keys: Sequence[str]) -> None:
        self.owed_bumps.append((node, tuple(keys)))

    @property
    def failing(self) -> list[str]:
        """Return the nodes that were reported, each once."""
        return sorted({node for node, _ in self.failures})


class Transport(Protocol):
    """Say what the contract needs of a transport under test."""

    name: str

    def run(self, op: Any) -> Any: ...

    def put(self, node: str, key: str, value: bytes | int | None, ttl_ms: int | None = None) -> None: ...

    def keys(self, node: str) -> list[str]: ...

    def kill(self, node: str) -> None: ...

    def forget_scripts(self) -> None: ...


def endpoints_of(urls: dict[str, str], deadline: float = DEADLINE, **options: Any) -> dict[str, Endpoint]:
    return {
        name: Endpoint(name, url, deadline=deadline, connect_timeout=deadline, options=options)
        for name, url in urls.items()
    }


def observer(url: str) -> "redis.Redis":
    """Return a plain client whose connection is not counted among the transport's."""
    return redis.Redis.from_url(url, client_name=OBSERVER)


def links_to(url: str) -> list[dict[str, str]]:
    """Return the connections a server has, the observer's not among them."""
    with observer(url) as client:
        return [entry for entry in client.client_list() if entry["name"] != OBSERVER]


class _Real:
    """Reach real nodes with one of the two drivers."""

    def __init__(self, name: str, nodes: LocalNodes) -> None:
        self.name = name
        self.nodes = nodes
        self.health = Told()
        endpoints = endpoints_of(nodes.urls)
        self._runner: asyncio.Runner | None = None
        self.driver: Any
        if name == "asyncio":
            self._runner = asyncio.Runner()
            self.driver = AsyncDriver(endpoints, self.health, DEADLINE)
        else:
            self.driver = BlockingDriver(endpoints, self.health, DEADLINE)

    def run(self, op: Any) -> Any:
        return self.driver.run(op) if self._runner is None else self._runner.run(self.driver.run(op))

    def put(self, node: str, key: str, value: bytes | int | None, ttl_ms: int | None = None) -> None:
        with observer(self.nodes[node].url) as client:
            if value is None:
                client.rpush(key, "not", "a", "string")
            else:
                client.set(key, value, px=ttl_ms)

    def keys(self, node: str) -> list[str]:
        with observer(self.nodes[node].url) as client:
            return sorted(key.decode() for key in client.scan_iter())

    def kill(self, node: str) -> None:
        self.nodes[node].kill()

    def forget_scripts(self) -> None:
        for url in self.nodes.urls.values():
            with observer(url) as client:
                client.script_flush()

    def close(self) -> None:
        if self._runner is not None:
            self._runner.close()
        else:
            close_links(self.driver)


def close_links(driver: BlockingDriver) -> None:
    """Close the links that the calling thread and ended threads have left."""
    held = getattr(driver._local, "held", None)
    for link in held.links.values() if held is not None else ():
        link.close()
    for spare in driver._spare.values():
        for link in spare:
            link.close()


class _Memory:
    name = "memory"

    def __init__(self) -> None:
        self.nodes = MemoryNodes(NAMES)
        self.health = self
        self.run = self.nodes.run

    @property
    def failing(self) -> list[str]:
        return sorted(self.nodes.down)

    @property
    def owed(self) -> list[Owed]:
        taken = [(name, *self.nodes.debts[name].take()) for name in NAMES]
        return [(name, tuple(keys), tuple(patterns)) for name, keys, patterns in taken if keys or patterns]

    @property
    def owed_bumps(self) -> list[tuple[str, tuple[str, ...]]]:
        taken = [(name, self.nodes.debts[name].take_bumps()[0]) for name in NAMES]
        return [(name, tuple(keys)) for name, keys in taken if keys]

    def put(self, node: str, key: str, value: bytes | int | None, ttl_ms: int | None = None) -> None:
        self.nodes.nodes[node].put(key, value, ttl_ms)

    def keys(self, node: str) -> list[str]:
        return sorted(self.nodes.nodes[node].keys())

    def kill(self, node: str) -> None:
        self.nodes.kill(node)

    def forget_scripts(self) -> None:
        """Have none to forget."""


@pytest.fixture(params=["blocking", "asyncio", "memory"])
def transport(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Each transport in turn, with four nodes that are up and empty."""
    if request.param == "memory":
        yield _Memory()
        return
    real = _Real(request.param, request.getfixturevalue("distcache_shared_nodes"))
    yield real
    real.close()


@pytest.fixture(scope="session")
def _redis_nodes() -> Iterator[LocalNodes]:
    if not shutil.which("redis-server", path=f"/usr/bin:{os.environ.get('PATH', '')}"):
        pytest.skip("there is no redis-server")
    with LocalNodes(4, server="redis") as nodes:
        yield nodes


@pytest.fixture(params=["blocking", "asyncio", "redis-server", "memory"])
def scripted(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Each transport, and the other server, for what depends on the server's scripts."""
    if request.param == "memory":
        yield _Memory()
        return
    if request.param == "redis-server":
        nodes: LocalNodes = request.getfixturevalue("_redis_nodes")
        nodes.restore()
        real = _Real("blocking", nodes)
    else:
        real = _Real(request.param, request.getfixturevalue("distcache_shared_nodes"))
    yield real
    real.close()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def blocking(told: Told) -> Iterator[Callable[..., BlockingDriver]]:
    """Make blocking drivers on given URLs; their links are closed with the test."""
    made: list[BlockingDriver] = []

    def make(urls: dict[str, str], deadline: float = DEADLINE, **options: Any) -> BlockingDriver:
        made.append(BlockingDriver(endpoints_of(urls, deadline, **options), told, deadline))
        return made[-1]

    yield make
    for driver in made:
        close_links(driver)


@pytest.fixture
def asynchronous(told: Told) -> Callable[..., AsyncDriver]:
    """Make asyncio drivers on given URLs."""

    def make(urls: dict[str, str], deadline: float = DEADLINE, **options: Any) -> AsyncDriver:
        return AsyncDriver(endpoints_of(urls, deadline, **options), told, deadline)

    return make
