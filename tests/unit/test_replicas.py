"""Quorums of reads and writes: who has to have a write, who may answer a read, what is repaired, what is in doubt."""

import pytest

from distcache_django.core import requests as r
from distcache_django.core.record import NO_STAMP, TOMBSTONE, VALUE, Record
from distcache_django.core.replicas import Limits, raw_value
from distcache_django.exceptions import InDoubt, QuorumNotReached
from tests.support.replicas import (
    GRACE,
    LIMITS,
    NAMES,
    Process,
    asked,
    before,
    behind,
    held,
    made,
    marks,
    payloads,
    place,
    skew,
    stamp_at,
)


@pytest.fixture
def nodes():
    return made()


@pytest.fixture
def p(nodes):
    """Be a process of a cluster that is in use."""
    process = Process(nodes)
    process.set(b"old")
    return process


@pytest.fixture
def q(nodes, p):
    """Be another process of the same cluster, that knows it too."""
    process = Process(nodes)
    assert process.get() == b"old"
    return process


@pytest.fixture
def owners(p):
    return p.topology.owners("k")


# ---------------------------------------------------------------- round trips


def test_a_write_takes_one_round_trip_and_reaches_all_owners(nodes, p):
    since = len(nodes.requests)
    p.set(b"new", ttl_ms=1000)

    assert p.trips == 1
    assert sorted(asked(nodes, r.Put, since=since)) == [*NAMES]
    assert payloads(nodes) == [b"new"] * 3
    assert behind(nodes) == {"a": set(), "b": set(), "c": set()}


def test_a_read_takes_one_round_trip_to_as_many_owners_as_it_needs_votes(nodes, p, owners):
    since = len(nodes.requests)

    assert (p.get(), p.trips) == (b"old", 1)
    assert asked(nodes, r.FetchMany, since=since) == list(owners[:2])
    assert (p(p.replicas.exists("k")), p.trips) == (True, 1)
    assert (p(p.replicas.inspect("k")), p.trips) == ((b"old", -1), 1)


def test_a_deletion_takes_two_round_trips_and_tells_what_was_there(p):
    assert (p(p.replicas.remove("k")), p.trips) == (True, 2)
    assert (p(p.replicas.remove("k")), p.trips) == (False, 2)
    assert p.get() is None
    assert p(p.replicas.exists("k")) is False
    assert p(p.replicas.inspect("k")) == (None, -2)


def test_batches_take_one_round_trip(nodes, p):
    keys = [f"k{number}" for number in range(50)]
    assert p(p.replicas.store_many(keys, [key.encode() for key in keys], 1000)) == ([], [])
    assert p.trips == 1
    assert p(p.replicas.fetch_many([*keys, "none"])) == ([*[key.encode() for key in keys], None], [])
    assert p.trips == 1
    assert p(p.replicas.remove_many(keys)) == ([], [])
    assert p.trips == 1
    assert p(p.replicas.fetch_many(keys)) == ([None] * 50, [])


def test_integers_are_counters_and_read_as_text(p):
    p.set(-5)

    assert p.get() == b"-5"


def test_a_lock_is_no_value(p):
    assert p(p.locking.acquire("k2", b"nonce", 1000))

    assert p.get("k2") is None
    assert raw_value(Record(VALUE, NO_STAMP, payload=b"v")) == b"v"


def test_nothing_is_asked_of_nobody(nodes, p):
    since = len(nodes.requests)

    assert p(p.replicas.ask([])) == {}
    assert p(p.replicas.fetch_many([])) == ([], [])
    assert p(p.replicas.store_many([], [], None)) == ([], [])
    assert len(nodes.requests) == since


# ---------------------------------------------------------------- lives


def test_the_life_of_a_value_is_judged_by_who_reads(nodes, p):
    p.set(b"v", ttl_ms=1000)
    nodes.advance(0.999)
    assert p.get() == b"v"
    assert p(p.replicas.inspect("k")) == (b"v", 1)

    nodes.advance(0.001)

    assert p.get() is None
    assert p(p.replicas.fetch_many(["k"])) == ([None], [])
    assert held(nodes, "a").payload == b"v"  # nothing older can come to life in its place


def test_what_has_ended_and_tombstones_are_kept_for_the_grace(nodes, p):
    p.set(b"v", ttl_ms=1000)
    p(p.replicas.remove_many(["gone"]))
    nodes.advance(GRACE - 0.01)
    assert held(nodes, "a", "gone").kind == TOMBSTONE

    nodes.advance(0.02)
    assert held(nodes, "a", "gone") is None
    assert held(nodes, "a").payload == b"v"
    nodes.advance(1)
    assert held(nodes, "a") is None


