"""What each type keeps and what it loses when copies are written apart, against plain models of what happened."""

from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distcache_django.core.clock import HybridLogicalClock, Timestamp
from distcache_django.core.conflict import UNSET, GCounter, LWWRegister, ORSet, PNCounter, VectorClock

NODES = ("cache-a", "cache-b", "cache-c")
ITEMS = "xy"
law = settings(deadline=None, max_examples=200)


def histories(steps):
    """Draw what three copies do: (copy, its own step), or (copy, another copy that it merges)."""
    return st.lists(st.tuples(st.sampled_from(NODES), st.one_of(steps, st.sampled_from(NODES))), max_size=30)


def run(history, empty, act):
    """Let three copies live through a history; ``act(copy, node, step)`` returns the copy after its own step."""
    copies = dict.fromkeys(NODES, empty)
    for node, step in history:
        copies[node] = copies[node].merge(copies[step]) if step in NODES else act(copies[node], node, step)
    return copies


def joined(copies, order=NODES):
    first, *others = (copies[node] for node in order)
    for other in others:
        first = first.merge(other)
    return first


# ---------------------------------------------------------------- counters


@law
@given(histories(st.integers(0, 5)), st.permutations(NODES))
def test_no_increment_is_lost_or_counted_twice(history, order):
    copies = run(history, GCounter(), lambda copy, node, n: copy.increment(node, n))

    assert joined(copies, order).value == sum(step for _, step in history if step not in NODES)


@law
@given(histories(st.integers(-5, 5)), st.permutations(NODES))
def test_no_step_of_a_counter_that_goes_both_ways_is_lost_or_counted_twice(history, order):
    def act(copy, node, n):
        return copy.increment(node, n) if n > 0 else copy.decrement(node, -n)

    copies = run(history, PNCounter(), act)

    assert joined(copies, order).value == sum(step for _, step in history if step not in NODES)


def test_counter_goes_below_zero():
    assert PNCounter().decrement("cache-a", 3).increment("cache-b").value == -2


def test_steps_are_of_one_unless_told():
    counter = PNCounter().increment("cache-a").increment("cache-a").decrement("cache-a")

    assert (counter.plus.counters, counter.minus.counters) == ({"cache-a": 2}, {"cache-a": 1})
    assert GCounter().increment("cache-a").value == 1


@pytest.mark.parametrize(
    "step",
    [GCounter().increment, GCounter({"cache-a": 5}).increment, PNCounter().increment, PNCounter().decrement],
)
def test_counters_refuse_a_step_below_zero(step):
    with pytest.raises(ValueError, match="'cache-a' cannot count -1 up"):
        step("cache-a", -1)


@pytest.mark.parametrize("make", [GCounter, VectorClock])
@pytest.mark.parametrize("wrong", [-1, 2**64, 1.5, "1", None])
def test_count_that_is_not_a_whole_number_of_64_bits_is_refused(make, wrong):
    with pytest.raises(ValueError, match="the count of node 'cache-a' must be a whole number"):
        make({"cache-b": 1, "cache-a": wrong})


def test_counter_refuses_to_overflow():
    full = GCounter({"cache-a": 2**64 - 1})

    with pytest.raises(ValueError, match="must be a whole number"):
        full.increment("cache-a")
    assert full.increment("cache-b").value == 2**64


@pytest.mark.parametrize("make", [GCounter, VectorClock])
def test_count_of_zero_is_no_count(make):
    assert make({"cache-a": 0}) == make() == make({})
    assert make({"cache-b": 1, "cache-a": 0}).counters == {"cache-b": 1}


@pytest.mark.parametrize("make", [GCounter, VectorClock])
def test_value_does_not_change_with_the_mapping_it_was_made_of_nor_with_what_it_gives(make):
    counters = {"cache-a": 1}
    made = make(counters)
    counters["cache-a"] = 7
    made.counters["cache-a"] = 7

    assert made == make({"cache-a": 1})


def test_counts_show_what_they_hold():
    assert repr(GCounter({"cache-a": 1})) == "GCounter({'cache-a': 1})"
    assert eval(repr(VectorClock({"cache-a": 1}))) == VectorClock({"cache-a": 1})


# ---------------------------------------------------------------- vector clocks


class Seen:
    """The model of a vector clock: the set of writes that a copy has seen."""

    def __init__(self, clock=None, writes=frozenset()):
        self.clock = VectorClock() if clock is None else clock
        self.writes = writes

    def merge(self, other):
        return Seen(self.clock.merge(other.clock), self.writes | other.writes)


def relation(one, other):
    if one == other:
        return "equal"
    if one < other:
        return "before"
    return "after" if one > other else "concurrent"


@law
@given(histories(st.just("write")))
def test_clocks_compare_as_what_was_seen(history):
    numbers = count()
    past = [Seen()]

    def act(copy, node, _):
        past.append(Seen(copy.clock.increment(node), copy.writes | {next(numbers)}))
        return past[-1]

    past.extend(run(history, Seen(), act).values())

    for one in past:
        for other in past:
            assert one.clock.compare(other.clock) == relation(one.writes, other.writes)


def test_clocks_compare_in_all_four_ways():
    first = VectorClock().increment("cache-a")
    ours, theirs = first.increment("cache-a"), first.increment("cache-b")

    assert first.compare(VectorClock({"cache-a": 1})) == "equal"
    assert first.compare(ours) == "before"
    assert theirs.compare(first) == "after"
    assert ours.compare(theirs) == theirs.compare(ours) == "concurrent"
    assert ours.merge(theirs).compare(ours) == "after"


