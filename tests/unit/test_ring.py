"""A ring is even, stable, the same everywhere, and moves no more than it must."""

import json
import pickle
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from distcache_django.core.ring import HashRing, MovementPlan, modulo_movement, ring_movement
from distcache_django.core.slots import SLOT_COUNT, slot_of

VECTORS = json.loads((Path(__file__).parent / "vectors" / "rings.json").read_text())
FOUR = HashRing(["cache-a", "cache-b", "cache-c", "cache-d"])
FEW_POINTS = 16

NAMES = st.text("abcdefgh-:/0123456789é", min_size=1, max_size=8)
WEIGHTS = st.one_of(st.just(1.0), st.floats(0.05, 8.0), st.integers(1, 5).map(float))
EQUAL = st.sets(NAMES, min_size=2, max_size=12)
WEIGHTED = st.dictionaries(NAMES, WEIGHTS, min_size=2, max_size=12)
KEYS = st.text(st.characters(exclude_categories=["Cs"]))
ring_settings = settings(max_examples=15, deadline=None)


def shares(ring):
    total = sum(ring.weights.values())
    return {name: SLOT_COUNT * weight / total for name, weight in ring.weights.items()}


def furthest_from_share(ring):
    counts = Counter(ring.owners)
    return max(abs(counts[name] - share) for name, share in shares(ring).items())


def zone_turns(names, zones):
    """Return for each name how many before it are of its zone; a name without a zone shares it with none."""
    own = [zones.get(name, f"only {name}") for name in names]
    return [own[:index].count(zone) for index, zone in enumerate(own)]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_ring_places_slots_as_published(vector):
    ring = HashRing(vector["nodes"], virtual_nodes=vector["virtual_nodes"], zones=vector["zones"])
    for step, name, *weight in vector["steps"]:
        ring = ring.add_node(name, *weight) if step == "add" else ring.remove_node(name)
    counts = Counter(ring.owners)
    assert {name: counts[name] for name in vector["slots"]} == vector["slots"]
    assert ring.digest == vector["owners_sha256"]
    for slot, names in vector["preference_lists"].items():
        assert list(ring.preference_list(int(slot))[: len(names)]) == names


@ring_settings
@given(WEIGHTED)
def test_new_ring_is_within_a_slot_of_every_share(weights):
    assert furthest_from_share(HashRing(weights, virtual_nodes=FEW_POINTS)) < 1 + 1e-6


@pytest.mark.parametrize("count", [*range(1, 17), 50, 100])
def test_equal_nodes_differ_by_at_most_one_slot(count):
    counts = Counter(HashRing([f"cache-{index}" for index in range(count)]).owners).values()
    assert len(counts) == count
    assert max(counts) - min(counts) <= 1


def test_a_million_keys_are_spread_evenly():
    # The keys are fixed, so the outcome is too. With random ones the count of a node of a hundred
    # varies by one per cent (its standard deviation), whatever the ring.
    per_slot = Counter(slot_of(f":1:product:{index}") for index in range(1_000_000))
    for count in (3, 4, 5, 8, 16, 32, 64, 100):
        ring = HashRing([f"cache-{index}" for index in range(count)])
        per_node: Counter[str] = Counter()
        for slot, keys in per_slot.items():
            per_node[ring.owners[slot]] += keys
        assert max(per_node.values()) * count / 1_000_000 <= 1.03


@ring_settings
@given(WEIGHTED, st.randoms(use_true_random=False))
def test_order_of_nodes_does_not_matter(weights, random):
    pairs = list(weights.items())
    random.shuffle(pairs)
    ring, other = (HashRing(dict(given), virtual_nodes=FEW_POINTS) for given in (weights, pairs))
    assert ring == other
    assert hash(ring) == hash(other)
    assert repr(ring) == repr(other)
    assert ring.preference_lists == other.preference_lists


