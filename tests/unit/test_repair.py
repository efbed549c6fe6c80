"""Nodes that have missed something, or lost their memory, are given what there is, and vote again only then."""

import pytest

from distcache_django.core import requests as r
from distcache_django.core.record import TOMBSTONE, Counter
from distcache_django.core.slots import slot_of
from tests.support.replicas import (
    GRACE,
    NAMES,
    Process,
    asked,
    before,
    behind,
    fence,
    held,
    made,
    marks,
    payloads,
    place,
    stamp_at,
    valid,
)

NOBODY: dict[str, set[str]] = {"a": set(), "b": set(), "c": set()}


@pytest.fixture
def nodes():
    return made()


@pytest.fixture
def p(nodes):
    """Be a process of a cluster that is in use."""
    process = Process(nodes)
    process.set(b"old")
    return process


def missing(nodes, name, act):
    """Do something while a node is away, that was known."""
    nodes.down = frozenset({name})
    act()
    nodes.down = frozenset()


def miss_slots(nodes, p, name, *keys):
    """Have two nodes note for another only in which slots it misses keys."""
    for holder in NAMES:
        if holder != name:
            request = r.Put(
                [r.PutItem(k, held(nodes, holder, k).pack(), None, p.standings.tags[name], slot_of(k)) for k in keys],
                p.standings.topology,
                2**52,
                500,
                missed_bound=0,
            )
            assert {*nodes.nodes[holder].execute(request).outcome} == {b"="}


# ---------------------------------------------------------------- what was missed


def test_a_node_is_given_what_it_has_missed_and_votes_again(nodes, p):
    keys = [f"k{number}" for number in range(450)]
    missing(nodes, "c", lambda: p(p.replicas.store_many(keys, [b"new"] * 450, None)))
    assert behind(nodes) == {"a": {"c"}, "b": {"c"}, "c": set()}

    assert p.replay("c") is True

    assert behind(nodes) == NOBODY
    assert {held(nodes, "c", key).payload for key in keys} == {b"new"}


def test_a_node_keeps_what_it_has_got_meanwhile(nodes, p):
    missing(nodes, "c", lambda: p.set(b"new"))
    p.set(b"newer")

    assert p.replay("c") is True
    assert payloads(nodes) == [b"newer"] * 3


@pytest.mark.parametrize("is_over", [False, True])
def test_what_was_deleted_is_deleted_even_if_nobody_has_the_tombstone_any_more(nodes, p, is_over):
    missing(nodes, "c", lambda: p(p.replicas.remove("k")))
    nodes.advance(GRACE + 1 if is_over else 0)

    assert p.replay("c") is True

    assert behind(nodes) == NOBODY
    record = held(nodes, "c")
    assert record is None if is_over else record.kind == TOMBSTONE


def test_a_newer_value_of_its_own_is_no_victim_of_a_deletion_that_is_over(nodes, p):
    missing(nodes, "c", lambda: p(p.replicas.remove("k")))
    nodes.advance(GRACE + 1)
    place(nodes, "c", b"newer", stamp_at(nodes))

    assert p.replay("c") is True
    assert payloads(nodes)[2] == b"newer"


def test_what_is_missed_while_a_node_is_being_repaired_stays_noted(nodes, p):
    p.set(5, "n")
    p.incr(key="n")
    missing(nodes, "c", lambda: p.incr(key="n"))
    op = before(p.repair.replay("c"), r.Settle, lambda: missing(nodes, "c", lambda: p.incr(key="n")))

    assert p(op) is True

    assert behind(nodes) == {"a": {"c"}, "b": set(), "c": set()}
    assert p.replay("c") is True
    assert Counter.parse(held(nodes, "c", "n").payload).value == 8
    assert behind(nodes) == NOBODY


def test_without_enough_witnesses_nothing_is_settled(nodes, p):
    missing(nodes, "c", lambda: p.set(b"new"))
    nodes.kill("b")

    assert p.replay("c") is False  # b has notes too

    assert marks(nodes, "a", "c") == set()
    assert behind(nodes)["b"] == {"c"}


def test_a_node_that_refuses_stays_behind(nodes, p):
    missing(nodes, "c", lambda: (p.set(b"new"), p(p.replicas.remove("k2"))))
    nodes.advance(GRACE + 1)
    nodes.demote("c")

    assert p.replay("c") is False
    assert marks(nodes, "a", "c") == {"k", "k2"}
    nodes.mend("c")
    assert p.replay("c") is True


def test_two_that_call_each_other_behind_are_repaired(nodes, p):
    missing(nodes, "a", lambda: p.set(b"1", "k1"))
    missing(nodes, "b", lambda: p.set(b"2", "k2"))
    missing(nodes, "c", lambda: p.set(b"3", "k3"))
    assert p.failure(p.replicas.fetch("k")).received == 0

    assert [p.replay(name) for name in NAMES] == [True] * 3

    assert [payloads(nodes, key) for key in ("k1", "k2", "k3")] == [[b"1"] * 3, [b"2"] * 3, [b"3"] * 3]
    assert p.get() == b"old"


