"""What owners' records and notes come to."""

import pytest

from distcache_django.core import requests as r
from distcache_django.core.slots import slot_of
from tests.support.replicas import (
    NAMES,
    Process,
    held,
    made,
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


# ---------------------------------------------------------------- evidence


def test_of_records_and_notes_of_what_is_over_the_newest_is_what_there_is(nodes, p):
    nothing = (None, bytes(14))
    missing(nodes, "c", lambda: p.set(b"new", ttl_ms=1000))
    newest = held(nodes, "a").stamp
    ((record, void), none) = p(p.repair.evidence(["k", "none"]))
    assert (record.payload, void, none) == (b"new", bytes(14), nothing)

    for name in "ab":
        nodes.nodes[name].discard("k")
    assert p(p.repair.evidence(["k"])) == [None]  # what was evicted is not over, and who evicted it is no witness
    nodes.advance(1)
    assert p(p.repair.evidence(["k"])) == [(None, newest)]


def test_evidence_takes_one_round_trip(p):
    p.set(b"any", "any")

    p(p.repair.evidence(["k", "any"]))

    assert p.trips == 1