def test_the_grace_covers_two_clocks_and_a_request():
    assert LIMITS.grace_ms == 1250
    assert Limits(1.0, 0.5).drift_ms == 500


@pytest.mark.parametrize("ahead", [-3600, -5, 5, 3600])
def test_a_process_whose_clock_is_wrong_writes_and_reads_in_the_time_of_the_nodes(nodes, p, ahead):
    wrong = Process(nodes, ahead=ahead)
    wrong.set(b"wrong", ttl_ms=1000)
    assert (p.get(), wrong.get()) == (b"wrong", b"wrong")
    p.set(b"right")
    assert wrong.get() == b"right"

    wrong.set(b"again", ttl_ms=1000)
    nodes.advance(1)
    assert (p.get(), wrong.get()) == (None, None)


def test_a_clock_that_is_set_forward_is_left_behind(nodes, p):
    """What it has stamped is refused as too far ahead; it begins anew, as another actor."""
    p.stamps.observe(stamp_at(nodes, 3600))
    actor = p.stamps.actor

    p.set(b"new")

    assert p.get() == b"new"
    assert p.stamps.actor != actor
    assert held(nodes, "a").stamp < stamp_at(nodes, 0.1)


def test_a_node_whose_clock_is_wrong_does_not_move_the_others(nodes):
    skew(nodes, "b", 3600)
    p = Process(nodes)

    p.set(b"v", ttl_ms=1000)

    assert p.get() == b"v"
    assert held(nodes, "a").stamp < stamp_at(nodes, 0.1)
    nodes.advance(1)
    assert p.get() is None


@pytest.mark.parametrize("seed", range(5))
def test_a_node_whose_clock_is_behind_fails_alone(nodes, seed):
    skew(nodes, "b", -3600)
    p = Process(nodes, seed=seed)
    p.set(b"v")

    for number in range(5):
        p.set(b"%d" % number)
        assert (p.get(), p.trips) == (b"%d" % number, 1)
    assert behind(nodes)["a"] == {"b"}


def test_something_newer_is_not_forgotten_because_a_node_is_behind(nodes):
    skew(nodes, "b", -3600)
    p = Process(nodes)
    p.set(b"v")
    newer = stamp_at(nodes, 0.4)
    place(nodes, "ac", b"others", newer)

    p.set(b"mine")

    assert held(nodes, "a").stamp > newer


# ---------------------------------------------------------------- something newer is there


def test_a_write_older_than_what_is_there_is_made_again_beyond_it(nodes, p):
    newer = stamp_at(nodes, 0.4)
    place(nodes, "abc", b"others", newer)

    p.set(b"mine")

    assert p.trips == 2
    assert payloads(nodes) == [b"mine"] * 3
    assert held(nodes, "a").stamp > newer


def test_an_answer_of_something_newer_is_no_acknowledgement(nodes, p):
    place(nodes, "a", b"others", stamp_at(nodes, 0.4))

    p.set(b"mine")

    assert payloads(nodes) == [b"mine"] * 3


def test_a_write_gives_up_where_there_is_always_something_newer(nodes, p):
    def overtake():
        place(nodes, "abc", b"others", stamp_at(nodes, 0.1 + len(nodes.requests) / 1000))

    op = p.replicas.store("k", b"mine", None)
    for number in range(1, 10):
        op = before(op, r.Put, overtake, number)

    failure = p.failure(op)
    assert type(failure) is QuorumNotReached  # no owner has ever stored it
    assert failure.received == 0
    assert "has something newer" in str(failure)


def test_a_stamp_from_a_clock_gone_wrong_is_not_followed(nodes, p):
    place(nodes, "abc", b"others", stamp_at(nodes, 3600))

    failure = p.failure(p.replicas.store("k", b"mine", None))

    assert type(failure) is QuorumNotReached
    p.set(b"fine", "k2")
    assert held(nodes, "a", "k2").stamp < stamp_at(nodes, 0.1)


def test_a_clock_ahead_is_told_from_something_newer(nodes, p):
    p.stamps.observe(stamp_at(nodes, 3600))
    draft = p.replicas.draft("k", b"v", None)
    draft.renew(p.stamps.next(0))
    p(p.replicas.send([draft], p.replicas.expires(), 1.0))

    assert draft.is_ahead
    assert {*draft.failed.values()} == {"finds the stamp ahead of its time"}


# ---------------------------------------------------------------- owners away


