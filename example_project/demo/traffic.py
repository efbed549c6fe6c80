"""Where visits come from: a recorded trace, or a stream drawn with the same mix and popularity."""

import bisect
import itertools
import lzma
import random
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path

from example_project.demo.pages import BY_TYPE, HOME, KINDS, Kind, Visit

CHUNK_BYTES = 1 << 16


def from_trace(path: Path) -> Iterator[Visit]:
    """Replay a trace, from its beginning again after its end.

    Ids are renumbered in the order of their first access, over all kinds of pages that show the same thing:
    the first product seen is product 1, whatever its number was.
    """
    numbers: dict[str, dict[int, int]] = {}
    while True:
        count = 0
        for access in _accesses(path):
            count += 1
            kind = BY_TYPE.get(access >> 27, HOME)
            seen = numbers.setdefault(_thing(kind), {})
            number = seen.setdefault((access >> 9) & 0x3FFFF, len(seen) + 1)
            yield Visit(kind.name, number, max(1, access & 0x1FF))
        if not count:
            raise ValueError(f"{path} holds no access: the format is 32-bit big-endian numbers")


def _thing(kind: Kind) -> str:
    return kind.name if kind.name in {"category", "brand", "customer", "search", "cart", "home"} else "product"


def _accesses(path: Path) -> Iterator[int]:
    opened = lzma.open(path) if path.suffix == ".xz" else path.open("rb")  # noqa: SIM115 (closed below)
    with opened as trace:
        while chunk := trace.read(CHUNK_BYTES):
            numbers = array("I", chunk[: len(chunk) // 4 * 4])
            if sys.byteorder == "little":
                numbers.byteswap()
            yield from numbers


def drawn(seed: int) -> Iterator[Visit]:
    """Draw visits for ever: kinds by their share, objects by their popularity."""
    rng = random.Random(seed)
    kinds = list(KINDS)
    ranks = {kind.name: _Ranks(kind) for kind in kinds}
    shares = list(itertools.accumulate(kind.share for kind in kinds))
    while True:
        kind = rng.choices(kinds, cum_weights=shares)[0]
        yield ranks[kind.name].draw(rng)


class _Ranks:
    """Draw the objects of one kind, the popular ones more often."""

    def __init__(self, kind: Kind) -> None:
        self._name = kind.name
        # A price is one of about two of its product, so twice as many prices as products are drawn from.
        self._positions = 2 if kind.name == "price" else 1
        weights = ((rank + kind.flatness) ** -kind.slope for rank in range(1, kind.objects + 1))
        self._cumulated = list(itertools.accumulate(weights))

    def draw(self, rng: random.Random) -> Visit:
        rank = bisect.bisect_left(self._cumulated, rng.random() * self._cumulated[-1])
        number, position = divmod(rank, self._positions)
        return Visit(self._name, number + 1, position + 1)