def test_another_process_places_alike():
    program = f"from distcache_django.core.ring import HashRing; print(HashRing({list(FOUR.nodes)}).digest)"
    for seed in ("1", "2"):
        answer = subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            check=True,
        )
        assert answer.stdout.strip() == FOUR.digest


@ring_settings
@given(EQUAL, NAMES)
def test_added_node_takes_its_share_and_nothing_else_moves(names, new):
    assume(new not in names)
    before = HashRing(names, virtual_nodes=FEW_POINTS)
    after = before.add_node(new)
    moves = before.rebalance(after).moves
    assert {target for _, _, target in moves} == {new}
    assert abs(len(moves) - shares(after)[new]) < 1
    assert furthest_from_share(after) < 1


@ring_settings
@given(EQUAL, st.data())
def test_removed_node_gives_its_slots_and_nothing_else_moves(names, data):
    before = HashRing(names, virtual_nodes=FEW_POINTS)
    lost = data.draw(st.sampled_from(before.nodes))
    after = before.remove_node(lost)
    moves = before.rebalance(after).moves
    assert {source for _, source, _ in moves} == {lost}
    assert abs(len(moves) - shares(before)[lost]) < 1
    assert furthest_from_share(after) < 1


@ring_settings
@given(WEIGHTED, NAMES, WEIGHTS)
def test_weighted_change_moves_the_share_only(weights, new, weight):
    assume(new not in weights)
    before = HashRing(weights, virtual_nodes=FEW_POINTS)
    grown = before.add_node(new, weight)
    moves = before.rebalance(grown).moves
    assert {target for _, _, target in moves} <= {new}
    assert abs(len(moves) - shares(grown)[new]) < 1
    assert furthest_from_share(grown) < 2
    back = grown.remove_node(new)
    assert {source for _, source, _ in grown.rebalance(back).moves} <= {new}
    assert furthest_from_share(back) < 2


@settings(max_examples=8, deadline=None)
@given(EQUAL, st.lists(st.tuples(st.booleans(), NAMES), min_size=3, max_size=8))
def test_history_of_changes_leaves_equal_nodes_even(names, changes):
    ring = HashRing(names, virtual_nodes=FEW_POINTS)
    for add, name in changes:
        if add and name not in ring.nodes:
            ring = ring.add_node(name)
        elif len(ring.nodes) > 1:
            ring = ring.remove_node(ring.nodes[len(name) % len(ring.nodes)])
        assert furthest_from_share(ring) < 1


@ring_settings
@given(EQUAL, NAMES)
def test_node_added_and_removed_leaves_the_others_their_own(names, new):
    assume(new not in names)
    before = HashRing(names, virtual_nodes=FEW_POINTS)
    grown = before.add_node(new)
    back = grown.remove_node(new)
    assert back.nodes == before.nodes
    kept = [slot for slot, owner in enumerate(grown.owners) if owner != new]
    assert all(back.owners[slot] == before.owners[slot] for slot in kept)


@ring_settings
@given(WEIGHTED, KEYS, st.data())
def test_all_lookups_agree(weights, key, data):
    ring = HashRing(weights, virtual_nodes=FEW_POINTS)
    n = data.draw(st.integers(1, len(ring.nodes)))
    nodes = ring.get_nodes(key, n)
    slot = slot_of(key)
    assert ring.get_node(key) == ring.get_node(key.encode()) == nodes[0] == ring.owners[slot]
    assert nodes == ring.preference_list(slot)[:n] == ring.replica_lists(n)[slot]
    assert len(set(nodes)) == n
    assert set(ring.preference_list(slot)) == set(ring.nodes)


