"""Pages for whoever looks around: home, lists, search, products and their prices."""

from collections.abc import Callable
from functools import partial

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import cache_page
from django.views.decorators.http import require_safe

from example_project.shop import catalogue
from example_project.shop.catalogue import ListPage, ProductRow

HOME_TIMEOUT = 60


@require_safe
@cache_page(HOME_TIMEOUT)
def home(request: HttpRequest) -> HttpResponse:
    """Show the shelves; the whole page is cached."""
    return render(request, "shop/home.html", {"categories": catalogue.categories(), "brands": catalogue.brands()})


@require_safe
def category(request: HttpRequest, pk: int) -> HttpResponse:
    """Show one page of a category."""
    return _list(request, catalogue.category_name(pk), partial(catalogue.category_page, pk))


@require_safe
def brand(request: HttpRequest, pk: int) -> HttpResponse:
    """Show one page of a brand."""
    return _list(request, catalogue.brand_name(pk), partial(catalogue.brand_page, pk))


@require_safe
def search(request: HttpRequest) -> HttpResponse:
    """Show one page of what a text finds."""
    text = request.GET.get("q", "").strip()[:80]
    if not text:
        return render(request, "shop/list.html", {"title": "Search", "query": "", "rows": [], "page": None})
    return _list(request, f"Search: {text}", partial(catalogue.search_page, text), query=text)


@require_safe
def product(request: HttpRequest, pk: int) -> HttpResponse:
    """Show a product with its prices, its stock and what is near it."""
    row, verdict = find_product(pk)
    # A callable: the template calls it only where its cached fragment is missing.
    context = {"product": row, "related": partial(catalogue.related_products, row)}
    return _marked(render(request, "shop/product.html", context), verdict)


@require_safe
def prices(request: HttpRequest, pk: int) -> HttpResponse:
    """Show all prices of a product."""
    row, verdict = find_product(pk)
    return _marked(render(request, "shop/prices.html", {"product": row}), verdict)


def find_product(pk: int) -> tuple[ProductRow, str]:
    """Find a product and say whether the cache had it; raise Http404 where it does not exist."""
    reading = catalogue.products.read([pk])
    if pk not in reading.rows:
        raise Http404(f"no product {pk}")
    return reading.rows[pk], reading.verdict


def _list(
    request: HttpRequest, title: str | None, page_of: Callable[[int], ListPage], *, query: str = ""
) -> HttpResponse:
    if title is None:
        raise Http404("no such shelf")
    page = page_of(_page_number(request))
    reading = catalogue.products.read(page["ids"])
    rows = [reading.rows[pk] for pk in page["ids"] if pk in reading.rows]
    context = {"title": title, "query": query, "rows": rows, "page": page}
    return _marked(render(request, "shop/list.html", context), reading.verdict)


def _page_number(request: HttpRequest) -> int:
    text = request.GET.get("page", "1")
    return max(1, int(text)) if text.isdecimal() and len(text) < 6 else 1


def _marked(response: HttpResponse, verdict: str) -> HttpResponse:
    response["X-Shop-Cache"] = verdict
    return response
