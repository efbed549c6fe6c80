"""The example shop: its pages, what they cost, and that no page shows what a write has replaced."""

import importlib
import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import cache
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import F
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext

from distcache_django.freshness.service import freshness
from distcache_django.testing.plugin import NodesFactory
from distcache_django.testing.servers import LocalNodes
from example_project import environment
from example_project.shop import catalogue
from example_project.shop.models import Brand, Customer, Inventory, Order, OrderLine, Price, Product
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.servers, pytest.mark.django_db, pytest.mark.urls("example_project.urls")]

TOKEN = "a-token-of-the-tests"
PRODUCTS = 60
_prefixes = itertools.count()


@pytest.fixture(scope="module")
def nodes() -> Iterator[LocalNodes]:
    """Nodes that no test empties: each would have to wait for the end of the quarantine after that."""
    with LocalNodes(4) as nodes:
        yield nodes


@pytest.fixture(autouse=True)
def shop(settings, monkeypatch: pytest.MonkeyPatch, nodes: LocalNodes) -> Iterator[None]:
    monkeypatch.setenv("SECRET_KEY", "a-key-of-the-tests")
    shop_settings = importlib.import_module("example_project.settings")
    for name in ("MIDDLEWARE", "TEMPLATES", "SESSION_ENGINE", "STATIC_URL"):
        setattr(settings, name, getattr(shop_settings, name))
    settings.SERVE_STATIC = False
    settings.SHOP_API_TOKEN = TOKEN
    _configure(settings, nodes, shop_settings.DISTCACHE)
    call_command("load_shop", products=PRODUCTS, verbosity=0)
    # A node that was just started has no vote yet, and nothing is stored.
    wait_until(lambda: freshness().versions_of([f"#{tag}" for tag in range(32)]), what="votes of all nodes")
    yield
    cache.close()


def _configure(settings, nodes: LocalNodes, distcache: dict[str, Any]) -> None:
    settings.CACHES = {
        "default": {
            "BACKEND": "distcache_django.DistributedCache",
            "LOCATION": nodes.urls,
            # Each test finds nothing cached.
            "KEY_PREFIX": f"shop{next(_prefixes)}",
            # Pages are judged here, not what a busy machine does to a deadline.
            "OPTIONS": {"DEADLINE": 1.0, "SOCKET_CONNECT_TIMEOUT": 1.0},
        }
    }
    settings.DISTCACHE = distcache


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
        ("/products/7/", 4),
        ("/products/7/prices/", 2),
        ("/customers/3/", 2),
        ("/categories/1/", 4),
        ("/search/?q=oak", 3),
        ("/api/products/7/stock/", 1),
        ("/api/products/7/prices/1/", 1),
        ("/api/compare/?ids=1,2,3,4,5", 2),
    ],
)
def test_pages_ask_the_database_little_when_cold_and_nothing_when_warm(trusted: Client, path: str, cold: int) -> None:
    with CaptureQueriesContext(connection) as first:
        trusted.get(path)
    with CaptureQueriesContext(connection) as second:
        trusted.get(path)
    assert 1 <= len(first) <= cold, [query["sql"] for query in first]
    assert len(second) == 0, [query["sql"] for query in second]


def test_response_tells_what_it_cost_the_database(client: Client, trusted: Client) -> None:
    assert [client.get("/products/5/")["X-Shop-Queries"] for _ in range(2)] == ["4", "0"]
    assert "X-Shop-Cache" not in client.get("/products/5/")
    before, after = (json.loads(trusted.get("/products/5/")["X-Shop-Cache"]) for _ in range(2))
    assert before["pid"] == after["pid"]
    assert after["hits"] == before["hits"] + 2
    assert after["misses"] == before["misses"]
    answer = trusted.post("/api/products/5/prices/1/change/", {"amount": "2"})
    assert json.loads(answer["X-Shop-Cache"])["bumps"] > after["bumps"]
    assert json.loads(answer["X-Shop-Cache"])["warned"] is True


def test_price_change_shows_on_every_page_at_once(trusted: Client) -> None:
    shelf = f"/categories/{Product.objects.get(pk=7).category_id}/"
    pages = ["/products/7/", "/products/7/prices/", "/api/products/7/prices/1/", "/api/products/7/", shelf]
    for path in pages:
        trusted.get(path)

    answer = trusted.post("/api/products/7/prices/1/change/", {"amount": "4711.42"})

    assert answer.status_code == 200
    assert answer.json() == {"product": 7, "position": 1, "amount": "4711.42", "revision": 2}
    for path in pages:
        assert "4711.42" in trusted.get(path).content.decode(), path


