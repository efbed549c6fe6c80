"""Counters, and what others miss mean the same on every transport and server."""

import pytest

from distcache_django.core import requests as r
from distcache_django.core.fence import Fence
from distcache_django.core.record import LOCK, TOMBSTONE, VALUE, Counter, Field, Folded
from distcache_django.exceptions import NodeRefused, TransportError
from tests.transport.conftest import ask, gather
from tests.transport.replicas import (
    AWAY,
    DAY,
    DRIFT,
    FOREVER,
    GONE,
    NEW,
    NODE,
    OLD,
    STAMP,
    TOPOLOGY,
    A,
    B,
    all_kinds,
    counted,
    counter,
    fence,
    forget,
    kept,
    marks,
    missed,
    noted,
    outcome,
    prepare,
    put,
    raised,
    serial,
    settle,
    stamp,
    stored,
    value,
    void,
)

#: When a record ends that never does.
ALWAYS = bytes(8)
#: What is said of a record that is gone for good.
OVER = (1).to_bytes(8)


@pytest.fixture
def send(scripted):
    """Send one request to the node and return its reply."""
    return lambda request: scripted.run(ask(NODE, request))


@pytest.fixture
def node(send):
    """Have the node registered and up."""
    send(r.Register(A, 0, TOPOLOGY))
    assert outcome(send, r.Rise(A, TOPOLOGY)) is True
    return send


# ---------------------------------------------------------------- counters


@pytest.mark.parametrize("large", [1, 2**53 + 1, 2**63, 2**64 - 1])
def test_fields_of_counters_are_joined_exactly(node, large):
    ours = {b"field--1": Field(large, 0), b"field--2": Field(large - 1, large)}
    theirs = {b"field--2": Field(large, large - 1), b"field--3": Field(0, large)}
    stored(node, counter(ours, {b"folded-1": Folded(large, 0, large - 1)}, base=-(2**63)), ttl_ms=DAY)

    answer = stored(node, counter(theirs, {b"folded-1": Folded(large - 1, 1, large)}, base=-(2**63)), ttl_ms=DAY)

    assert answer == b"="
    joined = {b"field--1": Field(large, 0), b"field--2": Field(large, large), b"field--3": Field(0, large)}
    assert counted(node) == Counter(-(2**63), joined, {b"folded-1": Folded(large, 1, large)})
    assert 0 < node(r.TimeToLive("k")) <= DAY


def test_a_newer_base_knows_nothing_of_the_fields_of_the_older(node):
    stored(node, counter({b"field--1": Field(5, 0)}))

    assert stored(node, counter(base=7, at=NEW)) == b"S"

    assert counted(node) == Counter(7, {}, {})


def test_fields_of_a_void_counter_are_joined_too(node):
    stored(node, counter({b"field--1": Field(5, 0)}))
    forget(node)

    assert stored(node, counter({b"field--2": Field(1, 0)})) == b"="

    assert counted(node).fields == {b"field--1": Field(5, 0), b"field--2": Field(1, 0)}
    assert kept(node).node == B[:4]


@pytest.mark.parametrize("large", [1, 2**53 + 1, 2**64 - 1])
def test_a_field_only_grows(node, large):
    stored(node, counter({b"field--2": Field(7, 7)}, {b"folded-1": Folded(1, 2, 3)}, base=5), ttl_ms=DAY)

    for plus, minus in [(large, 0), (large - 1, 0), (large, 0), (0, large)]:
        status, record = outcome(node, raised(plus, minus))
        assert (status, record) == (b"S", node(r.Fetch("k")))

    assert counted(node).fields == {b"field--2": Field(7, 7), b"field--1": Field(large, large)}
    assert (counted(node).base, counted(node).folded) == (5, {b"folded-1": Folded(1, 2, 3)})
    assert 0 < node(r.TimeToLive("k")) <= DAY


def test_a_field_counts_for_its_base_only(node):
    assert outcome(node, raised()) == (b"B", None)
    stored(node, counter(at=STAMP))
    before = node(r.Fetch("k"))

    assert outcome(node, raised(base=NEW)) == (b"B", before)
    assert outcome(node, raised(base=OLD)) == (b"N", before)
    assert node(r.Fetch("k")) == before


@pytest.mark.parametrize("kind", [VALUE, TOMBSTONE, LOCK])
def test_what_is_no_counter_has_no_fields(node, kind):
    stored(node, value(kind=kind))

    assert outcome(node, raised()) == (b"N", node(r.Fetch("k")))


def test_a_newer_promise_blocks_raising(node):
    stored(node, counter())
    outcome(node, prepare(NEW))

    assert outcome(node, raised()) == (b"P", NEW)
    assert counted(node).fields == {}
    assert stored(node, counter({b"field--1": Field(1, 0)})) == b"P" + NEW


def test_an_older_promise_does_not(node):
    outcome(node, prepare(OLD))
    stored(node, counter())

    assert outcome(node, raised())[0] == b"S"


# ---------------------------------------------------------------- what others miss


