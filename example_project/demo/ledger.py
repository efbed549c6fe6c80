"""What the load generator was told about prices, and whether a page shows something older."""

import json
import re
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

_IN_HTML = re.compile(rb'data-position="(\d+)" data-revision="(\d+)"')

Revisions = dict[tuple[int, int], int]


@dataclass(frozen=True, slots=True)
class Promise:
    """The least revisions a page may show that is asked for now, by product and position.

    `invalidated` were committed and the cache had taken note; `committed` also holds those of which a cache
    node that was away had not.
    """

    invalidated: Revisions = field(default_factory=dict)
    committed: Revisions = field(default_factory=dict)


class PriceLedger:
    """Remember acknowledged price changes; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards both dictionaries
        self._invalidated: dict[int, dict[int, int]] = {}
        self._committed: dict[int, dict[int, int]] = {}

    def acknowledge(
        self, product: int, position: int, revision: int, *, is_invalidated: bool, before: Promise | None
    ) -> None:
        """Take note of a change that the shop has acknowledged; `before` is the promise when it was sent.

        An invalidation voids all copies of the product, so it covers what had been committed by then too.
        """
        with self._lock:
            _raise(self._committed, (product, position), revision)
            if is_invalidated:
                _raise(self._invalidated, (product, position), revision)
                for key, newest in before.committed.items() if before else ():
                    _raise(self._invalidated, key, newest)

    def promise(self, products: Iterable[int]) -> Promise | None:
        """Say what a page with these products must show from now on; None where nothing was changed yet."""
        with self._lock:
            changed = [product for product in products if product in self._committed]
            if not changed:
                return None
            return Promise(_taken(self._invalidated, changed), _taken(self._committed, changed))


def _raise(revisions: dict[int, dict[int, int]], key: tuple[int, int], revision: int) -> None:
    product, position = key
    known = revisions.setdefault(product, {})
    known[position] = max(known.get(position, 0), revision)


def _taken(revisions: dict[int, dict[int, int]], products: list[int]) -> Revisions:
    return {(p, position): newest for p in products for position, newest in revisions.get(p, {}).items()}


def shown_revisions(kind: str, product: int, body: bytes) -> Revisions:
    """Read the revisions of the prices that a page shows."""
    if kind in {"detail", "prices"}:
        found = ((int(position), int(revision)) for position, revision in _IN_HTML.findall(body))
        return {(product, position): revision for position, revision in found}
    return dict(_in_json(json.loads(body)))


def _in_json(answer: dict[str, object]) -> Iterator[tuple[tuple[int, int], int]]:
    match answer:
        case {"products": list(cards)}:
            for card in cards:
                yield from _in_json(card)
        case {"id": int(product), "prices": list(prices)}:
            for price in prices:
                yield (product, price["position"]), price["revision"]
        case {"product": int(product), "position": int(position), "revision": int(revision)}:
            yield (product, position), revision


def is_older(shown: Revisions, promised: Revisions) -> bool:
    """Tell whether a page shows a price below the promised revision."""
    return any(key in promised and revision < promised[key] for key, revision in shown.items())
