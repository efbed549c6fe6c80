"""Replicated records mean the same on every transport and server: who is asked, what is stored, promised, void.

The nodes are up and of one topology, unless a test is about that. Stamps are small numbers, so they are never ahead.
"""

import shutil
import subprocess
from itertools import pairwise

import pytest

from distcache_django.core import requests as r
from distcache_django.core.fence import Fence
from distcache_django.core.record import COUNTER, Field, counter_payload
from tests.transport.conftest import ask
from tests.transport.replicas import (
    AWAY,
    DAY,
    DRIFT,
    FOREVER,
    GONE,
    HOUR,
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
    noted,
    outcome,
    prepare,
    put,
    raised,
    snapshot,
    stamp,
    stored,
    value,
    void,
)


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


# ---------------------------------------------------------------- fences


def test_the_first_fence_is_a_newborn_one(send):
    incarnation, left, raw, now_ms = send(r.Register(A, HOUR, TOPOLOGY))

    assert (incarnation, 0 < left <= HOUR) == (A, True)
    assert raw == send(r.Fetch("dc:node"))
    assert Fence.parse(raw) == Fence(A, b"n", TOPOLOGY, frozenset())
    assert int.from_bytes(raw[49:57]) - HOUR == now_ms


def test_another_process_with_the_old_data_is_recovering_and_knows_who_is_behind(node):
    stored(node, value(), absent=GONE)

    forget(node)

    assert fence(node) == Fence(B, b"r", TOPOLOGY, frozenset({GONE}))
    assert marks(node) == ({"k": STAMP}, set())


def test_a_node_without_a_count_is_recovering(node):
    node(r.Remove(["dc:count"]))

    node(r.Register(B, 0, TOPOLOGY))

    assert (fence(node).incarnation, fence(node).state) == (B, b"r")


def test_a_fence_of_an_older_release_is_none(send):
    send(r.Store("dc:node", b"1" + A + b"f" * 40 + bytes(8), None))
    send(r.Store("dc:count", 7, None))
    assert outcome(send, put(value())) is r.STRANGE
    assert send(r.Mint(["v"], DAY)) is None

    send(r.Register(B, 0, TOPOLOGY))

    assert fence(send) == Fence(B, b"n", TOPOLOGY, frozenset())


def test_a_topology_is_written_once(send):
    send(r.Register(A, 0))
    assert fence(send).topology == bytes(8)

    send(r.Register(B, 0, TOPOLOGY))
    send(r.Register(B, 0, b"another!"))

    assert fence(send) == Fence(A, b"n", TOPOLOGY, frozenset())


def test_a_node_rises_in_the_incarnation_that_was_healed_only(send):
    send(r.Register(A, 0, TOPOLOGY))

    assert outcome(send, r.Rise(B, TOPOLOGY)) is False
    assert fence(send).state == b"n"
    reply = send(r.Rise(A, TOPOLOGY))
    assert reply.outcome is True
    assert Fence.parse(reply.fence) == fence(send) == Fence(A, b"u", TOPOLOGY, frozenset())


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("flaw", ["no fence", "no count", "older release", "topology"])
def test_a_node_that_has_to_be_registered_changes_nothing(scripted, node, flaw, number):
    stored(node, value(payload=counter_payload(0), kind=COUNTER), absent=AWAY)
    if flaw.startswith("no "):
        node(r.Remove([{"no fence": "dc:node", "no count": "dc:count"}[flaw]]))
    elif flaw == "older release":
        node(r.Store("dc:node", b"1" + node(r.Fetch("dc:node"))[1:], None))
    request = all_kinds()[number]
    if flaw == "topology":
        request.topology = b"another!"
    before = snapshot(scripted, node)

    reply = node(request)

    assert (reply.outcome, reply.fence) == (r.STRANGE, before.get("dc:node", b""))
    assert snapshot(scripted, node) == before


@pytest.mark.parametrize("number", range(4))
def test_a_request_that_comes_too_late_changes_nothing(scripted, node, number):
    stored(node, value(payload=counter_payload(0), kind=COUNTER))
    before, now_ms = snapshot(scripted, node), node(put(value())).now_ms
    request = all_kinds()[number]
    request.not_after_ms = now_ms - 1

    assert outcome(node, request) is r.LATE
    assert snapshot(scripted, node) == before
    request.not_after_ms = now_ms + HOUR
    assert outcome(node, request) is not r.LATE


# ---------------------------------------------------------------- storing


def test_what_is_stored_names_the_memory_that_keeps_it(node):
    assert stored(node, value(expires_at=DAY), ttl_ms=DAY) == b"S"

    assert kept(node) == value(expires_at=DAY)._replace(node=A[:4])
    assert DAY - 10_000 < node(r.TimeToLive("k")) <= DAY
    stored(node, value(NEW))
    assert node(r.TimeToLive("k")) == -1


