"""What the pages read: products, customers and lists, each through the cache."""

import datetime
import hashlib
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import TypedDict, TypeVar, cast

from django.core.cache import cache
from django.core.paginator import Paginator
from django.db.models import Count, Q, QuerySet

from example_project.shop.models import Brand, Category, Customer, Order, Price, Product
from example_project.shop.stamped import StampedRows

PAGE_SIZE = 24
ROW_TIMEOUT = 3600
LIST_TIMEOUT = 120
RELATED = 6
MOST_FOUND = 240
LAST_ORDERS = 20

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
    shown = ("pk", "name", "sku", "description", "category_id", "brand_id")
    joined = ("category__name", "brand__name", "inventory__quantity")
    found = Product.objects.filter(pk__in=ids).order_by().values_list(*shown, *joined)
    rows: dict[int, ProductRow] = {}
    for pk, name, sku, description, category_id, brand_id, category, brand, stock in found:
        rows[pk] = {
            "id": pk,
            "name": name,
            "sku": sku,
            "description": description,
            "category_id": category_id,
            "category": category,
            "brand_id": brand_id,
            "brand": brand,
            "stock": stock or 0,
            "prices": [],
        }
    for product_id, price in _load_prices(list(rows)):
        rows[product_id]["prices"].append(price)
    return rows


def _load_prices(product_ids: list[int]) -> Iterator[tuple[int, PriceRow]]:
    shown = ("product_id", "position", "label", "amount", "is_available", "revision")
    found = Price.objects.filter(product__in=product_ids).order_by("product_id", "position")
    for product_id, position, label, amount, is_available, revision in found.values_list(*shown):
        yield (
            product_id,
            {
                "position": position,
                "label": label,
                "amount": amount,
                "is_available": is_available,
                "revision": revision,
            },
        )


def load_customers(ids: list[int]) -> dict[int, CustomerRow]:
    """Load customers with their last orders: two queries for any number of them."""
    found = Customer.objects.filter(pk__in=ids).order_by().values_list("pk", "name", "email", "city", "joined")
    rows: dict[int, CustomerRow] = {}
    for pk, name, email, city, joined in found:
        rows[pk] = {"id": pk, "name": name, "email": email, "city": city, "joined": joined, "orders": []}
    for customer_id, order in _load_orders(list(rows)):
        if len(rows[customer_id]["orders"]) < LAST_ORDERS:
            rows[customer_id]["orders"].append(order)
    return rows


def _load_orders(customer_ids: list[int]) -> Iterator[tuple[int, OrderRow]]:
    found = Order.objects.filter(customer__in=customer_ids).annotate(line_count=Count("lines"))
    shown = ("customer_id", "pk", "placed", "status", "total", "line_count")
    ordered = found.order_by("customer_id", "-placed", "-pk").values_list(*shown)
    for customer_id, pk, placed, status, total, lines in ordered:
        yield customer_id, {"id": pk, "placed": placed, "status": status, "total": total, "lines": lines}


products: StampedRows[ProductRow] = StampedRows("product", load_products, timeout=ROW_TIMEOUT)
customers: StampedRows[CustomerRow] = StampedRows("customer", load_customers, timeout=ROW_TIMEOUT)


def category_page(pk: int, number: int) -> ListPage:
    """One page of a category's products, by name. A new product shows up within `LIST_TIMEOUT` seconds."""
    return _list_page(f"list:category:{pk}:{number}", Product.objects.filter(category=pk), number)


def brand_page(pk: int, number: int) -> ListPage:
    """One page of a brand's products, by name."""
    return _list_page(f"list:brand:{pk}:{number}", Product.objects.filter(brand=pk), number)


def search_page(text: str, number: int) -> ListPage:
    """One page of the products whose name contains the text, or whose SKU it is; the first `MOST_FOUND`."""
    digest = hashlib.blake2b(text.casefold().encode(), digest_size=12).hexdigest()
    found = Product.objects.filter(Q(name__icontains=text) | Q(sku__iexact=text)).order_by("name", "pk")
    # A search reads the whole table, so it is done once for all of its pages.
    ids = _cached(f"search:{digest}", lambda: list(found.values_list("pk", flat=True)[:MOST_FOUND]))
    return _page(Paginator(ids, PAGE_SIZE), number)


def _list_page(key: str, found: QuerySet[Product], number: int) -> ListPage:
    ids = found.order_by("name", "pk").values_list("pk", flat=True)
    return _cached(key, lambda: _page(Paginator(ids, PAGE_SIZE), number))


def _page(pages: "Paginator[int]", number: int) -> ListPage:
    page = pages.get_page(number)
    return {
        "ids": list(page.object_list),
        "number": page.number,
        "pages": pages.num_pages,
        "count": pages.count,
    }


def related_products(product: ProductRow) -> list[tuple[int, str]]:
    """The keys and names of a few other products of the same category."""
    others = Product.objects.filter(category=product["category_id"]).exclude(pk=product["id"])
    return list(others.order_by("name", "pk").values_list("pk", "name")[:RELATED])


def category_name(pk: int) -> str | None:
    """The name of a category, None if there is none."""
    return _name(f"name:category:{pk}", Category.objects.filter(pk=pk))


def brand_name(pk: int) -> str | None:
    """The name of a brand, None if there is none."""
    return _name(f"name:brand:{pk}", Brand.objects.filter(pk=pk))


def _name(key: str, found: QuerySet[Category] | QuerySet[Brand]) -> str | None:
    return _cached(key, lambda: found.values_list("name", flat=True).first())


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
