"""Cache the responses of views: ``@cached_view``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponseBase
from django.http.response import HttpResponse
from django.utils.cache import get_max_age, has_vary_header
from django.views import View

from distcache_django.freshness.loading import may_answer
from distcache_django.freshness.naming import Named, dependencies_of
from distcache_django.freshness.service import freshness
from distcache_django.orm.arguments import argument_text, digest, surroundings
from distcache_django.orm.fingerprint import project_digest
from distcache_django.orm.options import is_forbidden

__all__ = ["cached_view"]

Vary = str | Callable[[HttpRequest], object]
V = TypeVar("V", bound=Callable[..., Any])

_METHODS = ("GET", "HEAD")


class _Unfit(Exception):
    """Carry a response past the cache that is not for everybody with the same key."""

    def __init__(self, response: HttpResponseBase) -> None:
        super().__init__()
        self.response = response


class CachedView:
    """Know how one view's responses are keyed and stored."""

    def __init__(
        self,
        name: str,
        view: Callable[..., Any],
        timeout: float,
        depends_on: Iterable[Named] | None,
        vary: Iterable[Vary],
    ) -> None:
        self._name = name
        self._view = view
        self._timeout = timeout
        self._named = None if depends_on is None else tuple(depends_on)
        self._vary = tuple(vary)

    def respond(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Return the stored response, or the view's own, stored if it is fit for that."""
        if not self._is_askable(request):
            return self._view(request, *args, **kwargs)

        def load() -> HttpResponseBase:
            return self._fit(request, _rendered(self._view(request, *args, **kwargs)))

        try:
            return self._ask("answer", "recorded", request, load, args, kwargs)
        except _Unfit as unfit:
            return unfit.response

    async def arespond(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Be ``respond`` for asynchronous views."""
        if not self._is_askable(request):
            return await self._view(request, *args, **kwargs)

        async def load() -> HttpResponseBase:
            return self._fit(request, _rendered(await self._view(request, *args, **kwargs)))

        try:
            return await self._ask("aanswer", "arecorded", request, load, args, kwargs)
        except _Unfit as unfit:
            return unfit.response

    def _ask(
        self,
        named: str,
        found: str,
        request: HttpRequest,
        load: Callable[[], Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        key = self._key(request, args, kwargs)
        if self._named is None:
            return getattr(freshness(), found)(key, load, self._timeout)
        dependencies = dependencies_of(self._named, request, *args, **kwargs)
        return getattr(freshness(), named)(key, dependencies, load, self._timeout)

    def _is_askable(self, request: HttpRequest) -> bool:
        return request.method in _METHODS and not is_forbidden() and may_answer()

    def _key(self, request: HttpRequest, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        varying = [argument_text(_value_of(vary, request)) for vary in self._vary]
        parts = (self._name, str(request.method), request.build_absolute_uri(), surroundings(), project_digest())
        called = (argument_text(args), argument_text(kwargs))
        return digest("|".join((*parts, *called, *varying)))

    def _fit(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Return the response if everybody with the same key may have it.

        :raises _Unfit: with the response, if it streams, failed, sets cookies, is private, or depends on headers,
            cookies or a session that ``vary`` does not name.
        """
        fit = (
            isinstance(response, HttpResponse)
            and not response.streaming
            and response.status_code in (200, 304)
            and not response.cookies
            and not {"private", "no-store"} & set(_cache_control(response))
            and get_max_age(response) != 0
            and not self._varies_unnamed(request, response)
        )
        if not fit:
            raise _Unfit(response)
        return response

    def _varies_unnamed(self, request: HttpRequest, response: HttpResponseBase) -> bool:
        named = {vary for vary in self._vary if isinstance(vary, str)}
        if not named & {"user", "session"} and not any(map(callable, self._vary)):
            if getattr(getattr(request, "session", None), "accessed", False) or has_vary_header(response, "Cookie"):
                return True
            if request.META.get("CSRF_COOKIE_NEEDS_UPDATE"):
                return True
        headers = {name[7:].lower() for name in named if name.startswith("header:")}
        asked = {name.strip().lower() for name in response.headers.get("Vary", "").split(",") if name.strip()}
        return bool(asked - headers - {"cookie", "accept-language"})


def _rendered(response: Any) -> Any:
    return response.render() if hasattr(response, "render") and callable(response.render) else response


def _cache_control(response: HttpResponseBase) -> list[str]:
    return [part.strip().split("=")[0].lower() for part in response.headers.get("Cache-Control", "").split(",")]


def _value_of(vary: Vary, request: HttpRequest) -> Any:
    """Return the value of what a response varies by."""
    if callable(vary):
        return vary(request)
    if vary == "user":
        return getattr(getattr(request, "user", None), "pk", None)
    if vary == "session":
        return getattr(getattr(request, "session", None), "session_key", None)
    kind, _, name = vary.partition(":")
    if kind == "cookie" and name:
        return request.COOKIES.get(name)
    if kind == "header" and name:
        return request.headers.get(name)
    raise ValueError(f"vary={vary!r}: expected 'user', 'session', 'cookie:NAME', 'header:NAME' or a function")


def _wrap_class(view: type[View], timeout: float, depends_on: Iterable[Named] | None, vary: Iterable[Vary]) -> None:
    original = view.dispatch

    @functools.wraps(original)
    def dispatch(self: View, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        kind = type(self)
        bound = functools.partial(original, self)
        cached = CachedView(f"{kind.__module__}.{kind.__qualname__}", bound, timeout, depends_on, vary)
        respond = cached.arespond if kind.view_is_async else cached.respond
        return respond(request, *args, **kwargs)

    view.dispatch = dispatch  # type: ignore[method-assign]


def cached_view(
    timeout: float = 300,
    depends_on: Iterable[Named] | None = None,
    vary: Iterable[Vary] = (),
) -> Callable[[V], V]:
    """Cache the responses of a view, plain or asynchronous, a function or a class.

    A response ends when anything in ``depends_on`` changes; without it, when anything changes that the view's
    queries read. GET and HEAD only. The key covers the whole address, the view's arguments, the language, the time
    zone and what ``vary`` names. A response that sets cookies, streams, is private, or came from a session, cookies
    or headers that ``vary`` does not name, is passed on and not stored.

    :param timeout: seconds.
    :param vary: ``"user"``, ``"session"``, ``"cookie:NAME"``, ``"header:NAME"``, or functions of the request.
    :raises ValueError: for anything else in ``vary``, when the decorator is applied.
    """
    for each in vary:
        if isinstance(each, str):
            _value_of(each, HttpRequest())

    def decorate(view: V) -> V:
        if inspect.isclass(view) and issubclass(view, View):
            _wrap_class(view, timeout, depends_on, vary)
            return cast("V", view)
        cached = CachedView(f"{view.__module__}.{view.__qualname__}", view, timeout, depends_on, vary)
        if iscoroutinefunction(view):

            @functools.wraps(view)
            async def arespond(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
                return await cached.arespond(request, *args, **kwargs)

            return cast("V", arespond)

        @functools.wraps(view)
        def respond(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            return cached.respond(request, *args, **kwargs)

        return cast("V", respond)

    return decorate
