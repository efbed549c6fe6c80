"""Times grow with cause and effect, whatever the wall clocks do, and a clock that is far ahead is refused."""

import threading
from contextlib import nullcontext
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distcache_django.core.clock import ACTOR_SIZE, STAMP_SIZE, HybridLogicalClock, Stamps, Timestamp

FULL = 0xFFFF
ACTOR = b"actor1"
NODES = ("cache-a", "cache-b", "cache-c")
# A small range, so that wall clocks stand still, go back and meet.
WALLS = st.integers(0, 20).map(lambda ms: 1_700_000_000 + ms / 1000)
COUNTERS = st.one_of(st.integers(0, 3), st.integers(FULL - 3, FULL))
TIMES = st.builds(Timestamp, st.integers(1_700_000_000_000, 1_700_000_000_030), COUNTERS, st.sampled_from(NODES))
#: (node that acts, node whose last time it is sent or None, wall clock of the acting node)
EVENTS = st.lists(st.tuples(st.sampled_from(NODES), st.none() | st.sampled_from(NODES), WALLS), max_size=40)
law = settings(deadline=None)


def clock(node="cache-a", max_drift=0.5):
    return HybridLogicalClock(node, max_drift)


def stamps(actor=ACTOR):
    return Stamps(actor, nullcontext())


def stamp_of(ms, counter, actor=ACTOR):
    return ms.to_bytes(6, "big") + counter.to_bytes(2, "big") + actor


# ---------------------------------------------------------------- timestamps


def test_timestamps_are_ordered_by_ms_then_counter_then_node():
    ordered = [Timestamp(1, 1, "b"), Timestamp(1, 2, "a"), Timestamp(1, 2, "b"), Timestamp(2, 0, "a")]

    assert all(earlier < later for earlier, later in pairwise(ordered))


@pytest.mark.parametrize(("ms", "counter"), [(-1, 0), (1 << 48, 0), (0, -1), (0, FULL + 1)])
def test_timestamp_that_does_not_fit_is_refused(ms, counter):
    with pytest.raises(ValueError, match="'cache-a' must fit in"):
        Timestamp(ms, counter, "cache-a")


# ---------------------------------------------------------------- the clock of a node


def test_clock_takes_the_wall_clock_in_milliseconds():
    ours = clock()

    assert ours.now(1.001) == Timestamp(1001, 0, "cache-a")
    assert ours.now(1_700_000_000.123) == Timestamp(1_700_000_000_123, 0, "cache-a")


def test_clock_counts_what_happens_within_a_millisecond():
    ours = clock()

    assert [ours.now(7.0) for _ in range(3)] == [Timestamp(7000, counter, "cache-a") for counter in range(3)]
    assert ours.now(7.001) == Timestamp(7001, 0, "cache-a")


def test_clock_goes_on_when_the_wall_clock_is_set_back():
    ours = clock()
    before = ours.now(7.0)

    assert ours.now(3.0) == Timestamp(7000, 1, "cache-a") > before
    assert ours.update(Timestamp(10, 0, "cache-b"), 3.0) == Timestamp(7000, 2, "cache-a")


def test_full_counter_rolls_into_the_next_millisecond():
    ours = clock()
    ours.update(Timestamp(7000, FULL - 1, "cache-b"), 7.0)

    assert ours.now(7.0) == Timestamp(7001, 0, "cache-a")
    assert clock().update(Timestamp(7000, FULL, "cache-b"), 7.0) == Timestamp(7001, 0, "cache-a")


def test_clock_counts_65536_times_in_a_millisecond_and_not_once_more():
    ours = clock()
    given_ = [ours.now(7.0) for _ in range(FULL + 2)]

    assert given_[FULL] == Timestamp(7000, FULL, "cache-a")
    assert given_[FULL + 1] == Timestamp(7001, 0, "cache-a")


@law
@given(EVENTS)
def test_each_time_of_a_node_is_greater_than_all_it_gave_and_saw(events):
    clocks = {node: clock(node) for node in NODES}
    latest = {node: Timestamp(0, 0, node) for node in NODES}
    for node, sender, wall in events:
        after = [latest[node]] if sender is None else [latest[node], latest[sender]]
        given_ = clocks[node].now(wall) if sender is None else clocks[node].update(latest[sender], wall)
        assert given_ > max(after)
        assert given_.node == node
        latest[node] = given_


@law
@given(EVENTS)
def test_no_two_times_of_a_cluster_are_equal(events):
    clocks = {node: clock(node) for node in NODES}
    given_ = [clocks[node].now(wall) for node, _, wall in events]

    assert len(set(given_)) == len(given_)


@law
@given(st.lists(st.tuples(TIMES, WALLS), min_size=1, max_size=20))
def test_clock_is_never_further_ahead_than_what_it_saw(arrivals):
    """A time is made from the largest input, plus counts: it does not run away from the wall clocks."""
    ours = clock()
    given_ = [ours.update(remote, wall).ms for remote, wall in arrivals]
    largest = max(max(remote.ms, round(wall * 1000)) for remote, wall in arrivals)

    assert given_[-1] <= largest + 1


@law
@given(TIMES, WALLS)
def test_clock_is_at_least_the_wall_clock(remote, wall):
    assert clock().update(remote, wall).ms >= round(wall * 1000)


@pytest.mark.parametrize("ahead_ms", [5_001, 6_000, 10**9])
def test_time_from_too_far_ahead_is_refused_and_changes_nothing(ahead_ms):
    ours = clock(max_drift=5)
    ours.now(7.0)

    with pytest.raises(ValueError, match=rf"{(7000 + ahead_ms) / 1000} of node 'cache-b' .* ahead of 7\.0") as raised:
        ours.update(Timestamp(7000 + ahead_ms, 0, "cache-b"), 7.0)

    assert "'cache-a'" in str(raised.value)
    assert ours.now(7.0) == Timestamp(7000, 1, "cache-a")


