"""Join the Ops of replication with a process: its clocks, its randomness, its threads."""

from __future__ import annotations

import os
import random
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, MutableMapping
from hashlib import sha256

from distcache_django.cluster import Cluster
from distcache_django.conf import CacheSettings
from distcache_django.core.agreement import Agreement
from distcache_django.core.clock import ACTOR_SIZE, Stamps
from distcache_django.core.counting import Counting, Own
from distcache_django.core.effects import Op
from distcache_django.core.fence import Standings
from distcache_django.core.repair import Repair
from distcache_django.core.replicas import Limits, Replicas
from distcache_django.core.replicated import ReplicatedCoordinator

__all__ = ["Replication"]

#: A clock that nobody sets, and that goes on while the machine sleeps, if there is one.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_BEGAN = time.time() - time.clock_gettime(_STEADY)
#: Counters of which a thread remembers what it has added.
_MOST_COUNTERS = 1024


class _Owned(threading.local):
    """Be what the running thread has added to counters, by key."""

    def __init__(self) -> None:
        self.fields = _Recent()


class _Recent(OrderedDict[str, Own]):
    """Remember so many fields only; one that is forgotten is begun anew."""

    def __setitem__(self, key: str, own: Own) -> None:
        super().__setitem__(key, own)
        while len(self) > _MOST_COUNTERS:
            self.popitem(last=False)


class Replication:
    """Be how one alias at ``REPLICATION_FACTOR`` 2 and more works in this process."""

    def __init__(self, settings: CacheSettings, cluster: Cluster, quarantine_ms: int) -> None:
        for endpoint in cluster.endpoints.values():
            endpoint.greets = True
        topology = settings.topology
        self.standings = Standings(
            _placement(settings),
            topology.node_names,
            generation=lambda node: cluster.endpoints[node].generation,
            wall=_wall,
            random=os.urandom,
            quarantine_ms=quarantine_ms,
        )
        self.replicas = Replicas(
            topology,
            self.standings,
            _stamps(),
            read=settings.read_votes,
            write=settings.write_owners,
            limits=Limits(settings.deadline, settings.max_clock_drift),
            down=lambda: cluster.board.down,
        )
        self._owned = _Owned()
        agreement = Agreement(self.replicas, random.uniform)
        counting = Counting(self.replicas, agreement, self._fields, os.urandom)
        self.coordinator = ReplicatedCoordinator(self.replicas, agreement, counting)
        self._repair = Repair(self.replicas, _is_cached)
        _living.add(self)

    def _fields(self) -> MutableMapping[str, Own]:
        return self._owned.fields

    def mend(self, run: Callable[[Op[str]], str]) -> dict[str, str]:
        """Do what nodes need in order to vote again; return how each is: ``up``, ``behind``, ``recovering``, ``away``.

        May take long after a node has lost its memory: about a second for 10,000 keys.
        """
        return {node: run(self._repair.mend(node, os.urandom(8))) for node in self.replicas.topology.node_names}

    def forget(self) -> None:
        """Become another actor, as a forked child must: its parent goes on writing as the old one."""
        self.replicas.stamps = _stamps()
        self._owned = _Owned()


def _wall() -> float:
    """Return Unix time as it was when this process began, and has gone on since: it never steps, nor stands still."""
    return _BEGAN + time.clock_gettime(_STEADY)


def _placement(settings: CacheSettings) -> bytes:
    """Return what is the same for all who keep copies alike: aliases that share nodes have to."""
    topology = settings.topology
    told = f"{topology.ring.digest} {topology.replication_factor} {settings.write_owners}"
    return sha256(told.encode()).digest()[:8]


def _is_cached(key: str) -> bool:
    """Return whether a key may be a cache's, of whatever alias: a node is made whole for all of them."""
    return not key.startswith("dc:")


def _stamps() -> Stamps:
    return Stamps(os.urandom(ACTOR_SIZE), threading.Lock())


_living: weakref.WeakSet[Replication] = weakref.WeakSet()


def _forget_after_fork() -> None:
    for replication in list(_living):
        replication.forget()


os.register_at_fork(after_in_child=_forget_after_fork)
