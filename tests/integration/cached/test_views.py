"""``@cached_view``: which responses are shared, between whom, and until when."""

# The zoo is in no settings that the plugin of mypy reads: it does not know of managers.
# mypy: disable-error-code="attr-defined, misc"

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.middleware.csrf import get_token
from django.template import engines
from django.template.response import SimpleTemplateResponse
from django.test import RequestFactory
from django.utils import translation
from django.views import View

from distcache_django import cached_view
from tests.support.freshness import queries
from tests.support.zoo.models import Brand, Product

pytestmark = [pytest.mark.servers, pytest.mark.usefixtures("site")]

requests = RequestFactory()
_names = count()

Respond = Callable[[HttpRequest, int], HttpResponse]


def counting(respond: Respond | None = None, **options: Any) -> tuple[Any, Callable[[], int]]:
    """Return a new cached view, and how often it ran."""
    runs: list[int] = []

    def view(request: HttpRequest, pk: int = 1) -> Any:
        runs.append(pk)
        return HttpResponse(f"{len(runs)}:{pk}") if respond is None else respond(request, len(runs))

    view.__qualname__ = f"view_{next(_names)}"
    return cached_view(**{"timeout": 60, "depends_on": [], **options})(view), lambda: len(runs)


def get(path: str = "/", **extra: Any) -> HttpRequest:
    request = requests.get(path, **extra)
    request.session = SessionStore()
    return request


def test_second_request_is_answered_from_the_cache() -> None:
    view, runs = counting()
    first, second = view(get("/a?b=1")), view(get("/a?b=1"))
    assert first.content == second.content == b"1:1"
    assert first.headers == second.headers
    assert runs() == 1


def test_addresses_arguments_languages_and_methods_are_told_apart() -> None:
    view, runs = counting()
    view(get("/a"))
    view(get("/a?x=1"))
    view(get("/a", headers={"host": "localhost"}))
    view(get("/a"), pk=2)
    with translation.override("de"):
        view(get("/a"))
    head = requests.head("/a")
    view(head)
    assert runs() == 6


def test_other_methods_run_the_view() -> None:
    view, runs = counting()
    for _ in range(2):
        view(requests.post("/a"))
    assert runs() == 2


def test_dependencies_are_found_from_the_queries_it_ran() -> None:
    @cached_view(timeout=60)
    def shelf(request: HttpRequest, pk: int) -> HttpResponse:
        return HttpResponse(",".join(product.name for product in Product.objects.filter(category=pk)))

    before = shelf(get("/shelf/1"), pk=1).content
    assert queries(lambda: shelf(get("/shelf/1"), pk=1)) == 0
    Product.objects.filter(category=2).update(active=True)
    assert queries(lambda: shelf(get("/shelf/1"), pk=1)) == 0
    product = Product.objects.filter(category=1)[0]
    product.name = "renamed"
    product.save()
    after = shelf(get("/shelf/1"), pk=1).content
    assert b"renamed" in after
    assert before != after


def test_named_dependencies_end_a_response() -> None:
    view, runs = counting(depends_on=[Brand])
    view(get())
    Brand.objects.filter(pk=1).update(name="x")
    view(get())
    view(get())
    assert runs() == 2


def test_template_responses_are_rendered_once() -> None:
    rendered = []

    class Counted:
        def __str__(self) -> str:
            rendered.append(1)
            return "text"

    template = engines["django"].from_string("{{ counted }}")

    @cached_view(timeout=60)
    def page(request: HttpRequest) -> SimpleTemplateResponse:
        return SimpleTemplateResponse(template, {"counted": Counted()})

    assert page(get("/page")).content == page(get("/page")).content == b"text"
    assert len(rendered) == 1


def test_queries_of_a_template_count() -> None:
    template = engines["django"].from_string("{% for brand in brands %}{{ brand.name }},{% endfor %}")

    @cached_view(timeout=60)
    def brands(request: HttpRequest) -> SimpleTemplateResponse:
        return SimpleTemplateResponse(template, {"brands": Brand.objects.order_by("pk")})

    brands(get("/brands"))
    Brand.objects.filter(pk=1).update(name="in a template")
    assert b"in a template" in brands(get("/brands")).content


def with_session(request: HttpRequest, run: int) -> HttpResponse:
    return HttpResponse(f"{run}: {request.session.get('cart')}")


def with_cookie(request: HttpRequest, run: int) -> HttpResponse:
    response = HttpResponse(str(run))
    response.set_cookie("seen", "1")
    return response


def with_token(request: HttpRequest, run: int) -> HttpResponse:
    return HttpResponse(get_token(request))