def test_a_promise_is_not_taken_for_the_record(nodes, p):
    """The node refuses what it has missed, for a write that may never come: it has the old value still."""
    missing(nodes, "c", lambda: p(p.replicas.remove("k")))
    later = stamp_at(nodes, 0.1)
    nodes.nodes["c"].execute(r.Prepare("k", later, p.standings.topology, 2**52, 500, 1000))

    assert p.replay("c") is False

    assert held(nodes, "c").payload == b"old"
    assert behind(nodes)["a"] == {"c"}
    nodes.advance(1)
    assert p.replay("c") is True
    assert held(nodes, "c").kind == TOMBSTONE


# ---------------------------------------------------------------- slots


def test_where_slots_are_noted_all_their_keys_are_compared(nodes, p):
    missing(nodes, "c", lambda: p.set(b"new"))
    p.replay("c")
    nodes.nodes["c"].discard("k")
    miss_slots(nodes, p, "c", "k")
    assert behind(nodes)["a"] == {"c"}

    assert p.replay("c") is True

    assert payloads(nodes) == [b"new"] * 3
    assert behind(nodes) == NOBODY


def test_what_no_other_has_in_a_slot_any_more_is_dropped_unless_it_is_new(nodes, p):
    twin = next(key for key in (f"{{k}}{number}" for number in range(9)) if slot_of(key) == slot_of("{k}"))
    p.set(b"any", "{k}any")
    place(nodes, "c", b"undead", stamp_at(nodes, -60), twin)
    place(nodes, "c", b"coming", stamp_at(nodes), "{k}new")
    miss_slots(nodes, p, "c", "{k}any")

    assert p.replay("c") is True

    assert held(nodes, "c", twin) is None
    assert held(nodes, "c", "{k}new").payload == b"coming"
    assert held(nodes, "c", "k").payload == b"old"


def test_a_slot_that_is_missed_again_while_it_is_compared_stays_noted(nodes, p):
    miss_slots(nodes, p, "c", "k")
    op = before(p.repair.replay("c"), r.Settle, lambda: miss_slots(nodes, p, "c", "k"), 2)

    p(op)

    assert behind(nodes)["a"] == {"c"}
    assert p.replay("c") is True
    assert behind(nodes) == NOBODY


def test_a_node_that_misses_something_in_a_slot_is_no_witness_for_it(nodes, p):
    miss_slots(nodes, p, "c", "k")
    assert p(p.repair.evidence(["k"]))[0].record.payload == b"old"
    nodes.kill("b")

    assert p(p.repair.evidence(["k"])) == [None]


@pytest.mark.parametrize("kind", [r.Scan, r.Missed, r.Noted])
def test_slots_stay_noted_where_a_node_cannot_be_asked(nodes, p, kind):
    miss_slots(nodes, p, "c", "k")

    assert p(before(p.repair.replay("c"), kind, lambda: [nodes.kill(name) for name in "ab"])) is False
    assert p(before(p.repair.replay("c"), kind, lambda: nodes.kill("c"))) is False


@pytest.mark.parametrize("kind", [r.Scan, r.FetchMany, r.Noted, r.Void])
def test_slots_stay_noted_where_a_node_cannot_be_cleaned(nodes, p, kind):
    place(nodes, "c", b"undead", stamp_at(nodes, -60), "{k}2")
    p.set(b"any", "{k}")
    miss_slots(nodes, p, "c", "{k}")
    number = {r.Scan: 3, r.Noted: 3}.get(kind, 1)
    down = "abc" if kind is r.Noted else "c"
    op = before(p.repair.replay("c"), kind, lambda: [nodes.kill(name) for name in down], number)

    assert p(op) is False


# ---------------------------------------------------------------- lost memory


def test_a_node_that_lost_its_memory_is_given_all_there_is(nodes, p):
    keys = [f"k{number}" for number in range(450)]
    p(p.replicas.store_many(keys, [b"v"] * 450, None))
    p.set(7, "n")
    p(p.replicas.remove("k1"))
    nodes.mend("c", empty=True)
    p.set(b"any", "any")
    assert fence(nodes, "c").state == b"n"

    assert p.recover("c") is True

    assert fence(nodes, "c").state == b"u"
    assert [valid(nodes, "c", key).payload for key in ("k", "k0", "k449")] == [b"old", b"v", b"v"]
    assert valid(nodes, "c", "k1").kind == TOMBSTONE
    nodes.kill("a")
    assert (p.get(), p.get("n"), p.get("k1"), p.get("k2")) == (b"old", b"7", None, b"v")
    assert p.incr(key="n") == 8


