"""Who may answer a read, and what comes of copies that differ."""

import pytest

from distcache_django.core import requests as r
from distcache_django.exceptions import InDoubt, QuorumNotReached
from tests.support.replicas import (
    GRACE,
    Process,
    asked,
    fence,
    held,
    made,
    marks,
    payloads,
    place,
    stamp_at,
    valid,
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


# ---------------------------------------------------------------- votes


def test_an_owner_that_does_not_answer_is_done_without(nodes, p, owners):
    nodes.kill(owners[0])

    assert (p.get(), p.trips) == (b"old", 2)
    assert (p.get(), p.trips) == (b"old", 1)  # it is asked no more


def test_an_owner_that_hangs_leaves_time_for_the_others(nodes, p, owners):
    nodes.hang(owners[0])

    assert p.get() == b"old"


def test_without_votes_nothing_is_said(nodes, p, owners):
    for name in owners[:2]:
        nodes.kill(name)

    failure = p.failure(p.replicas.fetch("k"))

    assert type(failure) is QuorumNotReached
    assert (failure.required, failure.received, set(failure.nodes)) == (2, 1, {*owners[:2]})


def test_who_is_behind_has_no_vote(nodes, p, q, owners):
    nodes.down = frozenset({owners[0]})
    p.set(b"new")
    p(p.replicas.remove("k"))
    nodes.down = frozenset()
    nodes.advance(GRACE + 1)  # the tombstones are gone: only the owner that missed all of it has anything
    assert held(nodes, owners[0]).payload == b"old"

    assert (q.get(), p.get()) == (None, None)
    nodes.kill(owners[1])
    for process in (p, q, Process(nodes)):
        assert process.failure(process.replicas.fetch("k")).received == 1


def test_a_node_that_was_restarted_has_no_vote(nodes, p, q, owners):
    nodes.kill(owners[0])
    p.set(b"new")
    nodes.mend(owners[0])

    assert (p.get(), q.get()) == (b"new", b"new")
    assert fence(nodes, owners[0]).state == b"r"
    nodes.kill(owners[1])
    assert q.failure(q.replicas.fetch("k")).received == 1


def test_a_node_that_came_back_empty_has_no_vote(nodes, p, q, owners):
    nodes.mend(owners[0], empty=True)

    assert (p.get(), q.get()) == (b"old", b"old")
    assert fence(nodes, owners[0]).state == b"n"


def test_a_node_that_lost_its_memory_without_a_restart_has_no_vote(nodes, p, q, owners):
    nodes.nodes[owners[0]].clear()

    assert (p.get(), q.get()) == (b"old", b"old")
    assert fence(nodes, owners[0]).state == b"n"
    p.set(b"new")
    assert held(nodes, owners[0]).payload == b"new"


def test_a_node_that_is_recovering_takes_writes_and_is_acknowledged(nodes, p, owners):
    nodes.mend(owners[0], empty=True)
    nodes.kill(owners[1])

    p.set(b"new")

    assert marks(nodes, owners[0], owners[1]) == {"k"}


def test_a_node_of_another_topology_is_no_owner(nodes, p):
    other = Process(nodes, topology=b"another!")

    assert other.failure(other.replicas.fetch("k")).received == 0
    failure = other.failure(other.replicas.store("k", b"new", None))
    assert type(failure) is QuorumNotReached
    assert "is of another topology, or not registered" in str(failure)
    assert payloads(nodes) == [b"old"] * 3


def test_void_records_are_none(nodes, p, owners):
    """A node with old data, that has been raised, has of each key what it has got in this incarnation."""
    nodes.mend(owners[0], empty=False)
    first = nodes.nodes[owners[0]]
    first.restart(first)
    assert p.get() == b"old"
    reply = first.execute(r.Rise(fence(nodes, owners[0]).incarnation, p.standings.topology))
    assert reply.outcome is True

    assert held(nodes, owners[0]) is not None
    assert valid(nodes, owners[0]) is None
    q = Process(nodes)
    assert q.get() == b"old"
    assert valid(nodes, owners[0]).payload == b"old"  # given back by the read


def test_the_newest_record_wins_and_is_given_to_the_others_asked(nodes, p, owners):
    place(nodes, owners[1:2], b"newer", stamp_at(nodes, 0.1))

    assert (p.get(), p.trips) == (b"newer", 2)
    assert held(nodes, owners[0]).payload == b"newer"
    assert held(nodes, owners[2]).payload == b"old"
    assert (p.get(), p.trips) == (b"newer", 1)


def test_a_record_missing_at_a_voter_is_given_to_it(nodes, p, owners):
    nodes.nodes[owners[0]].discard("k")

    assert p(p.replicas.fetch_many(["k", "none"])) == ([b"old", None], [])
    assert held(nodes, owners[0]).payload == b"old"


def test_what_has_ended_is_given_to_those_that_have_something_older_only(nodes, p, owners):
    p.set(b"v", ttl_ms=1000)
    p.set(b"v", "k2", ttl_ms=1000)
    nodes.nodes[owners[0]].discard("k")
    second = p.topology.owners("k2")
    place(nodes, second[:1], b"newer", stamp_at(nodes, 0.1), "k2", expires_at=round(nodes.now * 1000) + 500)
    nodes.advance(2)

    assert (p.get(), p.trips) == (None, 1)
    assert held(nodes, owners[0]) is None
    assert p.get("k2") is None
    assert held(nodes, second[1], "k2").payload == b"newer"


def test_without_a_quorum_nothing_is_repaired(nodes, p, owners):
    place(nodes, owners[:1], b"newer", stamp_at(nodes, 0.1))
    nodes.kill(owners[1])
    nodes.mend(owners[2], empty=True)

    assert p.failure(p.replicas.fetch("k")).received == 1
    assert held(nodes, owners[2]) is None


def test_what_is_damaged_or_foreign_is_missing(nodes, p, owners):
    nodes.nodes[owners[0]].put("k", b"plain")
    nodes.nodes[owners[1]].put("k", None)

    assert p.get() is None
    assert p(p.replicas.remove("k")) is False


def test_read_and_write_levels_are_those_of_the_cache(nodes, p):
    one = Process(nodes, read=1, write=3)
    since = len(nodes.requests)
    assert one.get() == b"old"
    assert len(asked(nodes, r.FetchMany, since=since)) == 2  # the first reply did not count: who was asked registers
    one.set(b"new")
    nodes.kill("c")
    assert type(one.failure(one.replicas.store("k", b"x", None))) is InDoubt
