"""What the pages read: products, customers and lists, each through the cache."""

import datetime
import hashlib
from collections.abc import Callable
from decimal import Decimal
from typing import TypedDict, TypeVar, cast

from django.core.cache import cache
from django.core.paginator import Paginator
from django.db.models import Count, Prefetch, Q, QuerySet

from example_project.shop.models import Brand, Category, Customer, Order, Price, Product
from example_project.shop.stamped import StampedRows

PAGE_SIZE = 24
ROW_TIMEOUT = 3600
LIST_TIMEOUT = 120
RELATED = 6

Value = TypeVar("Value")


class PriceRow(TypedDict):
    """One price as pages show it."""

    position: int
    label: str
    amount: Decimal
    is_available: bool
    revision: int


class ProductRow(TypedDict):
    """All that pages show of a product."""

    id: int
    name: str
    sku: str
    description: str
    category_id: int
    category: str
    brand_id: int
    brand: str
    stock: int
    prices: list[PriceRow]


class OrderRow(TypedDict):
    """One order in a customer's history."""

    id: int
    placed: datetime.datetime
    status: str
    total: Decimal
    lines: int


class CustomerRow(TypedDict):
    """All that pages show of a customer."""

    id: int
    name: str
    email: str
    city: str
    joined: datetime.date
    orders: list[OrderRow]


class ListPage(TypedDict):
    """The primary keys one page of a list shows, and how many pages there are."""

    ids: list[int]
    number: int
    pages: int
    count: int


class Shelf(TypedDict):
    """A category or a brand, and how much it holds."""

    id: int
    name: str
    count: int


def load_products(ids: list[int]) -> dict[int, ProductRow]:
    """Load products with their prices and stock: two queries for any number of them."""
    found = (
        Product.objects.filter(pk__in=ids)
        .select_related("category", "brand", "inventory")
        .prefetch_related(Prefetch("prices", Price.objects.order_by("position")))
    )
    return {product.pk: _product_row(product) for product in found}


def _product_row(product: Product) -> ProductRow:
    inventory = getattr(product, "inventory", None)
    return {
        "id": product.pk,
        "name": product.name,
        "sku": product.sku,
        "description": product.description,
        "category_id": product.category_id,
        "category": product.category.name,
        "brand_id": product.brand_id,
        "brand": product.brand.name,
        "stock": inventory.quantity if inventory else 0,
        "prices": [_price_row(price) for price in product.prices.all()],
    }


def _price_row(price: Price) -> PriceRow:
    return {
        "position": price.position,
        "label": price.label,
        "amount": price.amount,
        "is_available": price.is_available,
        "revision": price.revision,
    }


def load_customers(ids: list[int]) -> dict[int, CustomerRow]:
    """Load customers with their orders: two queries for any number of them."""
    orders = Order.objects.annotate(line_count=Count("lines")).order_by("-placed", "-pk")
    found = Customer.objects.filter(pk__in=ids).prefetch_related(
        Prefetch("orders", orders, to_attr="history")
    )
    return {customer.pk: _customer_row(customer) for customer in found}


def _customer_row(customer: Customer) -> CustomerRow:
    return {
        "id": customer.pk,
        "name": customer.name,
        "email": customer.email,
        "city": customer.city,
        "joined": customer.joined,
        "orders": [
            {
                "id": order.pk,
                "placed": order.placed,
                "status": str(order.status),
                "total": order.total,
                "lines": order.line_count,
            }
            for order in getattr(customer, "history", [])[:20]
        ],
    }


products: StampedRows[ProductRow] = StampedRows("product", load_products, timeout=ROW_TIMEOUT)
customers: StampedRows[CustomerRow] = StampedRows("customer", load_customers, timeout=ROW_TIMEOUT)


def category_page(pk: int, number: int) -> ListPage:
    """One page of a category's products, by name. A new product shows up within `LIST_TIMEOUT` seconds."""
    return _list_page(f"list:category:{pk}", Product.objects.filter(category=pk), number)


def brand_page(pk: int, number: int) -> ListPage:
    """One page of a brand's products, by name."""
    return _list_page(f"list:brand:{pk}", Product.objects.filter(brand=pk), number)


def search_page(text: str, number: int) -> ListPage:
    """One page of the products whose name contains the text, or whose SKU it is."""
    digest = hashlib.blake2b(text.casefold().encode(), digest_size=12).hexdigest()
    found = Product.objects.filter(Q(name__icontains=text) | Q(sku__iexact=text))
    return _list_page(f"list:search:{digest}", found, number)


def _list_page(key: str, found: QuerySet[Product], number: int) -> ListPage:
    def load() -> ListPage:
        pages = Paginator(found.order_by("name", "pk").values_list("pk", flat=True), PAGE_SIZE)
        page = pages.get_page(number)
        return {
            "ids": list(page.object_list),
            "number": page.number,
            "pages": pages.num_pages,
            "count": pages.count,
        }

    return _cached(f"{key}:{number}", load)


def related_products(product: ProductRow) -> list[ProductRow]:
    """A few other products of the same category."""
    neighbours = category_page(product["category_id"], 1)["ids"]
    others = [pk for pk in neighbours if pk != product["id"]][:RELATED]
    rows = products.read(others).rows
    return [rows[pk] for pk in others if pk in rows]


def categories() -> list[Shelf]:
    """All categories with the number of their products."""
    return _cached("shelves:categories", lambda: _shelves(Category.objects.all()))


def brands() -> list[Shelf]:
    """All brands with the number of their products."""
    return _cached("shelves:brands", lambda: _shelves(Brand.objects.all()))


def _shelves(found: QuerySet[Category] | QuerySet[Brand]) -> list[Shelf]:
    rows = found.annotate(count=Count("products")).order_by("name").values_list("pk", "name", "count")
    return [{"id": pk, "name": name, "count": count} for pk, name, count in rows]


def _cached(key: str, load: Callable[[], Value]) -> Value:
    return cast(Value, cache.get_or_set(key, load, LIST_TIMEOUT))
