"""What a majority agrees on: add, replace, prolong, and the life of what only some owners have."""

import pytest

from distcache_django.core import requests as r
from distcache_django.core.agreement import folded
from distcache_django.core.record import COUNTER, NO_STAMP, Counter, Field, Folded, Record
from distcache_django.exceptions import InDoubt, QuorumNotReached
from tests.support.replicas import GRACE, NAMES, Process, asked, before, behind, held, made, marks, payloads, place
from tests.support.replicas import stamp_at as stamp


@pytest.fixture
def nodes():
    return made()


@pytest.fixture
def p(nodes):
    """Be a process of a cluster that is in use."""
    process = Process(nodes)
    process.set(b"any", "any")
    return process


@pytest.fixture
def q(nodes, p):
    process = Process(nodes)
    process.set(b"any", "any")
    return process


def only_at_a(nodes):
    """Let what is sent next arrive at one owner, later, and at no other."""
    nodes.hang("a")
    nodes.demote("b")
    nodes.demote("c")


def well(nodes):
    for name in NAMES:
        nodes.mend(name)


def replace(process, value, key="k", ttl_ms=None):
    return process(process.coordinator.store_if(key, value, ttl_ms, "XX"))


# ---------------------------------------------------------------- all is well


def test_adding_takes_a_read_and_two_round_trips_and_happens_once(nodes, p, q):
    assert (p.add(b"first", ttl_ms=1000), p.trips) == (True, 3)
    assert (q.add(b"second"), q.trips) == (False, 1)
    assert payloads(nodes) == [b"first"] * 3
    assert q.get() == b"first"


def test_what_has_ended_or_was_deleted_is_not_there(nodes, p, q):
    p.add(b"first", ttl_ms=1000)
    nodes.advance(1)
    assert q.add(b"second") is True
    p(p.replicas.remove("k"))
    assert q.add(b"third") is True
    assert p.get() == b"third"


def test_only_what_is_there_is_replaced(p):
    assert replace(p, b"new") is False
    p.set(b"old", ttl_ms=1000)

    assert (replace(p, b"new"), p.trips) == (True, 2)
    assert p(p.replicas.inspect("k")) == (b"new", -1)
    p(p.replicas.remove("k"))
    assert replace(p, b"newer") is False


def test_integers_are_added_as_counters(p, q):
    assert p.add(5) is True
    assert q.incr() == 6


def test_an_owner_away_is_noted_and_the_majority_decides(nodes, p):
    nodes.kill("c")

    assert p.add(b"v") is True

    assert (marks(nodes, "a", "c"), marks(nodes, "b", "c")) == ({"k"}, {"k"})


def test_an_owner_that_goes_away_in_between_is_noted_before_the_answer(nodes, p):
    op = p.coordinator.store_if("k", b"v", None, "NX")

    assert p(before(op, r.Put, lambda: nodes.kill("c"))) is True

    assert (marks(nodes, "a", "c"), marks(nodes, "b", "c")) == ({"k"}, {"k"})
    assert p.trips == 4


# ---------------------------------------------------------------- no majority


def test_without_a_majority_nothing_is_added(nodes, p):
    nodes.kill("b")
    nodes.kill("c")

    failure = p.failure(p.coordinator.store_if("k", b"v", None, "NX"))

    assert type(failure) is QuorumNotReached
    assert (failure.required, failure.received, failure.nodes) == (2, 1, ("b", "c"))
    assert payloads(nodes) == [None] * 3


def test_without_a_majority_to_accept_it_is_in_doubt(nodes, p):
    def fail():
        nodes.kill("b")
        nodes.kill("c")

    assert type(p.failure(before(p.coordinator.store_if("k", b"v", None, "NX"), r.Put, fail))) is InDoubt


@pytest.mark.parametrize("fault", ["kill", "demote"])
def test_what_all_owners_have_refused_is_not_in_doubt(nodes, p, fault):
    def fail():
        for name in NAMES:
            getattr(nodes, fault)(name)

    failure = p.failure(before(p.coordinator.store_if("k", b"v", None, "NX"), r.Put, fail))
    assert type(failure) is QuorumNotReached


def test_a_node_that_lost_its_memory_does_not_promise(nodes, p):
    p.add(b"v")
    nodes.mend("c", empty=True)
    assert p(p.coordinator.store_if("k2", b"v", None, "NX")) is True  # by the two others
    nodes.kill("b")

    failure = p.failure(p.coordinator.store_if("k3", b"v", None, "NX"))

    assert type(failure) is QuorumNotReached
    assert failure.received == 1
    assert held(nodes, "c", "k3") is None


