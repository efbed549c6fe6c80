"""Counters on several nodes: nothing is lost, nothing is counted twice, whatever comes in between."""

import pytest

from distcache_django.core import requests as r
from distcache_django.core.counting import Own
from distcache_django.core.record import Counter
from distcache_django.exceptions import InDoubt, NotAnInteger, QuorumNotReached
from tests.support.replicas import NAMES, Process, asked, before, behind, held, made, marks, place, stamp_at


@pytest.fixture
def nodes():
    return made()


@pytest.fixture
def p(nodes):
    """Be a process of a cluster with a counter that is at 5."""
    process = Process(nodes)
    process.set(5)
    return process


@pytest.fixture
def q(nodes, p):
    process = Process(nodes)
    process.set(b"any", "any")
    return process


def values(nodes):
    """Return what each node has counted."""
    return [Counter.parse(held(nodes, name).payload).value for name in NAMES]


def only_at_a(nodes):
    """Let what is sent next arrive at one owner, later, and at no other."""
    nodes.hang("a")
    nodes.demote("b")
    nodes.demote("c")


def well(nodes):
    for name in NAMES:
        nodes.mend(name)


# ---------------------------------------------------------------- all is well


def test_counting_takes_one_round_trip_after_the_first_time(nodes, p, q):
    assert (p.incr(), p.trips) == (6, 2)
    assert (p.incr(10), p.trips) == (16, 1)
    assert (q.incr(-3), q.incr(-3), q.trips) == (13, 10, 1)
    assert values(nodes) == [10] * 3
    assert p.get() == b"10"


def test_counting_keeps_the_end(nodes, p):
    p.set(5, ttl_ms=1000)
    p.incr()

    assert p(p.replicas.inspect("k")) == (b"6", 1000)
    nodes.advance(1)
    assert p.incr() is None
    assert (p.get(), p.own) == (None, {})


def test_what_is_not_there_is_not_counted(p):
    assert p.incr(key="none") is None
    p.incr()
    p(p.replicas.remove("k"))
    assert p.incr() is None


def test_what_is_no_integer_is_not_counted(p, q):
    p.set(b"text", "k2")
    with pytest.raises(NotAnInteger):
        p.incr(key="k2")

    p.incr()
    q.set(b"text")
    with pytest.raises(NotAnInteger):
        p.incr()


def test_a_field_remembers_its_totals():
    own = Own(b"base", b"field")

    assert [own.add(delta) for delta in (3, -5, 0, 2)] == [(3, 0), (3, 5), (3, 5), (5, 5)]


# ---------------------------------------------------------------- owners away


def test_an_owner_away_is_noted(nodes, p):
    nodes.down = frozenset("c")

    assert (p.incr(), p.incr(), p.trips) == (6, 7, 1)

    assert (marks(nodes, "a", "c"), marks(nodes, "b", "c")) == ({"k"}, {"k"})


def test_an_owner_found_away_is_noted_before_it_is_counted(nodes, p):
    p.incr()
    nodes.kill("c")

    assert (p.incr(), p.trips) == (7, 2)

    assert (marks(nodes, "a", "c"), marks(nodes, "b", "c")) == ({"k"}, {"k"})
    assert values(nodes)[:2] == [7, 7]


def test_owners_that_have_not_noted_who_is_away_do_not_count(nodes, p):
    p.incr()
    nodes.kill("c")

    op = before(p.counting.increase("k", 1), r.Raise, lambda: nodes.kill("b"), 2)

    assert type(p.failure(op)) is InDoubt


def test_too_few_owners_certainly_have_not_counted(nodes, p):
    p.incr()
    for name in NAMES:
        nodes.kill(name)

    failure = p.failure(p.counting.increase("k", 1))

    assert type(failure) is QuorumNotReached
    assert (failure.required, failure.received, failure.nodes) == (2, 0, NAMES)


