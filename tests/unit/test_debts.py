"""What a node missed is paid before it is used again: the ledger itself, and a model of whole histories."""

import os
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from distcache_django.cluster import debts as ledger
from distcache_django.cluster.debts import Debts
from distcache_django.core import requests
from distcache_django.core.coordinator import Coordinator
from distcache_django.core.topology import NodeSpec, Topology
from distcache_django.exceptions import NodeRefused, TransportError
from distcache_django.testing.memory import MemoryNodes

# ---------------------------------------------------------------- the ledger


def test_debts_are_taken_once():
    debts = Debts()
    debts.add(["a", "b"])
    debts.add(["b"])
    assert (len(debts), bool(debts)) == (2, True)

    keys, patterns = debts.take()

    assert (sorted(keys), patterns) == (["a", "b"], [])
    assert debts.take() == ([], [])
    assert not debts


def test_patterns_are_owed_beside_keys():
    debts = Debts()
    debts.add(["a"])
    debts.add([], ["x:*"])
    debts.add(["b"], ["x:*", "y:*"])

    assert bool(debts)
    keys, patterns = debts.take()
    assert (sorted(keys), sorted(patterns)) == (["a", "b"], ["x:*", "y:*"])
    debts.add([], ["z:*"])
    assert bool(debts)
    assert debts.take() == ([], ["z:*"])


@pytest.mark.parametrize(
    ("kept", "more"),
    [
        ((["p:a", "p:b", "p:c"], []), (["p:d"], [])),
        (([], ["p:x*", "p:y*"]), ([], ["p:z*"])),
        ((["p:a", "p:b"], ["p:x*"]), (["p:c", "p:d"], [])),
    ],
    ids=["keys", "patterns", "both"],
)
def test_beyond_a_bound_the_ledger_owes_all_keys_of_the_caches_concerned(monkeypatch, kept, more):
    monkeypatch.setattr(ledger, "BOUND", 3)
    monkeypatch.setattr(ledger, "PATTERN_BOUND", 2)
    debts = Debts()
    debts.add(*kept, caches=["p:*", "q:*"])
    keys, patterns = debts.take()
    assert (sorted(keys), sorted(patterns)) == kept
    debts.add(*kept, caches=["p:*", "q:*"])

    debts.add(*more, caches=["p:*", "q:*"])

    assert len(debts) == 0
    assert debts.take() == ([], ["p:*"])


@pytest.mark.parametrize("caches", [[], ["p:*"], ["\\\\*:*", "x?:*"]], ids=str)
def test_what_belongs_to_no_cache_is_kept_without_a_bound(monkeypatch, caches):
    """Forgetting a key would bring its old value back."""
    monkeypatch.setattr(ledger, "BOUND", 3)
    debts = Debts()
    debts.add(["a", "b", "c"], ["x:*"], caches=caches)

    debts.add(["d"], caches=caches)

    keys, patterns = debts.take()
    assert (sorted(keys), patterns) == (["a", "b", "c", "d"], ["x:*"])


@pytest.mark.parametrize(
    ("cache", "keys"),
    [("a\\*b:*", ["a*b:1"]), ("*:k", ["any"]), ("*", ["x"]), ("app:*:1", ["app:k:1"]), ("\\[x\\]\\\\:*", ["[x]\\:1"])],
)
def test_a_cache_is_known_by_the_literal_beginning_of_its_pattern(monkeypatch, cache, keys):
    monkeypatch.setattr(ledger, "BOUND", 0)
    debts = Debts()

    debts.add(keys, caches=[cache])

    assert debts.take() == ([], [cache])


def test_bumps_are_owed_beside_keys_and_taken_once():
    debts = Debts()
    debts.add_bumps(["v", "w"])
    debts.add_bumps(["v"])
    assert (len(debts), bool(debts), debts.take()) == (0, True, ([], []))

    bumps, is_all = debts.take_bumps()

    assert (sorted(bumps), is_all) == (["v", "w"], False)
    assert debts.take_bumps() == ([], False)
    assert not debts