def test_who_is_behind_does_not_count(nodes, p):
    nodes.down = frozenset("c")
    p.set(b"any", "any")
    nodes.down = frozenset()
    nodes.kill("b")

    failure = p.failure(p.coordinator.store_if("k", b"v", None, "NX"))

    assert behind(nodes)["a"] == {"c"}
    assert failure.received == 1


def test_promises_after_a_lost_time_are_none(nodes, p):
    op = before(p.coordinator.store_if("k", b"v", None, "NX"), r.Prepare, lambda: nodes.advance(0.3))

    assert type(p.failure(op)) is QuorumNotReached
    assert all("dc:p:k" not in nodes.nodes[name] for name in NAMES)


def test_with_more_owners_to_write_than_a_majority_all_of_them_have_it(nodes, p):
    every = Process(nodes, read=1, write=3)
    place(nodes, "ab", b"others", stamp(nodes))

    assert every.add(b"v") is False

    assert payloads(nodes) == [b"others"] * 3
    nodes.kill("c")
    assert type(every.failure(every.coordinator.store_if("k2", b"v", None, "NX"))) is InDoubt


# ---------------------------------------------------------------- several at once


def test_of_two_at_once_one_adds(nodes, p, q):
    told = []
    op = before(p.coordinator.store_if("k", b"p", None, "NX"), r.Put, lambda: told.append(q.add(b"q")))

    assert p(op) is False

    assert told == [True]
    assert payloads(nodes) == [b"q"] * 3


def test_who_is_overtaken_at_prepare_looks_again(nodes, p, q):
    op = p.coordinator.store_if("k", b"p", None, "NX")

    def overtake():
        for name in NAMES:
            later = stamp(nodes, 0.1)
            request = r.Prepare("k", later, p.standings.topology, 2**52, 500, 1250)
            assert nodes.nodes[name].execute(request).outcome[0] == b"P"

    assert p(before(op, r.Prepare, overtake)) is True
    assert payloads(nodes) == [b"p"] * 3
    assert held(nodes, "a").stamp > stamp(nodes, 0.09)


def test_what_a_minority_has_is_made_to_last_before_it_is_told(nodes, p, q):
    place(nodes, "a", b"others", stamp(nodes))
    nodes.down = frozenset("c")

    assert p.add(b"mine") is False

    assert payloads(nodes) == [b"others", b"others", None]
    nodes.down = frozenset()
    assert held(nodes, "a").origin == stamp(nodes)


def test_ones_own_value_made_to_last_by_another_is_known_again(nodes, p, q):
    """p's record is at one owner only; q finds it there, and stores it once more."""
    told = []

    def another_comes():
        well(nodes)
        told.append(q.add(b"q"))

    op = before(p.coordinator.store_if("k", b"p", None, "NX"), r.Put, lambda: only_at_a(nodes))

    assert p(before(op, r.Prepare, another_comes, 2)) is True
    assert told == [False]
    assert payloads(nodes) == [b"p"] * 3


def test_ones_own_value_at_one_owner_is_finished(nodes, p):
    op = before(p.coordinator.store_if("k", b"p", None, "NX"), r.Put, lambda: only_at_a(nodes))

    assert p(before(op, r.Prepare, lambda: well(nodes), 2)) is True

    assert payloads(nodes) == [b"p"] * 3


def test_who_was_the_first_to_store_a_value_stays_known_however_often_it_is_stored_again(nodes, p, q):
    first = stamp(nodes, -2)
    place(nodes, "b", b"v", stamp(nodes, -1), origin=first)

    assert p.add(b"p") is False

    assert {held(nodes, name).origin for name in NAMES} == {first}


def test_a_counter_made_to_last_is_known_again_by_its_author(nodes, p, q):
    def another_comes():
        well(nodes)
        assert q.add(7) is False
        assert q.incr() == 6

    op = before(p.coordinator.store_if("k", 5, None, "NX"), r.Put, lambda: only_at_a(nodes))

    assert p(before(op, r.Prepare, another_comes, 2)) is True
    assert p.get() == b"6"


def test_what_became_of_a_value_that_was_hidden_since_is_in_doubt(nodes, p, q):
    """Somebody may have read it, and deleted it, before others added theirs."""

    def another_comes():
        well(nodes)
        q.set(b"newer")

    op = before(p.coordinator.store_if("k", b"p", None, "NX"), r.Put, lambda: only_at_a(nodes))

    assert type(p.failure(before(op, r.Prepare, another_comes, 2))) is InDoubt


def test_a_proposal_that_is_gone_is_made_again(nodes, p):
    def lost():
        well(nodes)
        nodes.nodes["a"].discard("k")

    op = before(p.coordinator.store_if("k", b"p", None, "NX"), r.Put, lambda: only_at_a(nodes))

    assert p(before(op, r.Prepare, lost, 2)) is True
    assert payloads(nodes) == [b"p"] * 3


