"""The laws of what can be merged: copies agree in whatever order they meet, nothing goes back, nothing counts twice.

What a single type keeps and loses is in `test_conflict_types`.
"""

import pickle
from dataclasses import FrozenInstanceError, fields
from functools import reduce

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distcache_django.core.clock import Timestamp
from distcache_django.core.conflict import GCounter, LWWRegister, ORSet, PNCounter, VectorClock

NODES = ("cache-a", "cache-b", "cache-é")
NAMES = st.sampled_from(NODES)
COUNTS = st.dictionaries(NAMES, st.integers(0, 3))
CLOCKS = st.builds(VectorClock, COUNTS)
GROWING = st.builds(GCounter, COUNTS)
COUNTERS = st.builds(PNCounter, GROWING, GROWING)
# So few that timestamps meet, also with different values: no clock does that, and copies must agree all the same.
TIMES = st.builds(Timestamp, st.integers(0, 1), st.integers(0, 1), NAMES)
VALUES = st.one_of(st.none(), st.integers(0, 3), st.sampled_from("ab"), st.lists(st.integers(0, 1), max_size=1))
REGISTERS = st.one_of(st.just(LWWRegister()), st.builds(LWWRegister, VALUES, TIMES))
ITEMS = st.sampled_from("xyz")
TAGS = st.integers(0, 2)
ADDITIONS = st.frozensets(st.tuples(ITEMS, TAGS))
SETS = st.builds(ORSet, ADDITIONS, ADDITIONS)

#: For each type: its states, and what one step makes of a state.
STATES = {
    "VectorClock": CLOCKS,
    "GCounter": GROWING,
    "PNCounter": COUNTERS,
    "LWWRegister": REGISTERS,
    "ORSet": SETS,
}
STEPS = {
    "VectorClock": st.builds(lambda node: lambda state: state.increment(node), NAMES),
    "GCounter": st.builds(lambda node, n: lambda state: state.increment(node, n), NAMES, st.integers(0, 3)),
    "PNCounter": st.builds(lambda node, n: lambda state: state.decrement(node, n).increment(node), NAMES, TAGS),
    "LWWRegister": st.builds(lambda value, at: lambda state: state.set(value, at), VALUES, TIMES),
    "ORSet": st.builds(lambda new, tag, old: lambda state: state.add(new, tag).remove(old), ITEMS, TAGS, ITEMS),
}
each_type = pytest.mark.parametrize("name", list(STATES))
with_bytes = pytest.mark.parametrize("name", ["VectorClock", "GCounter", "PNCounter"])
law = settings(deadline=None)


@each_type
@law
@given(data=st.data())
def test_merge_is_commutative(name, data):
    one, other = data.draw(STATES[name]), data.draw(STATES[name])

    assert one.merge(other) == other.merge(one)


@each_type
@law
@given(data=st.data())
def test_merge_is_associative(name, data):
    one, two, three = (data.draw(STATES[name]) for _ in range(3))

    assert one.merge(two).merge(three) == one.merge(two.merge(three))


@each_type
@law
@given(data=st.data())
def test_merge_is_idempotent(name, data):
    one, other = data.draw(STATES[name]), data.draw(STATES[name])
    merged = one.merge(other)

    assert one.merge(one) == one
    assert merged.merge(one) == merged.merge(other) == merged


@each_type
@law
@given(data=st.data())
def test_steps_only_go_forward(name, data):
    """A copy from before a step brings nothing back: merged with the state after it, it adds nothing."""
    before = data.draw(STATES[name])
    after = data.draw(STEPS[name])(before)

    assert after.merge(before) == before.merge(after) == after


@each_type
@law
@given(data=st.data())
def test_copies_agree_in_whatever_order_and_how_often_they_meet(name, data):
    states = data.draw(st.lists(STATES[name], min_size=1, max_size=4))
    order = data.draw(st.permutations(states * 2))

    assert reduce(lambda one, other: one.merge(other), order) == reduce(lambda one, other: other.merge(one), states)


@each_type
@law
@given(data=st.data())
def test_equal_states_have_one_hash_and_one_pickle(name, data):
    one, other = data.draw(STATES[name]), data.draw(STATES[name])
    copy = pickle.loads(pickle.dumps(one.merge(other)))

    assert copy == one.merge(other) == other.merge(one)
    if not isinstance(getattr(copy, "value", None), list):
        assert hash(copy) == hash(other.merge(one))


@each_type
@law
@given(data=st.data())
def test_methods_leave_the_value_as_it_is(name, data):
    state = data.draw(STATES[name])
    copy = pickle.loads(pickle.dumps(state))
    data.draw(STEPS[name])(state)
    state.merge(data.draw(STATES[name]))

    assert state == copy


@each_type
@law
@given(data=st.data())
def test_fields_cannot_be_set(name, data):
    state = data.draw(STATES[name])

    for field in fields(state):
        with pytest.raises(FrozenInstanceError):
            setattr(state, field.name, ())


# ---------------------------------------------------------------- the fixed form


@with_bytes
@law
@given(data=st.data())
def test_fixed_form_comes_back(name, data):
    state = data.draw(STATES[name])

    assert type(state).from_bytes(state.to_bytes()) == state


@with_bytes
@law
@given(data=st.data())
def test_equal_values_have_one_fixed_form(name, data):
    one, other = data.draw(STATES[name]), data.draw(STATES[name])

    assert one.merge(other).to_bytes() == other.merge(one).to_bytes()


@with_bytes
@law
@given(data=st.data())
def test_fixed_form_that_is_cut_off_or_too_long_is_refused(name, data):
    form = data.draw(STATES[name].filter(lambda state: state.to_bytes().strip(b"\0"))).to_bytes()
    # A counter cut off after a whole entry is a counter; anywhere else it is nothing.
    for spoilt in (form[:-1], form[:-9], form + b"\0", form + form):
        with pytest.raises(ValueError, match=r"cut off|decode"):
            type_of(name).from_bytes(spoilt)


@with_bytes
@law
@given(data=st.binary(max_size=40))
def test_any_bytes_are_a_fixed_form_or_refused(name, data):
    try:
        read = type_of(name).from_bytes(data)
    except ValueError:
        return
    assert read.to_bytes() == data


def type_of(name):
    return {"VectorClock": VectorClock, "GCounter": GCounter, "PNCounter": PNCounter}[name]


def test_fixed_form_is_as_published():
    form = bytes.fromhex("00000001 61 0000000000000003  00000002 c3a9 ffffffffffffffff".replace(" ", ""))
    counts = {"é": 2**64 - 1, "a": 3}

    assert VectorClock(counts).to_bytes() == GCounter(counts).to_bytes() == form
    assert PNCounter(GCounter(counts), GCounter({"a": 3})).to_bytes() == b"\0\0\0\x1b" + form + form[:13]
    assert PNCounter().to_bytes() == bytes(4)


def test_fixed_form_with_names_out_of_order_repeated_or_zero_is_refused():
    entry = GCounter({"b": 1}).to_bytes()
    for form in (entry + GCounter({"a": 1}).to_bytes(), entry + entry, entry[:-1] + b"\0"):
        with pytest.raises(ValueError, match="not the fixed form"):
            GCounter.from_bytes(form)
