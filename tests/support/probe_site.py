"""A tiny site that uses its cache before its server forks, and answers each request with what only it can know.

`python -m tests.support.probe_site SERVER FD` serves it on an inherited listening socket: `uvicorn`, or `threads`
for a new thread per connection, as runserver does. Gunicorn loads `application` itself.
"""

import asyncio
import json
import os
import socket
import sys

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, JsonResponse
from django.urls import path

KEYS = 4


def echo(request: HttpRequest, token: str) -> JsonResponse:
    """Store the token under keys on several nodes and answer with what is read back."""
    from django.core.cache import cache

    expected = _entries(token)
    cache.set_many(expected, 60)
    cache.set(token, token, 60)
    return _answer(cache.get_many(list(expected)) == expected, cache.get(token))


async def aecho(request: HttpRequest, token: str) -> JsonResponse:
    """Do the same awaited, with several calls of one request under way at once."""
    from django.core.cache import cache

    expected = _entries(token)
    await asyncio.gather(cache.aset_many(expected, 60), cache.aset(token, token, 60))
    found, single = await asyncio.gather(cache.aget_many(list(expected)), cache.aget(token))
    return _answer(found == expected, single)


def _entries(token: str) -> dict[str, str]:
    return {f"{token}-{number}": f"{token}={number}" for number in range(KEYS)}


def _answer(is_own: bool, token: object) -> JsonResponse:
    return JsonResponse({"is_own": is_own, "token": token, "pid": os.getpid(), "warm": WARM})


urlpatterns = [path("echo/<str:token>/", echo), path("aecho/<str:token>/", aecho)]

settings.configure(
    SECRET_KEY="probe",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    CACHES=json.loads(os.environ["PROBE_CACHES"]),
    LOGGING_CONFIG=None,
)
django.setup()


def _warm() -> bool:
    """Use every node before any fork, blocking and awaited."""
    from django.core.cache import cache

    cache.set_many({f"warm-{number}": number for number in range(50)}, 600)

    async def read() -> object:
        return await cache.aget("warm-7")

    return asyncio.run(read()) == 7 and len(cache.get_many([f"warm-{number}" for number in range(50)])) == 50


WARM = _warm()


def _wsgi() -> WSGIHandler:
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


application = _wsgi()


def serve_uvicorn(listener: socket.socket) -> None:
    """Serve the awaited half on one event loop."""
    import uvicorn
    from django.core.asgi import get_asgi_application

    config = uvicorn.Config(get_asgi_application(), log_level="warning", lifespan="off", access_log=False)
    uvicorn.Server(config).run(sockets=[listener])


def serve_threads(listener: socket.socket) -> None:
    """Serve each connection in a thread of its own."""
    from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler

    class Quiet(WSGIRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Say nothing."""

    server = ThreadedWSGIServer(("127.0.0.1", 0), Quiet)
    server.socket.close()
    server.socket = listener
    server.set_app(application)
    server.serve_forever()


if __name__ == "__main__":
    sys.modules["tests.support.probe_site"] = sys.modules["__main__"]
    {"uvicorn": serve_uvicorn, "threads": serve_threads}[sys.argv[1]](socket.socket(fileno=int(sys.argv[2])))