def test_what_is_in_doubt_is_not_part_of_later_totals(nodes, p):
    p.incr()
    field = p.own["k"].field
    for name in "bc":
        nodes.demote(name)
    assert type(p.failure(p.counting.increase("k", 100))) is InDoubt
    assert "k" not in p.own
    well(nodes)

    assert p.incr() in (7, 107)

    assert p.own["k"].field != field
    assert (p.own["k"].plus, p.own["k"].minus) == (1, 0)


def test_a_failure_of_another_field_forgets_nothing(nodes, p):
    """Two calls of one thread may overlap on an event loop: the one that fails is not the one that goes on."""
    p.incr()
    for name in NAMES:
        nodes.kill(name)
    other = Own(b"other", b"field--2")

    p.failure(before(p.counting.increase("k", 1), r.Raise, lambda: p.own.update(k=other)))

    assert p.own["k"] is other


def test_an_increment_that_arrives_late_is_counted_once(nodes, p):
    p.incr()
    nodes.hang("c")
    assert p.incr() == 7
    assert p.incr() == 8

    nodes.mend("c")

    assert values(nodes) == [8, 8, 7]
    assert (p.incr(), values(nodes)) == (9, [9] * 3)


def test_the_answer_is_what_the_first_voting_owner_has(nodes, p):
    first, second, _ = p.topology.owners("k")
    p.incr()
    raise_at = r.Raise("k", held(nodes, first).stamp, b"partial-", 50, 0, b"", 0, p.standings.topology, 2**52)
    nodes.nodes[second].execute(raise_at)

    assert p.incr() == 7
    nodes.kill(first)
    assert p.incr() == 58


def test_an_owner_that_is_behind_is_not_believed(nodes, p, q):
    first, second, _ = p.topology.owners("k")
    p.incr()
    nodes.down = frozenset({first})
    q.incr(10)
    nodes.down = frozenset()

    assert p.incr() == 17
    assert behind(nodes)[second] == {first}


# ---------------------------------------------------------------- other bases


def test_another_base_is_counted_on(nodes, p, q):
    p.incr()
    q.set(100)

    assert (p.incr(), p.trips) == (101, 3)
    assert (p.incr(), p.trips) == (102, 1)
    assert values(nodes) == [102] * 3


def test_owners_without_the_base_are_given_it(nodes, p):
    p.incr()
    for name in "bc":
        nodes.nodes[name].discard("k")

    assert (p.incr(), p.trips) == (7, 3)
    assert values(nodes) == [7] * 3


def test_a_counter_that_all_have_lost_is_none(nodes, p):
    p.incr()
    for name in NAMES:
        nodes.nodes[name].discard("k")

    assert p.incr() is None
    assert p.own == {}


def test_a_counter_restored_by_a_read_is_counted_on(nodes, p):
    p.incr()
    for name in p.topology.owners("k")[:2]:
        nodes.nodes[name].discard("k")

    assert p.incr() == 7


def test_void_counters_are_given_anew(nodes, p):
    p.incr()
    nodes.kill("c")
    nodes.mend("c")
    assert p.recover("c")

    assert (p.incr(), values(nodes)) == (7, [7] * 3)


def test_increments_folded_before_they_were_acknowledged_are_not_counted_again(nodes, p, q):
    """p's raise reached one owner only; q has folded it into the new base."""
    p.incr()

    def fold():
        well(nodes)
        assert held(nodes, "a").stamp == before_it
        assert q(q.agreement.fold("incr", "k")) is not None

    before_it = held(nodes, "a").stamp
    op = before(p.counting.increase("k", 10), r.Raise, lambda: only_at_a(nodes))

    assert p(before(op, r.Raise, fold, 2)) == 16

    assert (p.get(), q.incr()) == (b"16", 17)


def test_increments_that_a_new_base_does_not_contain_are_counted_on_it(nodes, p, q):
    p.incr()
    op = before(p.counting.increase("k", 10), r.Raise, lambda: q(q.agreement.fold("incr", "k")))

    assert p(op) == 16

    counter = Counter.parse(held(nodes, "a").payload)
    assert (counter.base, counter.value) == (6, 16)
    assert p.incr() == 17


