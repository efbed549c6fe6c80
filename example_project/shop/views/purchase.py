"""Pages for buyers: the cart in the session, the checkout, and a customer's own page."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from example_project.shop import catalogue, writes
from example_project.shop.access import csrf_unless_token, staff_or_token
from example_project.shop.models import Customer, Product

CART = "cart"
MOST_LINES = 50
MOST_PIECES = 99


@require_safe
def cart(request: HttpRequest) -> HttpResponse:
    """Show what the visitor's session holds."""
    quantities = cart_of(request)
    found = Product.objects.in_bulk(quantities)
    lines = [{"product": found[pk], "quantity": quantities[pk]} for pk in quantities if pk in found]
    return render(request, "shop/cart.html", {"lines": lines})


@require_POST
@csrf_unless_token
def add_to_cart(request: HttpRequest, pk: int) -> HttpResponse:
    """Put one piece of a product into the cart."""
    get_object_or_404(Product, pk=pk)
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
    buyer = get_object_or_404(Customer, pk=customer_id)
    try:
        writes.place_order(buyer.pk, quantities)
    except writes.OutOfStock as short:
        return HttpResponse(f"Sorry, {short}.", status=409, content_type="text/plain")
    request.session[CART] = {}
    return redirect("shop:customer", pk=customer_id)


@require_safe
@staff_or_token
def customer(request: HttpRequest, pk: int) -> HttpResponse:
    """Show a customer and the orders so far."""
    found = get_object_or_404(Customer, pk=pk)
    return render(request, "shop/customer.html", {"customer": found, "orders": catalogue.last_orders(found)})


def cart_of(request: HttpRequest) -> dict[int, int]:
    """Read the cart from the session: pieces by product."""
    return {int(pk): quantity for pk, quantity in request.session.get(CART, {}).items()}
