"""Keys land in the slots that the published vectors name, and rings are walked as the docs say."""

import json
from bisect import bisect_left
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmh3 import hash as murmur3_32

from distcache_django.core import slots
from distcache_django.core.slots import SLOT_COUNT, slot_of

VECTORS = json.loads((Path(__file__).parent / "vectors" / "keys.json").read_text())

NAMES = st.text("abcdefgh-:/0123456789é", min_size=1, max_size=8)
WEIGHTS = st.one_of(st.just(1.0), st.floats(0.05, 8.0), st.integers(1, 5).map(float))
NODES = st.dictionaries(NAMES, WEIGHTS, min_size=1, max_size=8)


@pytest.mark.parametrize("vector", VECTORS["text"], ids=lambda vector: vector["key"])
def test_text_key_lands_in_published_slot(vector):
    assert slot_of(vector["key"]) == vector["slot"]
    assert slot_of(vector["key"].encode()) == vector["slot"]
    assert vector["murmur3"] >> 18 == vector["slot"]


@pytest.mark.parametrize("vector", VECTORS["bytes"], ids=lambda vector: vector["key_hex"])
def test_bytes_key_lands_in_published_slot(vector):
    assert slot_of(bytes.fromhex(vector["key_hex"])) == vector["slot"]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text_and_its_utf8_bytes_share_a_slot(key):
    slot = slot_of(key)
    assert slot == slot_of(key.encode())
    assert 0 <= slot < SLOT_COUNT


@given(
    st.text("ab{1é"),
    st.text(st.characters(exclude_characters="{}", exclude_categories=["Cs"]), min_size=1),
    st.text("ab{}1é"),
)
def test_only_the_first_hash_tag_is_hashed(before, tag, after):
    before = before.replace("{", "")
    assert slot_of(f"{before}{{{tag}}}{after}") == slot_of(tag)


@given(st.text("ab1é"), st.text("ab{}1é"))
def test_key_with_empty_tag_is_hashed_whole(before, after):
    key = f"{before}{{}}{after}"
    # A tag of its own characters would be cut out; a key in no braces cannot be.
    assert slot_of(key) == murmur3_32(key.encode(), 0, False) >> 18


def test_text_subclass_is_hashed_as_text():
    class Safe(str):
        """Stand for Django's SafeString."""

    assert slot_of(Safe("user:42")) == slot_of("user:42")


@pytest.mark.parametrize("key", ["\ud800", "user:\udfff", "{\ud800}x"])
def test_lone_surrogate_is_refused(key):
    with pytest.raises(ValueError, match="lone surrogate"):
        slot_of(key)


def test_node_has_as_many_virtual_nodes_as_its_weight_says():
    points = slots.ring_points({"a": 1.0, "b": 2.5, "c": 0.01, "d": 0.3}, 10)
    names = [name for _, name in points]
    assert {name: names.count(name) for name in "abcd"} == {"a": 10, "b": 25, "c": 1, "d": 3}
    assert points == sorted(points)


@settings(max_examples=30, deadline=None)
@given(NODES, st.integers(1, 5), st.lists(st.integers(0, SLOT_COUNT - 1), max_size=50))
def test_ring_order_is_the_order_of_first_meetings(weights, virtual_nodes, some_slots):
    points = slots.ring_points(weights, virtual_nodes)
    orders = dict(slots.ring_orders(points))
    assert sorted(orders) == list(range(SLOT_COUNT))
    for slot in some_slots:
        start = bisect_left(points, (slot << 50, ""))
        walk = points[start:] + points[:start]
        assert orders[slot] == tuple(dict.fromkeys(name for _, name in walk))


@given(NODES)
def test_quotas_are_the_shares_rounded(weights):
    counts = slots.quotas(weights)
    assert sum(counts.values()) == SLOT_COUNT
    whole = slots.integer_weights(weights)
    total = sum(whole.values())
    for name, count in counts.items():
        assert abs(count * total - SLOT_COUNT * whole[name]) < total


def test_equal_remainders_go_to_the_first_names():
    assert slots.quotas({"c": 1.0, "a": 1.0, "b": 1.0}) == {"a": 5462, "b": 5461, "c": 5461}


def test_integer_weights_keep_the_proportion():
    assert slots.integer_weights({"a": 0.5, "b": 1.0, "c": 0.75}) == {"a": 2, "b": 4, "c": 3}


def test_fill_prefers_the_first_of_the_order_and_never_exceeds_the_room():
    orders = [(3, ("a", "b")), (2, ("a", "b")), (1, ("b", "a")), (0, ("a", "b"))]
    assert slots.fill(orders, {"a": 2, "b": 2}) == {3: "a", 2: "a", 1: "b", 0: "b"}
