"""Look-ups, marks and bumps on nodes in memory: what each costs, and what it does when a node is away or forgets."""

import contextlib
import itertools

import pytest

from distcache_django.core import requests as r
from distcache_django.core.freshness import BYPASS, HIT, LOAD, RECORD_PREFIX, WAIT, Lease, Versions
from distcache_django.exceptions import NodeRefused, NodeTimeout, NodeUnreachable
from distcache_django.testing.memory import MemoryNodes

NAMES = ("a", "b", "c")
R1, R2 = f"{RECORD_PREFIX}1", f"{RECORD_PREFIX}2"
#: Answer ``k`` is beside the first record and away from the second; ``far`` is away from both. The names of leases
#: would put them elsewhere.
OWNERS = {"k": "a", R1: "a", R2: "b", "far": "c", "k:lease": "c", "far:lease": "a"}
MARK_MS = 5000
MINE, HIS = b"my-token", b"histoken"


@pytest.fixture
def nodes():
    return MemoryNodes(NAMES)


class Site:
    """Run what a process does, and count its round trips."""

    def __init__(self, nodes):
        self.nodes = nodes
        self.wall_skew = 0.0
        count = itertools.count(1)
        self.versions = Versions(
            OWNERS.__getitem__,
            nodes.generations.__getitem__,
            clock=lambda: nodes.now - 1_600_000_000,
            wall=lambda: nodes.now + self.wall_skew,
            random=lambda size: next(count).to_bytes(size),
            mark_ms=MARK_MS,
        )

    def asked(self, op):
        """Return the result of an Op and what it has asked, as (node, kind of request)."""
        self.nodes.requests.clear()
        result = self.nodes.run(op)
        return result, [(node, type(request).__name__) for node, request in self.nodes.requests]

    def begin(self, key="k", records=(R1,), nonce=b"one"):
        lease = nonce and Lease(f"{key}:lease", nonce, 3000)
        return self.nodes.run(self.versions.begin(key, records, lambda: lease))

    def fill(self, begun, payload=b"answer", key="k", nonce=b"one"):
        lease = Lease(f"{key}:lease", nonce, 3000)
        return self.nodes.run(self.versions.fill(key, payload, begun.versions, 60_000, lease))

    def store(self, **about):
        """Have an answer stored; ends the quarantine of nodes that were not registered."""
        self.begin(**about)
        self.nodes.advance(MARK_MS / 1000)
        begun = self.begin(**about)
        assert begun.state is LOAD
        about.pop("records", None)
        assert self.fill(begun, **about)

    def mark(self, *records, token=MINE):
        return self.nodes.run(self.versions.mark(records, token))

    def bump(self, *records, token=MINE):
        return self.nodes.run(self.versions.bump(records, token))


@pytest.fixture
def site(nodes):
    return Site(nodes)


# ---------------------------------------------------------------- what it costs


def test_a_hit_beside_its_record_is_one_request(site):
    site.store()

    begun, asked = site.asked(site.versions.begin("k", [R1], lambda: None))

    assert (begun.state, begun.payload, asked) == (HIT, b"answer", [("a", "FetchMany")])


def test_a_hit_away_from_its_records_is_one_round_trip_to_each_node(site):
    site.store(key="far", records=(R1, R2))

    begun, asked = site.asked(site.versions.begin("far", [R1, R2], lambda: None))

    assert begun.state is HIT
    assert sorted(asked) == [("a", "FetchMany"), ("b", "FetchMany"), ("c", "FetchMany")]


def test_a_miss_asks_for_records_and_lease_at_once(site):
    site.store()
    site.nodes.nodes["a"].discard(R1)
    lease = Lease("k:lease", b"two", 3000)

    begun, asked = site.asked(site.versions.begin("k", [R1], lambda: lease))

    assert (begun.state, asked) == (LOAD, [("a", "FetchMany"), ("a", "Mint")])


def test_marks_and_bumps_are_one_request_to_each_node(site):
    site.store(records=(R1, R2))

    for op in (site.versions.mark, site.versions.bump, site.versions.unmark):
        failures, asked = site.asked(op([R1, R2], MINE))
        assert (failures, sorted(node for node, _ in asked)) == ({}, ["a", "b"])


def test_no_records_are_no_request(site):
    assert site.asked(site.versions.mark([], MINE)) == ({}, [])
    assert site.asked(site.versions.bump([], MINE)) == ({}, [])


# ---------------------------------------------------------------- leases