def test_time_that_is_just_max_drift_ahead_is_taken():
    assert clock(max_drift=0.5).update(Timestamp(7500, 3, "cache-b"), 7.0) == Timestamp(7500, 4, "cache-a")
    assert clock(max_drift=0).update(Timestamp(7000, 3, "cache-b"), 7.0) == Timestamp(7000, 4, "cache-a")


def test_drift_is_measured_from_the_wall_clock_and_not_from_what_was_seen():
    """Else a chain of small steps ahead would lead anywhere."""
    ours = clock(max_drift=0.5)
    ours.update(Timestamp(7500, 0, "cache-b"), 7.0)

    with pytest.raises(ValueError, match="ahead of"):
        ours.update(Timestamp(7501, 0, "cache-b"), 7.0)


@pytest.mark.parametrize("max_drift", [-0.1, float("nan")])
def test_clock_needs_a_bound_that_is_not_negative(max_drift):
    with pytest.raises(ValueError, match="max_drift must be 0 or more"):
        clock(max_drift=max_drift)


@pytest.mark.parametrize("physical", [2.0**48, float("nan"), float("inf")])
def test_impossible_wall_clock_changes_nothing(physical):
    ours, theirs = clock(), stamps()
    ours.now(7.0)
    theirs.next(7.0)

    for call in (ours.now, theirs.next):
        with pytest.raises((ValueError, OverflowError)):
            call(physical)

    assert ours.now(7.0) == Timestamp(7000, 1, "cache-a")
    assert theirs.next(7.0) == stamp_of(7000, 1)


# ---------------------------------------------------------------- the stamps of a process


def test_stamp_is_ms_counter_and_actor():
    ours = stamps()

    assert ours.next(7.0) == bytes.fromhex("000000001b58 0000") + ACTOR
    assert ours.next(7.0) == bytes.fromhex("000000001b58 0001") + ACTOR
    assert len(ours.next(7.0)) == STAMP_SIZE == 14


def test_first_stamp_is_greater_than_no_stamp():
    assert stamps(bytes(ACTOR_SIZE)).next(0.0) > bytes(STAMP_SIZE)


def test_full_counter_of_stamps_rolls_into_the_next_millisecond():
    ours = stamps()
    ours.observe(stamp_of(7000, FULL))

    assert ours.next(7.0) == stamp_of(7001, 0)


@law
@given(st.lists(st.tuples(st.integers(0, 1), st.booleans(), WALLS, COUNTERS), max_size=40))
def test_stamps_only_grow_and_pass_what_they_observe(events):
    makers = [stamps(b"aaaaaa"), stamps(b"zzzzzz")]
    latest = [bytes(STAMP_SIZE)] * 2
    for who, hears, wall, counter in events:
        if hears:
            heard = max(latest[1 - who], stamp_of(round(wall * 1000), counter, b"\xff" * ACTOR_SIZE))
            makers[who].observe(heard)
            latest[who] = max(latest[who], heard)
        made = makers[who].next(wall)
        assert made > latest[who]
        assert int.from_bytes(made[:6], "big") >= round(wall * 1000)
        latest[who] = made


def test_stamp_of_the_past_moves_nothing():
    ours = stamps()
    ours.next(7.0)
    ours.observe(stamp_of(6999, FULL))

    assert ours.next(7.0) == stamp_of(7000, 1)


def test_stamp_from_far_ahead_is_passed():
    """The node has judged it: a process whose own clock is late must get past it, or it can never write."""
    ours = stamps()
    ours.observe(stamp_of(10**9, 5, b"zzzzzz"))

    assert ours.next(7.0) == stamp_of(10**9, 6)


@law
@given(TIMES, WALLS)
def test_stamps_and_timestamps_are_one_clock(remote, wall):
    node, process = clock(), stamps()
    process.observe(stamp_of(remote.ms, remote.counter))
    expected = node.update(remote, wall)

    assert process.next(wall) == stamp_of(expected.ms, expected.counter)


def test_threads_never_share_a_stamp():
    ours = Stamps(ACTOR, threading.Lock())
    made: list[list[bytes]] = [[] for _ in range(4)]
    threads = [
        threading.Thread(target=lambda mine=mine: mine.extend(ours.next(7.0) for _ in range(500))) for mine in made
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)

    assert len({stamp for mine in made for stamp in mine}) == 4 * 500


class CountingLock:
    """A lock that tells how often it was taken, and whether it is held."""

    def __init__(self):
        self.taken = 0
        self.held = False

    def __enter__(self):
        assert not self.held
        self.taken, self.held = self.taken + 1, True

    def __exit__(self, *_):
        self.held = False


def test_each_step_of_stamps_holds_the_lock_and_gives_it_back():
    lock = CountingLock()
    ours = Stamps(ACTOR, lock)
    ours.next(7.0)
    ours.observe(stamp_of(7000, 1))
    with pytest.raises(OverflowError):
        ours.next(2.0**60)

    assert (lock.taken, lock.held) == (3, False)


@pytest.mark.parametrize("actor", [b"", b"short", b"too long"])
def test_actor_of_another_size_is_refused(actor):
    with pytest.raises(ValueError, match=f"an actor has 6 bytes, not {len(actor)}"):
        stamps(actor)


@pytest.mark.parametrize("size", [0, 13, 15])
def test_stamp_of_another_size_is_refused(size):
    with pytest.raises(ValueError, match=f"a stamp has 14 bytes, not {size}"):
        stamps().observe(bytes(size))
