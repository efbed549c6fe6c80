"""The example shop: its pages, what they cost, and that no page shows what a write has replaced."""

import importlib
from collections.abc import Iterator
from decimal import Decimal

import pytest
from django.core.cache import cache
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext

from distcache_django.testing.plugin import NodesFactory
from distcache_django.testing.servers import LocalNodes
from example_project import environment
from example_project.shop import catalogue, writes
from example_project.shop.models import Brand, Customer, Inventory, Order, OrderLine, Price, Product
from example_project.shop.stamped import StampedRows

pytestmark = [pytest.mark.servers, pytest.mark.django_db, pytest.mark.urls("example_project.urls")]

TOKEN = "a-token-of-the-tests"
PRODUCTS = 60


@pytest.fixture(autouse=True)
def shop(settings, monkeypatch: pytest.MonkeyPatch, distcache_shared_nodes: LocalNodes) -> Iterator[None]:
    monkeypatch.setenv("SECRET_KEY", "a-key-of-the-tests")
    shop_settings = importlib.import_module("example_project.settings")
    for name in ("MIDDLEWARE", "TEMPLATES", "SESSION_ENGINE", "STATIC_URL"):
        setattr(settings, name, getattr(shop_settings, name))
    settings.SERVE_STATIC = False
    settings.SHOP_API_TOKEN = TOKEN
    _configure(settings, distcache_shared_nodes)
    call_command("load_shop", products=PRODUCTS, verbosity=0)
    yield
    cache.close()


def _configure(settings, nodes: LocalNodes) -> None:
    settings.CACHES = {
        "default": {
            "BACKEND": "distcache_django.DistributedCache",
            "LOCATION": nodes.urls,
            "KEY_PREFIX": "shop",
            # Pages are judged here, not what a busy machine does to a deadline.
            "OPTIONS": {"DEADLINE": 5.0, "SOCKET_CONNECT_TIMEOUT": 5.0},
        }
    }


@pytest.fixture
def trusted() -> Client:
    return Client(headers={"X-Shop-Token": TOKEN})


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "What are you looking for?"),
        ("/categories/1/", "Kitchen Chair"),
        ("/brands/1/", "page 1 of"),
        ("/search/?q=product%20that%20is%20nowhere", "0 products"),
        ("/search/?q=SH-000007", "1 product,"),
        ("/search/", "Search"),
        ("/products/7/", "SH-000007"),
        ("/products/7/prices/", 'data-position="1" data-revision="1"'),
        ("/customers/3/", "@example.com"),
        ("/cart/", "Nothing here yet."),
        ("/api/products/7/", '"id": 7'),
        ("/api/products/7/stock/", '"stock": '),
        ("/api/products/7/prices/1/", '"available": '),
        ("/api/compare/?ids=1,2,3", '"id": 3'),
    ],
)
def test_every_page_answers_cold_and_warm(trusted: Client, path: str, expected: str) -> None:
    for _ in range(2):
        response = trusted.get(path)
        assert response.status_code == 200
        assert expected in response.content.decode()


@pytest.mark.parametrize(
    "path",
    [
        "/categories/999/",
        "/products/999/",
        "/customers/999/",
        "/api/products/7/prices/99/",
        "/api/products/999/",
    ],
)
def test_what_does_not_exist_is_not_found(trusted: Client, path: str) -> None:
    assert [trusted.get(path).status_code for _ in range(2)] == [404, 404]


@pytest.mark.parametrize(
    ("path", "cold"),
    [
        ("/", 2),
        ("/products/7/", 3),
        ("/products/7/prices/", 2),
        ("/customers/3/", 2),
        ("/categories/1/", 5),
        ("/search/?q=oak", 3),
        ("/api/compare/?ids=1,2,3,4,5", 2),
    ],
)
def test_pages_ask_the_database_little_when_cold_and_nothing_when_warm(trusted: Client, path: str, cold: int) -> None:
    with CaptureQueriesContext(connection) as first:
        trusted.get(path)
    with CaptureQueriesContext(connection) as second:
        trusted.get(path)
    assert len(first) <= cold, [query["sql"] for query in first]
    assert len(second) == 0, [query["sql"] for query in second]