def test_a_plain_write_gives_way_to_a_promise_and_comes_after_it(nodes, p, q):
    op = p.coordinator.store_if("k", b"added", None, "NX")
    told = []

    def write():
        q.set(b"written")
        told.append(held(nodes, "a").stamp)

    assert p(before(op, r.Put, write)) is False
    assert payloads(nodes) == [b"written"] * 3


def test_nobody_waits_for_a_promise_whose_maker_is_gone(nodes, p):
    for name in NAMES:
        request = r.Prepare("k", stamp(nodes, 0.3), p.standings.topology, 2**52, 500, 1250)
        nodes.nodes[name].execute(request)

    p.set(b"v")

    assert p.trips == 2
    assert held(nodes, "a").stamp > stamp(nodes, 0.29)


# ---------------------------------------------------------------- counters and ends


def test_prolonging_while_there_is_a_promise_stores_the_record_once_more(nodes, p):
    p.set(b"v", ttl_ms=1000)
    for name in NAMES:
        nodes.nodes[name].execute(r.Prepare("k", stamp(nodes, 0.1), p.standings.topology, 2**52, 500, 1250))

    assert p(p.coordinator.ask_owner("k", r.Expire("k", 5000))) is True

    assert 4900 < p(p.replicas.inspect("k"))[1] <= 5000
    nodes.advance(4.9)
    assert p.get() == b"v"


def test_what_is_not_there_is_not_prolonged(nodes, p):
    p.set(b"v", ttl_ms=1000)
    nodes.advance(1)

    assert p(p.agreement.prolong("touch", "k", 0)) is None
    assert p(p.agreement.prolong("touch", "none", 0)) is None


def test_a_counter_is_prolonged_with_what_was_counted(p, q):
    p.set(5, ttl_ms=1000)
    q.incr()

    before_it = p(p.agreement.prolong("touch", "k", 0))

    assert Counter.parse(before_it.payload).value == 6
    assert (p.get(), q.incr()) == (b"6", 7)
    assert p(p.replicas.inspect("k")) == (b"7", -1)


def test_folding_keeps_the_value_and_says_what_it_contains(nodes, p, q):
    p.set(5)
    q.incr(10)
    p.incr(-3)

    record = p(p.agreement.fold("incr", "k"))

    counter = Counter.parse(record.payload)
    assert (counter.base, counter.fields, len(counter.folded)) == (12, {}, 2)
    assert {(plus, minus) for plus, minus, _ in counter.folded.values()} == {(10, 0), (0, 3)}
    assert {until for _, _, until in counter.folded.values()} == {round(nodes.now * 1000) + round(GRACE * 1000)}


def test_what_cannot_be_folded_is_left(nodes, p):
    assert p(p.agreement.fold("incr", "none")) is None
    p.set(b"v")
    since = len(nodes.requests)
    assert p(p.agreement.fold("incr", "k")).payload == b"v"
    assert asked(nodes, r.Put, since=since) == []


def test_a_fold_without_fields_still_passes_a_promise(nodes, p):
    p.set(5)
    later = stamp(nodes, 0.1)
    for name in NAMES:
        nodes.nodes[name].execute(r.Prepare("k", later, p.standings.topology, 2**52, 500, 1250))

    assert p(p.agreement.fold("incr", "k")).payload == held(nodes, "a").payload
    assert held(nodes, "a").stamp > later


def test_what_a_base_contains_is_known_for_the_grace_only():
    fields = {b"field--1": Field(3, 1), b"field--2": Field(1, 0)}
    kept = {b"field--1": Folded(2, 0, 99), b"field--2": Folded(7, 0, 50), b"field--3": Folded(1, 1, 60)}
    record = Record(COUNTER, NO_STAMP, payload=Counter(10, fields, kept).pack())

    found = Counter.parse(folded(record, 100, 50).payload)

    assert found.base == 13
    assert found.fields == {}
    assert found.folded == {
        b"field--1": Folded(5, 1, 100),
        b"field--2": Folded(1, 0, 100),
        b"field--3": Folded(1, 1, 60),
    }


def test_it_ends_after_some_attempts(nodes, p):
    """However often somebody is first."""

    def overtake():
        later = stamp(nodes, 0.001 * len(nodes.requests))
        for name in NAMES:
            nodes.nodes[name].execute(r.Prepare("k", later, p.standings.topology, 2**52, 10_000, 1250))

    op = p.coordinator.store_if("k", b"p", None, "NX")
    for number in range(1, 30):
        op = before(op, r.Prepare, overtake, number)

    assert type(p.failure(op)) is QuorumNotReached
    assert payloads(nodes) == [None] * 3
