"""Say in headers what a page has cost the database, and what the cache has done for this process.

X-Shop-Queries   the queries that the request sent to the database; 0: all it showed came from the cache
X-Shop-Cache     what the process has counted so far, as JSON; only for a program that sends the shop's token
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import sync_and_async_middleware

from distcache_django.freshness.service import freshness
from example_project.shop.access import has_token


@dataclass(slots=True)
class _Queries:
    """The queries of one request. An object, so that threads which work for a coroutine count into the same."""

    count: int = 0


_current: ContextVar[_Queries | None] = ContextVar("shop_queries", default=None)


def watch(connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Count what is sent on a connection; a receiver of `connection_created`."""
    if _counted not in connection.execute_wrappers:
        connection.execute_wrappers.append(_counted)


def _counted(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
    queries = _current.get()
    if queries is not None:
        queries.count += 1
    return execute(sql, params, many, context)


@sync_and_async_middleware
def report_cost(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Add the headers to every response."""
    if iscoroutinefunction(get_response):

        async def areport(request: HttpRequest) -> HttpResponse:
            with _counting() as queries:
                before = _unwarned(request)
                return _marked(request, await get_response(request), queries, before)

        return areport

    def report(request: HttpRequest) -> HttpResponse:
        with _counting() as queries:
            before = _unwarned(request)
            return _marked(request, get_response(request), queries, before)

    return report


@contextmanager
def _counting() -> Iterator[_Queries]:
    queries = _Queries()
    token = _current.set(queries)
    try:
        yield queries
    finally:
        _current.reset(token)


def _unwarned(request: HttpRequest) -> int:
    return freshness().counts().get("mark_failures", 0) if request.method == "POST" else 0


def _marked(request: HttpRequest, response: HttpResponse, queries: _Queries, unwarned_before: int) -> HttpResponse:
    response["X-Shop-Queries"] = str(queries.count)
    if has_token(request):
        counts = freshness().counts()
        # Whether a commit of this request went ahead without a node that is away. Of two requests at once in one
        # process either may have made it, so it is said of both.
        is_warned = request.method != "POST" or counts.get("mark_failures", 0) == unwarned_before
        # A node is used again, and so called up, when it has been told all that it missed.
        is_settled = all(member.is_up for member in freshness().runtime.cluster.members().values())
        told = {"pid": os.getpid(), "warned": is_warned, "settled": is_settled, **counts}
        response["X-Shop-Cache"] = json.dumps(told)
    return response