def test_response_tells_hit_from_miss(client: Client) -> None:
    assert [client.get("/products/5/")["X-Shop-Cache"] for _ in range(2)] == ["hit=0 miss=1", "hit=1 miss=0"]


def test_price_change_shows_on_every_page_at_once(trusted: Client) -> None:
    row = catalogue.products.read([7]).rows[7]
    shelf = f"/categories/{row['category_id']}/"
    pages = ["/products/7/", "/products/7/prices/", "/api/products/7/prices/1/", "/api/products/7/", shelf]
    for path in pages:
        trusted.get(path)

    answer = trusted.post("/api/products/7/prices/1/change/", {"amount": "4711.42"})

    assert answer.status_code == 200
    assert answer.json() == {
        "product": 7,
        "position": 1,
        "amount": "4711.42",
        "revision": 2,
        "invalidated": True,
    }
    for path in pages:
        assert "4711.42" in trusted.get(path).content.decode(), path


@pytest.mark.parametrize(
    ("data", "path", "status"),
    [
        ({"amount": "cheap"}, "/api/products/7/prices/1/change/", 400),
        ({"amount": "-1"}, "/api/products/7/prices/1/change/", 400),
        ({"amount": "NaN"}, "/api/products/7/prices/1/change/", 400),
        ({}, "/api/products/7/prices/1/change/", 400),
        ({"amount": "1"}, "/api/products/7/prices/88/change/", 404),
    ],
)
def test_bad_price_changes_are_refused(trusted: Client, data: dict[str, str], path: str, status: int) -> None:
    assert trusted.post(path, data).status_code == status
    assert Price.objects.get(product=7, position=1).revision == 1


def test_strangers_neither_write_nor_see_customers() -> None:
    stranger = Client(enforce_csrf_checks=True)
    assert stranger.post("/api/products/7/prices/1/change/", {"amount": "1"}).status_code == 403
    assert stranger.post("/cart/add/7/").status_code == 403
    assert stranger.post("/cart/checkout/1/").status_code == 403
    assert stranger.get("/customers/1/").status_code == 403
    assert Client(headers={"X-Shop-Token": "wrong"}).get("/customers/1/").status_code == 403


def test_empty_token_opens_nothing(settings) -> None:
    settings.SHOP_API_TOKEN = ""
    assert Client(headers={"X-Shop-Token": ""}).get("/customers/1/").status_code == 403


def test_copy_loaded_before_a_commit_is_never_served() -> None:
    price = Price.objects.get(product=7, position=1)
    overtaken: list[bool] = []

    def load_and_be_overtaken(ids: list[int]) -> dict[int, Decimal]:
        loaded = {pk: Price.objects.get(product=pk, position=1).amount for pk in ids}
        if not overtaken:
            overtaken.append(True)
            Price.objects.filter(pk=price.pk).update(amount=Decimal("1.23"))
            prices.invalidate(ids)
        return loaded

    prices: StampedRows[Decimal] = StampedRows("race", load_and_be_overtaken, timeout=60)

    assert prices.read([7]).rows[7] == price.amount
    assert prices.read([7]).rows[7] == Decimal("1.23")
    assert prices.read([7]).verdict == "hit=1 miss=0"


def test_rows_saved_elsewhere_are_invalidated(client: Client, django_capture_on_commit_callbacks) -> None:
    OrderLine.objects.filter(product=7).delete()
    for pk in (7, 8):
        client.get(f"/products/{pk}/")
    with django_capture_on_commit_callbacks(execute=True):
        Product.objects.get(pk=7).delete()
        brand = Brand.objects.get(products=8)
        brand.name = "Renamed & Sons"
        brand.save()

    assert client.get("/products/7/").status_code == 404
    assert "Renamed &amp; Sons" in client.get("/products/8/").content.decode()