def test_a_write_that_others_miss_is_noted_in_the_same_step(node):
    reply = node(put(value(), absent=GONE + AWAY))

    assert reply.outcome == [b"S"]
    assert Fence.parse(reply.fence) == fence(node)
    assert fence(node).behind == {GONE, AWAY}
    assert marks(node, GONE) == marks(node, AWAY) == ({"k": STAMP}, set())


def test_the_largest_stamp_is_noted(node):
    for at in (STAMP, NEW):
        stored(node, value(at), absent=GONE)
    assert stored(node, value(NEW), absent=AWAY) == b"="

    assert marks(node) == marks(node, AWAY) == ({"k": NEW}, set())
    outcome(node, void(("k", NEW)))
    stored(node, value(OLD), absent=GONE)
    assert marks(node) == ({"k": NEW}, set())
    assert fence(node).behind == {GONE, AWAY}


def test_what_a_node_refuses_it_does_not_note(node):
    stored(node, value(NEW))

    stored(node, value(), absent=GONE)
    stored(node, value(stamp(2**47)), absent=GONE)
    outcome(node, raised(absent=GONE))

    assert (fence(node).behind, marks(node)) == (frozenset(), ({}, set()))


def test_raises_are_noted(node):
    stored(node, counter())

    reply = node(raised(absent=GONE))

    assert Fence.parse(reply.fence) == fence(node)
    assert (fence(node).behind, marks(node)) == ({GONE}, ({"k": STAMP}, set()))


def test_beyond_the_bound_slots_are_noted(node):
    for number, slot in enumerate([3, 3, 0, 16_383]):
        stored(node, value(), key=f"k{number}", absent=GONE, slot=slot, missed_bound=2)
    stored(node, value(NEW), key="k0", absent=GONE, slot=7, missed_bound=2)  # has its place already
    listed = [("k0", NEW, serial(5) + ALWAYS), ("k1", STAMP, serial(2) + ALWAYS)]
    found, slots = missed(node)

    assert (sorted(found), slots) == (listed, {0: 3, 16_383: 4})
    assert outcome(node, settle(GONE, r.Noticed(*listed[0]), slots=[(0, 3)])) == 1
    assert outcome(node, settle(GONE, r.Noticed(*listed[1]))) == -1
    assert fence(node).behind == {GONE}
    assert marks(node) == ({}, {16_383})
    assert outcome(node, settle(GONE, slots=[(5, 1), (16_383, 4)])) == 0
    assert (fence(node).behind, marks(node)) == (frozenset(), ({}, set()))


def test_slots_that_nobody_noted_are_not_made_by_settling(scripted, node):
    before = scripted.keys(NODE)

    assert outcome(node, settle(GONE, r.Noticed("k", NEW, serial(1) + ALWAYS), slots=[(5, 1)])) == 0
    assert scripted.keys(NODE) == before


def test_settling_spares_what_has_been_missed_since(node):
    stored(node, value(), absent=GONE)
    stored(node, value(), key="other", absent=GONE + AWAY)
    seen, _ = missed(node)
    stored(node, value(NEW), absent=GONE)

    assert outcome(node, settle(GONE, *seen)) == 1
    assert marks(node) == ({"k": NEW}, set())
    assert fence(node).behind == {GONE, AWAY}
    reply = node(settle(GONE, *missed(node)[0]))
    assert reply.outcome == 0
    assert Fence.parse(reply.fence) == fence(node)
    assert fence(node).behind == {AWAY}
    assert marks(node, AWAY) == ({"other": STAMP}, set())


def test_settling_spares_what_has_been_missed_under_the_same_stamp_since(node):
    stored(node, counter(), absent=GONE)
    seen, _ = missed(node)
    node(raised(absent=GONE))

    assert outcome(node, settle(GONE, *seen)) == 1
    assert marks(node) == ({"k": STAMP}, set())
    assert fence(node).behind == {GONE}


def test_settling_spares_slots_that_have_been_missed_again_since(node):
    """Even if another has settled them in between, so that they seem to be as they were."""

    def miss():
        stored(node, value(), absent=GONE, slot=3, missed_bound=0)
        return missed(node)[1].items()

    first = miss()
    second = miss()
    assert outcome(node, settle(GONE, slots=first)) == -1
    assert marks(node) == ({}, {3})
    assert outcome(node, settle(GONE, slots=second)) == 0
    third = miss()
    assert outcome(node, settle(GONE, slots=first)) == -1
    assert outcome(node, settle(GONE, slots=third)) == 0
    assert fence(node).behind == frozenset()


