"""Look-ups, marks and bumps on nodes in memory: what each costs, and who loads."""

import contextlib

import pytest

from distcache_django.core.freshness import BYPASS, HIT, LOAD, WAIT, Lease
from distcache_django.testing.memory import MemoryNodes
from tests.simulation.site import MINE, NAMES, OWNERS, R1, R2, Site


@pytest.fixture
def nodes():
    return MemoryNodes(NAMES)


@pytest.fixture
def site(nodes):
    return Site(nodes)


# ---------------------------------------------------------------- what it costs


def test_a_hit_beside_its_record_is_one_request(site):
    site.store()

    begun, asked = site.asked(site.versions.begin(site.versions.look("k", [R1]), lambda: None))

    assert (begun.state, begun.payload, asked) == (HIT, b"answer", [("a", "FetchMany")])


def test_a_hit_away_from_its_records_is_one_round_trip_to_each_node(site):
    site.store(key="far", records=(R1, R2))

    begun, asked = site.asked(site.versions.begin(site.versions.look("far", [R1, R2]), lambda: None))

    assert begun.state is HIT
    assert sorted(asked) == [("a", "FetchMany"), ("b", "FetchMany"), ("c", "FetchMany")]


def test_a_miss_asks_for_records_and_lease_at_once(site):
    site.store()
    site.nodes.nodes["a"].discard(R1)
    lease = Lease("k:lease", b"two", 3000)

    begun, asked = site.asked(site.versions.begin(site.versions.look("k", [R1]), lambda: lease))

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
    slow = site.versions.begin(site.versions.look("k", [R1]), lambda: Lease("k:lease", b"two", 3000))
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

    begun, _ = site.asked(
        site.versions.begin(site.versions.look("far", [R1]), lambda: Lease("far:lease", b"two", 3000))
    )

    assert begun.state is BYPASS


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
