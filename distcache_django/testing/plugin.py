"""Offer real nodes, PostgreSQL and a fault proxy as pytest fixtures.

Opt in with ``pytest_plugins = ["distcache_django.testing.plugin"]`` in the root ``conftest.py``. All names
begin with ``distcache_``. Where a server program is missing a test is skipped, and fails instead where
``DISTCACHE_REQUIRE_SERVERS=1`` (set it in CI). Session fixtures are one per worker of pytest-xdist.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import NoReturn, Protocol

import pytest

from distcache_django.testing.postgres import LocalPostgres
from distcache_django.testing.processes import MissingServer
from distcache_django.testing.programs import ServerKind, server_version
from distcache_django.testing.proxy import FaultProxy
from distcache_django.testing.resp import ask
from distcache_django.testing.servers import LocalNodes, urls_from_environment

__all__ = [
    "NodesFactory",
    "distcache_nodes",
    "distcache_postgres",
    "distcache_proxy",
    "distcache_shared_nodes",
    "distcache_urls",
]


class NodesFactory(Protocol):
    """Type the ``distcache_nodes`` fixture."""

    def __call__(
        self,
        count_or_names: int | Sequence[str] = 4,
        *,
        server: ServerKind = "valkey",
        config: Mapping[str, str] | None = None,
        password: str | None = None,
    ) -> LocalNodes:
        """Return started nodes, which end with the test."""


def pytest_report_header() -> str:
    """Name the versions a failure may depend on."""
    try:
        server = f"valkey {server_version()}"
    except MissingServer:
        server = "no valkey server"
    libraries = [f"{name} {_version_of(name)}" for name in ("redis", "hiredis")]
    if "django" in sys.modules:
        libraries.append(f"django {_version_of('django')}")
    return f"distcache: {', '.join([server, *libraries])}, python {platform.python_version()}"


@pytest.fixture
def distcache_nodes() -> Iterator[NodesFactory]:
    """Make nodes of the test's own, started and ended for it: call it as one calls LocalNodes."""
    with ExitStack() as stack:

        def start(
            count_or_names: int | Sequence[str] = 4,
            *,
            server: ServerKind = "valkey",
            config: Mapping[str, str] | None = None,
            password: str | None = None,
        ) -> LocalNodes:
            nodes = LocalNodes(count_or_names, server=server, config=config, password=password)
            try:
                return stack.enter_context(nodes)
            except MissingServer as missing:
                _give_up(missing)

        yield start


@pytest.fixture(scope="session")
def _distcache_session_nodes() -> Iterator[LocalNodes]:
    try:
        nodes = LocalNodes(4)
        nodes.start()
    except MissingServer as missing:
        _give_up(missing)
    with nodes:
        yield nodes


@pytest.fixture
def distcache_shared_nodes(_distcache_session_nodes: LocalNodes) -> LocalNodes:
    """Give four nodes that live for the session; all run and are empty when the test begins.

    A test may break them: the next one finds them mended. Their configuration is not set back.
    """
    _distcache_session_nodes.restore()
    return _distcache_session_nodes


@pytest.fixture
def distcache_urls(request: pytest.FixtureRequest) -> dict[str, str]:
    """Give empty servers as URLs by name, for tests that need no control over the processes.

    These are the servers of ``DISTCACHE_REDIS_URLS`` where it is set, whose named databases are **emptied**
    before each test, else the four of ``distcache_shared_nodes``.
    """
    urls = urls_from_environment()
    if urls is None:
        nodes: LocalNodes = request.getfixturevalue("distcache_shared_nodes")
        return nodes.urls
    for name, url in urls.items():
        (reply,) = ask(url, ("FLUSHDB",))
        if reply != b"+OK":
            pytest.fail(f"server {name} of DISTCACHE_REDIS_URLS was not flushed: {reply.decode()}")
    return urls


@pytest.fixture
def distcache_proxy() -> Iterator[Callable[..., FaultProxy]]:
    """Make proxies in front of servers, started and ended for the test: call it as one calls FaultProxy."""
    with ExitStack() as stack:

        def start(target_port: int, target_host: str = "127.0.0.1") -> FaultProxy:
            return stack.enter_context(FaultProxy(target_port, target_host))

        yield start


@pytest.fixture(scope="session")
def distcache_postgres() -> Iterator[LocalPostgres]:
    """Give a PostgreSQL server that lives for the session; make a database per test where it matters."""
    try:
        server = LocalPostgres()
        server.start()
    except MissingServer as missing:
        _give_up(missing)
    with server:
        yield server


def _version_of(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _give_up(missing: MissingServer) -> NoReturn:
    if os.environ.get("DISTCACHE_REQUIRE_SERVERS") == "1":
        pytest.fail(str(missing), pytrace=False)
    pytest.skip(str(missing))
