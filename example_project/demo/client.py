"""One client of the shop: keep-alive connections, a visit at a time."""

import http.client
import json
import random
import re
import time
from dataclasses import dataclass
from urllib.parse import urlencode

from example_project.demo.ledger import PriceLedger, Promise, is_older, shown_revisions
from example_project.demo.pages import ASYNCHRONOUS, PathFinder, Visit
from example_project.demo.tally import Answer

TIMEOUT = 20.0
_CACHED_ROWS = re.compile(r"hit=(\d+) miss=(\d+)")


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for one request."""

    status: int
    body: bytes
    cookies: str
    cached_rows: str


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
            rows = response.headers.get("X-Shop-Cache", "")
            return Reply(response.status, response.read(), "; ".join(cookies), rows)
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
    """Make visits and price changes, and check what pages show. One thread uses it."""

    def __init__(
        self, connections: Connections, paths: PathFinder, ledger: PriceLedger, *, token: str, seed: int
    ) -> None:
        self._connections = connections
        self._paths = paths
        self._ledger = ledger
        self._trust = {"X-Shop-Token": token}
        self._random = random.Random(seed)
        self._carts: dict[int, str] = {}

    def visit(self, visit: Visit) -> Answer:
        """Ask for a visit's page."""
        if visit.kind == "cart":
            return self._visit_cart(visit)
        products = self._paths.products(visit)
        promise = self._ledger.promise(products)
        started = time.perf_counter()
        try:
            reply = self._connections.send(
                "GET",
                self._paths.path(visit),
                headers=self._trust,
                is_async=visit.kind in ASYNCHRONOUS,
            )
        except (OSError, http.client.HTTPException) as error:
            return Answer(visit.kind, time.perf_counter() - started, f"{type(error).__name__}: {error}")
        seconds = time.perf_counter() - started
        if reply.status != 200:
            return Answer(visit.kind, seconds, f"{reply.status} for {self._paths.path(visit)}")
        return _checked(visit, seconds, reply, promise, products)

    def change_price(self, visit: Visit) -> Answer:
        """Change a price of the product that the visit is for."""
        product, position = self._paths.shown(visit), self._paths.position(visit)
        before = self._ledger.promise([product])
        amount = f"{self._random.randrange(100, 50_000) / 100:.2f}"
        path = f"/api/products/{product}/prices/{position}/change/"
        started = time.perf_counter()
        try:
            reply = self._post(path, urlencode({"amount": amount}), {})
        except (OSError, http.client.HTTPException) as error:
            message = f"{type(error).__name__}: {error}"
            return Answer("change", time.perf_counter() - started, message, is_write=True)
        seconds = time.perf_counter() - started
        if reply.status not in {200, 202}:
            return Answer("change", seconds, f"{reply.status} for {path}", is_write=True)
        answer = json.loads(reply.body)
        done = bool(answer["invalidated"])
        self._ledger.acknowledge(product, position, answer["revision"], is_invalidated=done, before=before)
        return Answer("change", seconds, is_write=True, is_uninvalidated=not done)

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
        return Answer("cart", seconds)

    def _post(self, path: str, body: str, headers: dict[str, str]) -> Reply:
        form = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(body))}
        return self._connections.send("POST", path, body=body, headers={**self._trust, **form, **headers})


def _checked(visit: Visit, seconds: float, reply: Reply, promise: Promise | None, products: tuple[int, ...]) -> Answer:
    rows = _CACHED_ROWS.match(reply.cached_rows)
    hits, misses = (int(rows[1]), int(rows[2])) if rows else (0, 0)
    if promise is None:
        return Answer(visit.kind, seconds, hits=hits, misses=misses)
    shown = shown_revisions(visit.kind, products[0], reply.body)
    is_stale = is_older(shown, promise.invalidated)
    return Answer(
        visit.kind,
        seconds,
        hits=hits,
        misses=misses,
        is_checked=True,
        is_stale=is_stale,
        is_waiting=not is_stale and is_older(shown, promise.committed),
    )