def test_saving_a_price_counts_its_revision() -> None:
    price = Price.objects.get(product=7, position=1)
    price.save()
    price.save()
    assert Price.objects.get(pk=price.pk).revision == 3


def test_order_empties_the_cart_and_takes_from_the_stock(trusted: Client, django_capture_on_commit_callbacks) -> None:
    Inventory.objects.filter(product=7).update(quantity=5)
    catalogue.products.invalidate([7])
    trusted.get("/customers/1/")
    for _ in range(2):
        assert trusted.post("/cart/add/7/").status_code == 302
    assert "2 × " in trusted.get("/cart/").content.decode()

    with django_capture_on_commit_callbacks(execute=True):
        answer = trusted.post("/cart/checkout/1/")

    order = Order.objects.latest("pk")
    assert answer["Location"] == "/customers/1/"
    assert f"<td>{order.pk}</td>" in trusted.get("/customers/1/").content.decode()
    assert order.total == 2 * Price.objects.get(product=7, position=1).amount
    assert trusted.get("/api/products/7/stock/").json()["stock"] == 3
    assert "Nothing here yet." in trusted.get("/cart/").content.decode()


def test_order_of_more_than_there_is_changes_nothing(trusted: Client) -> None:
    Inventory.objects.filter(product__in=[7, 8]).update(quantity=1)
    before = Order.objects.count()
    for _ in range(2):
        trusted.post("/cart/add/8/")
    trusted.post("/cart/add/7/")

    assert trusted.post("/cart/checkout/1/").status_code == 409
    assert Order.objects.count() == before
    assert set(Inventory.objects.filter(product__in=[7, 8]).values_list("quantity", flat=True)) == {1}


def test_carts_belong_to_their_sessions() -> None:
    one, other = (Client(headers={"X-Shop-Token": TOKEN}) for _ in range(2))
    one.post("/cart/add/7/")
    assert "1 × " in one.get("/cart/").content.decode()
    assert "Nothing here yet." in other.get("/cart/").content.decode()


def test_empty_cart_cannot_be_ordered(trusted: Client) -> None:
    assert trusted.post("/cart/checkout/1/").status_code == 409


@pytest.mark.parametrize("ids", ["", "1,x", ",".join(["1"] * 21)])
def test_compare_refuses_what_is_no_short_list_of_numbers(client: Client, ids: str) -> None:
    assert client.get("/api/compare/", {"ids": ids}).status_code == 400


@pytest.mark.django_db(transaction=True)
async def test_async_pages_read_what_sync_pages_stored(async_client: AsyncClient) -> None:
    first = await async_client.get("/api/products/9/")
    second = await async_client.get("/api/products/9/")
    assert [first["X-Shop-Cache"], second["X-Shop-Cache"]] == ["hit=0 miss=1", "hit=1 miss=0"]
    assert (await async_client.get("/products/9/"))["X-Shop-Cache"] == "hit=1 miss=0"


def test_lists_are_paged(client: Client, settings) -> None:
    Product.objects.update(category=1)
    first = client.get("/categories/1/").content.decode()
    last = client.get("/categories/1/?page=99").content.decode()
    assert "page 1 of 3" in first
    assert 'rel="next"' in first
    assert "page 3 of 3" in last
    assert first.count("<li>") == catalogue.PAGE_SIZE
    assert last.count("<li>") == PRODUCTS - 2 * catalogue.PAGE_SIZE
    assert client.get("/categories/1/?page=nonsense").status_code == 200


