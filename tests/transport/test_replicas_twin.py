"""The node in memory does to replicated records what a server does: the same histories give the same replies and bytes.

Run ids, clocks, and the end of quarantines differ, and are left out; expiries are compared to the day.
"""

import time
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distcache_django.core import requests as r
from distcache_django.core.record import COUNTER, LOCK, NO_TOUCH, TOMBSTONE, VALUE, Counter, Field, Folded, Record
from distcache_django.testing.memory_node import MemoryNode
from distcache_django.testing.resp import ask as raw
from tests.transport.conftest import ask

NODE = "cache-a"
HOUR, DAY = 3_600_000, 86_400_000
INCARNATIONS = [b"A-incarn", b"B-incarn"]
TOPOLOGY, OTHER = b"topology", b"\xff\x00\x80another"[:8]
KEYS = ["k", "\xe9 {x}"]
ABSENT = [b"\x00abc", b"\xff\xfe\x00\x01"]
FOREVER = 2**52
#: In the order of bytes: what a language would sort otherwise, what ends a C string, what has the highest bit set.
STAMPS = [
    (1).to_bytes(6) + b"\x00\x00" + b"\x00\x00\x00\x00\x00\x01",
    (1).to_bytes(6) + b"\x00\x00" + b"B-acto",
    (1).to_bytes(6) + b"\x00\x00" + b"a-acto",
    (1).to_bytes(6) + b"\x00\x80" + b"\x00\x00\x00\x00\x00\x00",
    (0x7FFF).to_bytes(6) + b"\x00\x00" + b"\xff\xff\xff\xff\xff\xff",
    (0x8000).to_bytes(6) + b"\x00\x00" + b"\x00\x00\x00\x00\x00\x00",
    (0xFF00).to_bytes(6) + b"\xff\xff" + b"\x80\x00\x00\x00\x00\x00",
]
AHEAD = (2**47).to_bytes(6) + bytes(8)
TOTALS = [0, 1, 2**31, 2**53, 2**53 + 1, 2**63, 2**64 - 2, 2**64 - 1]
FIELDS = [b"field--a", b"field--B", b"\x00\xff\x00\xff\x00\xff\x00\xff"]
TOUCHES = [bytes(8), b"\x00" * 5 + b"\x01\x00\x00", b"\x00" * 4 + b"\x80\x00\x00\x00"]


def made(kind, stamp, expires_at=0, touched=NO_TOUCH, payload=b""):
    """Return a record as it is sent."""
    return Record(kind, stamp, expires_at, payload, touched).pack()


totals = st.sampled_from(TOTALS)
ttls = st.sampled_from([None, DAY, 3 * DAY])
absents = st.sampled_from([b"", b"", ABSENT[0], ABSENT[1] + ABSENT[0]])
slots = st.integers(0, 40)
bounds = st.sampled_from([0, 1, 100])
named = st.sampled_from(FIELDS)
ends = st.sampled_from([0, 2**41])
touches = st.sampled_from(TOUCHES)
counters = st.builds(
    lambda fields, folded: Counter(-(2**62) - 1, fields, folded).pack(),
    st.dictionaries(named, st.builds(Field, totals, totals)),
    st.dictionaries(named, st.builds(Folded, totals, totals, totals), max_size=2),
)
topologies = st.sampled_from([TOPOLOGY] * 30 + [OTHER])
moments = st.sampled_from([FOREVER] * 30 + [1])
common = {"topology": topologies, "not_after_ms": moments}
marked = {**common, "absent": absents, "slot": slots, "missed_bound": bounds}
drift = {"drift_ms": st.just(HOUR)}
#: Notes are numbered one by one.
serials = st.integers(1, 12)


class Settling(NamedTuple):
    """Settle what is listed, all of it or not the slots."""

    tag: bytes
    is_all: bool


def records_of(stamps):
    return st.one_of(
        st.builds(made, st.just(VALUE), stamps, ends, touches, st.sampled_from([b"", b"one", b"x" * 300])),
        st.builds(made, st.sampled_from([TOMBSTONE, LOCK]), stamps, ends, touches),
        *[st.builds(made, st.just(COUNTER), stamps, ends, touches, counters)] * 4,
        st.builds(made, st.just(VALUE), st.just(AHEAD)),
    )


def puts_of(keys, stamps):
    items = st.lists(st.builds(r.PutItem, keys, records_of(stamps), ttls, absents, slots), min_size=1, max_size=3)
    return st.builds(r.Put, items, force=st.booleans(), missed_bound=bounds, **drift, **common)


def accidents_of(keys):
    """Return what happens to a node behind the back of all who ask it."""
    foreign = st.sampled_from([b"", b"\x10v too short", b"\x11" + b"v" * 50, 42])
    return st.one_of(
        st.builds(r.Remove, st.sampled_from([["dc:node"], ["dc:count"], ["dc:p:k"], ["k"]])),
        st.builds(r.Store, keys, foreign, ttls),
        st.just("another process"),
        st.just("an older release"),
    )


