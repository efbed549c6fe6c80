"""Which page of the shop stands for which object of the trace.

The trace names objects of a shop's database: 30 types, each object by its id, some by an index too. Every
access becomes one request for the page that shows such an object here. The mix of pages, how many objects of
each kind there are, and how unequally they are wanted are measured in the trace: see `docs/how-to/demo.md`.
"""

from dataclasses import dataclass

from example_project.shop import plan


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of page: its share of the requests, and the popularity of what it shows.

    The object of rank r is wanted in proportion to (r + flatness) ** -slope (Zipf-Mandelbrot).
    """

    name: str
    share: float
    objects: int
    slope: float
    flatness: float
    types: tuple[int, ...] = ()


# Fitted to orm-busy.trace, 5,000,000 accesses (headissue GmbH, Jens Wilke, CC BY 4.0).
KINDS = (
    Kind("detail", 0.4796, 10_364, 2.1, 800, types=(17,)),
    Kind("stock", 0.0875, 6_613, 1.6, 450, types=(20,)),
    Kind("card", 0.0874, 6_654, 2.8, 1800, types=(18,)),
    Kind("compare", 0.0227, 5_974, 2.0, 600, types=(26,)),
    Kind("prices", 0.0692, 8_364, 2.0, 600, types=(19, 21)),
    Kind("price", 0.0628, 21_927, 1.1, 200, types=(23, 25)),
    Kind("category", 0.0531, 263, 3.1, 16, types=(7, 8)),
    Kind("customer", 0.0472, 8_542, 1.0, 8, types=(9, 10, 11, 12, 13)),
    Kind("brand", 0.0405, 618, 1.7, 8, types=(27,)),
    Kind("search", 0.0321, 1_575, 1.5, 32, types=(28, 29, 30)),
    Kind("cart", 0.0168, 765, 1.8, 32, types=(14, 15, 16)),
    Kind("home", 0.0011, 906, 1.0, 0),
)
BY_TYPE = {number: kind for kind in KINDS for number in kind.types}
HOME = KINDS[-1]
SHOWING_PRICES = frozenset({"detail", "card", "compare", "prices", "price"})
# Pages that show the first price of any products.
LISTS = frozenset({"category", "brand", "search"})
# Pages whose views are coroutines.
ASYNCHRONOUS = frozenset({"card", "compare"})
COMPARED = 4


@dataclass(frozen=True, slots=True)
class Visit:
    """One request to make: a kind of page, and the number of what it shows, counted from 1."""

    kind: str
    number: int
    position: int = 1


class PathFinder:
    """Turn visits into paths of a shop of a given size; numbers beyond its size start over."""

    def __init__(self, products: int) -> None:
        size = plan.ShopSize(products)
        self.size = size.products
        self._sizes = {
            "category": size.categories,
            "brand": size.brands,
            "customer": size.customers,
            "search": size.searches,
            "home": 1,
        }

    def shown(self, visit: Visit) -> int:
        """Give the number of the object that the visit's page shows."""
        return 1 + (visit.number - 1) % self._sizes.get(visit.kind, self.size)

    def products(self, visit: Visit) -> tuple[int, ...]:
        """Give the products whose prices or stock the visit's page shows; none for a list: it may be any."""
        if visit.kind not in {*SHOWING_PRICES, "stock"}:
            return ()
        first = self.shown(visit)
        if visit.kind != "compare":
            return (first,)
        return tuple(dict.fromkeys(1 + (first - 1 + step) % self.size for step in range(COMPARED)))

    def product(self, visit: Visit) -> int:
        """Give the product of the visit's number, whatever its page shows."""
        return 1 + (visit.number - 1) % self.size

    def position(self, visit: Visit) -> int:
        """Give the position of a price that this product has."""
        return 1 + (visit.position - 1) % plan.price_count(self.product(visit))

    def path(self, visit: Visit) -> str:
        """Give the path of the visit's page."""
        number = self.shown(visit)
        match visit.kind:
            case "detail":
                return f"/products/{number}/"
            case "prices":
                return f"/products/{number}/prices/"
            case "compare":
                return f"/api/compare/?ids={','.join(map(str, self.products(visit)))}"
            case "price":
                return f"/api/products/{number}/prices/{self.position(visit)}/"
            case "search":
                return f"/search/?q={plan.search_text(number).replace(' ', '+')}"
            case _:
                return _SIMPLE_PATHS[visit.kind].format(number)


_SIMPLE_PATHS = {
    "stock": "/api/products/{}/stock/",
    "card": "/api/products/{}/",
    "category": "/categories/{}/",
    "brand": "/brands/{}/",
    "customer": "/customers/{}/",
    "cart": "/cart/",
    "home": "/",
}
