"""Every request means the same on every transport: replies, conditions, expiry, wrong types, lost scripts."""

import pytest

from distcache_django.core import requests as r
from distcache_django.exceptions import NodeRefused, NotAnInteger
from tests.transport.conftest import NAMES, ask

NODE = "cache-a"
NONCE, RIVAL = b"nonce", b"rival"


@pytest.fixture
def send(transport):
    """Send one request to one node and return its reply."""
    return lambda request, node=NODE: transport.run(ask(node, request))


def test_a_ping_is_answered(send):
    assert send(r.Ping()) in (b"PONG", "PONG")


@pytest.mark.parametrize(
    "value", [b"v", b"", b"\r\n$-1\r\n", bytes(range(256)), b"x" * 100_000, b"x" * 5_000_000, 42, -7]
)
@pytest.mark.parametrize("ttl_ms", [None, 60_000])
def test_a_value_comes_back_as_it_was_stored(send, value, ttl_ms):
    assert send(r.Store("k", value, ttl_ms)) in (True, b"OK")

    assert send(r.Fetch("k")) == (b"%d" % value if isinstance(value, int) else value)


@pytest.mark.parametrize("key", ["k", "é", "", "a b", "k" * 5000])
def test_any_text_is_a_key(send, key):
    send(r.Store(key, b"v", None))

    assert send(r.Fetch(key)) == b"v"
    assert send(r.FetchMany([key])) == [b"v"]
    assert send(r.Remove([key])) == 1


def test_a_missing_key_is_missing_in_every_request(send):
    assert send(r.Fetch("k")) is None
    assert send(r.FetchMany(["k", "l"])) == [None, None]
    assert send(r.Exists("k")) is False
    assert send(r.TimeToLive("k")) == -2
    assert send(r.Inspect("k")) == (None, -2)
    assert send(r.Remove(["k", "l"])) == 0
    assert send(r.Increase("k", 1)) is None
    assert send(r.Expire("k", 1000)) is False
    assert send(r.Deadline("k", 2**41)) is False
    assert send(r.Persist("k")) == (False, False)
    assert send(r.Release("k", NONCE)) is False
    assert send(r.Prolong("k", NONCE, 1000, add=False)) is False
    assert send(r.Scan(0, "*", 10)) == (0, [])
    assert send(r.Exists("k")) is False


def test_several_values_come_back_in_the_order_of_their_keys(send):
    assert send(r.StoreMany([("a", b"1"), ("b", 2), ("c", b"3")], 60_000)) is True

    assert send(r.FetchMany(["c", "x", "a", "b", "a"])) == [b"3", None, b"1", b"2", b"1"]
    assert 0 < send(r.TimeToLive("b")) <= 60_000
    assert send(r.Remove(["a", "x", "c", "b"])) == 3


def test_values_without_an_expiry_are_kept(send):
    send(r.StoreMany([("a", b"1")], None))
    send(r.Store("b", b"1", None))

    assert send(r.TimeToLive("a")) == send(r.TimeToLive("b")) == -1
    assert send(r.Inspect("a")) == (b"1", -1)


@pytest.mark.parametrize(
    ("condition", "present", "stored"),
    [("NX", False, True), ("NX", True, False), ("XX", False, False), ("XX", True, True)],
)
@pytest.mark.parametrize("ttl_ms", [None, 60_000])
def test_a_condition_is_met_or_nothing_is_stored(send, transport, condition, present, stored, ttl_ms):
    if present:
        transport.put(NODE, "k", b"old")

    assert send(r.StoreIf("k", b"new", ttl_ms, condition)) is stored

    assert send(r.Fetch("k")) == (b"new" if stored else b"old" if present else None)
    if stored:
        assert (send(r.TimeToLive("k")) == -1) is (ttl_ms is None)


def test_counting_keeps_the_expiry(send):
    send(r.Store("k", 40, 60_000))

    assert send(r.Increase("k", 3)) == 43
    assert send(r.Increase("k", -50)) == -7
    assert send(r.Fetch("k")) == b"-7"
    assert 0 < send(r.TimeToLive("k")) <= 60_000


@pytest.mark.parametrize("value", [b"text", b"", b"1.5", b" 1", b"01", 2**63 - 1])
def test_what_cannot_be_counted_stays_as_it_is(send, value):
    send(r.Store("k", value, None))
    with pytest.raises(NotAnInteger):
        send(r.Increase("k", 1))

    assert send(r.Fetch("k")) == (b"%d" % value if isinstance(value, int) else value)