def test_beyond_a_bound_the_ledger_owes_all_bumps(monkeypatch):
    monkeypatch.setattr(ledger, "BOUND", 3)
    debts = Debts()
    debts.add_bumps(["a", "b", "c"])
    assert sorted(debts.take_bumps()[0]) == ["a", "b", "c"]
    debts.add_bumps(["a", "b", "c"])

    debts.add_bumps(["d"])
    debts.add_bumps(["e"])

    assert bool(debts)
    assert debts.take_bumps() == ([], True)
    assert not debts
    debts.add_bumps(["f"])
    assert debts.take_bumps() == (["f"], False)


def test_all_bumps_take_the_place_of_some():
    debts = Debts()
    debts.add_bumps(["a"])

    debts.add_all_bumps()

    assert debts.take_bumps() == ([], True)


# ---------------------------------------------------------------- histories

NAMES = ("cache-a", "cache-b", "cache-c")
TOPOLOGY = Topology.build({name: NodeSpec() for name in NAMES}, virtual_nodes=8)
KEYS = [f"k{number}" for number in range(6)]
NODES = st.sampled_from(NAMES)
SOME_KEYS = st.lists(st.sampled_from(KEYS), min_size=1, max_size=4, unique=True)
KEY = st.sampled_from(KEYS)


@dataclass
class Truth:
    """What may be read of one key: nothing older than the last attempt to change it.

    ``newest`` is the number of that attempt, ``value`` what it was to leave there (``None``: nothing),
    ``is_kept`` whether it was acknowledged by a node that has lost nothing since, nor owes anything for the key.
    """

    newest: int = 0
    value: int | None = None
    is_kept: bool = True


