"""Views of a site that knows nothing of the backend: what the tests of unchanged clients ask for."""

import itertools

from django.http import HttpRequest, HttpResponse
from django.template import Context, Template
from django.urls import path
from django.views.decorators.cache import cache_control, cache_page, never_cache
from django.views.decorators.vary import vary_on_cookie, vary_on_headers
from rest_framework.response import Response
from rest_framework.throttling import SimpleRateThrottle
from rest_framework.views import APIView

renderings = itertools.count(1)

FRAGMENT = Template("{% load cache %}{% cache 60 sidebar user lang %}{{ numbers|random }}-{{ n }}{% endcache %}")


def numbered(request: HttpRequest) -> HttpResponse:
    """Answer with a number that no other rendering has."""
    return HttpResponse(f"rendering {next(renderings)}")


def fragment(request: HttpRequest) -> HttpResponse:
    """Render a cached fragment that varies by two values."""
    values = {"user": request.GET.get("user"), "lang": request.GET.get("lang", "en"), "n": next(renderings)}
    return HttpResponse(FRAGMENT.render(Context({**values, "numbers": [0]})))


def remember(request: HttpRequest) -> HttpResponse:
    """Keep what was said in the session; answer with everything said so far."""
    said = [*request.session.get("said", []), request.GET["say"]]
    request.session["said"] = said
    return HttpResponse(",".join(said))


async def aremember(request: HttpRequest) -> HttpResponse:
    """Do the same through the session's awaited methods."""
    said = [*await request.session.aget("said", []), request.GET["say"]]
    await request.session.aset("said", said)
    return HttpResponse(",".join(said))


class TenAMinute(SimpleRateThrottle):  # type: ignore[misc]  # the framework has no types
    """Let ten requests a minute through for each address."""

    scope = "site"
    rate = "10/min"

    def get_cache_key(self, request: HttpRequest, view: object) -> str:
        """Name the address."""
        return f"throttle:{self.get_ident(request)}"


class Throttled(APIView):  # type: ignore[misc]  # the framework has no types
    """Answer as long as the throttle lets it."""

    authentication_classes = ()
    permission_classes = ()
    throttle_classes = (TenAMinute,)

    def get(self, request: HttpRequest) -> Response:
        """Answer."""
        return Response({"ok": True})


urlpatterns = [
    path("plain/", numbered),
    path("private/", cache_control(private=True)(numbered)),
    path("never/", never_cache(numbered)),
    path("page/", cache_page(60, key_prefix="page")(numbered)),
    path("shop/", cache_page(60)(vary_on_headers("X-Shop")(numbered))),
    path("cookie/", cache_page(60)(vary_on_cookie(numbered))),
    path("fragment/", fragment),
    path("remember/", remember),
    path("aremember/", aremember),
    path("throttled/", Throttled.as_view()),
]
