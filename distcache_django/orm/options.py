"""Say, per queryset and per block of code, whether answers are cached, for how long, and which kinds of queries.

What ``.cache()`` and ``.nocache()`` say travels on the ``Query`` (attribute ``distcache``), so that it survives
cloning, chaining and pickling. What a block of code says (``no_cache()``) is in a context variable: it holds for the
thread or task, and in threads that ``sync_to_async`` enters.

The order, first match: inside ``no_cache()`` nothing is cached; what the queryset says; what the queryset says whose
``prefetch_related`` runs this query; what ``DISTCACHE["MODELS"]`` says of the model.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any, TypeAlias, TypeVar, cast

from django.conf import settings
from django.core.signals import setting_changed
from django.db.models.sql import AggregateQuery

from distcache_django.conf.distcache import OPS, load_settings, ops_of
from distcache_django.orm.profiles import Profile, profile_of

__all__ = [
    "COMPILE_ONLY",
    "NOT_CACHED",
    "AnyQuery",
    "AnyQuerySet",
    "QueryOptions",
    "choose",
    "inherit",
    "lifetime",
    "no_cache",
    "options_for",
    "said_by",
]


# Django's own objects, whose private parts this package uses: its type stubs know only some of them.
AnyQuery: TypeAlias = Any
AnyQuerySet: TypeAlias = Any
_QuerySet = TypeVar("_QuerySet")
_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class QueryOptions:
    """Be what a queryset says of its own caching.

    ``timeout`` is in seconds, ``None`` that of the model's profile, or else the cache's own. ``ops`` are the kinds
    of queries that are cached; there are none where the queryset must not be cached at all.
    """

    timeout: float | None = None
    ops: frozenset[str] = OPS

    def within(self, profile: Profile | None) -> QueryOptions:
        """Return these options with the profile's timeout where they name none."""
        if self.timeout is not None or profile is None or profile.timeout is None:
            return self
        return QueryOptions(profile.timeout, self.ops)


#: What ``.nocache()`` says.
NOT_CACHED = QueryOptions(None, frozenset())

#: Known by identity: what a query says that is not to be run, but to hand its compiler over.
COMPILE_ONLY = QueryOptions(1.0, frozenset())

# Equal to NOT_CACHED, and known by identity: inside no_cache() not even a queryset's own options count.
_FORBIDDEN = QueryOptions(None, frozenset())

#: Django's own, where ``CACHES`` does not say.
DEFAULT_TIMEOUT = 300.0
_LONGEST = 86_400.0  # answers always expire: a dependency that nobody bumps must not keep one for ever

_ambient: ContextVar[QueryOptions | None] = ContextVar("distcache_options", default=None)


def choose(query: AnyQuery) -> QueryOptions | Profile | None:
    """Return how this query is cached, or ``None`` where it is not; some two hundred nanoseconds."""
    own = query.distcache
    if own is None:
        if query.__class__ is AggregateQuery:  # a new query, around the one that carries the options
            inner: AnyQuery = query.inner_query
            own = inner.distcache
        own = own or _ambient.get()
    model = query.model
    profile = profile_of(model) if model is not None else None
    if own is None:
        return profile
    return None if _ambient.get() is _FORBIDDEN else own.within(profile)


def said_by(query: AnyQuery) -> QueryOptions | None:
    """Return what a queryset says itself, or else the one whose prefetch it is part of; ``None`` if neither does."""
    own: QueryOptions | None = query.distcache
    if own is None:
        own = _ambient.get()
    return None if own is _FORBIDDEN else own


def is_forbidden() -> bool:
    """Return whether this is a ``no_cache()`` block."""
    return _ambient.get() is _FORBIDDEN


def lifetime(options: QueryOptions | Profile) -> float:
    """Return for how many seconds an answer is kept: those of the options, or else of the cache."""
    return options.timeout or _default_timeout()


@functools.cache
def _default_timeout() -> float:
    given: Any = settings.CACHES[load_settings().cache].get("TIMEOUT", DEFAULT_TIMEOUT)
    return _LONGEST if given is None else min(float(given), _LONGEST)


def options_for(timeout: float | None, ops: str | Iterable[str] | None) -> QueryOptions:
    """Return the options that ``.cache(timeout, ops)`` stands for.

    :raises ValueError: ``timeout`` is not above zero, or ``ops`` names an unknown kind of query.
    """
    if timeout is not None and not timeout > 0:
        raise ValueError(f"cache(timeout={timeout!r}): expected seconds above 0, or None for the default")
    named = OPS if ops is None else ops_of(ops)
    if named is None:
        raise ValueError(f"cache(ops={ops!r}): expected some of {', '.join(sorted(OPS))}, or 'all'")
    return QueryOptions(timeout, named)


class no_cache:  # noqa: N801 - used as the function that it looks like
    """Read from the database in this block: nothing is taken from the cache, and nothing stored in it.

    ``with no_cache():``, also around ``await``, or ``@no_cache()`` on a function or coroutine function. Writes in the
    block end cached answers all the same. Blocks nest.
    """

    __slots__ = ("_token",)

    def __enter__(self) -> None:
        """Forbid the cache."""
        self._token = _ambient.set(_FORBIDDEN)

    def __exit__(self, *_: object) -> None:
        """Allow again what was allowed before."""
        _ambient.reset(self._token)

    def __call__(self, function: _Function) -> _Function:
        """Return a function that runs in such a block."""
        if iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*args: Any, **kwargs: Any) -> Any:
                with no_cache():
                    return await function(*args, **kwargs)

            return cast("_Function", awaited)

        @functools.wraps(function)
        def uncached(*args: Any, **kwargs: Any) -> Any:
            with no_cache():
                return function(*args, **kwargs)

        return cast("_Function", uncached)


@contextmanager
def inherit(options: QueryOptions) -> Iterator[None]:
    """Let queries of this block that say nothing themselves be cached as ``options`` say; ``no_cache()`` stays."""
    token = _ambient.set(_FORBIDDEN if _ambient.get() is _FORBIDDEN else options)
    try:
        yield
    finally:
        _ambient.reset(token)


def with_options(queryset: _QuerySet, options: QueryOptions) -> _QuerySet:
    """Return a clone of ``queryset`` with these options."""
    clone: Any = cast("AnyQuerySet", queryset)._chain()
    clone.query.distcache = options
    return cast("_QuerySet", clone)


def _forget(**kwargs: Any) -> None:
    """Read the default timeout anew at the next use; receiver of ``setting_changed``."""
    if kwargs.get("setting") in {"CACHES", "DISTCACHE"}:
        _default_timeout.cache_clear()


setting_changed.connect(_forget, dispatch_uid="distcache_django.orm.options")
