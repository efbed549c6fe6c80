"""Answers for programs, as JSON: availability, stock, cards; and the price change."""

from decimal import Decimal, InvalidOperation
from typing import Any

from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_http_methods, require_safe

from distcache_django import cached_view
from example_project.shop import catalogue, writes
from example_project.shop.access import staff_or_token
from example_project.shop.models import Inventory, Price, Product

MOST_COMPARED = 20
HIGHEST_AMOUNT = Decimal("99999999.99")


@require_safe
def availability(request: HttpRequest, pk: int, position: int) -> HttpResponse:
    """Tell one price of a product, and whether it can be had at it."""
    return JsonResponse({"product": pk, **_price(get_object_or_404(Price, product=pk, position=position))})


@require_safe
def stock(request: HttpRequest, pk: int) -> HttpResponse:
    """Tell how many pieces of a product are there."""
    return JsonResponse({"product": pk, **_stock(get_object_or_404(Inventory, product=pk))})


@cached_view(catalogue.TIMEOUT)
async def card(request: HttpRequest, pk: int) -> HttpResponse:
    """Tell what a product tile shows; the cache is read without blocking the event loop."""
    try:
        return JsonResponse(_card(await _with_stock().aget(pk=pk)))
    except Product.DoesNotExist:
        raise Http404(f"no product {pk}") from None


@cached_view(catalogue.TIMEOUT)
async def compare(request: HttpRequest) -> HttpResponse:
    """Tell several products' tiles at once, `?ids=1,2,3`."""
    words = request.GET.get("ids", "").split(",")
    if len(words) > MOST_COMPARED or not all(word.isdecimal() and len(word) < 10 for word in words):
        return HttpResponseBadRequest(f"ids must be 1 to {MOST_COMPARED} numbers, separated by commas")
    ids = [int(word) for word in words]
    found = {product.pk: product async for product in _with_stock().filter(pk__in=ids).order_by()}
    return JsonResponse({"products": [_card(found[pk]) for pk in ids if pk in found]})


@require_http_methods(["POST"])
@staff_or_token
def change_price(request: HttpRequest, pk: int, position: int) -> HttpResponse:
    """Change a price; every page that shows it is new from the commit on."""
    try:
        amount = Decimal(request.POST.get("amount", "")).quantize(Decimal("0.01"))
    except InvalidOperation:
        return HttpResponseBadRequest("amount must be a number")
    if not amount.is_finite() or not 0 <= amount <= HIGHEST_AMOUNT:
        return HttpResponseBadRequest(f"amount must be between 0 and {HIGHEST_AMOUNT}")
    try:
        revision = writes.change_price(pk, position, amount)
    except Price.DoesNotExist:
        raise Http404(f"product {pk} has no price {position}") from None
    return JsonResponse({"product": pk, "position": position, "amount": str(amount), "revision": revision})


def _with_stock() -> QuerySet[Product]:
    return catalogue.products().select_related("inventory")


def _price(price: Price) -> dict[str, Any]:
    return {
        "position": price.position,
        "label": price.label,
        "amount": str(price.amount),
        "available": price.is_available,
        "revision": price.revision,
    }


def _stock(inventory: Inventory | None) -> dict[str, Any]:
    return {"stock": inventory.quantity, "stock_revision": inventory.revision} if inventory else {"stock": 0}


def _card(product: Product) -> dict[str, Any]:
    shown = {"id": product.pk, "name": product.name, "brand": product.brand.name}
    stock = _stock(getattr(product, "inventory", None))
    return {**shown, **stock, "prices": [_price(price) for price in product.prices.all()]}