@pytest.mark.parametrize(
    ("record", "ends"),
    [
        (value(NEW, expires_at=2**42), 2**42),
        (value(NEW), 0),
        (value(NEW, b"", TOMBSTONE), 1),
        (value(NEW, b"", TOMBSTONE, expires_at=7), 1),
    ],
)
def test_a_note_says_when_its_record_ends(node, record, ends):
    """One that is gone before was evicted, which is not the same as over."""
    stored(node, record, absent=GONE)
    assert noted(node, ("k", 0))[0][1] == NEW + ends.to_bytes(8)

    stored(node, value(OLD), absent=GONE)  # too old: changes nothing
    assert noted(node, ("k", 0))[0][1] == NEW + ends.to_bytes(8)
    stored(node, value(stamp(9), expires_at=9))  # nobody misses it, but what was noted is about it now
    assert noted(node, ("k", 0))[0][1] == stamp(9) + (9).to_bytes(8)
    outcome(node, void(("k", stamp(9))))
    assert noted(node, ("k", 0))[0][1] == stamp(9) + OVER


def test_records_are_read_with_all_that_is_noted_of_them(node):
    stored(node, value(), slot=1)
    assert noted(node, ("k", 1), ("none", 1)) == [(node(r.Fetch("k")), b"", b""), (None, b"", b"")]

    stored(node, value(NEW), key="other", absent=GONE, slot=2)
    stored(node, value(NEW), absent=GONE + AWAY, slot=1)
    stored(node, value(stamp(9)), absent=AWAY, slot=1)
    stored(node, value(), key="third", absent=GONE, slot=7, missed_bound=0)
    stored(node, value(stamp(10)), slot=1)
    outcome(node, void(("other", NEW)))

    reply = node(r.Noted([("k", 1), ("other", 2), ("third", 7), ("none", 7), ("none", 8)], TOPOLOGY))
    kept, third = node(r.FetchMany(["k", "third"]))
    nothing = (None, b"", b"")
    missing = (None, NEW + OVER, b"")
    assert reply.outcome == [(kept, stamp(10) + ALWAYS, b""), missing, (third, b"", GONE), (None, b"", GONE), nothing]
    assert Fence.parse(reply.fence) == fence(node)
    assert fence(node).behind == {GONE, AWAY}


def test_who_reads_what_is_noted_gets_void_records_too(node):
    stored(node, value(), absent=GONE)
    forget(node)

    assert noted(node, ("k", 0)) == [(node(r.Fetch("k")), STAMP + ALWAYS, b"")]


@pytest.mark.parametrize("flaw", ["dc:node", "dc:count", "topology"])
def test_what_is_noted_is_told_to_who_knows_the_node(node, flaw):
    request = r.Noted([("k", 0)], TOPOLOGY if flaw != "topology" else b"another!")
    if flaw != "topology":
        node(r.Remove([flaw]))

    assert outcome(node, request) is r.STRANGE


def test_what_many_keys_are_missed_is_listed_in_pages(node):
    names = [f"key-{number} é" for number in range(2000)]
    items = [r.PutItem(name, value().pack(), None, GONE, 0) for name in names]
    outcome(node, r.Put(items, TOPOLOGY, FOREVER, DRIFT))
    listed, cursor, pages = {}, 0, 0
    while pages == 0 or cursor:
        cursor, page, _ = node(r.Missed(GONE, cursor, 10))
        listed.update({each.key: each.stamp for each in page})
        pages += 1
        if pages == 3:  # what goes meanwhile takes nothing else with it
            outcome(node, settle(GONE, *page))

    assert listed == dict.fromkeys(names, STAMP)
    assert pages > 10


# ---------------------------------------------------------------- failures


def test_scripts_that_a_server_has_lost_are_sent_again(scripted, node):
    stored(node, counter(), absent=AWAY)
    for request in [*all_kinds(), r.Noted([("k", 0)], TOPOLOGY), r.Missed(GONE, 0, 10)]:
        scripted.forget_scripts()
        assert type(node(request)) is (tuple if isinstance(request, r.Missed) else r.Scripted)
        scripted.forget_scripts()
        (reply,) = scripted.run(gather((NODE, request)))
        assert not isinstance(reply, Exception)


def test_nothing_is_owed_for_what_fails(scripted):
    scripted.kill(NODE)

    for request in [*all_kinds(), r.Noted([("k", 0)], TOPOLOGY), r.Missed(GONE, 0, 10)]:
        assert request.repeatable
        assert request.replaces == ()
        with pytest.raises(TransportError):
            scripted.run(ask(NODE, request))

    assert scripted.health.owed == []


def test_slots_are_listed_once(node):
    items = [r.PutItem(f"k{number}", value().pack(), None, GONE, number % 7) for number in range(2000)]
    outcome(node, r.Put(items, TOPOLOGY, FOREVER, DRIFT, missed_bound=1000))
    cursor, _, slots = node(r.Missed(GONE, 0, 10))

    assert {*slots} == {*range(7)}
    assert node(r.Missed(GONE, cursor, 10))[2] == {}


def test_marks_under_a_foreign_value_are_refused(scripted, node):
    if scripted.name == "memory":
        pytest.skip("its hashes are apart from its keys")
    scripted.put(NODE, f"dc:missed:{GONE.hex()}", b"no hash")

    with pytest.raises(NodeRefused, match="WRONGTYPE"):
        node(r.Missed(GONE, 0, 10))