class OneCopy(RuleBasedStateMachine):
    """Random operations and faults against what one copy of each key allows."""

    @initialize()
    def start(self):
        self.nodes = MemoryNodes(NAMES)
        self.coordinator = Coordinator(TOPOLOGY)
        self.truth = {key: Truth() for key in KEYS}
        self.serial = 0

    # changes

    def attempt(self, keys, *, stores):
        self.serial += 1
        for key in keys:
            self.truth[key] = Truth(self.serial, self.serial if stores else None, is_kept=False)
        return self.serial

    def acknowledge(self, keys):
        for key in keys:
            self.truth[key].is_kept = True

    def run(self, op):
        try:
            return self.nodes.run(op)
        except TransportError as error:
            return error

    @rule(key=KEY)
    def store(self, key):
        serial = self.attempt([key], stores=True)
        if not isinstance(self.run(self.coordinator.store(key, serial, None)), TransportError):
            self.acknowledge([key])

    @rule(keys=SOME_KEYS)
    def store_many(self, keys):
        serial = self.attempt(keys, stores=True)
        left, _ = self.nodes.run(self.coordinator.store_many(keys, [serial] * len(keys), None))
        self.acknowledge([key for index, key in enumerate(keys) if index not in left])

    @rule(key=KEY)
    def remove(self, key):
        self.attempt([key], stores=False)
        if not isinstance(self.run(self.coordinator.remove(key)), TransportError):
            self.acknowledge([key])

    @rule(keys=SOME_KEYS)
    def remove_many(self, keys):
        self.attempt(keys, stores=False)
        _, failures = self.nodes.run(self.coordinator.remove_many(keys))
        failed = {failure.node for failure in failures}
        self.acknowledge([key for key in keys if TOPOLOGY.owner(key) not in failed])

    @rule()
    def clear(self):
        self.attempt(KEYS, stores=False)
        _, failures = self.nodes.run(self.coordinator.remove_matching("k*"))
        failed = {failure.node for failure in failures}
        self.acknowledge([key for key in KEYS if TOPOLOGY.owner(key) not in failed])

    @rule(key=KEY)
    def add(self, key):
        truth = self.truth[key]
        self.serial += 1
        outcome = self.run(self.coordinator.store_if(key, self.serial, None, "NX"))
        if outcome is True:
            assert not (truth.is_kept and truth.value is not None), f"add() replaced {key}"
            self.truth[key] = Truth(self.serial, self.serial)
        elif outcome is False:
            assert not (truth.is_kept and truth.value is None), f"add() found {key} where nothing was"
        elif not isinstance(outcome, NodeRefused) and truth.value is None:
            # It may yet be stored, unacknowledged, where there was nothing; nothing else may appear.
            self.truth[key] = Truth(self.serial, self.serial, is_kept=False)

    # reads

    def check(self, key, raw):
        truth = self.truth[key]
        if raw is not None:
            assert int(raw) >= truth.newest, f"{key} is {int(raw)}, older than {truth.newest}"
            assert int(raw) == truth.value, f"{key} is {int(raw)}, which was deleted"
        elif truth.is_kept:
            assert truth.value is None, f"{key} has lost {truth.value}"

    @rule(key=KEY)
    def fetch(self, key):
        raw = self.run(self.coordinator.fetch(key))
        if not isinstance(raw, TransportError):
            self.check(key, raw)

    @rule(keys=SOME_KEYS)
    def fetch_many(self, keys):
        pieces, _ = self.nodes.run(self.coordinator.fetch_many(keys))
        for _, part, raws in pieces:
            for index, raw in zip(part, raws, strict=True):
                self.check(keys[index], raw)

    # faults

    @rule(node=NODES)
    def hang(self, node):
        self.nodes.hang(node)

    @rule(node=NODES)
    def kill(self, node):
        self.nodes.kill(node)

    @rule(node=NODES)
    def fill(self, node):
        self.nodes.refuse(node)

    @rule(node=NODES, empty=st.booleans())
    def mend(self, node, empty):
        if empty:
            for key in KEYS:
                self.truth[key].is_kept &= TOPOLOGY.owner(key) != node
        self.nodes.mend(node, empty=empty)

    @rule(node=NODES)
    def report(self, node):
        self.nodes.failed(node, "reported")

    @rule(node=NODES)
    def settle(self, node):
        self.nodes.settle(node)

    # what holds at every moment

    @invariant()
    def a_node_that_is_used_owes_nothing(self):
        for name in NAMES:
            if name not in self.nodes.down:
                assert not self.nodes.debts[name]

    @invariant()
    def a_request_waits_for_a_node_at_most_once(self):
        assert self.nodes.now - 1_700_000_000.0 <= len(self.nodes.requests) * self.nodes.deadline + 1e-6


OneCopy.TestCase.settings = settings(
    max_examples=int(os.environ.get("DISTCACHE_HISTORIES", "60")),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestOneCopy = OneCopy.TestCase


class Forgetful(MemoryNodes):
    """Forget what a node missed, as a client without debts does."""

    def owe(self, node, keys, patterns=()):
        self.down |= {node}


def test_the_histories_catch_a_client_that_forgets_its_debts():
    class Mutant(OneCopy):
        @initialize()
        def start(self):
            OneCopy.start(self)
            self.nodes = Forgetful(NAMES)

    machine = Mutant()
    machine.start()
    machine.store("k0")
    machine.kill(TOPOLOGY.owner("k0"))
    machine.store("k0")
    machine.mend(TOPOLOGY.owner("k0"), empty=False)

    with pytest.raises(AssertionError, match="older"):
        machine.fetch("k0")


# ---------------------------------------------------------------- the board of a process


def test_memory_nodes_execute_late_requests_before_they_pay():
    nodes = MemoryNodes(["a"])
    nodes.hang("a")
    coordinator = Coordinator(Topology.build({"a": NodeSpec()}, virtual_nodes=4))
    with pytest.raises(TransportError):
        nodes.run(coordinator.store("k", b"late", None))
    assert "k" not in nodes.nodes["a"]

    nodes.mend("a")

    assert [type(request) for _, request in nodes.requests] == [requests.Store]
    assert "k" not in nodes.nodes["a"]
    with pytest.raises(KeyError):
        nodes.nodes["a"]["k"]