def test_a_base_that_only_a_minority_has_is_given_to_others_before_it_is_built_on(nodes, p):
    p.incr()
    place(nodes, "a", Counter(1000, {}, {}).pack(), stamp_at(nodes, 0.05), kind=b"c")
    nodes.down = frozenset("b")

    assert p.incr() == 1001
    assert values(nodes) == [1001, 6, 1001]


def test_a_base_that_cannot_be_given_to_enough_is_agreed_on(nodes, p):
    p.incr()
    place(nodes, "a", Counter(1000, {}, {}).pack(), stamp_at(nodes, 0.05), kind=b"c")
    nodes.down = frozenset("b")

    later = stamp_at(nodes, 0.1)

    def promise():
        request = r.Prepare("k", later, p.standings.topology, 2**52, 500, 1250)
        assert nodes.nodes["c"].execute(request).outcome[0] == b"P"

    assert p(before(p.counting.increase("k", 1), r.Put, promise)) == 1001
    assert held(nodes, "a").stamp == held(nodes, "c").stamp > later


def test_a_majority_that_has_counted_does_not_wait_for_one_with_another_base(nodes, p):
    """Who wrote that was not told that it is there: it comes after this, if it comes."""
    p.incr()
    place(nodes, "a", Counter(1000, {}, {}).pack(), stamp_at(nodes, 0.05), kind=b"c")

    assert p.incr() == 7
    assert behind(nodes)["b"] == behind(nodes)["c"] == {"a"}


def test_a_promise_in_the_way_is_finished(nodes, p):
    p.incr()
    for name in NAMES:
        nodes.nodes[name].execute(r.Prepare("k", stamp_at(nodes, 0.1), p.standings.topology, 2**52, 500, 1250))

    assert (p.incr(), values(nodes)) == (7, [7] * 3)
    assert (p.incr(), p.trips) == (8, 1)


def test_late_owners_have_not_counted(nodes, p):
    op = before(p.counting.increase("k", 1), r.Raise, lambda: nodes.advance(0.3))

    assert type(p.failure(op)) is QuorumNotReached
    assert values(nodes) == [5] * 3


def test_an_owner_that_has_lost_its_memory_is_registered_and_given_the_base(nodes, p):
    p.incr()
    nodes.nodes["c"].clear()
    nodes.down = frozenset("b")

    failure = p.failure(p.counting.increase("k", 1))

    assert type(failure) is InDoubt  # it does not vote
    assert values(nodes)[::2] == [7, 7]


def test_a_counter_that_is_gone_after_an_owner_has_counted_is_in_doubt(nodes, p):
    p.incr()
    nodes.kill("c")
    nodes.nodes["b"].discard("k")

    def gone():
        for name in "ab":
            nodes.nodes[name].discard("k")

    assert type(p.failure(before(p.counting.increase("k", 1), r.Raise, gone, 2))) is InDoubt


# ---------------------------------------------------------------- many fields


def test_beyond_64_fields_they_are_folded(nodes, p):
    crowd = [Process(nodes, seed=number) for number in range(65)]
    for number, each in enumerate(crowd):
        assert each.incr() == 6 + number
        fields = Counter.parse(held(nodes, "a").payload).fields
        assert len(fields) == (number + 1 if number < 64 else 0)

    assert Counter.parse(held(nodes, "b").payload).base == 70
    assert [each.incr() for each in crowd[:3]] == [71, 72, 73]
    assert p.get() == b"73"


def test_a_fold_that_fails_takes_no_increment_back(nodes, p):
    for number in range(64):
        Process(nodes, seed=number).incr()
    last = Process(nodes, seed=99)
    last.set(b"any", "any")

    def fail():
        for name in "bc":
            nodes.kill(name)

    assert last(before(last.counting.increase("k", 1), r.Prepare, fail)) == 70
    assert len(asked(nodes, r.Prepare)) > 0
