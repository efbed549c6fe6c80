"""Pages for buyers: the cart in the session, the checkout, and a customer's own page."""

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from example_project.shop import catalogue, writes
from example_project.shop.access import csrf_unless_token, staff_or_token
from example_project.shop.views.catalogue import find_product

CART = "cart"
MOST_LINES = 50
MOST_PIECES = 99


@require_safe
def cart(request: HttpRequest) -> HttpResponse:
    """Show what the visitor's session holds."""
    quantities = cart_of(request)
    rows = catalogue.products.read(quantities).rows
    lines = [{"product": rows[pk], "quantity": quantities[pk]} for pk in quantities if pk in rows]
    return render(request, "shop/cart.html", {"lines": lines})


@require_POST
@csrf_unless_token
def add_to_cart(request: HttpRequest, pk: int) -> HttpResponse:
    """Put one piece of a product into the cart."""
    find_product(pk)
    quantities = cart_of(request)
    quantities[pk] = min(quantities.get(pk, 0) + 1, MOST_PIECES)
    newest = list(quantities.items())[-MOST_LINES:]
    request.session[CART] = {str(key): quantity for key, quantity in newest}
    return redirect("shop:cart")


@require_POST
@staff_or_token
def checkout(request: HttpRequest, customer_id: int) -> HttpResponse:
    """Order what the cart holds for a customer, and empty the cart."""
    quantities = cart_of(request)
    if not quantities:
        return HttpResponse("The cart is empty.", status=409, content_type="text/plain")
    if customer_id not in catalogue.customers.read([customer_id]).rows:
        raise Http404(f"no customer {customer_id}")
    try:
        writes.place_order(customer_id, quantities)
    except writes.OutOfStock as short:
        return HttpResponse(f"Sorry, {short}.", status=409, content_type="text/plain")
    request.session[CART] = {}
    return redirect("shop:customer", pk=customer_id)


@require_safe
@staff_or_token
def customer(request: HttpRequest, pk: int) -> HttpResponse:
    """Show a customer and the orders so far."""
    reading = catalogue.customers.read([pk])
    if pk not in reading.rows:
        raise Http404(f"no customer {pk}")
    response = render(request, "shop/customer.html", {"customer": reading.rows[pk]})
    response["X-Shop-Cache"] = reading.verdict
    return response


def cart_of(request: HttpRequest) -> dict[int, int]:
    """Read the cart from the session: pieces by product."""
    return {int(pk): quantity for pk, quantity in request.session.get(CART, {}).items()}
