"""Processes of a site on real nodes: each a service with links and a view of the nodes of its own."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import Any

import redis

from distcache_django.conf.distcache import parse_distcache
from distcache_django.core.topology import Topology
from distcache_django.freshness.dependencies import record_key
from distcache_django.freshness.service import Freshness
from distcache_django.runtime import forget_configuration, runtime_for
from distcache_django.testing import LocalNodes
from tests.support.waiting import wait_until

#: Longer than the default: a machine that is busy with other tests must not look like a hung node.
DEADLINE = 1.0
MARK_TIMEOUT = 0.2
MINUTE = 60.0

_processes = count()


def process(urls: Mapping[str, str], **distcache: Any) -> Freshness:
    """Return the service of one process; keyword arguments are fields of ``DistcacheSettings``."""
    # A deadline of its own gives each process links and a board of its own.
    deadline = DEADLINE + next(_processes) / 1e6
    entry = {"LOCATION": dict(urls), "OPTIONS": {"DEADLINE": deadline, "SOCKET_CONNECT_TIMEOUT": deadline}}
    caches = {"default": {"BACKEND": "distcache_django.DistributedCache", **entry}}
    settings, _ = parse_distcache({}, caches)
    assert settings is not None
    # Below what the settings accept (four deadlines), so that no test waits for long.
    settings = replace(settings, **{"ttl_jitter": 0.0, "mark_timeout": MARK_TIMEOUT, **distcache})
    return Freshness(settings, runtime_for(entry["LOCATION"], {"OPTIONS": entry["OPTIONS"]}), lambda key: f":1:{key}")


class Ground:
    """Be nodes, and a database of named numbers that tells how often it was asked."""

    def __init__(self, nodes: LocalNodes) -> None:
        self.nodes = nodes
        self.values: dict[str, Any] = {}
        self.loads = 0

    def process(self, **distcache: Any) -> Freshness:
        """Return the service of another process, for which every node votes."""
        made = process(self.nodes.urls, **distcache)
        self.pass_quarantine(made)
        return made

    def pass_quarantine(self, service: Freshness) -> None:
        """Let a process wait until every node has a vote for it."""
        wait_until(lambda: self.all_vote(service), what="every node has a vote")

    def all_vote(self, service: Freshness) -> bool:
        """Return whether every node is up and has a vote."""
        return not service.runtime.cluster.board.down and all(
            service.versions_of([self.name_at(node)]) is not None for node in self.nodes
        )

    def name_at(self, node: str, stem: str = "probe") -> str:
        """Return the name of a row whose record is on a node."""
        names = (f"{stem}:{number}" for number in count())
        return next(name for name in names if self.owner(name) == node)

    def owner(self, dependency: str) -> str:
        """Return the node that has the record of a dependency."""
        return self.topology.owner(self.record(dependency))

    @property
    def topology(self) -> Topology:
        """Return how keys are placed."""
        settings = runtime_for(self.nodes.urls, {}).settings
        return settings.topology

    def record(self, dependency: str) -> str:
        """Return the key of a version record."""
        return record_key("", dependency, 2**20)

    def load(self, name: str) -> Any:
        """Ask the database."""
        self.loads += 1
        return self.values[name]

    def read(self, service: Freshness, name: str) -> Any:
        """Read a row through the cache."""
        return service.answer(f"of {name}", (name,), lambda: self.load(name), MINUTE)

    def is_cached(self, service: Freshness, name: str) -> bool:
        """Return whether a read asks the database no more."""
        before = self.loads
        self.read(service, name)
        return self.loads == before

    def write(self, service: Freshness, name: str, value: Any) -> None:
        """Write a row as a transaction does that ends well."""
        attempt = service.mark([name])
        self.values[name] = value
        service.bump([name], attempt)

    @contextmanager
    def client(self, node: str) -> Iterator["redis.Redis"]:
        """Give a plain client of a node."""
        with redis.Redis.from_url(self.nodes[node].url) as client:
            yield client


@contextmanager
def ground_on(nodes: LocalNodes) -> Iterator[Ground]:
    """Give the ground, and close all clusters with it."""
    try:
        yield Ground(nodes)
    finally:
        forget_configuration(setting="CACHES")