def test_pages_of_other_products_stay_cached_when_a_price_changes(trusted: Client) -> None:
    """Products 1 and 40 are in different categories and of different brands."""
    one, other = Product.objects.get(pk=1), Product.objects.exclude(category=1).exclude(brand=1).first()
    assert other is not None
    one_brand = Product.objects.filter(pk=one.pk)
    one_brand.update(category=1, brand=1)
    pages = [f"/products/{other.pk}/", f"/products/{other.pk}/prices/", f"/categories/{other.category_id}/", "/"]
    for path in pages:
        trusted.get(path)
    trusted.post(f"/api/products/{one.pk}/prices/1/change/", {"amount": "4711.42"})
    Inventory.objects.filter(pk=one.pk).update(quantity=F("quantity") + 1)
    assert [trusted.get(path)["X-Shop-Queries"] for path in pages] == ["0"] * len(pages)


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


def test_writes_of_every_kind_show_at_once(client: Client) -> None:
    OrderLine.objects.filter(product=7).delete()
    pages = ["/products/7/", "/products/8/", "/api/products/8/stock/", "/products/8/prices/"]
    for path in pages:
        client.get(path)

    Product.objects.get(pk=7).delete()
    brand = Brand.objects.get(products=8)
    brand.name = "Renamed & Sons"
    brand.save()
    Inventory.objects.filter(product__brand=brand).update(quantity=F("quantity") + 1000)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE shop_price SET amount = 47.11 WHERE product_id = 8")

    gone, detail, stock, prices = (client.get(path) for path in pages)
    assert gone.status_code == 404
    assert "Renamed &amp; Sons" in detail.content.decode()
    assert stock.json()["stock"] >= 1000
    assert "47.11" in prices.content.decode()


@pytest.mark.parametrize("model", [Price, Inventory])
def test_saving_counts_the_revision(model: type[Price | Inventory]) -> None:
    row = model.objects.get(pk=7)
    row.save()
    row.save()
    assert model.objects.get(pk=7).revision == 3


def test_order_empties_the_cart_and_takes_from_the_stock(trusted: Client) -> None:
    Inventory.objects.filter(product=7).update(quantity=5)
    assert trusted.get("/api/products/7/stock/").json()["stock"] == 5
    trusted.get("/customers/1/")
    for _ in range(2):
        assert trusted.post("/cart/add/7/").status_code == 302
    assert "2 × " in trusted.get("/cart/").content.decode()

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
async def test_async_pages_are_cached_and_share_what_sync_pages_read(async_client: AsyncClient) -> None:
    paths = ["/api/products/9/", "/api/products/9/", "/products/9/"]
    queries = [(await async_client.get(path))["X-Shop-Queries"] for path in paths]
    # A product's page takes four; the prices were read for the card.
    assert queries == ["2", "0", "3"]


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


def test_admin_lists_and_edits(admin_client: Client) -> None:
    for name in ("product", "category", "brand", "customer", "order"):
        assert admin_client.get(f"/admin/shop/{name}/").status_code == 200
    admin_client.get("/customers/1/")
    data = {"name": "Zoe Zimt", "email": "zoe@example.com", "city": "Graz", "joined": "2020-01-01"}
    assert admin_client.post("/admin/shop/customer/1/change/", data).status_code == 302
    assert "Zoe Zimt" in admin_client.get("/customers/1/").content.decode()


def test_pages_and_writes_go_on_with_a_node_that_is_dead(settings, distcache_nodes: NodesFactory) -> None:
    nodes = distcache_nodes(2)
    _configure(settings, nodes, settings.DISTCACHE)
    trusted = Client(headers={"X-Shop-Token": TOKEN})
    for pk in range(1, 11):
        trusted.get(f"/products/{pk}/prices/")

    next(iter(nodes.values())).kill()

    answers = [trusted.post(f"/api/products/{pk}/prices/1/change/", {"amount": str(pk)}) for pk in range(1, 11)]
    assert {answer.json()["revision"] for answer in answers} == {2}
    assert json.loads(answers[-1]["X-Shop-Cache"])["owed"] > 0
    for pk in range(1, 11):
        assert f"<td>{pk}.00 €</td>" in trusted.get(f"/products/{pk}/prices/").content.decode()


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