def test_admin_lists_and_edits(admin_client: Client, django_capture_on_commit_callbacks) -> None:
    for name in ("product", "category", "brand", "customer", "order"):
        assert admin_client.get(f"/admin/shop/{name}/").status_code == 200
    catalogue.customers.read([1])
    with django_capture_on_commit_callbacks(execute=True):
        data = {"name": "Zoe Zimt", "email": "zoe@example.com", "city": "Graz", "joined": "2020-01-01"}
        assert admin_client.post("/admin/shop/customer/1/change/", data).status_code == 302
    assert "Zoe Zimt" in admin_client.get("/customers/1/").content.decode()


def test_invalidation_that_a_dead_node_missed_is_reported(settings, distcache_nodes: NodesFactory) -> None:
    nodes = distcache_nodes(2)
    _configure(settings, nodes)
    ids = list(range(1, PRODUCTS + 1))
    assert catalogue.products.invalidate(ids) is True

    next(iter(nodes.values())).kill()

    changes = [writes.change_price(pk, 1, Decimal(pk)) for pk in ids]
    assert {change.is_invalidated for change in changes} == {True, False}
    assert {change.revision for change in changes} == {2}
    rows = catalogue.products.read(ids).rows
    assert [rows[pk]["prices"][0]["amount"] for pk in ids] == ids


def test_load_shop_makes_the_same_shop_from_the_same_seed() -> None:
    before = _contents()
    with pytest.raises(CommandError, match="--replace"):
        call_command("load_shop", products=PRODUCTS, verbosity=0)
    call_command("load_shop", products=PRODUCTS, replace=True, verbosity=0)
    assert _contents() == before
    call_command("load_shop", products=PRODUCTS, seed=2, replace=True, verbosity=0)
    assert _contents() != before


def test_load_shop_leaves_room_for_new_rows() -> None:
    assert Customer.objects.create(name="N", email="n@example.com", city="X", joined="2024-01-01").pk > 30


def _contents() -> list[list[tuple[object, ...]]]:
    return [list(model.objects.order_by("pk").values_list()) for model in (Product, Inventory, Customer, Order)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://a:1/0", ["redis://a:1/0"]),
        ("redis://a:1/0?x=y redis://b:1/0", ["redis://a:1/0?x=y", "redis://b:1/0"]),
        ("one=redis://a:1/0,two=redis://b:1/0", {"one": "redis://a:1/0", "two": "redis://b:1/0"}),
    ],
)
def test_nodes_are_read_with_or_without_names(monkeypatch: pytest.MonkeyPatch, text: str, expected: object) -> None:
    monkeypatch.setenv("NODES", text)
    assert environment.nodes("NODES", "") == expected


def test_half_named_nodes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODES", "one=redis://a:1/0,redis://b:1/0")
    with pytest.raises(ImproperlyConfigured, match="NODES mixes"):
        environment.nodes("NODES", "")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "postgresql://u:p%40ss@db:5433/shop",
            {"NAME": "shop", "USER": "u", "PASSWORD": "p@ss", "HOST": "db", "PORT": "5433"},
        ),
        (
            "postgres:///shop?host=/run/pg&sslmode=require",
            {"NAME": "shop", "HOST": "/run/pg", "OPTIONS": {"sslmode": "require"}},
        ),
        ("sqlite:///shop.sqlite3", {"NAME": "shop.sqlite3"}),
        ("sqlite:////var/shop.sqlite3", {"NAME": "/var/shop.sqlite3"}),
        ("sqlite:///:memory:", {"NAME": ":memory:"}),
    ],
)
def test_database_url_is_read(monkeypatch: pytest.MonkeyPatch, url: str, expected: dict[str, object]) -> None:
    monkeypatch.setenv("DB", url)
    read = environment.database("DB", "")
    assert {name: read[name] for name in expected} == expected


def test_unknown_database_and_flag_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB", "oracle://x/y")
    with pytest.raises(ImproperlyConfigured, match="DB must start with"):
        environment.database("DB", "")
    monkeypatch.setenv("SWITCH", "perhaps")
    with pytest.raises(ImproperlyConfigured, match="SWITCH must be"):
        environment.flag("SWITCH", default=True)