def test_a_node_that_came_back_with_older_data_is_given_what_is_newer_and_keeps_nothing_else(nodes, p):
    memory = nodes.nodes["c"].snapshot()
    p.set(b"new")
    p.set(b"gone", "k2")
    p(p.replicas.remove("k2"))
    nodes.nodes["c"].restart(memory)
    place(nodes, "ab", b"v", stamp_at(nodes, -100), "k3")
    nodes.nodes["c"].put("k3", held(nodes, "a", "k3")._replace(stamp=stamp_at(nodes)).pack())
    p.set(b"any", "any")
    assert fence(nodes, "c").state == b"r"

    assert p.recover("c") is True

    assert valid(nodes, "c").payload == b"new"
    assert valid(nodes, "c", "k3").payload == b"v"  # its own was never acknowledged, as far as anybody knows


def test_what_comes_during_recovery_is_not_lost(nodes, p):
    nodes.mend("c", empty=True)
    q = Process(nodes)
    op = before(p.repair.recover("c"), r.Put, lambda: q.set(b"new"))
    op = before(op, r.Rise, lambda: missing(nodes, "c", lambda: q.set(b"newer", "k2")))

    assert p(op) is True

    assert payloads(nodes) == [b"new"] * 3
    assert behind(nodes)["a"] == {"c"}
    assert q.get("k2") == b"newer"


def test_a_node_that_loses_its_memory_once_more_is_not_raised(nodes, p):
    nodes.mend("c", empty=True)
    q = Process(nodes)

    def again():
        nodes.mend("c", empty=True)
        q.set(b"any", "any")

    assert p(before(p.repair.recover("c"), r.Rise, again)) is False
    assert fence(nodes, "c").state != b"u"
    assert p.recover("c") is True


def test_nothing_that_was_promised_before_is_on_its_way_when_a_node_is_raised(nodes, p):
    nodes.mend("c", empty=True)
    began = nodes.now

    p.recover("c")

    assert nodes.now - began >= 0.25 + 0.5


def test_a_promise_from_before_a_restart_does_not_keep_a_record_from_a_node_that_is_raised(nodes, p):
    later = stamp_at(nodes, 0.1)
    nodes.nodes["c"].execute(r.Prepare("k", later, p.standings.topology, 2**52, 500, 60_000))
    nodes.kill("c")
    nodes.mend("c")

    assert p.recover("c") is False
    assert fence(nodes, "c").state == b"r"
    nodes.advance(60)
    assert p.recover("c") is True
    assert valid(nodes, "c").payload == b"old"


def test_a_node_that_is_well_is_left_alone(nodes, p):
    since = len(nodes.requests)

    assert p.recover("a") is True
    assert asked(nodes, r.Scan, r.Rise, since=since) == []


def test_a_node_that_is_away_is_not_recovered(nodes, p):
    nodes.kill("c")

    assert Process(nodes).recover("c") is False


@pytest.mark.parametrize("kind", [r.Scan, r.Noted, r.Put, r.Missed, r.Rise])
def test_a_node_is_not_raised_if_anything_fails(nodes, p, kind):
    nodes.mend("c", empty=True)
    down = "c" if kind in (r.Put, r.Rise) else "ab"

    assert p(before(p.repair.recover("c"), kind, lambda: [nodes.kill(name) for name in down])) is False


def test_two_of_three_that_lost_their_memory_are_not_recovered_from_one(nodes, p):
    """Nobody knows whether that one has all."""
    for name in "bc":
        nodes.mend(name, empty=True)
    p.failure(p.replicas.fetch("k"))

    assert (p.recover("b"), p.recover("c")) == (False, False)


# ---------------------------------------------------------------- mending


def mend(process, node, nonce=b"n"):
    return process(process.repair.mend(node, nonce))


def test_mending_tells_how_nodes_are(nodes, p):
    q = Process(nodes)
    assert [mend(q, name) for name in NAMES] == ["up"] * 3
    missing(nodes, "c", lambda: p.set(b"new"))
    assert mend(q, "c") == "up"
    assert behind(nodes) == NOBODY

    nodes.mend("b", empty=True)
    assert mend(q, "b") == "up"
    assert (fence(nodes, "b").state, payloads(nodes)) == (b"u", [b"new"] * 3)
    nodes.kill("a")
    p.get()
    assert mend(q, "a") == "away"


def test_one_at_a_time_mends_a_node(nodes, p):
    missing(nodes, "c", lambda: p.set(b"new"))
    nodes.nodes["c"].execute(r.StoreIf("dc:repairing", b"other", 10_000, "NX"))

    assert mend(p, "c") == "behind"
    nodes.advance(10)
    assert mend(p, "c") == "up"
    assert "dc:repairing" not in nodes.nodes["c"]


def test_a_node_that_cannot_be_made_whole_yet_says_why(nodes, p):
    missing(nodes, "c", lambda: p.set(b"new"))
    nodes.kill("b")
    assert mend(p, "c") == "behind"
    nodes.mend("c", empty=True)
    assert mend(p, "c") == "recovering"
    op = p.repair.mend("c", b"n")
    assert p(before(op, r.StoreIf, lambda: nodes.kill("c"))) == "away"