# ---------------------------------------------------------------- registers


@law
@given(histories(st.tuples(st.integers(0, 3), st.integers(0, 3))), st.permutations(NODES))
def test_register_holds_the_write_of_the_greatest_timestamp(history, order):
    clocks = {node: HybridLogicalClock(node, 1.0) for node in NODES}
    written = {}

    def act(copy, node, step):
        wall, value = step
        timestamp = clocks[node].now(wall / 1000)
        written[timestamp] = value
        return copy.set(value, timestamp)

    register = joined(run(history, LWWRegister(), act), order)

    assert register.timestamp == max(written, default=None)
    assert register.value == (written[max(written)] if written else UNSET)


@pytest.mark.parametrize("order", [1, -1])
def test_register_loses_one_of_two_concurrent_writes(order):
    ours, theirs = LWWRegister("ours", Timestamp(1, 0, "cache-a")), LWWRegister("theirs", Timestamp(1, 1, "cache-a"))
    one, other = (ours, theirs)[::order]

    assert one.merge(other) == theirs


def test_node_decides_between_equal_times():
    ours, theirs = LWWRegister("z", Timestamp(1, 0, "cache-a")), LWWRegister("a", Timestamp(1, 0, "cache-b"))

    assert ours.merge(theirs) == theirs.merge(ours) == theirs


def test_two_values_under_one_timestamp_are_decided_the_same_everywhere():
    ours, theirs = LWWRegister(1, Timestamp(1, 0, "cache-a")), LWWRegister(2, Timestamp(1, 0, "cache-a"))

    assert ours.merge(theirs) == theirs.merge(ours) == theirs


def test_late_write_does_not_replace_a_later_one():
    register = LWWRegister[str]().set("new", Timestamp(2, 0, "cache-a"))

    assert register.set("old", Timestamp(1, 9, "cache-b")) == register
    assert register.set("newer", Timestamp(2, 1, "cache-a")).value == "newer"


def test_none_is_a_value_and_unset_is_none_at_all():
    written = LWWRegister[int | None]().set(None, Timestamp(0, 0, "cache-a"))

    assert LWWRegister().value is UNSET
    assert LWWRegister[int | None]().merge(written) == written.merge(LWWRegister()) == written
    assert written.value is None


@pytest.mark.parametrize("half", [{"value": 1}, {"value": None}, {"timestamp": Timestamp(1, 0, "cache-a")}])
def test_register_has_a_value_and_a_timestamp_or_neither(half):
    with pytest.raises(ValueError, match="or neither"):
        LWWRegister(**half)


# ---------------------------------------------------------------- sets


class Witnessed:
    """The model of an OR-set: an addition lives unless a removal happened where it had been seen."""

    def __init__(self, items=None, seen=frozenset(), removed=frozenset()):
        self.items = ORSet[str]() if items is None else items
        self.seen, self.removed = seen, removed

    def merge(self, other):
        return Witnessed(self.items.merge(other.items), self.seen | other.seen, self.removed | other.removed)

    def add(self, item, tag):
        return Witnessed(self.items.add(item, tag), self.seen | {(item, tag)}, self.removed)

    def remove(self, item):
        gone = {addition for addition in self.seen if addition[0] == item}
        return Witnessed(self.items.remove(item), self.seen, self.removed | gone)

    def expected(self):
        return {item for item, _ in self.seen - self.removed}


@law
@given(histories(st.tuples(st.sampled_from(["add", "add", "remove"]), st.sampled_from(ITEMS))), st.permutations(NODES))
def test_set_has_what_was_added_and_not_seen_by_a_removal(history, order):
    tags = count()

    def act(copy, _, step):
        verb, item = step
        return copy.add(item, next(tags)) if verb == "add" else copy.remove(item)

    copies = run(history, Witnessed(), act)

    for copy in (*copies.values(), joined(copies, order)):
        assert copy.items.value == copy.expected()


def test_addition_wins_over_a_removal_made_at_once():
    shared = ORSet[str]().add("x", 1)
    removed, added = shared.remove("x"), shared.add("x", 2)

    assert removed.merge(added).value == added.merge(removed).value == {"x"}


def test_removal_takes_all_that_it_saw():
    shared = ORSet[str]().add("x", 1).merge(ORSet[str]().add("x", 2)).add("y", 3)

    assert shared.remove("x").value == {"y"}
    assert shared.remove("x").merge(shared).value == {"y"}


def test_item_can_be_added_again_after_its_removal():
    removed = ORSet[str]().add("x", 1).remove("x")

    assert removed.value == frozenset()
    assert removed.add("x", 2).value == {"x"}
    assert removed.add("x", 2).merge(removed).value == {"x"}


def test_late_or_repeated_addition_does_not_bring_an_item_back():
    added = ORSet[str]().add("x", 1)
    removed = added.remove("x")

    assert removed.add("x", 1) == removed
    assert removed.merge(added) == removed


def test_one_tag_may_add_several_items():
    both = ORSet[str]().add("x", 1).add("y", 1)

    assert both.remove("x").value == {"y"}


def test_removal_of_what_is_not_there_changes_nothing():
    added = ORSet[str]().add("x", 1)

    assert added.remove("y") == added
    assert ORSet[str]().remove("x").merge(added).value == {"x"}


def test_set_leaves_additions_that_are_tombstones_away():
    made = ORSet(frozenset({("x", 1), ("y", 2)}), frozenset({("x", 1)}))

    assert made == ORSet[str]().add("x", 1).add("y", 2).remove("x")
    assert made.additions == {("y", 2)}