@ring_settings
@given(WEIGHTED, st.data())
def test_zones_are_all_used_before_one_is_used_again(weights, data):
    choices = st.sampled_from([None, "eu-1", "eu-2", "eu-3"])
    drawn = {name: data.draw(choices) for name in sorted(weights)}
    zones = {name: zone for name, zone in drawn.items() if zone is not None}
    ring = HashRing(weights, virtual_nodes=FEW_POINTS, zones=zones)
    plain = HashRing(weights, virtual_nodes=FEW_POINTS)
    assert ring.owners == plain.owners
    for names, unzoned in zip(ring.preference_lists[::61], plain.preference_lists[::61], strict=True):
        turns = zone_turns(names, zones)
        assert turns == sorted(turns)
        for turn in set(turns):
            same = [name for name, its in zip(names, turns, strict=True) if its == turn]
            assert all(unzoned.index(a) < unzoned.index(b) for a, b in pairwise(same))


def test_change_of_nodes_keeps_the_order_of_the_others():
    grown = FOUR.add_node("cache-e")
    for before, after in zip(FOUR.preference_lists, grown.preference_lists, strict=True):
        if before[0] == after[0]:
            assert tuple(name for name in after if name != "cache-e") == before


def test_zones_and_weights_follow_changes():
    ring = FOUR.add_node("cache-e", weight=2, zone="eu-2")
    assert ring.weights["cache-e"] == 2
    assert ring.zones == {"cache-e": "eu-2"}
    assert ring.remove_node("cache-a").zones == {"cache-e": "eu-2"}
    assert ring.remove_node("cache-e").zones == {}
    assert FOUR.nodes == ("cache-a", "cache-b", "cache-c", "cache-d")


def test_replicas_come_from_two_zones():
    zones = {"cache-a": "eu-1", "cache-b": "eu-1", "cache-c": "eu-2", "cache-d": "eu-2"}
    ring = HashRing(FOUR.nodes, zones=zones)
    assert all({zones[name] for name in pair} == {"eu-1", "eu-2"} for pair in ring.replica_lists(2))


def test_replicas_of_a_lost_node_are_next_in_its_preference_lists():
    lists = FOUR.preference_lists
    inherited = Counter(names[1] for names in lists if names[0] == "cache-a")
    assert set(inherited) == {"cache-b", "cache-c", "cache-d"}


def test_from_four_nodes_to_three_ring_moves_a_quarter_where_modulo_moves_three():
    keys = [f":1:product:{index}" for index in range(20_000)]
    after = FOUR.remove_node("cache-d")
    assert FOUR.rebalance(after).fraction == 0.25
    assert ring_movement(FOUR, after, keys) == pytest.approx(0.25, abs=0.01)
    assert modulo_movement(FOUR.nodes, after.nodes, keys) == pytest.approx(0.75, abs=0.01)


def test_modulo_hashes_the_bytes_of_text():
    keys = [f"ключ:{index}" for index in range(100)]
    nodes = FOUR.nodes
    assert modulo_movement(nodes, nodes[:3], keys) == modulo_movement(nodes, nodes[:3], [key.encode() for key in keys])


def test_rebalance_lists_each_slot_that_changes_hands():
    target = HashRing(["cache-a", "cache-b"])
    plan = FOUR.rebalance(target)
    owners = list(FOUR.owners)
    for slot, source, goal in plan.moves:
        assert owners[slot] == source
        owners[slot] = goal
    assert tuple(owners) == target.owners
    assert plan.fraction == len(plan.moves) / SLOT_COUNT
    assert FOUR.rebalance(FOUR) == MovementPlan(())


@given(st.lists(KEYS, min_size=1, max_size=50))
def test_load_of_keys_sums_to_one(keys):
    load = FOUR.get_load_distribution(keys)
    assert sum(load.values()) == pytest.approx(1)
    assert load == {name: sum(FOUR.get_node(key) == name for key in keys) / len(keys) for name in FOUR.nodes}


def test_load_of_slots_follows_weights():
    assert HashRing({"a": 1, "b": 3}).get_load_distribution() == {"a": 0.25, "b": 0.75}


def test_ring_cannot_be_changed():
    with pytest.raises(AttributeError):
        FOUR.owners = ()  # type: ignore[misc]
    with pytest.raises(TypeError):
        FOUR.weights["cache-a"] = 7  # type: ignore[index]
    with pytest.raises(TypeError):
        FOUR.zones["cache-a"] = "eu-1"  # type: ignore[index]