UNFIT: dict[str, Respond] = {
    "reads the session": with_session,
    "sets a cookie": with_cookie,
    "has a token against forgery": with_token,
    "streams": lambda request, run: StreamingHttpResponse([b"x"]),  # type: ignore[return-value, dict-item]
    "is private": lambda request, run: HttpResponse(run, headers={"Cache-Control": "private"}),
    "is not to be stored": lambda request, run: HttpResponse(run, headers={"Cache-Control": "max-age=5, no-store"}),
    "is over at once": lambda request, run: HttpResponse(run, headers={"Cache-Control": "max-age=0"}),
    "is an error": lambda request, run: HttpResponse(run, status=500),
    "is not found": lambda request, run: HttpResponse(run, status=404),
    "varies by a header": lambda request, run: HttpResponse(run, headers={"Vary": "X-Tenant"}),
    "varies by everything": lambda request, run: HttpResponse(run, headers={"Vary": "*"}),
    "varies by cookies": lambda request, run: HttpResponse(run, headers={"Vary": "Cookie"}),
}


@pytest.mark.parametrize("kind", UNFIT)
@pytest.mark.parametrize("found", [False, True])
def test_response_that_is_not_for_everybody_is_passed_on_and_not_stored(kind: str, *, found: bool) -> None:
    view, runs = counting(UNFIT[kind], depends_on=None if found else [])
    for _ in range(2):
        assert view(get()).status_code in {200, 404, 500}
    assert runs() == 2


def test_exception_is_passed_on_and_not_stored() -> None:
    def fail(request: HttpRequest, run: int) -> HttpResponse:
        raise Http404(str(run))

    view, runs = counting(fail)
    for _ in range(2):
        with pytest.raises(Http404):
            view(get())
    assert runs() == 2


def test_users_are_told_apart_where_the_view_says_so() -> None:
    def greet(request: HttpRequest, run: int) -> HttpResponse:
        return HttpResponse(f"{run}: {request.user.pk} {request.session.get('x')}")

    view, _ = counting(greet, vary=["user"])

    def ask(user: Any) -> bytes:
        request = get()
        request.user = user
        return bytes(view(request).content)

    answers = [ask(user) for user in (User(pk=1), User(pk=2), AnonymousUser(), User(pk=1), AnonymousUser())]
    assert answers == [b"1: 1 None", b"2: 2 None", b"3: None None", b"1: 1 None", b"3: None None"]


def test_cookies_headers_and_functions_tell_requests_apart() -> None:
    view, runs = counting(
        lambda request, run: HttpResponse(run, headers={"Vary": "X-Tenant"}),
        vary=["cookie:theme", "header:X-Tenant", lambda request: request.GET.get("page", "1") == "1"],
    )

    def ask(theme: str, tenant: str) -> None:
        request = get(headers={"x-tenant": tenant})
        request.COOKIES["theme"] = theme
        view(request)

    for theme, tenant in (("dark", "a"), ("dark", "b"), ("light", "b"), ("dark", "a")):
        ask(theme, tenant)
    assert runs() == 3


def test_wrong_vary_is_refused_where_it_is_written() -> None:
    with pytest.raises(ValueError, match="vary='cookies'"):
        cached_view(vary=["cookies"])


def test_asynchronous_view() -> None:
    runs = []

    @cached_view(timeout=60)
    async def page(request: HttpRequest) -> HttpResponse:
        runs.append(1)
        return HttpResponse((await Brand.objects.aget(pk=1)).name)

    async def ask(times: int) -> set[bytes]:
        return {response.content for response in await asyncio.gather(*(page(get("/a")) for _ in range(times)))}

    Brand.objects.filter(pk=1).update(name="awaited view")
    assert asyncio.run(ask(10)) == {b"awaited view"}
    assert len(runs) == 1
    Brand.objects.filter(pk=1).update(name="again")
    assert asyncio.run(ask(1)) == {b"again"}


def test_class_based_views_plain_and_asynchronous() -> None:
    runs = []

    @cached_view(timeout=60, depends_on=[])
    class Page(View):
        def get(self, request: HttpRequest) -> HttpResponse:
            runs.append(1)
            return HttpResponse("page")

    @cached_view(timeout=60, depends_on=[])
    class Awaited(View):
        async def get(self, request: HttpRequest) -> HttpResponse:
            runs.append(2)
            return HttpResponse("awaited")

    awaited: Any = Awaited.as_view()
    for _ in range(2):
        assert Page.as_view()(get("/page")).content == b"page"
        assert asyncio.run(awaited(get("/page"))).content == b"awaited"
    assert runs == [1, 2]
