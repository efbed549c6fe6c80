"""Pages for whoever looks around: home, lists, search, products and their prices."""

from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.template.loader import render_to_string
from django.views.decorators.http import require_safe

from distcache_django import cached, cached_view
from example_project.shop import catalogue
from example_project.shop.models import Brand, Category, Product


@require_safe
@cached_view(catalogue.TIMEOUT)
def home(request: HttpRequest) -> HttpResponse:
    """Show the shelves; the page is everybody's, so it is cached as a whole."""
    context = {"categories": catalogue.shelves(Category), "brands": catalogue.shelves(Brand)}
    return render(request, "shop/home.html", context)


@require_safe
@cached_view(catalogue.TIMEOUT)
def category(request: HttpRequest, pk: int) -> HttpResponse:
    """Show one page of a category."""
    return _list(request, get_object_or_404(Category, pk=pk).name, catalogue.tiles().filter(category=pk))


@require_safe
@cached_view(catalogue.TIMEOUT)
def brand(request: HttpRequest, pk: int) -> HttpResponse:
    """Show one page of a brand."""
    return _list(request, get_object_or_404(Brand, pk=pk).name, catalogue.tiles().filter(brand=pk))


@require_safe
@cached_view(catalogue.TIMEOUT)
def search(request: HttpRequest) -> HttpResponse:
    """Show one page of what a text finds."""
    text = request.GET.get("q", "").strip()[:80]
    if not text:
        return render(request, "shop/list.html", {"title": "Search"})
    page, rows = catalogue.search_page(text, _page_number(request))
    return render(request, "shop/list.html", {"title": f"Search: {text}", "query": text, "rows": rows, "page": page})


@require_safe
def product(request: HttpRequest, pk: int) -> HttpResponse:
    """Show a product with its prices, its stock and what is near it.

    The form on the page carries a token of the visitor's, so the page is nobody else's; all the rest of it is cached.
    """
    name, about = product_block(pk)
    context = {"pk": pk, "name": name, "about": about, "stock": catalogue.stock_of(pk)}
    return render(request, "shop/product.html", context)


@cached(catalogue.TIMEOUT)
def product_block(pk: int) -> tuple[str, str]:
    """Give a product's name, and what its page says about it; ends when anything changes that it shows."""
    found = find_product(pk)
    context = {"product": found, "related": catalogue.related_products(found)}
    return found.name, render_to_string("shop/product_block.html", context)


@require_safe
@cached_view(catalogue.TIMEOUT)
def prices(request: HttpRequest, pk: int) -> HttpResponse:
    """Show all prices of a product."""
    return render(request, "shop/prices.html", {"product": find_product(pk)})


def find_product(pk: int) -> Product:
    """Find a product with all that pages show of it; raise Http404 where it does not exist."""
    try:
        return catalogue.products().get(pk=pk)
    except Product.DoesNotExist:
        raise Http404(f"no product {pk}") from None


def _list(request: HttpRequest, title: str, found: QuerySet[Product]) -> HttpResponse:
    page = catalogue.page_of(found, _page_number(request))
    return render(request, "shop/list.html", {"title": title, "rows": page.object_list, "page": page})


def _page_number(request: HttpRequest) -> str:
    return request.GET.get("page", "1")