def test_one_of_two_loads_and_the_other_waits(site):
    site.store()
    site.bump(R1)

    assert site.begin(nonce=b"one").state is LOAD
    assert site.begin(nonce=b"two").state is WAIT
    assert site.begin(nonce=None).state is WAIT


@pytest.mark.parametrize("key", ["k", "far"])
def test_the_lease_is_kept_beside_its_answer_and_freed_there(site, key):
    """Its own name would put the lease of ``k`` on another node, where no ``fill`` would find it."""
    site.store(key=key)
    site.bump(R1)

    begun = site.begin(key=key)
    assert f"{key}:lease" in site.nodes.nodes[OWNERS[key]]
    site.fill(begun, key=key)

    assert [name for name in NAMES if f"{key}:lease" in site.nodes.nodes[name]] == []


def test_a_loader_that_gives_up_frees_the_lease_and_stores_nothing(site):
    site.store()
    site.bump(R1)
    begun = site.begin(nonce=b"one")

    assert site.fill(begun, payload=None)

    assert site.begin(nonce=b"two").state is LOAD


def test_an_answer_that_was_stored_meanwhile_is_not_loaded_again(site):
    site.store()
    site.bump(R1)
    slow = site.versions.begin("k", [R1], lambda: Lease("k:lease", b"two", 3000))
    looked_up = site.nodes.nodes["a"].execute(slow.send(None).request)
    site.fill(site.begin(nonce=b"one"))

    begun = site.nodes.run(resumed(slow, looked_up))

    assert begun.state is WAIT
    assert site.begin(nonce=None).state is HIT


def resumed(op, outcome):
    """Go on with an Op whose last effect had ``outcome``."""
    with contextlib.suppress(StopIteration):
        effect = op.send(outcome)
        while True:
            outcome = yield effect
            try:
                effect = op.send(outcome)
            except StopIteration as done:
                return done.value
    return None


def test_an_answer_on_a_node_that_was_never_registered_is_stored(site):
    """The node of the answer has no record of it, so that nothing else would have it registered."""
    site.store()
    site.bump(R1)

    begun = site.begin(key="far")

    assert begun.state is LOAD
    assert site.fill(begun, key="far")
    assert site.begin(key="far").state is HIT


def test_an_answer_without_dependencies_is_cached_too(site):
    begun = site.begin(records=())

    assert begun.state is LOAD
    assert site.fill(begun)
    assert site.begin(records=()).state is HIT


@pytest.mark.parametrize("fault", ["refuse", "demote"])
def test_an_answer_that_its_node_cannot_store_is_loaded_at_once(site, fault):
    """Nobody holds the lease then: whoever waited for it would wait in vain."""
    site.store(key="far")
    site.bump(R1)
    getattr(site.nodes, fault)("c")

    begun, _ = site.asked(site.versions.begin("far", [R1], lambda: Lease("far:lease", b"two", 3000)))

    assert begun.state is BYPASS


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

    begun, asked = site.asked(site.versions.begin("k", [R1], lambda: Lease("k:lease", b"two", 3000)))

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

    begun, asked = site.asked(site.versions.begin("k", [R1], lambda: None))

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


# ---------------------------------------------------------------- the rest


def test_votes_are_versions_or_nothing(site):
    site.store(records=(R1, R2))
    versions = site.nodes.run(site.versions.votes([R1, R2]))

    assert [len(version) for version in versions] == [16, 16]
    assert site.nodes.run(site.versions.votes([R1])) == versions[:1]
    site.nodes.nodes["b"].discard(R2)
    assert site.nodes.run(site.versions.votes([R1, R2]))[1] != versions[1]
    site.mark(R1)
    assert site.nodes.run(site.versions.votes([R1, R2])) is None
    site.nodes.kill("b")
    assert site.nodes.run(site.versions.votes([R2])) is None


def test_an_answer_can_be_stored_under_versions_without_a_lease(site):
    site.store()
    versions = site.nodes.run(site.versions.votes([R1]))

    assert site.nodes.run(site.versions.fill("k", b"other", b"".join(versions), 60_000, None))

    assert site.begin(nonce=None).payload == b"other"


def test_an_answer_that_cannot_be_read_is_dropped_or_not(site):
    site.store()

    assert site.nodes.run(site.versions.drop("k")) is True
    assert site.begin(nonce=None).state is WAIT
    site.nodes.demote("a")
    assert site.nodes.run(site.versions.drop("k")) is False


def test_a_fill_that_fails_says_so(site):
    site.store()
    site.bump(R1)
    begun = site.begin()
    site.nodes.kill("a")

    assert site.fill(begun) is False
