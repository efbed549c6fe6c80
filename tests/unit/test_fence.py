"""Which memory nodes have, who votes, and what time it is."""

from typing import Any

import pytest

from distcache_django.core import requests as r
from distcache_django.core.fence import Fence, Standings
from tests.support.replicas import LIMITS, NAMES, Process, asked, before, fence, made, skew

FENCE = b"2" + b"incarnat" + b"f" * 40 + bytes(8) + b"u" + b"topology"


@pytest.fixture
def nodes():
    return made()


@pytest.fixture
def p(nodes):
    process = Process(nodes)
    process.set(b"v")
    return process


def states(nodes):
    return b"".join(fence(nodes, name).state for name in NAMES)


def test_a_fence_names_memory_state_topology_and_who_is_behind():
    assert Fence.parse(FENCE + b"nod1nod2") == Fence(b"incarnat", b"u", b"topology", frozenset({b"nod1", b"nod2"}))
    for raw in (None, b"", FENCE[:-1], b"1" + FENCE[1:]):
        assert Fence.parse(raw) is None


def test_nodes_of_one_hash_are_refused():
    options: dict[str, Any] = {"generation": lambda _: 0, "wall": lambda: 0.0, "random": bytes, "quarantine_ms": 0}

    with pytest.raises(ValueError, match="have the same hash"):
        Standings(b"topology", ["a", "a"], **options)


# ---------------------------------------------------------------- the first use


def test_nodes_that_are_all_new_are_raised_by_who_comes_first(nodes):
    p = Process(nodes)

    assert p.get() is None

    assert states(nodes) == b"uuu"
    p.set(b"v")
    assert p.get() == b"v"


@pytest.mark.parametrize("kind", [r.Register, r.Rise])
def test_two_that_come_first_at_once_agree(nodes, kind):
    p, q = Process(nodes), Process(nodes)

    p(before(p.replicas.store("k", b"p", None), kind, lambda: q.set(b"q")))

    assert states(nodes) == b"uuu"
    assert p.get() == q.get() == b"p"


def test_nodes_are_not_raised_while_one_is_away(nodes):
    nodes.kill("c")
    p = Process(nodes)

    assert p.failure(p.replicas.fetch("k")).received == 0
    nodes.mend("c")
    assert p.get() is None
    assert states(nodes) == b"uuu"


def test_a_bootstrap_that_was_cut_short_is_finished_by_the_next(nodes):
    p = Process(nodes)
    op = before(p.replicas.store("k", b"v", None), r.Rise, lambda: [nodes.demote(name) for name in "bc"])
    p.failure(op)
    assert states(nodes) == b"unn"
    for name in "bc":
        nodes.mend(name)

    q = Process(nodes)
    q.set(b"v")

    assert states(nodes) == b"uuu"


def test_a_node_that_lost_its_memory_is_not_raised_with_the_others(nodes, p):
    nodes.mend("c", empty=True)
    p.set(b"new")

    assert states(nodes) == b"uun"


def test_a_node_that_lost_its_memory_during_the_bootstrap_is_not_raised(nodes):
    p = Process(nodes)

    op = before(p.replicas.store("k", b"v", None), r.Rise, nodes.nodes["c"].clear)
    p(op)

    assert p.get() == b"v"
    assert states(nodes)[:2] == b"uu"
    assert fence(nodes, "c").state == b"n"


# ---------------------------------------------------------------- who counts


def test_whenever_a_link_opens_a_node_is_registered_before_it_counts(nodes, p):
    since = len(nodes.requests)
    p.set(b"v")
    assert asked(nodes, r.Register, since=since) == []

    nodes.generations["a"] += 1
    p.set(b"v")

    assert asked(nodes, r.Register, since=since) == ["a"]


def test_a_node_whose_fence_changes_is_parsed_anew(nodes, p):
    nodes.down = frozenset("c")
    Process(nodes).set(b"x", "other")
    nodes.down = frozenset()

    p.set(b"v")

    assert p.standings.unfit == {"c"}
    assert p.standings.state("c") == b"u"
    assert p.standings.state("nobody") is p.standings.incarnation("nobody") is None


def test_a_node_that_does_not_answer_stays_unregistered(nodes, p):
    nodes.kill("c")
    nodes.generations["c"] += 1
    p.set(b"v")
    assert p.standings.unregistered(NAMES) == {"c"}

    nodes.mend("c")
    p.set(b"v")
    assert p.standings.unregistered(NAMES) == set()


# ---------------------------------------------------------------- time


@pytest.mark.parametrize("wrong", [-3600, 3600])
@pytest.mark.parametrize("ahead", [-5, 0, 5])
def test_time_is_that_of_most_nodes(nodes, wrong, ahead):
    skew(nodes, "b", wrong)
    p = Process(nodes, ahead=ahead)
    p.set(b"v")

    assert p.standings.now() == pytest.approx(nodes.now, abs=0.01)
    assert not p.standings.is_lost


def test_before_anybody_is_heard_it_is_ones_own(nodes):
    p = Process(nodes, ahead=5)

    assert (p.standings.is_lost, p.standings.now()) == (True, nodes.now + 5)


def test_a_process_that_was_stopped_meanwhile_learns_nothing_wrong(nodes, p):
    p(before(p.replicas.store("k", b"v", None), r.Put, lambda: None))
    standings, sent = p.standings, nodes.now
    told = round(nodes.now * 1000)
    nodes.advance(60)

    for name in NAMES:
        standings.heard(name, told, sent)

    assert standings.now() == pytest.approx(nodes.now, abs=0.01)


def test_deadlines_are_told_in_the_time_of_the_node(nodes):
    skew(nodes, "b", 3600)
    p = Process(nodes, ahead=-5)
    p.set(b"v")

    expires = p.replicas.expires()
    assert p.standings.not_after("a", expires) == pytest.approx((nodes.now + LIMITS.deadline) * 1000, abs=2)
    assert p.standings.not_after("b", expires) == pytest.approx((nodes.now + 3600 + LIMITS.deadline) * 1000, abs=2)
