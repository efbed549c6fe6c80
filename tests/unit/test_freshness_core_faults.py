"""What look-ups, marks and bumps do when a record is marked, a node is away, or has forgotten what it knew."""

import pytest

from distcache_django.core import requests as r
from distcache_django.core.freshness import BYPASS, HIT, LOAD, WAIT, Lease
from distcache_django.exceptions import NodeRefused, NodeTimeout, NodeUnreachable
from distcache_django.testing.memory import MemoryNodes
from tests.simulation.site import MARK_MS, NAMES, R1, R2, Site


@pytest.fixture
def nodes():
    return MemoryNodes(NAMES)


@pytest.fixture
def site(nodes):
    return Site(nodes)


# ---------------------------------------------------------------- no vote


@pytest.mark.parametrize("fault", ["kill", "hang"])
@pytest.mark.parametrize("victim", ["a", "b"])
def test_a_node_that_is_away_is_bypassed_within_one_deadline(site, fault, victim):
    site.store(records=(R1, R2))
    getattr(site.nodes, fault)(victim)
    began = site.nodes.now

    for _ in range(3):
        assert site.begin(records=(R1, R2)).state is BYPASS

    assert site.nodes.now - began <= site.nodes.deadline


def test_a_marked_record_is_bypassed_and_takes_no_lease(site):
    site.store()
    site.mark(R1)

    begun, asked = site.asked(
        site.versions.begin(site.versions.look("k", [R1]), lambda: Lease("k:lease", b"two", 3000))
    )

    assert (begun.state, asked) == (BYPASS, [("a", "FetchMany")])


def test_an_expired_mark_is_settled_by_the_next_reader(site):
    site.store()
    site.mark(R1)
    site.nodes.advance(MARK_MS / 1000 + 0.001)

    begun = site.begin()

    assert begun.state is LOAD
    assert site.nodes.nodes["a"].marked == {}


@pytest.mark.parametrize("skew", [-3600.0, 3600.0])
def test_a_readers_clock_decides_nothing(site, skew):
    """A clock that is ahead asks the node in vain, one that is behind asks it later than it could."""
    site.store()
    site.wall_skew = skew
    site.mark(R1)

    assert site.begin().state is BYPASS
    assert "k:lease" not in site.nodes.nodes["a"]
    site.bump(R1)
    assert site.begin().state is LOAD


@pytest.mark.parametrize("records", [(R1,), (R1, R2), (R2, R1)])
def test_an_answer_belongs_to_its_dependencies(site, records):
    """Neither more nor fewer dependencies, nor another order, find an answer that was stored under others."""
    others = {(R1,), (R1, R2), (R2, R1)} - {records}
    site.store(records=records)
    site.begin(records=(R1, R2), nonce=None)

    assert site.begin(records=records, nonce=None).state is HIT
    assert {site.begin(records=other, nonce=None).state for other in others} <= {WAIT, BYPASS}


# ---------------------------------------------------------------- another memory


def test_a_restarted_node_has_no_vote_for_as_long_as_a_mark_lives(site):
    site.store()
    site.nodes.kill("a")
    site.begin()
    site.nodes.mend("a")

    assert site.begin().state is BYPASS
    site.nodes.advance(MARK_MS / 1000 - 0.01)
    assert site.begin().state is BYPASS
    site.nodes.advance(0.02)
    assert site.begin().state is LOAD


def test_a_quarantine_costs_no_round_trip_more(site):
    site.store()
    site.nodes.nodes["a"].restart(site.nodes.nodes["a"])
    site.begin()

    begun, asked = site.asked(site.versions.begin(site.versions.look("k", [R1]), lambda: None))

    assert (begun.state, asked) == (BYPASS, [("a", "FetchMany")])


def test_a_flushed_node_is_another(site):
    site.store()
    site.nodes.nodes["a"].clear()

    assert site.begin().state is BYPASS
    site.begin()
    site.nodes.advance(MARK_MS / 1000)
    assert site.begin().state is LOAD


def test_another_process_learns_of_a_new_incarnation_from_the_records(nodes, site):
    other = Site(nodes)
    site.store()
    assert other.begin(nonce=None).state is HIT
    nodes.nodes["a"].discard("dc:node")

    site.mark(R1)

    assert other.begin().state is BYPASS
    nodes.advance(MARK_MS / 1000 + 0.01)
    assert other.begin().state is LOAD


# ---------------------------------------------------------------- writers and nodes that are away


def test_a_mark_names_the_nodes_that_have_not_taken_it(site):
    site.store(records=(R1, R2))
    site.nodes.kill("b")

    failures = site.mark(R1, R2)

    assert {node: type(error) for node, error in failures.items()} == {"b": NodeUnreachable}


@pytest.mark.parametrize("lost", ["dc:node", "dc:count"])
def test_a_node_that_forgot_its_fence_takes_marks_when_it_is_registered_again(site, lost):
    site.store()
    site.nodes.nodes["a"].discard(lost)

    assert site.mark(R1) == {}
    assert site.begin().state is BYPASS


def test_a_node_that_cannot_be_registered_has_not_taken_a_mark(site):
    """It answers that it takes no part, twice: whoever took that for success would commit without a mark."""
    site.store()
    node = site.nodes.nodes["a"]
    node.discard("dc:node")
    stay_unregistered = node.execute

    def execute(request):
        if isinstance(request, r.Register):
            raise NodeRefused("a", "OOM command not allowed")
        return stay_unregistered(request)

    node.execute = execute

    failures = site.mark(R1)

    assert [error.code for error in failures.values()] == ["UNREGISTERED"]


def test_a_failed_bump_is_owed_to_its_node_alone_and_paid_before_the_node_is_used(site):
    site.store(records=(R1, R2))
    before = site.nodes.nodes["b"].text(R2)
    site.nodes.hang("b")

    failures = site.bump(R1, R2)

    assert {node: type(error) for node, error in failures.items()} == {"b": NodeTimeout}
    assert site.nodes.down == {"b"}
    assert not site.nodes.debts["a"]
    site.nodes.kill("b")  # what it had taken in is lost
    site.nodes.mend("b")
    assert site.nodes.nodes["b"].text(R2) != before
    assert site.begin(records=(R1, R2)).state is BYPASS


def test_a_refused_bump_is_owed_though_its_node_is_well(site):
    site.store()
    site.nodes.refuse("a")

    assert isinstance(site.bump(R1)["a"], NodeRefused)

    assert site.begin().state is BYPASS
    site.nodes.mend("a")
    assert site.begin().state is LOAD


def test_bumps_beyond_the_bound_are_bumps_of_all(nodes, site):
    """Nobody knows any more which ones: all that the node has end, for processes too that saw nothing of it."""
    other = Site(nodes)
    site.store()
    assert other.begin(nonce=None).state is HIT
    nodes.debts["a"].add_all_bumps()

    nodes.settle("a")

    assert other.begin(nonce=None).state is WAIT
    assert site.begin().state is LOAD
