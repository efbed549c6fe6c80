"""A topology places keys by range or hash, on as many nodes as asked, and knows when it differs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distcache_django.core.ring import HashRing
from distcache_django.core.slots import slot_of
from distcache_django.core.topology import NodeSpec, RangeRule, Ranges, Topology

NODES = {f"cache-{letter}": NodeSpec() for letter in "abcd"}
ZONED = {name: NodeSpec(zone="eu-1" if name < "cache-c" else "eu-2") for name in NODES}
LEAD = "site:[0-9]+:"
RANGES = {
    "user:": [(1, 1000, "cache-a"), (1001, 2000, "cache-b"), (5000, 5000, "cache-c")],
    "user:vip:": [(0, 9, "cache-d")],
    "item1": [(0, 9, "cache-d")],
    "item": [(10, 19, "cache-a")],
}
RING = HashRing(list(NODES))


def ranged(nodes=NODES, **options):
    return Topology.build(nodes, ranges=RANGES, range_lead=LEAD, **options)


@pytest.mark.parametrize(
    ("key", "node"),
    [
        ("user:1", "cache-a"),
        ("user:57", "cache-a"),
        ("user:0057", "cache-a"),
        ("user:57:profile", "cache-a"),
        ("user:57.5", "cache-a"),
        ("user:1000", "cache-a"),
        ("user:1001", "cache-b"),
        ("user:2000", "cache-b"),
        ("user:5000", "cache-c"),
        ("user:vip:5", "cache-d"),
        ("item13", "cache-d"),
        ("item1", None),
        ("item119", None),
        ("user:0", None),
        ("user:2001", None),
        ("user:4999", None),
        ("user:5001", None),
        ("user:vip:10", None),
        ("user:", None),
        ("user:-5", None),
        ("user:57abc", None),
        ("user:57_x", None),
        ("user:\u0661", None),
        ("user:" + "9" * 5000, None),
        ("account:57", None),
        ("my:user:57", None),
    ],
)
def test_number_decides_where_a_key_lands(key, node):
    topology = ranged()
    full = f"site:1:{key}"
    expected = RING.get_node(full) if node is None else node
    assert topology.owner(full) == topology.owner(full.encode()) == expected
    assert topology.preference_list(full)[0] == expected
    assert topology.owners(full) == (expected,)


def test_range_needs_the_lead():
    topology = ranged()
    assert topology.ranges.node_of("site:12:user:57") == "cache-a"
    assert topology.ranges.node_of("user:57") is None
    assert topology.ranges.node_of("other:12:user:57") is None


def test_lead_may_hold_groups_and_alternatives():
    ranges = Ranges.build({"user:": [(1, 9, "a")]}, nodes=["a"], lead="(x)|(y):")
    assert ranges.node_of("y:user:5") == "a"
    assert ranges.node_of("xuser:5") == "a"
    assert ranges.node_of("user:5") is None


def test_prefix_is_taken_literally():
    ranges = Ranges.build({"a.b{": [(1, 9, "a")], "ключ:": [(1, 9, "b")]}, nodes=["a", "b"])
    assert ranges.node_of("a.b{5}") == "a"
    assert ranges.node_of("axb{5}") is None
    assert ranges.node_of("ключ:5") == ranges.node_of("ключ:5".encode()) == "b"


def test_bytes_that_are_no_text_are_placed():
    topology = ranged()
    assert topology.owner(b"\xff\xfe") == RING.get_node(b"\xff\xfe")
    assert topology.owner(b"site:1:user:57:\xff") == "cache-a"


@pytest.mark.parametrize("replication_factor", [1, 2, 3, 4])
@pytest.mark.parametrize("nodes", [NODES, ZONED], ids=["plain", "zoned"])
def test_ranged_key_is_replicated_after_its_node(nodes, replication_factor):
    topology = ranged(nodes, replication_factor=replication_factor)
    key = "site:1:user:57:profile"
    names = topology.preference_list(key)
    assert names[0] == "cache-a"
    assert set(names) == set(nodes)
    assert topology.owners(key) == names[:replication_factor]
    rest = [name for name in topology.ring.preference_list(slot_of(key)) if name != "cache-a"]
    if nodes is NODES:
        assert list(names[1:]) == rest
    else:
        assert names[1] in {"cache-c", "cache-d"}


@settings(max_examples=50)
@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 4))
def test_hashed_key_is_where_the_ring_says(key, replication_factor):
    topology = TOPOLOGIES[replication_factor]
    assert topology.owner(key) == RING.get_node(key)
    assert topology.owners(key) == RING.get_nodes(key, replication_factor)
    assert topology.preference_list(key) == RING.get_nodes(key, 4)
    assert topology.slot_of(key) == slot_of(key)


TOPOLOGIES = {factor: Topology.build(NODES, replication_factor=factor) for factor in range(1, 5)}


@pytest.mark.parametrize("odd", [[], ["é"], ["{tag}:1"], ["a{b}c", "日本"]], ids=str)
def test_parts_share_keys_out_to_their_owners(odd):
    """The quick way for plain keys agrees with the general one."""
    topology = Topology.build({name: NodeSpec() for name in NODES})
    keys = [*odd, *(f"key:{number}" for number in range(50)), "key:1"]

    parts = topology.parts(keys)

    assert sorted(index for part in parts.values() for index in part) == list(range(len(keys)))
    assert all(topology.owner(keys[index]) == node for node, part in parts.items() for index in part)
    assert all(part == sorted(part) for part in parts.values())


def test_weights_and_zones_reach_the_ring():
    topology = Topology.build({"b": NodeSpec(2, "eu-1"), "a": NodeSpec()}, virtual_nodes=20)
    assert topology.node_names == ("a", "b")
    assert topology.ring == HashRing({"a": 1, "b": 2}, virtual_nodes=20, zones={"b": "eu-1"})


def test_changed_ring_keeps_its_placement():
    ring = RING.remove_node("cache-d").add_node("cache-e")
    topology = Topology.of_ring(ring, replication_factor=2)
    assert topology.owners("key") == ring.get_nodes("key", 2)


def test_digest_is_equal_for_equal_topologies_only():
    base = Topology.build(NODES)
    assert base.digest == Topology.build(dict(reversed(NODES.items()))).digest
    assert base == Topology.build(NODES)
    others = [
        Topology.build({**NODES, "cache-e": NodeSpec()}),
        Topology.build({**NODES, "cache-a": NodeSpec(weight=2)}),
        Topology.build(ZONED),
        Topology.build(NODES, replication_factor=2),
        Topology.build(NODES, virtual_nodes=161),
        ranged(),
        Topology.of_ring(RING.add_node("cache-e").remove_node("cache-a").add_node("cache-a").remove_node("cache-e")),
    ]
    digests = {base.digest, *(topology.digest for topology in others)}
    assert len(digests) == len(others) + 1
    assert all(base != topology for topology in others)


def test_digest_is_the_published_one():
    assert Topology.build(NODES).digest == "5eea3b17ab75e692acac41d968d01e422f2cb19a73a915d0a5155336dca88cf7"


def test_no_ranges_means_no_range_lookup():
    assert Topology.build(NODES).ranges is None
    assert Topology.build(NODES, ranges={}).ranges is None


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"user:": [(10, 1, "a")]}, "range 'user:' 10-1: the first number is above the last"),
        ({"user:": [(1, 10, "a"), (10, 20, "b")]}, "range 'user:' 1-10 and range 'user:' 10-20 overlap"),
        ({"user:": [(5, 6, "b"), (1, 10, "a")]}, "range 'user:' 1-10 and range 'user:' 5-6 overlap"),
        ({"user:": [(1, 10, "z")]}, "range 'user:' 1-10 names node 'z'; the nodes are a, b"),
        ({"user:": [(-1, 10, "a")]}, "range 'user:' -1-10: -1 is not a whole number"),
        ({"user:": [(1, 2**64, "a")]}, "18446744073709551616 is not a whole number from 0 to"),
        ({"user:": [(1.5, 2, "a")]}, "1.5 is not a whole number"),
        ({"user:": [("1", 2, "a")]}, "'1' is not a whole number"),
        ({"": [(1, 2, "a")]}, "range '' 1-2: the prefix must be text"),
        ({7: [(1, 2, "a")]}, "range 7 1-2: the prefix must be text"),
        ({"user:": [(1, 2)]}, r"range 'user:' \(1, 2\) must be"),
        ({"user:": (1, 2, "a")}, "range 'user:' 1 must be"),
    ],
)
def test_impossible_ranges_are_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        Ranges.build(spec, nodes=["a", "b"])


def test_same_numbers_under_two_prefixes_do_not_overlap():
    ranges = Ranges.build({"a:": [(1, 9, "a")], "b:": [(1, 9, "b")]}, nodes=["a", "b"])
    assert ranges.rules == (RangeRule("a:", 1, 9, "a"), RangeRule("b:", 1, 9, "b"))


def test_lead_that_is_no_pattern_is_refused():
    with pytest.raises(ValueError, match=r"range lead '\(' is not a regular expression"):
        Ranges.build({"user:": [(1, 2, "a")]}, nodes=["a"], lead="(")


@pytest.mark.parametrize("factor", [0, 5])
def test_impossible_replication_factor_is_refused(factor):
    with pytest.raises(ValueError, match=f"replication factor {factor} is not between 1 and the number of nodes, 4"):
        Topology.build(NODES, replication_factor=factor)