def test_expiries_are_set_taken_away_and_passed(send):
    send(r.Store("k", b"v", None))

    assert send(r.Expire("k", 60_000)) is True
    assert 0 < send(r.TimeToLive("k")) <= 60_000
    assert send(r.Persist("k")) == (True, True)
    assert send(r.Persist("k")) == (False, True)
    assert send(r.Deadline("k", 4_000_000_000_000)) is True
    assert send(r.TimeToLive("k")) > 10**11
    assert send(r.Deadline("k", 1)) is True
    assert send(r.Exists("k")) is False


@pytest.mark.parametrize("ttl_ms", [0, -1, -100_000])
def test_an_expiry_in_the_past_deletes(send, ttl_ms):
    send(r.Store("k", b"v", None))

    assert send(r.Expire("k", ttl_ms)) is True
    assert send(r.Fetch("k")) is None


def test_a_value_of_the_wrong_type_is_refused_or_nothing(send, transport):
    transport.put(NODE, "k", None)

    assert send(r.FetchMany(["k"])) == [None]
    assert send(r.Exists("k")) is True
    for request in (r.Inspect("k"), r.Increase("k", 1), r.Acquire("k", NONCE, None), r.Release("k", NONCE)):
        with pytest.raises(NodeRefused):
            send(request)
    assert transport.health.failing == []
    send(r.Store("k", b"v", None))
    assert send(r.Fetch("k")) == b"v"


def test_what_is_not_a_value_of_a_cache_is_not_found(send, transport):
    """One read answers as one of many does: a list under the key is no value, and no failure of the node."""
    transport.put(NODE, "k", None)

    assert send(r.Fetch("k")) is None
    assert send(r.Fetch("k")) is None
    assert transport.health.failing == []


def test_scans_end_and_find_what_matches(send):
    send(r.StoreMany([(f"user:{n}", b"v") for n in range(300)] + [("other", b"v")], None))
    cursor, found, pages = 0, set(), 0
    while True:
        cursor, keys = send(r.Scan(cursor, "user:*", 50))
        found.update(keys)
        pages += 1
        if not cursor:
            break

    assert found == {f"user:{n}" for n in range(300)}
    assert pages > 1


# ---------------------------------------------------------------- locks


def test_a_lock_has_one_holder_and_growing_tokens(send):
    first = send(r.Acquire("l", NONCE, 60_000))

    assert type(first) is int
    assert send(r.Acquire("l", RIVAL, 60_000)) is None
    assert send(r.Acquire("l", NONCE, 60_000)) == first
    assert send(r.Release("l", RIVAL)) is False
    assert send(r.Release("l", NONCE)) is True
    assert send(r.Release("l", NONCE)) is False
    assert send(r.Acquire("l", RIVAL, None)) > first
    assert send(r.TimeToLive("l")) == -1


def test_only_the_holder_prolongs_a_lock(send):
    send(r.Acquire("l", NONCE, 1000))

    assert send(r.Prolong("l", RIVAL, 90_000, add=False)) is False
    assert send(r.TimeToLive("l")) <= 1000
    assert send(r.Prolong("l", NONCE, 90_000, add=False)) is True
    assert 1000 < send(r.TimeToLive("l")) <= 90_000
    assert send(r.Prolong("l", NONCE, 90_000, add=True)) is True
    assert 90_000 < send(r.TimeToLive("l")) <= 180_000


def test_a_value_is_not_a_lock(send):
    send(r.Store("l", b"v", None))

    with pytest.raises(NodeRefused):
        send(r.Acquire("l", NONCE, 1000))
    assert send(r.Release("l", NONCE)) is False
    assert send(r.Fetch("l")) == b"v"


# ---------------------------------------------------------------- servers that lack something


def test_scripts_that_a_server_has_lost_are_sent_again(send, transport):
    send(r.Store("n", 1, None))
    for round_ in range(3):
        transport.forget_scripts()
        assert send(r.Increase("n", 1)) == round_ + 2
        transport.forget_scripts()
        nonce = b"%d" % round_
        assert send(r.Acquire(f"l{round_}", nonce, 1000)) is not None
        transport.forget_scripts()
        assert send(r.Prolong(f"l{round_}", nonce, 1000, add=False)) is True
        transport.forget_scripts()
        assert send(r.Release(f"l{round_}", nonce)) is True


def test_nodes_are_apart(send):
    for number, name in enumerate(NAMES):
        send(r.Store("k", number, None), name)

    assert [send(r.Fetch("k"), name) for name in NAMES] == [b"0", b"1", b"2", b"3"]