def test_rings_are_equal_by_value():
    assert HashRing(["a", "b"]) == HashRing({"b": 1, "a": 1.0})
    assert HashRing(["a", "b"]) != HashRing({"a": 1, "b": 2})
    assert HashRing(["a", "b"]) != HashRing(["a", "b"], zones={"a": "eu-1"})
    assert HashRing(["a", "b"]) != HashRing(["a", "b"], virtual_nodes=10)
    assert len({HashRing(["a", "b"]), HashRing(["b", "a"])}) == 1


def test_ring_survives_pickling():
    ring = FOUR.add_node("cache-e", zone="eu-1")
    again = pickle.loads(pickle.dumps(ring))
    assert again == ring
    assert again.preference_lists == ring.preference_lists


def test_repr_names_nodes_and_placement():
    text = repr(HashRing({"b": 2, "a": 1}, zones={"a": "eu-1"}))
    assert text.startswith("HashRing({'a': 1.0, 'b': 2.0}, virtual_nodes=160, zones={'a': 'eu-1'}, placement='")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"nodes": []}, "at least one node"),
        ({"nodes": "cache-a"}, "not the text 'cache-a'"),
        ({"nodes": ["a", "b", "a"]}, "node 'a' is given more than once"),
        ({"nodes": ["a", ""]}, "printable text, not ''"),
        ({"nodes": ["a\n"]}, r"printable text, not 'a\\n'"),
        ({"nodes": ["\ud800"]}, "printable text"),
        ({"nodes": [7]}, "printable text, not 7"),
        ({"nodes": {"a": 0}}, "weight of node 'a' must be a number above 0, not 0"),
        ({"nodes": {"a": -1.5}}, "not -1.5"),
        ({"nodes": {"a": float("nan")}}, "not nan"),
        ({"nodes": {"a": float("inf")}}, "not inf"),
        ({"nodes": {"a": "2"}}, "not '2'"),
        ({"nodes": ["a"], "zones": {"b": "eu-1"}}, "zone 'eu-1' is given to node 'b'"),
        ({"nodes": ["a"], "zones": {"a": ""}}, "zone of node 'a' must be text, not ''"),
        ({"nodes": ["a"], "virtual_nodes": 0}, "virtual_nodes must be at least 1, not 0"),
        ({"nodes": {"a": 1e6}}, "160 virtual nodes per unit of weight make 160000000 in all"),
    ],
)
def test_impossible_ring_is_refused(arguments, message):
    nodes = arguments.pop("nodes")
    with pytest.raises(ValueError, match=message):
        HashRing(nodes, **arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda ring: ring.add_node("cache-a"), "node 'cache-a' is on the ring already"),
        (lambda ring: ring.add_node(""), "printable text, not ''"),
        (lambda ring: ring.add_node("cache-e", weight=0), "weight of node 'cache-e'"),
        (lambda ring: ring.add_node("cache-e", zone=""), "zone of node 'cache-e'"),
        (
            lambda ring: ring.remove_node("cache-z"),
            "node 'cache-z' is not on the ring; its nodes are cache-a, ",
        ),
        (lambda _: HashRing(["cache-a"]).remove_node("cache-a"), "node 'cache-a' is the last"),
        (lambda ring: ring.get_nodes("key", 5), "5 nodes asked for, of a ring that has 4"),
        (lambda ring: ring.get_nodes("key", 0), "0 nodes asked for"),
        (lambda ring: ring.replica_lists(5), "5 nodes asked for"),
        (lambda ring: ring.preference_list(SLOT_COUNT), "slot 16384 is not between 0 and 16383"),
        (lambda ring: ring.preference_list(-1), "slot -1 is not between"),
        (lambda ring: ring.get_load_distribution([]), "no keys were given"),
        (lambda ring: ring_movement(ring, ring, []), "no keys were given"),
    ],
)
def test_impossible_request_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(FOUR)