def test_an_owner_known_to_be_away_is_noted_in_the_same_round_trip(nodes, p):
    nodes.down = frozenset({"c"})
    since = len(nodes.requests)

    p.set(b"new")

    assert p.trips == 1
    assert sorted(asked(nodes, r.Put, since=since)) == ["a", "b"]
    assert (marks(nodes, "a", "c"), marks(nodes, "b", "c")) == ({"k"}, {"k"})
    assert behind(nodes)["a"] == behind(nodes)["b"] == {"c"}


@pytest.mark.parametrize("fault", ["kill", "hang", "refuse"])
def test_an_owner_found_away_is_noted_before_the_write_is_acknowledged(nodes, p, fault):
    getattr(nodes, fault)("c")

    p.set(b"new")

    assert p.trips == 2
    assert (marks(nodes, "a", "c"), marks(nodes, "b", "c")) == ({"k"}, {"k"})


def test_a_write_is_not_acknowledged_by_owners_that_have_not_noted_who_is_away(nodes, p):
    nodes.kill("c")

    def fail():
        nodes.kill("b")

    failure = p.failure(before(p.replicas.store("k", b"new", None), r.Put, fail, 2))

    assert type(failure) is InDoubt
    assert (failure.required, failure.received) == (2, 1)
    assert marks(nodes, "a", "c") == {"k"}


def test_a_write_with_too_few_owners_certainly_has_not_happened_if_none_was_reached(nodes, p, owners):
    nodes.down = frozenset(NAMES)

    failure = p.failure(p.replicas.store("k", b"new", None))

    assert type(failure) is QuorumNotReached
    assert (failure.required, failure.received, failure.nodes) == (2, 0, ("a", "b", "c"))


@pytest.mark.parametrize("fault", ["kill", "refuse"])
def test_a_write_that_no_owner_has_taken_has_not_happened(nodes, p, fault):
    for name in NAMES:
        getattr(nodes, fault)(name)

    assert type(p.failure(p.replicas.store("k", b"new", None))) is QuorumNotReached


def test_a_write_with_too_few_owners_is_in_doubt_if_one_has_it(nodes, p):
    for name in "bc":
        nodes.kill(name)

    failure = p.failure(p.replicas.store("k", b"new", None))

    assert type(failure) is InDoubt
    assert failure.received < failure.required == 2


def test_a_write_is_in_doubt_if_one_may_have_it(nodes, p):
    for name in "bc":
        nodes.kill(name)
    nodes.hang("a")

    assert type(p.failure(p.replicas.store("k", b"new", None))) is InDoubt


def test_a_write_that_was_stored_before_it_was_made_again_stays_in_doubt(nodes, p):
    place(nodes, "bc", b"others", stamp_at(nodes, 0.1))

    def fail():
        for name in NAMES:
            nodes.kill(name)

    assert type(p.failure(before(p.replicas.store("k", b"new", None), r.Put, fail, 2))) is InDoubt


def test_batches_name_what_is_not_acknowledged(nodes, p):
    keys = ["k", "k2"]
    nodes.kill("a")
    nodes.kill("b")

    left, failures = p(p.replicas.store_many(keys, [b"1", b"2"], None))

    assert left == [0, 1]
    assert [type(failure) for failure in failures] == [InDoubt, InDoubt]
    assert [type(failure) for failure in p(p.replicas.remove_many(keys))[1]] == [InDoubt, InDoubt]
    found, failures = p(p.replicas.fetch_many(keys))
    assert (found, [type(failure) for failure in failures]) == ([None, None], [QuorumNotReached] * 2)


def test_a_request_that_arrives_too_late_is_not_executed(nodes, p):
    for name in "bc":
        nodes.hang(name)
    failure = p.failure(p.replicas.store("k", b"new", None))
    assert type(failure) is InDoubt
    nodes.advance(LIMITS.deadline)

    for name in "bc":
        nodes.mend(name)

    assert payloads(nodes) == [b"new", b"old", b"old"]


def test_late_answers_are_no_acknowledgements(nodes, p):
    op = before(p.replicas.store("k", b"new", None), r.Put, lambda: nodes.advance(LIMITS.deadline + 0.1))

    failure = p.failure(op)

    assert type(failure) is QuorumNotReached


def test_a_node_whose_time_jumped_answers_late(nodes, p):
    nodes.nodes["a"]._clock = lambda: nodes.now + 3600
    nodes.nodes["b"]._clock = lambda: nodes.now + 3600
    nodes.down = frozenset("c")

    failure = p.failure(p.replicas.store("k", b"new", None))

    assert "answered too late" in str(failure)
    assert type(failure) is QuorumNotReached
    p.set(b"again")  # their time is known now
