"""Share clusters between cache objects: Django makes one of those for each thread and each task.

Aliases that name the same nodes with the same timeouts share a cluster, that is links and the health of nodes.
A forked child starts with none of its parent's links, and says nothing on them.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from distcache_django.cluster import Cluster
from distcache_django.codec import Codec, Signer
from distcache_django.conf import CacheSettings, parse
from distcache_django.conf.plugins import SAFE_SERIALIZERS, compressors_for, serializers_for
from distcache_django.core.coordinator import Coordinator
from distcache_django.core.replicated import AnyCoordinator
from distcache_django.exceptions import InvalidDistcacheConfig
from distcache_django.runtime.policy import Policy
from distcache_django.runtime.replication import Replication

__all__ = ["CacheRuntime", "forget_configuration", "runtime_for"]


@dataclass(frozen=True, eq=False)
class CacheRuntime:
    """Be everything that the cache objects of one alias share."""

    settings: CacheSettings
    cluster: Cluster
    coordinator: AnyCoordinator
    codec: Codec
    policy: Policy
    #: What there is more at ``REPLICATION_FACTOR`` 2 and above.
    replication: Replication | None


#: For how long the version records of a node prove nothing once it has lost its memory: ``MARK_TIMEOUT``'s default.
_QUARANTINE_MS = 5000

_lock = threading.Lock()  # guards the two tables
_runtimes: dict[str, CacheRuntime] = {}
_clusters: dict[tuple[object, ...], Cluster] = {}
_living: weakref.WeakSet[Cluster] = weakref.WeakSet()


def runtime_for(location: object, params: Mapping[str, Any]) -> CacheRuntime:
    """Return what an entry of ``CACHES`` stands for in this process; made at the first call, connects to nothing.

    :raises InvalidDistcacheConfig: with every error of the entry.
    """
    key = repr((location, sorted(params.items(), key=lambda item: item[0])))
    found = _runtimes.get(key)
    if found is None:
        with _lock:
            found = _runtimes.get(key)
            if found is None:
                found = _runtimes[key] = _make(location, params)
    return found


def _make(location: object, params: Mapping[str, Any]) -> CacheRuntime:
    settings, problems = parse(location, params)
    problems.raise_errors()
    assert settings is not None
    cluster = _clusters.get(settings.cluster_key)
    if cluster is None:
        cluster = _clusters[settings.cluster_key] = _make_cluster(settings)
        _living.add(cluster)
    is_replicated = settings.topology.replication_factor > 1
    replication = Replication(settings, cluster, _QUARANTINE_MS) if is_replicated else None
    if settings.pattern is not None and not is_replicated:  # what a replica has missed, the others have noted
        cluster.board.patterns.add(settings.pattern)
    if settings.redirect:
        settings.topology.ring.preference_lists  # noqa: B018 - made now, so that no failing request pays for it
    return CacheRuntime(
        settings,
        cluster,
        replication.coordinator
        if replication
        else Coordinator(settings.topology, cluster.may_redirect if settings.redirect else None),
        _make_codec(settings, params.get("OPTIONS", {})),
        Policy(settings.on_unavailable, cluster.count),
        replication,
    )


def _make_cluster(settings: CacheSettings) -> Cluster:
    return Cluster(
        {node.name: node.url for node in settings.nodes},
        deadline=settings.deadline,
        connect_timeout=settings.connect_timeout,
        client=settings.client,
        options=dict(settings.connection_options),
    )


def _make_codec(settings: CacheSettings, options: Mapping[str, Any]) -> Codec:
    if settings.signing_key is not None:
        secrets: list[str | bytes] = [settings.signing_key]
    else:
        secrets = _site_secrets()
    if not secrets:
        raise InvalidDistcacheConfig("(distcache.E010) signing needs SECRET_KEY, or SIGNING_KEY in OPTIONS")
    serializer, serializers = serializers_for(settings.serializer, options)
    compressor, compressors = compressors_for(settings.compressor, options)
    return Codec(
        Signer(secrets),
        serializers,
        compressors,
        serializer,
        compressor,
        settings.pickle_protocol,
        settings.accept_unsigned,
        SAFE_SERIALIZERS,
    )


def _site_secrets() -> list[str | bytes]:
    try:
        return [secret for secret in (django_settings.SECRET_KEY, *django_settings.SECRET_KEY_FALLBACKS) if secret]
    except ImproperlyConfigured:  # Django's answer to an empty SECRET_KEY
        return []


def forget_configuration(**kwargs: Any) -> None:
    """Read the settings anew at the next use; receiver of ``setting_changed``."""
    if kwargs.get("setting") in {None, "CACHES", "SECRET_KEY", "SECRET_KEY_FALLBACKS"}:
        with _lock:
            for cluster in _clusters.values():
                cluster.close()
            _runtimes.clear()
            _clusters.clear()


def _forget_after_fork() -> None:
    global _lock  # noqa: PLW0603 - another thread of the parent may have held it
    _lock = threading.Lock()
    for cluster in list(_living):
        cluster.forget()


os.register_at_fork(after_in_child=_forget_after_fork)
setting_changed.connect(forget_configuration, dispatch_uid="distcache_django.runtime")