def test_of_two_writes_the_newer_stays_in_either_order(node):
    assert [stored(node, value(at)) for at in (STAMP, NEW, OLD, STAMP)] == [b"S", b"S", b"O" + NEW, b"O" + NEW]

    assert kept(node).stamp == NEW


def test_several_records_are_answered_one_by_one(node):
    stored(node, value(NEW), key="newer")
    stored(node, value(), key="same")
    ahead = value(stamp(2**47))
    items = [(key, record) for key, record in [("newer", value()), ("same", value()), ("x", value()), ("y", ahead)]]

    answers = outcome(node, r.Put([r.PutItem(key, rec.pack(), None) for key, rec in items], TOPOLOGY, FOREVER, DRIFT))

    assert answers == [b"O" + NEW, b"=", b"S", b"A"]
    assert node(r.Exists("y")) is False


def test_the_node_judges_the_clock_of_who_writes(node):
    now_ms = node(put(value(), key="any")).now_ms

    assert stored(node, value(stamp(now_ms + DRIFT + HOUR))) == b"A"
    assert outcome(node, prepare(stamp(now_ms + DRIFT + HOUR))) == (b"A", b"")
    assert stored(node, value(stamp(now_ms + DRIFT))) == b"S"


@pytest.mark.parametrize("foreign", [b"", b"plain", b"\x10short", b"\x11" * 60, 42, None])
def test_what_is_no_record_is_overwritten(scripted, node, foreign):
    scripted.put(NODE, "k", foreign)

    assert outcome(node, raised()) == (b"B", None)
    assert noted(node, ("k", 0)) == [(None, b"", b"")]
    assert outcome(node, void(("k", NEW))) == 0
    assert outcome(node, prepare(OLD)) == (b"P", None)
    assert stored(node, value()) == b"S"
    assert kept(node).stamp == STAMP


def test_the_same_write_keeps_its_life_unless_it_was_touched_later(node):
    def same(touched, expires_at, ttl_ms):
        record = value(touched=touched.to_bytes(8), expires_at=expires_at)
        assert stored(node, record, ttl_ms=ttl_ms) in (b"S", b"=")
        return int.from_bytes(kept(node).touched), kept(node).expires_at, round(node(r.TimeToLive("k")) / DAY)

    assert same(2, 100, 2 * DAY) == (2, 100, 2)
    assert same(1, 200, 9 * DAY) == (2, 100, 2)
    assert same(2, 200, 9 * DAY) == (2, 100, 2)
    assert same(3, 200, 9 * DAY) == (3, 200, 9)
    assert same(256, 0, None) == (256, 0, 0)
    assert kept(node).payload == b"value"


# ---------------------------------------------------------------- void records


def test_a_void_record_outlives_a_restart_but_not_what_is_newer(node):
    stored(node, value())
    forget(node)

    assert stored(node, value(OLD)) == b"O" + STAMP
    assert kept(node).node == A[:4]
    assert stored(node, value(NEW)) == b"S"
    assert kept(node).node == B[:4]


def test_the_same_write_makes_a_void_record_valid_again(node):
    stored(node, value(), ttl_ms=DAY)
    forget(node)

    assert stored(node, value(), ttl_ms=9 * DAY) == b"="

    assert kept(node) == value()._replace(node=B[:4])
    assert 0 < node(r.TimeToLive("k")) <= DAY


def test_recovery_overwrites_void_records_only(node):
    stored(node, value(NEW))
    forget(node)
    assert outcome(node, put(value(), force=True)) == [b"S"]
    assert (kept(node).stamp, kept(node).node) == (STAMP, B[:4])

    assert outcome(node, put(value(OLD), force=True)) == [b"O" + STAMP]


def test_recovery_takes_over_the_same_write(node):
    stored(node, counter({b"field--1": Field(5, 0)}))
    forget(node)

    assert outcome(node, put(counter({b"field--2": Field(1, 0)}), force=True)) == [b"="]
    assert counted(node).fields == {b"field--1": Field(5, 0), b"field--2": Field(1, 0)}


def test_recovery_does_not_pass_a_promise(node):
    stored(node, value(OLD))
    outcome(node, prepare(NEW))
    forget(node)

    assert outcome(node, put(value(), force=True)) == [b"P" + NEW]


def test_a_void_record_is_none_for_all_who_read_it(node):
    stored(node, value(payload=counter_payload(5), kind=COUNTER))
    forget(node)
    outcome(node, r.Rise(B, TOPOLOGY))

    assert outcome(node, raised()) == (b"B", None)
    assert outcome(node, raised(base=OLD)) == (b"B", None)
    assert outcome(node, prepare(OLD)) == (b"O", STAMP)
    assert outcome(node, prepare(NEW)) == (b"P", None)
    assert outcome(node, void(("k", STAMP))) == 1


