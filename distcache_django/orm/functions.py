"""Cache what functions return: ``@cached`` and ``@cached_queryset``."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Generic, ParamSpec, TypeVar, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.db.models import QuerySet

from distcache_django.freshness import dependencies as names
from distcache_django.freshness.loading import may_answer
from distcache_django.freshness.naming import Named, dependencies_of
from distcache_django.freshness.service import freshness
from distcache_django.orm.arguments import call_key, digest, surroundings
from distcache_django.orm.fingerprint import project_digest
from distcache_django.orm.invalidation import invalidate
from distcache_django.orm.options import is_forbidden

__all__ = ["CachedFunction", "cached", "cached_queryset"]

P = ParamSpec("P")
R = TypeVar("R")
Q = TypeVar("Q", bound=QuerySet[Any, Any])


class CachedFunction(Generic[P, R]):
    """Be a function whose answers are cached; call it as before.

    ``.invalidate(*args)`` ends the answer for these arguments (at COMMIT in an open transaction), ``.refresh(*args)``
    computes it anew now, ``.key(*args)`` is what tells it from others, ``.uncached`` the function itself.
    """

    def __init__(
        self,
        function: Callable[P, R],
        timeout: float,
        depends_on: Iterable[Named] | None,
        key: Callable[P, object] | None,
        varies: bool,
    ) -> None:
        functools.update_wrapper(self, function)
        self.uncached = function
        self._timeout = timeout
        self._named = () if depends_on is None else tuple(depends_on)
        self._finds = depends_on is None
        self._key = key
        self._varies = varies
        self._is_async = iscoroutinefunction(function)
        if self._is_async:  # so that frameworks that look at the type of a callable await it
            markcoroutinefunction(self)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Bind to an instance, as a function in a class does."""
        return self if instance is None else _Bound(self, instance)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return the cached answer, or call the function and store what it returns."""
        if is_forbidden() or not may_answer():
            return self.uncached(*args, **kwargs)
        load: Callable[[], Any] = functools.partial(self.uncached, *args, **kwargs)
        name = digest(f"{self.key(*args, **kwargs)}|{surroundings() if self._varies else ''}|{project_digest()}")
        own = names.tag(self._own(*args, **kwargs))
        service = freshness()
        if self._finds:
            recorded: Callable[..., Any] = service.arecorded if self._is_async else service.recorded
            return cast("R", recorded(name, load, self._timeout, (own,)))
        wanted = (own, *dependencies_of(self._named, *args, **kwargs))
        answer = service.aanswer if self._is_async else service.answer
        return cast("R", answer(name, wanted, load, self._timeout))

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return what tells the answer to this call from others.

        :raises TypeError: if an argument is of a type whose equality is not known and no ``key`` was given.
        """
        if self._key is None:
            return call_key(self.uncached, args, kwargs)
        return call_key(self.uncached, (self._key(*args, **kwargs),), {})

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """End the cached answer for these arguments. One round trip."""
        invalidate(self._own(*args, **kwargs))

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """End the cached answer for these arguments, and return a new one."""
        self.invalidate(*args, **kwargs)
        return self(*args, **kwargs)

    def _own(self, *args: P.args, **kwargs: P.kwargs) -> str:
        return f"call:{self.key(*args, **kwargs)}"


class _Bound(Generic[P, R]):
    """Be a cached function bound to the instance it was looked up on."""

    def __init__(self, cached_function: CachedFunction[P, R], instance: object) -> None:
        self.cached_function = cached_function
        for name in ("key", "invalidate", "refresh", "uncached"):
            setattr(self, name, functools.partial(getattr(cached_function, name), instance))
        self._call: Callable[..., R] = functools.partial(cast("Any", cached_function), instance)
        functools.update_wrapper(self, cached_function.uncached)

    def __call__(self, *args: Any, **kwargs: Any) -> R:
        return self._call(*args, **kwargs)


def cached(
    timeout: float = 300,
    depends_on: Iterable[Named] | None = None,
    key: Callable[..., object] | None = None,
    *,
    vary: bool = True,
) -> Callable[[Callable[P, R]], CachedFunction[P, R]]:
    """Cache what a function, method or coroutine function returns, for each set of arguments.

    Its answers end when anything in ``depends_on`` changes: models, instances, querysets, tags, or functions of the
    arguments that return such. Without ``depends_on`` the dependencies are found from the queries that the function
    runs. Calls inside a transaction that has written go to the function. One process computes an answer, once, while
    others wait for it; what the function raises is passed on and not stored.

    :param timeout: seconds.
    :param key: a function of the arguments that returns what the answer depends on; needed for arguments of types
        whose equality is not known (``self`` of a plain class, say).
    :param vary: whether the active language and time zone are part of the key.
    """

    def decorate(function: Callable[P, R]) -> CachedFunction[P, R]:
        return CachedFunction(function, timeout, depends_on, key, vary)

    return decorate


def cached_queryset(timeout: float = 300) -> Callable[[Callable[P, Q]], Callable[P, Q]]:
    """Cache the querysets that a function returns, as ``.cache(timeout)`` on each would: when they are evaluated.

    :param timeout: seconds.
    """

    def decorate(function: Callable[P, Q]) -> Callable[P, Q]:
        if iscoroutinefunction(function):
            awaited = cast("Callable[P, Awaitable[Any]]", function)

            @functools.wraps(function)
            async def acall(*args: P.args, **kwargs: P.kwargs) -> Any:
                return (await awaited(*args, **kwargs)).cache(timeout=timeout)

            return cast("Callable[P, Q]", acall)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> Q:
            return cast("Q", function(*args, **kwargs).cache(timeout=timeout))  # type: ignore[attr-defined]

        return call

    return decorate
