"""Records: what is packed is read again, what is damaged is none, and equal counters are joined."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distcache_django.core import record as module
from distcache_django.core.record import (
    COUNTER,
    LOCK,
    NO_STAMP,
    NO_TOUCH,
    TOMBSTONE,
    VALUE,
    Counter,
    Field,
    Folded,
    Record,
    counter_payload,
    node_tag,
    stamp_ms,
)

#: What these return may be ``None``, which the tests do not say each time.
merged: Any = module.merged
parse: Any = module.parse

numbers = st.integers(0, 2**64 - 1)
names = st.binary(min_size=8, max_size=8)
counters = st.builds(
    Counter,
    st.integers(-(2**63), 2**63 - 1),
    st.dictionaries(names, st.builds(Field, numbers, numbers), max_size=4),
    st.dictionaries(names, st.builds(Folded, numbers, numbers, numbers), max_size=4),
)
stamps = st.binary(min_size=14, max_size=14)
records = st.builds(
    Record,
    st.sampled_from([VALUE, TOMBSTONE, LOCK]),
    stamps,
    st.integers(0, 2**63),
    st.binary(max_size=50),
    st.binary(min_size=8, max_size=8),
    st.just(bytes(4)),
    st.just(b""),
)
STAMP, NEWER = b"\x00" * 13 + b"\x01", b"\x00" * 13 + b"\x02"


def counter(fields=None, folded=None, base=0, at=STAMP, **changes):
    return Record(COUNTER, at, payload=Counter(base, fields or {}, folded or {}).pack(), **changes)


@given(records)
def test_what_is_packed_is_read_again(record):
    assert parse(record.pack()) == record


@given(counters)
def test_counters_that_are_packed_are_read_again(value):
    assert Counter.parse(value.pack()) == value
    assert parse(Record(COUNTER, STAMP, payload=value.pack()).pack()).payload == value.pack()


@given(st.binary(max_size=120))
def test_what_is_no_record_is_none(raw):
    assert parse(b"\x11" + raw) is None
    assert parse(raw[:35]) is None
    found = parse(b"\x10" + raw)
    assert found is None or found.kind in (VALUE, TOMBSTONE, COUNTER, LOCK)


def test_records_of_unknown_kinds_and_damaged_counters_are_none():
    assert parse(None) is None
    assert parse(Record(b"x", STAMP).pack()) is None
    for payload in (b"", b"short", counter_payload(1) + b"more", counter_payload(1)[:-1]):
        assert parse(Record(COUNTER, STAMP, payload=payload).pack()) is None
        with pytest.raises(ValueError, match="damaged"):
            Counter.parse(payload)


def test_a_record_of_another_incarnation_is_void():
    raw = Record(VALUE, STAMP).pack()
    kept = raw[:32] + b"node" + raw[36:]

    assert parse(kept, b"node1234").node == b"node"
    assert parse(kept, b"another!") is None
    assert parse(kept).node == b"node"


def test_an_adopted_value_remembers_its_first_stamp():
    record = Record(VALUE, NEWER, payload=b"v", origin=STAMP)

    assert parse(record.pack()) == record
    assert parse(Record(LOCK, NEWER, payload=b"v", origin=STAMP).pack()).origin == b""


def test_tombstones_and_what_has_ended_are_not_live():
    assert Record(VALUE, STAMP).is_live(10**15)
    assert Record(VALUE, STAMP, 1000).is_live(999.9)
    assert not Record(VALUE, STAMP, 1000).is_live(1000)
    assert not Record(TOMBSTONE, STAMP).is_live(0)


def test_a_counter_counts_its_base_and_its_fields_only():
    assert Counter(5, {b"field--1": Field(10, 3)}, {b"field--2": Folded(100, 0, 9)}).value == 12
    assert Counter.parse(counter_payload(-7)) == Counter(-7, {}, {})


def test_the_newest_of_several_copies_counts():
    old, new = Record(VALUE, STAMP, payload=b"old"), Record(VALUE, NEWER, payload=b"new")
    touched = old._replace(touched=b"\x00" * 7 + b"\x01", expires_at=7)

    assert merged([]) is None
    assert merged([old, new]) is merged([new, old]) is new
    assert merged([touched, old]) is touched


def test_equal_counters_are_joined_each_field_at_its_largest():
    one = counter({b"field--1": Field(5, 1)}, {b"folded-1": Folded(1, 2, 3)}, 7)
    other = counter({b"field--1": Field(4, 2), b"field--2": Field(1, 0)}, {b"folded-1": Folded(2, 1, 4)}, 7)
    older = counter({b"field--3": Field(9, 9)}, at=NO_STAMP)

    joined = Counter.parse(merged([one, older, other]).payload)

    fields = {b"field--1": Field(5, 2), b"field--2": Field(1, 0)}
    assert joined == Counter(7, fields, {b"folded-1": Folded(2, 2, 4)})
    assert merged([one, one._replace(touched=b"\xff" * 8)]).touched == b"\xff" * 8
    assert merged([one, one]) is one


@given(st.lists(counters.map(lambda each: each._replace(base=1)), min_size=1, max_size=4))
def test_joining_does_not_depend_on_the_order(values):
    copies = [Record(COUNTER, STAMP, payload=value.pack()) for value in values]

    assert Counter.parse(merged(copies).payload) == Counter.parse(merged(copies[::-1]).payload)


def test_names_and_moments():
    assert stamp_ms((1234).to_bytes(6) + b"\xff" * 8) == 1234
    assert node_tag("cache-a") != node_tag("cache-b")
    assert len(node_tag("")) == 4
    assert Record(VALUE, STAMP).version == (STAMP, NO_TOUCH)
