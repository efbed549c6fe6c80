"""Locks at a majority: one holder at a time, tokens that grow, and ends with a margin for clocks."""

import pytest

from distcache_django.core import requests as r
from distcache_django.exceptions import InDoubt, NodeRefused, QuorumNotReached
from tests.support.replicas import LIMITS, NAMES, Process, before, held, made

DAY_MS = 86_400_000


@pytest.fixture
def nodes():
    return made()


@pytest.fixture
def p(nodes):
    process = Process(nodes)
    process.set(b"any", "any")
    return process


@pytest.fixture
def q(nodes, p):
    process = Process(nodes)
    process.set(b"any", "any")
    return process


def acquire(process, nonce, ttl_ms=1000):
    return process(process.locking.acquire("k", nonce, ttl_ms))


def release(process, nonce):
    return process(process.locking.release("k", nonce))


def prolong(process, nonce, ttl_ms=1000, *, add=False):
    return process(process.locking.prolong("k", nonce, ttl_ms, add=add))


def holder(process):
    return process(process.locking.holder("k"))


def test_a_lock_has_one_holder_and_takes_two_round_trips(nodes, p, q):
    token = acquire(p, b"p")
    assert (type(token), p.trips) == (int, 2)
    assert acquire(q, b"q") is None
    assert holder(q) == (token, b"p")
    assert release(q, b"q") is False
    nodes.advance(0.001)  # q's promises are of the same moment, and may be the newer ones
    assert (release(p, b"p"), p.trips) == (True, 2)
    assert holder(q) == (token, b"")
    assert release(p, b"p") is False


def test_who_holds_a_lock_may_ask_again_and_gets_the_same_token(p):
    assert acquire(p, b"p") == acquire(p, b"p")


def test_tokens_grow_with_every_holder(nodes, p, q):
    tokens = []
    for number in range(3):
        tokens.append(acquire(p, b"p%d" % number))
        release(p, b"p%d" % number)
        tokens.append(acquire(q, b"q%d" % number))
        nodes.advance(1 + LIMITS.drift)

    assert tokens == sorted({*tokens})


def test_tokens_grow_even_where_clocks_go_back(nodes, p):
    token = acquire(p, b"p")
    release(p, b"p")
    nodes.advance(-0.2)
    second = acquire(p, b"other")

    assert second == token + 1


def test_tokens_outlast_the_release_by_a_day(nodes, p):
    token = acquire(p, b"p")
    release(p, b"p")

    assert held(nodes, "a").expires_at == round(nodes.now * 1000) + DAY_MS
    assert int.from_bytes(held(nodes, "a").payload) == token


def test_a_lock_ends_for_others_later_than_its_holder_may_think(nodes, p, q):
    acquire(p, b"p")
    nodes.advance(1 + LIMITS.drift - 0.001)
    assert acquire(q, b"q") is None
    assert release(q, b"q") is False

    nodes.advance(0.001)

    assert acquire(q, b"q") is not None
    assert prolong(p, b"p") is False


def test_a_lock_is_valid_from_before_it_was_asked_for(nodes, p):
    p(before(p.locking.acquire("k", b"p", 1000), r.Prepare, lambda: nodes.advance(0.2)))

    assert held(nodes, "a").expires_at == round(nodes.now * 1000) + 800


def test_a_lock_without_an_end_stays(nodes, p, q):
    assert acquire(p, b"p", None)
    nodes.advance(100 * DAY_MS)

    assert acquire(q, b"q") is None
    assert release(p, b"p") is True


def test_a_holder_prolongs_its_lock(nodes, p, q):
    token = acquire(p, b"p")
    assert prolong(q, b"q") is False
    assert prolong(q, b"q", add=True) is False
    nodes.advance(0.5)

    assert prolong(p, b"p", 2000) is True
    assert held(nodes, "a").expires_at == round(nodes.now * 1000) + 2000
    assert prolong(p, b"p", 1000, add=True) is True
    assert held(nodes, "a").expires_at == round(nodes.now * 1000) + 3000
    assert holder(q) == (token, b"p")


def test_a_lock_that_has_ended_but_is_not_taken_begins_anew_when_added_to(nodes, p):
    acquire(p, b"p")
    nodes.advance(1.2)

    assert prolong(p, b"p", 1000, add=True) is True
    assert held(nodes, "a").expires_at == round(nodes.now * 1000) + 1000


def test_there_is_nothing_to_hold_where_nobody_has_been(p):
    assert holder(p) == (0, b"")
    assert release(p, b"p") is False
    assert prolong(p, b"p") is False


def test_a_value_is_no_lock(nodes, p):
    p.set(b"value", ttl_ms=1000)
    for op in (p.locking.acquire("k", b"p", 1000), p.locking.release("k", b"p"), p.locking.holder("k")):
        assert type(p.failure(op)) is NodeRefused

    nodes.advance(1 + LIMITS.drift)
    assert acquire(p, b"p") is not None


def test_a_deleted_lock_is_free(p, q):
    acquire(p, b"p")
    p(p.replicas.remove("k"))

    assert holder(p) == (0, b"")
    assert acquire(q, b"q") is not None
    assert release(p, b"p") is False


def test_of_two_at_once_one_holds_the_lock(nodes, p, q):
    told = []
    op = before(p.locking.acquire("k", b"p", 1000), r.Put, lambda: told.append(acquire(q, b"q")))

    assert p(op) is None
    assert holder(p) == (told[0], b"q")


def test_without_a_majority_there_are_no_locks(nodes, p):
    for name in "bc":
        nodes.kill(name)

    assert type(p.failure(p.locking.acquire("k", b"p", 1000))) is QuorumNotReached


def test_a_lock_survives_the_loss_of_an_owner(nodes, p, q):
    acquire(p, b"p", 10_000)
    nodes.mend("a", empty=True)

    assert acquire(q, b"q") is None
    assert q.recover("a")
    nodes.mend("b", empty=True)
    assert q.recover("b")
    assert acquire(q, b"q") is None


def test_a_lock_that_is_in_doubt_may_be_taken_later(nodes, p, q):
    def fail():
        for name in NAMES:
            nodes.hang(name)

    assert type(p.failure(before(p.locking.acquire("k", b"p", 1000), r.Put, fail))) is InDoubt
    nodes.advance(LIMITS.deadline)
    for name in NAMES:
        nodes.mend(name)

    assert acquire(q, b"q") is not None


def test_a_lock_that_another_has_made_last_is_known_again(nodes, p, q):
    def only_at_a():
        nodes.hang("a")
        nodes.demote("b")
        nodes.demote("c")

    def another_comes():
        for name in NAMES:
            nodes.mend(name)
        assert acquire(q, b"q") is None

    op = before(p.locking.acquire("k", b"p", 10_000), r.Put, only_at_a)

    token = p(before(op, r.Prepare, another_comes, 2))
    assert holder(q) == (token, b"p")