def test_records_are_deleted_up_to_a_stamp(node):
    for key, at in (("old", OLD), ("same", STAMP), ("new", NEW)):
        stored(node, value(at), key=key)

    assert outcome(node, void(("old", STAMP), ("same", STAMP), ("new", STAMP), ("none", STAMP))) == 2
    assert node(r.FetchMany(["old", "same", "none"])) == [None] * 3
    assert kept(node, "new").stamp == NEW


# ---------------------------------------------------------------- promises


def test_a_promise_is_newer_than_all_that_was_promised_or_stored(node):
    assert outcome(node, prepare(STAMP)) == (b"P", None)
    assert outcome(node, prepare(OLD)) == (b"O", STAMP)
    assert outcome(node, prepare(STAMP)) == (b"P", None)  # asked again after its reply was lost
    assert stored(node, value()) == b"S"
    assert outcome(node, prepare(STAMP)) == (b"O", STAMP)
    assert outcome(node, prepare(NEW)) == (b"P", node(r.Fetch("k")))
    assert 0 < node(r.TimeToLive("dc:p:k")) <= HOUR


def test_nothing_is_stored_below_a_promise(node):
    outcome(node, prepare(STAMP))

    assert stored(node, value(OLD)) == b"P" + STAMP
    assert stored(node, value(STAMP)) == b"S"
    outcome(node, prepare(NEW))
    assert stored(node, value(STAMP)) == b"P" + NEW
    assert stored(node, value(stamp(2, 1))) == b"P" + NEW


def test_who_is_too_old_for_a_record_or_a_promise_hears_of_which(node):
    outcome(node, prepare(STAMP))
    stored(node, value(NEW))
    assert stored(node, value(OLD)) == b"O" + NEW
    assert outcome(node, prepare(OLD)) == (b"O", NEW)

    outcome(node, prepare(stamp(9)))
    assert stored(node, value(OLD)) == b"O" + NEW
    assert stored(node, value(stamp(8))) == b"P" + stamp(9)
    assert outcome(node, prepare(OLD)) == (b"O", stamp(9))


def test_a_node_that_is_not_up_promises_nothing(send):
    send(r.Register(A, 0, TOPOLOGY))

    assert outcome(send, prepare(STAMP)) == (b"R", b"")
    outcome(send, r.Rise(A, TOPOLOGY))
    assert outcome(send, prepare(STAMP)) == (b"P", None)
    forget(send)
    assert outcome(send, prepare(NEW)) == (b"R", b"")


# ---------------------------------------------------------------- comparing


def test_stamps_are_compared_as_bytes(node):
    """C strings end at a zero byte, and what sorts last by its bits is negative to some."""
    ascending = [
        *(stamp(1, 0, actor) for actor in (bytes(6), b"\x00\x00\x00\x00\x00\x01", b"B-acto", b"a-acto", b"\xff" * 6)),
        *(stamp(1, count) for count in (1, 127, 128, 255, 256, 65_535)),
        *(stamp(ms) for ms in (2, 127, 128, 255, 256, 2**31, 2**32, 2**40)),
    ]
    assert ascending == sorted(ascending)

    for older, newer in pairwise(ascending):
        assert stored(node, value(newer)) in (b"S", b"=")
        assert stored(node, value(older)) == b"O" + newer


def test_stamps_are_compared_as_bytes_in_every_language(blocking, distcache_nodes, tmp_path, monkeypatch):
    """A server takes its order of letters from its environment, and Lua's ``<`` with it."""
    if shutil.which("localedef") is None:
        pytest.skip("there is no localedef")
    made = subprocess.run(["localedef", "-i", "en_US", "-f", "UTF-8", tmp_path / "en_US.UTF-8"], check=False)
    if made.returncode:
        pytest.skip("there are no sources of languages")
    monkeypatch.setenv("LOCPATH", str(tmp_path))
    monkeypatch.setenv("LC_ALL", "en_US.UTF-8")
    driver = blocking(distcache_nodes(1).urls)
    send = lambda request: driver.run(ask(NODE, request))  # noqa: E731
    send(r.Register(A, 0, TOPOLOGY))

    assert stored(send, value(stamp(1, 0, b"B-acto"))) == b"S"
    assert stored(send, value(stamp(1, 0, b"a-acto"))) == b"S"
    assert stored(send, value(stamp(1, 0, b"B-acto"))) == b"O" + stamp(1, 0, b"a-acto")
    small, large = (int.from_bytes(letter * 8) for letter in (b"B", b"a"))
    stored(send, counter({b"field--1": Field(large, small)}))
    stored(send, counter({b"field--1": Field(small, large)}))
    assert counted(send).fields == {b"field--1": Field(large, large)}
