"""Answers for programs, as JSON: availability, stock, cards; and the price change."""

from decimal import Decimal, InvalidOperation
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest, JsonResponse
from django.views.decorators.http import require_http_methods, require_safe

from example_project.shop import catalogue, writes
from example_project.shop.access import staff_or_token
from example_project.shop.catalogue import PriceRow, ProductRow
from example_project.shop.models import Price
from example_project.shop.views.catalogue import find_product

MOST_COMPARED = 20
HIGHEST_AMOUNT = Decimal("99999999.99")


@require_safe
def availability(request: HttpRequest, pk: int, position: int) -> HttpResponse:
    """Tell one price of a product, and whether it can be had at it."""
    row, verdict = find_product(pk)
    for price in row["prices"]:
        if price["position"] == position:
            return _json({"product": pk, **_price(price)}, verdict)
    raise Http404(f"product {pk} has no price {position}")


@require_safe
def stock(request: HttpRequest, pk: int) -> HttpResponse:
    """Tell how many pieces of a product are there."""
    row, verdict = find_product(pk)
    return _json({"product": pk, "stock": row["stock"]}, verdict)


async def card(request: HttpRequest, pk: int) -> HttpResponse:
    """Tell what a product tile shows; reads the cache without blocking the event loop."""
    reading = await catalogue.products.aread([pk])
    if pk not in reading.rows:
        raise Http404(f"no product {pk}")
    return _json(_card(reading.rows[pk]), reading.verdict)


async def compare(request: HttpRequest) -> HttpResponse:
    """Tell several products' tiles at once, `?ids=1,2,3`: one round trip per node."""
    words = request.GET.get("ids", "").split(",")
    if len(words) > MOST_COMPARED or not all(word.isdecimal() and len(word) < 10 for word in words):
        return HttpResponseBadRequest(f"ids must be 1 to {MOST_COMPARED} numbers, separated by commas")
    ids = [int(word) for word in words]
    reading = await catalogue.products.aread(ids)
    return _json({"products": [_card(reading.rows[pk]) for pk in ids if pk in reading.rows]}, reading.verdict)


@require_http_methods(["POST"])
@staff_or_token
def change_price(request: HttpRequest, pk: int, position: int) -> HttpResponse:
    """Change a price and invalidate every page that shows it."""
    try:
        amount = Decimal(request.POST.get("amount", "")).quantize(Decimal("0.01"))
    except InvalidOperation:
        return HttpResponseBadRequest("amount must be a number")
    if not amount.is_finite() or not 0 <= amount <= HIGHEST_AMOUNT:
        return HttpResponseBadRequest(f"amount must be between 0 and {HIGHEST_AMOUNT}")
    try:
        change = writes.change_price(pk, position, amount)
    except Price.DoesNotExist:
        raise Http404(f"product {pk} has no price {position}") from None
    answer = {"product": pk, "position": position, "amount": str(amount), "revision": change.revision}
    # 202: the price is committed, but a cache node that is away may still hold the old one when it is back.
    return JsonResponse({**answer, "invalidated": change.is_invalidated}, status=200 if change.is_invalidated else 202)


def _price(price: PriceRow) -> dict[str, Any]:
    return {
        "position": price["position"],
        "label": price["label"],
        "amount": str(price["amount"]),
        "available": price["is_available"],
        "revision": price["revision"],
    }


def _card(row: ProductRow) -> dict[str, Any]:
    shown = {"id": row["id"], "name": row["name"], "brand": row["brand"], "stock": row["stock"]}
    return {**shown, "prices": [_price(price) for price in row["prices"]]}


def _json(data: dict[str, Any], verdict: str) -> JsonResponse:
    return JsonResponse(data, headers={"X-Shop-Cache": verdict})
