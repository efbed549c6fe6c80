"""What changes the shop. Who writes does not think of the cache: answers that a commit ends are ended with it."""

from collections.abc import Mapping
from decimal import Decimal

from django.db import transaction
from django.db.models import F

from example_project.shop.models import Inventory, Order, OrderLine, Price


class OutOfStock(Exception):
    """A product of the order is not there in the quantity wanted."""

    def __init__(self, product_id: int) -> None:
        super().__init__(f"product {product_id} is out of stock")
        self.product_id = product_id


def change_price(product_id: int, position: int, amount: Decimal) -> int:
    """Set one price of a product and return its new revision.

    Raises `Price.DoesNotExist` if there is none at that position.
    """
    with transaction.atomic():
        price = Price.objects.filter(product=product_id, position=position)
        if not price.update(amount=amount, revision=F("revision") + 1):
            raise Price.DoesNotExist
        return price.values_list("revision", flat=True).get()


def place_order(customer_id: int, quantities: Mapping[int, int]) -> Order:
    """Order products for a customer at their first price, and take them from the stock.

    All or nothing: raises `OutOfStock` when one of them is short.
    """
    with transaction.atomic():
        # In one order, so that two orders of the same products wait for each other and never deadlock.
        for product_id, quantity in sorted(quantities.items()):
            stock = Inventory.objects.filter(product=product_id, quantity__gte=quantity)
            if not stock.update(quantity=F("quantity") - quantity, revision=F("revision") + 1):
                raise OutOfStock(product_id)
        prices = Price.objects.filter(product__in=quantities, position=1)
        amounts = dict(prices.values_list("product_id", "amount"))
        lines = {pk: amounts.get(pk, Decimal(0)) for pk in quantities}
        order = Order.objects.create(
            customer_id=customer_id, total=sum(quantities[pk] * amount for pk, amount in lines.items())
        )
        OrderLine.objects.bulk_create(
            OrderLine(order=order, product_id=pk, quantity=quantities[pk], unit_amount=amount)
            for pk, amount in lines.items()
        )
    return order
