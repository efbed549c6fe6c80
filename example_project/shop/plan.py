"""How big a shop is and what its things are called; the load generator of the demo plans by it too."""

from dataclasses import dataclass

MATERIALS = "Oak Walnut Birch Steel Brass Copper Linen Cotton Wool Cork Slate Marble Glass Bamboo Felt Clay".split()
QUALITIES = "Light Quiet Folding Round Tall Narrow Classic Compact Sturdy Warm Bright Simple Rustic Modern".split()
THINGS = (
    "Chair Table Lamp Shelf Kettle Bowl Mirror Clock Basket Blanket Cushion Stool Tray Vase Bench Desk"
    " Pot Pan Jug Rug Curtain Hook Rack Candle Frame Plate Mug Knife Board Ladder Trolley Box Tin"
).split()
ROOMS = "Kitchen Study Garden Hall Bath Bedroom Workshop Balcony Cellar Nursery Parlour Attic".split()
MAKERS = "Alder Brook Crane Dale Elm Fjord Grove Heath Isle Juniper Kestrel Larch Moor Pine".split()
FIRST_NAMES = "Ada Ben Carla Dan Elif Femi Greta Hugo Ines Jan Kira Leo Mira Noor Otto Pia Rosa Sven Tara".split()
LAST_NAMES = "Adler Berg Costa Dahl Ebert Fink Gruber Holm Ito Jensen Kaya Lund Meyer Novak Okoye Reyes Sato".split()
CITIES = "Aarhus Bergen Bremen Delft Ghent Graz Leeds Linz Lyon Malmö Porto Riga Turin Uppsala".split()
LABELS = ("Single", "Pack of 3", "Pack of 10", "Box", "Club", "Trade", "Pallet", "Outlet")

# How many of 5,491 products have a 1st, 2nd, 3rd … price in the trace that the demo replays.
PRICE_COUNTS = (5491, 1751, 1428, 1040, 767, 281, 115, 34)


@dataclass(frozen=True, slots=True)
class ShopSize:
    """How many rows of each kind a shop of so many products has."""

    products: int

    @property
    def categories(self) -> int:
        """One for 80 products, at most 263."""
        return max(4, min(263, self.products // 80))

    @property
    def brands(self) -> int:
        """One for 20 products, at most 618."""
        return max(6, min(618, self.products // 20))

    @property
    def customers(self) -> int:
        """Half as many as products, at most 8,542."""
        return max(10, min(8_542, self.products // 2))

    @property
    def orders(self) -> int:
        """Two for a customer."""
        return 2 * self.customers

    @property
    def searches(self) -> int:
        """All pairs of a material and a thing."""
        return len(MATERIALS) * len(THINGS)


def price_count(product_id: int) -> int:
    """Tell how many prices a generated product has: between one and eight, two on average."""
    # A multiplicative hash (Knuth's): neighbouring products differ, and no random stream has to be replayed.
    draw = (product_id * 2_654_435_761 % 2**32) * PRICE_COUNTS[0] >> 32
    return sum(draw < count for count in PRICE_COUNTS)


def search_text(number: int) -> str:
    """Give the text of one of the searches, counted from 1: a material and a thing."""
    thing, material = divmod((number - 1) % (len(MATERIALS) * len(THINGS)), len(MATERIALS))
    return f"{MATERIALS[material]} {THINGS[thing]}"
