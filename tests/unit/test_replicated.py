"""What backends ask of keys on several nodes: ends, listings, conditions."""

import pytest

from distcache_django.core import requests as r
from distcache_django.core.record import Counter
from distcache_django.exceptions import InDoubt, QuorumNotReached
from tests.support.replicas import NAMES, Process, before, behind, held, made, payloads, stamp_at


@pytest.fixture
def nodes():
    return made()


@pytest.fixture
def p(nodes):
    process = Process(nodes)
    process.set(b"old", ttl_ms=1000)
    return process


@pytest.fixture
def q(nodes, p):
    process = Process(nodes)
    process.set(b"any", "any")
    return process


def do(process, request):
    return process(process.coordinator.ask_owner(request.key, request))


def left(process, key="k"):
    return do(process, r.TimeToLive(key))


# ---------------------------------------------------------------- ends


def test_touching_takes_two_round_trips_and_keeps_the_write(nodes, p):
    stamp = held(nodes, "a").stamp

    assert (do(p, r.Expire("k", 5000)), p.trips) == (True, 2)

    assert left(p) == 5000
    assert {held(nodes, name).stamp for name in NAMES} == {stamp}
    nodes.advance(4.999)
    assert p.get() == b"old"
    nodes.advance(0.001)
    assert p.get() is None


def test_a_shorter_life_is_one_too(nodes, p):
    p.set(b"v")
    assert do(p, r.Expire("k", 500)) is True
    nodes.advance(0.5)

    assert p.get() is None


def test_an_end_that_has_come_deletes(nodes, p):
    assert do(p, r.Deadline("k", round(nodes.now * 1000))) is True
    assert do(p, r.Deadline("k", round(nodes.now * 1000) + 1000)) is False
    assert p.get() is None
    assert do(p, r.Expire("k", -1)) is False


def test_persisting_tells_whether_there_was_an_end(p):
    assert do(p, r.Persist("k")) == (True, True)
    assert do(p, r.Persist("k")) == (False, True)
    assert do(p, r.Persist("none")) == (False, False)
    assert left(p) == -1
    assert left(p, "none") == -2


def test_a_newer_write_is_not_touched(nodes, p, q):
    op = p.coordinator.ask_owner("k", r.Persist("k"))

    p(before(op, r.Put, lambda: q.set(b"new", ttl_ms=700)))

    assert payloads(nodes) == [b"new"] * 3


def test_a_touch_that_a_promise_stands_in_the_way_of_is_agreed_on(nodes, p):
    for name in NAMES:
        nodes.nodes[name].execute(r.Prepare("k", stamp_at(nodes, 0.1), p.standings.topology, 2**52, 500, 1000))

    assert do(p, r.Expire("k", 5000)) is True

    assert left(p) > 4900
    assert payloads(nodes) == [b"old"] * 3


def test_owners_that_miss_a_touch_are_noted(nodes, p):
    op = p.coordinator.ask_owner("k", r.Expire("k", 5000))
    assert p(before(op, r.Put, lambda: nodes.kill("c"))) is True
    assert behind(nodes)["a"] == behind(nodes)["b"] == {"c"}

    nodes.kill("b")
    assert type(p.failure(p.coordinator.ask_owner("k", r.Expire("k", 9000)))) is QuorumNotReached
    nodes.mend("b")


def test_a_touch_with_too_few_owners_is_in_doubt(nodes, p):
    op = p.coordinator.ask_owner("k", r.Expire("k", 5000))

    assert type(p.failure(before(op, r.Put, lambda: [nodes.kill(name) for name in "bc"]))) is InDoubt


def test_touching_a_counter_keeps_what_is_counted_meanwhile(nodes, p, q):
    p.set(5, "n")
    q.incr(key="n")

    op = p.coordinator.ask_owner("n", r.Expire("n", 5000))
    p(before(op, r.Put, lambda: q.incr(key="n")))

    assert p.get("n") == b"7"
    assert left(p, "n") == 5000


# ---------------------------------------------------------------- the rest


def test_each_request_is_answered_by_a_quorum(p):
    p.set(5, "n")
    assert do(p, r.Exists("k")) is True
    assert do(p, r.Increase("n", 2)) == 7
    assert do(p, r.Inspect("n")) == (7, -1)
    assert do(p, r.Inspect("k")) == (b"old", 1000)
    assert do(p, r.Inspect("none")) == (None, -2)
    token = do(p, r.Acquire("lock", b"p", 1000))
    assert do(p, r.Fetch("lock")) == b"%d:p" % token
    assert do(p, r.Prolong("lock", b"p", 1000, add=False)) is True
    assert do(p, r.Release("lock", b"p")) is True
    assert do(p, r.Fetch("lock")) == b"%d:" % token


def test_batches_come_in_one_piece(nodes, p):
    assert p(p.coordinator.fetch_many(["k", "none"])) == ([("", range(2), [b"old", None])], [])


def test_conditions_are_met_or_not(p):
    assert p(p.coordinator.store_if("k", b"x", None, "NX")) is False
    assert p(p.coordinator.store_if("k", b"x", None, "XX")) is True
    assert p(p.coordinator.store_if("none", b"x", None, "XX")) is False


def test_all_live_keys_are_listed(nodes, p):
    keys = [f"k{number}" for number in range(1100)]
    p(p.replicas.store_many(keys, [b"v"] * 1100, None))
    p(p.replicas.remove("k7"))

    found, failures = p(p.coordinator.scan("k*"))

    assert ({*found}, failures) == ({"k", *keys} - {"k7"}, [])
    assert len(found) == 1100
    nodes.kill("c")
    found, failures = p(p.coordinator.scan("k1*"))
    assert ("k1" in found, failures) == (True, [])
    nodes.kill("b")
    assert p(p.coordinator.scan("k1*"))[1] != []


def test_keys_are_listed_node_by_node_in_parts(nodes, p):
    p(p.replicas.store_many(["k1", "k2", "k3"], [b"v"] * 3, None))
    p(p.replicas.remove("k2"))
    listed, cursor, parts = [], 0, 0
    while parts == 0 or cursor:
        cursor, keys, failures = p(p.coordinator.page("a", cursor, "k?", 2))
        listed += keys
        parts += 1
        assert failures == []

    assert (sorted(listed), parts > 1) == (["k1", "k3"], True)


def test_all_keys_that_match_are_deleted_for_good(nodes, p):
    keys = [f"k{number}" for number in range(50)]
    p(p.replicas.store_many(keys, [b"v"] * 50, None))

    assert p(p.coordinator.remove_matching("k?*", 7)) == (50, [])

    assert p(p.replicas.fetch_many(keys)) == ([None] * 50, [])
    assert p.get() == b"old"


def test_a_counter_is_inspected_as_the_integer_it_is(nodes, p):
    p.set(-3, "n", ttl_ms=500)

    assert do(p, r.Inspect("n")) == (-3, 500)
    assert Counter.parse(held(nodes, "a", "n").payload).value == -3
