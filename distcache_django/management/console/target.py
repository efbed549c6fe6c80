"""Find what a sub-command is about: an alias, its settings and its nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from django.conf import settings as django_settings
from django.core.cache import caches
from django.core.management.base import CommandError

from distcache_django.backends.cache import DistributedCache
from distcache_django.checks import Alias, aliases, problems_of
from distcache_django.cluster import Cluster
from distcache_django.conf import CacheSettings, Problem, load_settings
from distcache_django.core.topology import Topology
from distcache_django.management.console.screen import CRITICAL, USAGE
from distcache_django.runtime import runtime_for

__all__ = ["Target", "alias_named", "open_target", "problem_text"]


@dataclass(frozen=True)
class Target:
    """Be a cache alias whose settings can work."""

    alias: Alias
    settings: CacheSettings
    cluster: Cluster

    @property
    def topology(self) -> Topology:
        """Return which node holds which slot."""
        return self.settings.topology

    @property
    def cache(self) -> DistributedCache:
        """Return this thread's cache object."""
        found = caches[self.alias.name]
        assert isinstance(found, DistributedCache)
        return found

    def holds_marks(self) -> bool:
        """Return whether writers put their marks on these nodes."""
        settings = load_settings()
        return settings.enabled and settings.cache == self.alias.name and settings.freshness == "strong"

    def consequence(self) -> str:
        """Say what becomes of the keys of a node that does not answer."""
        if self.settings.redirect:
            return "served by the next node of the ring, for at most 10 s each"
        return "errors (ON_UNAVAILABLE)" if self.settings.on_unavailable == "raise" else "misses"


def alias_named(name: str) -> Alias:
    """Return the entry of ``CACHES``.

    :raises CommandError: with the code for wrong usage, if it is missing or of another backend.
    """
    ours = aliases()
    for alias in ours:
        if alias.name == name:
            return alias
    what = "uses another backend" if name in django_settings.CACHES else "is not in CACHES"
    could = ", ".join(repr(alias.name) for alias in ours) or "none uses distcache_django.DistributedCache"
    raise CommandError(f"--using {name!r}: this alias {what}; possible: {could}", returncode=USAGE)


def open_target(name: str) -> Target:
    """Return the alias with its nodes; connects to nothing.

    :raises CommandError: also, as critical and with every problem, if its settings cannot work.
    """
    alias = alias_named(name)
    parsed, problems = problems_of(alias)
    if parsed is None:
        _refuse(name, [problem for problem in problems if problem.is_error])
    return Target(alias, parsed, runtime_for(alias.location, alias.params).cluster)


def _refuse(name: str, errors: Sequence[Problem]) -> NoReturn:
    lines = "".join(f"\n  {problem_text(problem)}" for problem in errors)
    raise CommandError(f"the settings of cache {name!r} cannot work:{lines}", returncode=CRITICAL)


def problem_text(problem: Problem) -> str:
    """Return a problem on one line."""
    return f"{problem.id} {problem.message}{' ' + problem.hint if problem.hint else ''}"