def requests_of(keys, stamps):
    written = st.lists(st.tuples(keys, stamps), max_size=3)
    notes = st.lists(st.builds(r.Noticed, keys, stamps, serials.map(lambda number: number.to_bytes(8))), max_size=3)
    missed = st.tuples(slots, serials)
    return st.one_of(
        *[puts_of(keys, stamps)] * 4,
        st.builds(r.Prepare, keys, stamps | st.just(AHEAD), grace_ms=st.just(DAY), **drift, **common),
        *[st.builds(r.Raise, keys, stamps, named, totals, totals, **marked)] * 3,
        st.builds(r.Void, written, **common),
        *[st.builds(r.Settle, st.sampled_from(ABSENT), notes, st.lists(missed, max_size=40), topologies)] * 2,
        st.builds(r.Noted, st.lists(st.tuples(keys, slots), max_size=4), topologies),
        st.builds(Settling, st.sampled_from(ABSENT), st.booleans()),
        st.builds(r.Rise, st.sampled_from(INCARNATIONS), topologies),
        st.builds(r.Register, st.sampled_from(INCARNATIONS), st.just(HOUR), st.sampled_from([b"", TOPOLOGY, OTHER])),
    )


@st.composite
def histories(draw):
    """Draw steps that meet: about few keys, with few stamps, and seldom an accident, after which a node registers."""
    keys = st.sampled_from(draw(st.sampled_from([KEYS, KEYS[:1]])))
    stamps = st.sampled_from(draw(st.lists(st.sampled_from(STAMPS), min_size=1, max_size=3, unique=True)))
    again = st.builds(r.Register, st.sampled_from(INCARNATIONS), st.just(HOUR), st.just(TOPOLOGY))
    parts = draw(st.lists(st.lists(requests_of(keys, stamps), min_size=3, max_size=15), min_size=1, max_size=3))
    accidents = [[draw(accidents_of(keys)), *draw(st.lists(again, max_size=1))] for _ in parts]
    return [step for part, accident in zip(parts, accidents, strict=True) for step in (*part, *accident)]


def plain(fence):
    """Return a fence without what is the server's own."""
    return None if fence is None else fence[:9] + fence[57:]


def comparable(request, reply):
    """Return a reply without what depends on the moment."""
    if isinstance(request, r.Register):
        return reply[0], reply[1] > 0, plain(reply[2])
    if isinstance(reply, r.Scripted):
        assert isinstance(reply.now_ms, int)
        return plain(reply.fence), reply.outcome
    return reply


def applied(send, step):
    """Do one step of a history and return what it replied."""
    if isinstance(step, r.Request):
        return comparable(step, send(step))
    if isinstance(step, Settling):
        keys, slots = noted(send, step.tag)
        return comparable(step, send(r.Settle(step.tag, keys, [*slots.items()] if step.is_all else (), TOPOLOGY)))
    fence = send(r.Fetch("dc:node"))
    if fence is None:
        return None
    changed = fence[:9] + b"f" * 40 + fence[49:] if step == "another process" else b"1" + fence[1:57]
    return send(r.Store("dc:node", changed, None))


def noted(send, tag):
    """Return all that is noted for a node, however many pages it has."""
    keys, slots, cursor = set[Any](), dict[int, int](), 0
    while True:
        cursor, page, more = send(r.Missed(tag, cursor, 1))
        keys.update(page)
        slots |= more
        if cursor == 0:
            return sorted(keys), slots


def state(send):
    """Return every byte that two nodes may differ in."""
    names = [name for key in KEYS for name in (key, f"dc:p:{key}")]
    expiries = [round(left / DAY) if (left := send(r.TimeToLive(name))) > 0 else left for name in names]
    values = send(r.FetchMany([*names, "dc:count", "dc:serial"]))
    return values, expiries, plain(send(r.Fetch("dc:node"))), [noted(send, tag) for tag in ABSENT]


@pytest.fixture(scope="module", params=["valkey", "redis"])
def url(request):
    """Return the URL of a server of either kind."""
    name = "_redis_nodes" if request.param == "redis" else "_distcache_session_nodes"
    nodes = request.getfixturevalue(name)
    nodes.restore()
    return nodes[NODE].url


@pytest.fixture
def driver(url, blocking):
    return blocking({NODE: url})


@settings(max_examples=75, deadline=None, suppress_health_check=list(HealthCheck))
@given(history=histories())
def test_histories_leave_the_same(url, driver, history):
    raw(url, ("FLUSHALL",))
    now = time.time()
    twin = MemoryNode(NODE, lambda: now)  # as in a script, time stands still while a request is executed
    sends = [lambda request: driver.run(ask(NODE, request)), twin.execute]
    for request in (r.Register(INCARNATIONS[0], HOUR, TOPOLOGY), r.Rise(INCARNATIONS[0], TOPOLOGY)):
        for send in sends:
            send(request)

    for number, step in enumerate(history):
        now = time.time()
        replies = [applied(send, step) for send in sends]
        assert replies[0] == replies[1], (number, step, replies)

    states = [state(send) for send in sends]
    assert states[0] == states[1]
