"""What the pages read.

Nothing here invalidates anything: `DISTCACHE["MODELS"]` says which models' answers are cached, and whoever writes
through Django ends those that a write concerns.
"""

from typing import Any

from django.core.paginator import Page, Paginator
from django.db.models import Count, Prefetch, Q, QuerySet

from distcache_django import cached
from example_project.shop.models import Brand, Category, Customer, Inventory, Order, Price, Product

PAGE_SIZE = 24
TIMEOUT = 600
RELATED = 6
MOST_FOUND = 240
LAST_ORDERS = 20


def products() -> QuerySet[Product]:
    """Products with what changes now and then: all but the stock. Two queries for any number."""
    return Product.objects.select_related("category", "brand").prefetch_related(_prices())


def tiles() -> QuerySet[Product]:
    """Products with what a list shows of them, by name."""
    return Product.objects.select_related("brand").prefetch_related(_prices()).order_by("name", "pk")


def _prices() -> "Prefetch[Any]":
    # The model's own order goes by the product's name, and would read the products again.
    return Prefetch("prices", Price.objects.order_by("position"))


def stock_of(product_id: int) -> Inventory | None:
    """A product's stock, if anybody keeps count. It is sold all the time, so it is read, and cached, by itself."""
    return Inventory.objects.filter(product=product_id).first()


def page_of(found: QuerySet[Product], number: str) -> "Page[Product]":
    """One page of a list; the nearest one where there is no such number."""
    return Paginator(found, PAGE_SIZE).get_page(number)


def search_page(text: str, number: str) -> "tuple[Page[int], list[Product]]":
    """One page of the products whose name contains the text, or whose SKU it is; the first `MOST_FOUND`."""
    page = Paginator(found_products(text.casefold()), PAGE_SIZE).get_page(number)
    return page, list(tiles().filter(pk__in=page.object_list))


@cached(TIMEOUT, depends_on=[Product])
def found_products(text: str) -> list[int]:
    """The keys of what a text finds. A search reads the whole table, so it is done once for all of its pages."""
    found = Product.objects.filter(Q(name__icontains=text) | Q(sku__iexact=text)).order_by("name", "pk")
    return list(found.values_list("pk", flat=True)[:MOST_FOUND])


def related_products(product: Product) -> QuerySet[Product]:
    """A few other products of the same category."""
    return Product.objects.filter(category=product.category_id).exclude(pk=product.pk).order_by("name", "pk")[:RELATED]


def shelves(model: type[Category] | type[Brand]) -> QuerySet[Category] | QuerySet[Brand]:
    """All categories, or all brands, with the number of their products."""
    return model._default_manager.annotate(count=Count("products")).order_by("name")


def last_orders(customer: Customer) -> QuerySet[Order]:
    """A customer's last orders with the number of their lines."""
    return customer.orders.annotate(line_count=Count("lines")).order_by("-placed", "-pk")[:LAST_ORDERS]
