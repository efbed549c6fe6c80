"""One client of the shop: keep-alive connections, a visit at a time."""

import http.client
import json
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from example_project.demo.ledger import ITEMS, STOCK, Debt, Floor, Ledger, Revisions, Slot, judge
from example_project.demo.pages import ASYNCHRONOUS, LISTS, PathFinder, Visit
from example_project.demo.tally import Answer, SiteCounts

TIMEOUT = 20.0
FIRST_PRICE = 1
_PRICE = re.compile(rb'(?:data-product="(\d+)" )?data-position="(\d+)" data-revision="(\d+)"')
_STOCK = re.compile(rb'data-stock-revision="(\d+)"')


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for one request."""

    status: int
    body: bytes
    cookies: str
    cache: str
    queries: str

    @property
    def is_free(self) -> bool:
        """Tell whether it took no query."""
        return self.queries == "0"


class Connections:
    """Keep one connection to each address; a request that fails closes its connection and is not repeated."""

    def __init__(self, sync_port: int, async_port: int) -> None:
        self._ports = {False: sync_port, True: async_port}
        self._open: dict[int, http.client.HTTPConnection] = {}

    def send(self, method: str, path: str, *, body: str = "", headers: dict[str, str], is_async: bool = False) -> Reply:
        """Send a request and read its reply; raises OSError or HTTPException."""
        port = self._ports[is_async]
        connection = self._open.get(port)
        if connection is None:
            connection = self._open[port] = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
        try:
            connection.request(method, path, body or None, headers)
            response = connection.getresponse()
            cookies = response.headers.get_all("Set-Cookie", [])
            told = (response.headers.get(f"X-Shop-{name}", "") for name in ("Cache", "Queries"))
            return Reply(response.status, response.read(), "; ".join(cookies), *told)
        except (OSError, http.client.HTTPException):
            self.close_one(port)
            raise

    def close_one(self, port: int) -> None:
        """Close the connection to a port."""
        connection = self._open.pop(port, None)
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Close all connections."""
        for port in list(self._open):
            self.close_one(port)


class ShopClient:
    """Make visits and price changes, and judge what pages show. One thread uses it."""

    def __init__(
        self, connections: Connections, paths: PathFinder, ledger: Ledger, site: SiteCounts, *, token: str, seed: int
    ) -> None:
        self._connections = connections
        self._paths = paths
        self._ledger = ledger
        self._site = site
        self._trust = {"X-Shop-Token": token}
        self._random = random.Random(seed)
        self._carts: dict[int, str] = {}

    def visit(self, visit: Visit) -> Answer:
        """Ask for a visit's page."""
        if visit.kind == "cart":
            return self._visit_cart(visit)
        path, is_async = self._paths.path(visit), visit.kind in ASYNCHRONOUS
        floor, asked = self._floor(visit), time.monotonic_ns()
        started = time.perf_counter()
        try:
            reply = self._connections.send("GET", path, headers=self._trust, is_async=is_async)
        except (OSError, http.client.HTTPException) as error:
            return Answer(visit.kind, time.perf_counter() - started, f"{type(error).__name__}: {error}")
        seconds = time.perf_counter() - started
        if reply.status != 200:
            return Answer(visit.kind, seconds, f"{reply.status} for {path}")
        counts = self._note(reply)
        if floor is None:
            return Answer(visit.kind, seconds, is_free=reply.is_free)
        verdict = judge(shown_revisions(reply.body, self._paths.products(visit)), floor, self._ledger, asked)
        server = f", from process {counts['pid']}"
        return Answer(
            visit.kind,
            seconds,
            is_free=reply.is_free,
            is_checked=True,
            is_of_written=verdict.is_of_written,
            stale=verdict.stale and verdict.stale + server,
            suspended=verdict.suspended and verdict.suspended + server,
        )

    def _floor(self, visit: Visit) -> Floor | None:
        """Give what is known to be committed, before the page is asked for; None where it shows nothing of that."""
        if visit.kind in LISTS:
            return self._ledger.floor(1, self._paths.size, [FIRST_PRICE])
        products = self._paths.products(visit)
        return self._ledger.floor(min(products), max(products), range(ITEMS)) if products else None

    def change_price(self, visit: Visit) -> Answer:
        """Change a price of the product that the visit is for."""
        product, position = self._paths.product(visit), self._paths.position(visit)
        amount = f"{self._random.randrange(100, 50_000) / 100:.2f}"
        path = f"/api/products/{product}/prices/{position}/change/"
        started = time.perf_counter()
        try:
            reply = self._post(path, urlencode({"amount": amount}), {})
        except (OSError, http.client.HTTPException) as error:
            message = f"{type(error).__name__}: {error}"
            return Answer("change", time.perf_counter() - started, message, is_write=True)
        seconds = time.perf_counter() - started
        if reply.status != 200:
            return Answer("change", seconds, f"{reply.status} for {path}", is_write=True)
        counts = self._note(reply)
        written = {(product, position): json.loads(reply.body)["revision"]}
        self._ledger.commit(written, None if counts["warned"] else Debt(counts["pid"], counts["owed"]))
        return Answer("change", seconds, is_write=True)

    def _note(self, reply: Reply) -> dict[str, Any]:
        counts: dict[str, Any] = json.loads(reply.cache)
        self._site.saw(counts)
        if counts["settled"]:
            self._ledger.settle(counts["pid"], counts["owed"])
        return counts

    def _visit_cart(self, visit: Visit) -> Answer:
        visitor = self._paths.shown(visit)
        cookie = self._carts.get(visitor)
        path = "/cart/" if cookie else f"/cart/add/{visitor}/"
        started = time.perf_counter()
        try:
            if cookie:
                reply = self._connections.send("GET", path, headers={"Cookie": cookie})
            else:
                reply = self._post(path, "", {})
        except (OSError, http.client.HTTPException) as error:
            return Answer("cart", time.perf_counter() - started, f"{type(error).__name__}: {error}")
        seconds = time.perf_counter() - started
        if reply.status != (200 if cookie else 302):
            return Answer("cart", seconds, f"{reply.status} for {path}")
        if cookie and b"Nothing here yet" in reply.body:
            return Answer("cart", seconds, "a cart was lost")
        if not cookie:
            self._carts[visitor] = reply.cookies.partition(";")[0]
        return Answer("cart", seconds, is_free=reply.is_free)

    def _post(self, path: str, body: str, headers: dict[str, str]) -> Reply:
        form = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(body))}
        return self._connections.send("POST", path, body=body, headers={**self._trust, **form, **headers})


def shown_revisions(body: bytes, products: tuple[int, ...]) -> Revisions:
    """Read the revisions that a page shows; where it does not name the product, it is of the first of `products`."""
    if body.startswith(b"{"):
        return dict(_in_json(json.loads(body)))
    found: Revisions = {}
    for product, position, revision in _PRICE.findall(body):
        found[int(product or products[0]), int(position)] = int(revision)
    for revision in _STOCK.findall(body):
        found[products[0], STOCK] = int(revision)
    return found


def _in_json(answer: dict[str, Any]) -> Iterator[tuple[Slot, int]]:
    for card in answer.get("products", ()):
        yield from _in_json(card)
    product = answer.get("id", answer.get("product", 0))
    for price in answer.get("prices", [answer] if "revision" in answer else []):
        yield (int(product), price["position"]), price["revision"]
    if "stock_revision" in answer:
        yield (int(product), STOCK), answer["stock_revision"]
