"""Map keys to slots, and slots to the nodes that stand nearest on the hash ring.

Theory. The key space is cut into 16384 slots by the top 14 bits of a key's 32-bit
MurmurHash3. Slots, not keys, are placed on nodes: placing a slot is a matter of start-up,
finding a key's slot one hash and one shift.

The ring is the circle of 64-bit numbers. Every node stands on it at many points (its
virtual nodes), which depend on the node's *name* only, and slot ``s`` stands at
``s << 50``. Walking from a slot's position to larger numbers, and on from zero at the end,
meets every node for a first time in some order: the slot's *ring order*. Nodes that come or
go leave the order of the others as it was, which is what makes the hashing consistent.

The walk alone would leave nodes several per cent over or under their share. So the number
of slots of each node is fixed first (`quotas`, by weight, off by less than one slot), and
`fill` hands out the slots in ring order without exceeding it.

Everything here is integer arithmetic on exact values: the outcome is the same in every
process, Python and language. ``docs/reference/placement.md`` holds test vectors.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from math import lcm

from mmh3 import hash as murmur3_32
from mmh3 import mmh3_x64_128_utupledigest as murmur3_two_words

SLOT_COUNT = 16384

SLOT_SHIFT = 32 - 14
_POSITION_SHIFT = 64 - 14

# Looking for a number in bytes is several times faster than looking for bytes in them.
_BRACE = ord("{")


def slot_of(key: str | bytes) -> int:
    """Return the slot of a key, from 0 to 16383.

    Text counts as its UTF-8 bytes. Where the key holds a non-empty hash tag (the text between
    the first ``{`` and the first ``}`` after it) only the tag is hashed, as in Redis Cluster, so
    keys that share a tag share a slot. Text with a lone surrogate has no UTF-8 form: ValueError.
    """
    if isinstance(key, str):
        # mmh3 dereferences a null pointer for text that has no UTF-8 form (seen in 5.3), and
        # isascii() reads a flag: only text that cannot crash it goes in without encoding.
        if "{" not in key and key.isascii():
            return murmur3_32(key, 0, False) >> SLOT_SHIFT
        key = _utf8(key)
    if _BRACE in key:
        key = _hashed_part(key)
    return murmur3_32(key, 0, False) >> SLOT_SHIFT


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{text!r} holds a lone surrogate, so it has no UTF-8 form to hash") from error


def _hashed_part(key: bytes) -> bytes:
    start = key.index(_BRACE) + 1
    end = key.find(b"}", start)
    return key[start:end] if end > start else key


def ring_points(weights: Mapping[str, float], virtual_nodes: int) -> list[tuple[int, str]]:
    """Return the virtual nodes of all nodes as sorted (point, name) pairs.

    A node has ``virtual_nodes`` per unit of weight, rounded, and at least one. The 128-bit hash of
    ``name-i`` gives its points ``2i`` and ``2i + 1``.
    """
    points: list[tuple[int, str]] = []
    for name, weight in weights.items():
        count = max(1, int(virtual_nodes * weight + 0.5))
        for index in range((count + 1) // 2):
            first, second = murmur3_two_words(_utf8(f"{name}-{index}"))
            points.append((first, name))
            if 2 * index + 1 < count:
                points.append((second, name))
    points.sort()
    return points


def ring_orders(points: list[tuple[int, str]]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield (slot, ring order) from the last slot to the first.

    Going backwards, each point passed moves its node to the front of the order, so all orders
    together cost one pass over points and slots. Slots with no point between share one tuple.
    """
    order = list(dict.fromkeys(name for _, name in points))
    current = tuple(order)
    last = len(points) - 1
    for slot in reversed(range(SLOT_COUNT)):
        position = slot << _POSITION_SHIFT
        moved = False
        while last >= 0 and points[last][0] >= position:
            name = points[last][1]
            order.remove(name)
            order.insert(0, name)
            last -= 1
            moved = True
        if moved:
            current = tuple(order)
        yield slot, current


def integer_weights(weights: Mapping[str, float]) -> dict[str, int]:
    """Return whole numbers in exactly the proportion of the given weights."""
    exact = {name: Fraction(weight) for name, weight in weights.items()}
    scale = lcm(*(weight.denominator for weight in exact.values()))
    return {name: int(weight * scale) for name, weight in exact.items()}


def quotas(weights: Mapping[str, float]) -> dict[str, int]:
    """Return how many slots each node gets: its exact share, rounded down or up.

    The largest remainders are rounded up; of equal ones those of the first names.
    """
    whole = integer_weights(weights)
    total = sum(whole.values())
    counts = {name: SLOT_COUNT * weight // total for name, weight in whole.items()}
    by_remainder = sorted(whole, key=lambda name: (-(SLOT_COUNT * whole[name] % total), name))
    for name in by_remainder[: SLOT_COUNT - sum(counts.values())]:
        counts[name] += 1
    return counts


def donors(weights: Mapping[str, float], counts: Mapping[str, int], new: str) -> Iterator[str]:
    """Yield, for each slot that a new node is due, the node that is then most over its share."""
    whole = integer_weights(weights)
    total = sum(whole.values())
    due = (2 * SLOT_COUNT * whole[new] + total) // (2 * total)
    heap = [(SLOT_COUNT * whole[name] - counts[name] * total, name) for name in whole if name != new]
    yield from _take_smallest(heap, due, total)


def receivers(weights: Mapping[str, float], counts: Mapping[str, int], freed: int) -> Iterator[str]:
    """Yield, for each slot set free, the node that is then most under its share."""
    whole = integer_weights(weights)
    total = sum(whole.values())
    heap = [(counts[name] * total - SLOT_COUNT * whole[name], name) for name in whole]
    yield from _take_smallest(heap, freed, total)


def _take_smallest(heap: list[tuple[int, str]], times: int, step: int) -> Iterator[str]:
    heapq.heapify(heap)
    for _ in range(times):
        value, name = heap[0]
        heapq.heapreplace(heap, (value + step, name))
        yield name


def fill(orders: Iterable[tuple[int, tuple[str, ...]]], room: Mapping[str, int]) -> dict[int, str]:
    """Give each slot a node, none more than it has room for; the rooms sum to the slots.

    First every slot goes to the first node of its ring order while that has room; then each
    slot left over goes to the first node of its order that still has.
    """
    free = dict(room)
    placed: dict[int, str] = {}
    left: list[tuple[int, tuple[str, ...]]] = []
    for slot, order in orders:
        if free.get(order[0], 0):
            placed[slot] = order[0]
            free[order[0]] -= 1
        else:
            left.append((slot, order))
    for slot, order in left:
        name = next(name for name in order if free.get(name, 0))
        placed[slot] = name
        free[name] -= 1
    return placed
