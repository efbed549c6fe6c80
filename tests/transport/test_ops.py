"""Ops run unchanged on every transport: outcomes in order, errors thrown and caught, user functions, pauses, debts."""

import threading
import time
from collections.abc import Callable

import pytest

from distcache_django.core import requests as r
from distcache_django.core.coordinator import Coordinator
from distcache_django.core.effects import Ask, Gather, Load, Owe, Pause
from distcache_django.core.topology import NodeSpec, Topology
from distcache_django.exceptions import NodeRefused, NodeUnreachable, TransportError
from tests.transport.conftest import NAMES, ask, gather

TOPOLOGY = Topology.build({name: NodeSpec() for name in NAMES}, virtual_nodes=16)


def test_outcomes_come_in_the_order_of_the_requests(transport):
    for number, name in enumerate(NAMES):
        transport.put(name, "k", number)

    order = ("cache-c", "cache-a", "cache-d", "cache-b")

    assert transport.run(gather(*[(name, r.Fetch("k")) for name in order])) == [b"2", b"0", b"3", b"1"]


def test_a_gather_may_mix_requests(transport):
    transport.put("cache-a", "n", 1)
    transport.put("cache-b", "k", b"v", 60_000)
    transport.put("cache-c", "l", None)

    counted, inspected, refused, stored = transport.run(
        gather(
            ("cache-a", r.Increase("n", 1)),
            ("cache-b", r.Inspect("k")),
            ("cache-c", r.Inspect("l")),
            ("cache-d", r.StoreMany([("x", b"y")], None)),
        )
    )

    assert counted == 2
    assert inspected[0] == b"v"
    assert isinstance(refused, NodeRefused)
    assert stored is True


def test_a_gather_of_nothing_is_nothing(transport):
    assert transport.run(gather()) == []


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_one_dead_node_of_four_costs_its_own_request_only(transport, warm):
    for name in NAMES:
        transport.put(name, "k", b"v")
    if warm:
        transport.run(gather(*[(name, r.Fetch("k")) for name in NAMES]))
    transport.kill("cache-b")

    outcomes = transport.run(gather(*[(name, r.Fetch("k")) for name in NAMES]))

    assert isinstance(outcomes[1], TransportError)
    assert outcomes[1].node == "cache-b"
    assert [outcomes[0], *outcomes[2:]] == [b"v"] * 3
    assert transport.health.failing == ["cache-b"]


def test_a_large_gather_reaches_every_node(transport):
    value = b"x" * 3_000_000

    assert transport.run(gather(*[(name, r.StoreMany([("k", value)], None)) for name in NAMES])) == [True] * 4
    assert transport.run(gather(*[(name, r.FetchMany(["k", "l"])) for name in NAMES])) == [[value, None]] * 4


def test_an_op_may_catch_a_failure_and_go_on(transport):
    transport.kill("cache-a")
    transport.put("cache-b", "k", b"v")

    def op():
        caught = None
        try:
            yield Ask("cache-a", r.Fetch("k"))
        except NodeUnreachable as error:
            caught = error.node
        return caught, (yield Ask("cache-b", r.Fetch("k")))

    assert transport.run(op()) == ("cache-a", b"v")


def test_a_failure_that_is_not_caught_leaves_the_op(transport):
    transport.kill("cache-a")

    with pytest.raises(NodeUnreachable) as caught:
        transport.run(ask("cache-a", r.Fetch("k")))

    assert caught.value.node == "cache-a"


def test_an_op_may_end_without_any_effect(transport):
    def op():
        return "nothing asked"
        yield

    assert transport.run(op()) == "nothing asked"


def test_an_error_of_the_op_itself_passes(transport):
    def op():
        yield Ask("cache-a", r.Ping())
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        transport.run(op())


def loading(function):
    return (yield Load(function))


@pytest.mark.parametrize("value", [None, 0, "v", [], (1, 2)])
def test_what_a_function_returns_is_its_outcome(transport, value):
    assert transport.run(loading(lambda: value)) is value


@pytest.mark.parametrize("error", [ValueError("v"), KeyError("k"), TimeoutError(), StopAsyncIteration()])
def test_what_a_function_raises_is_thrown_into_the_op(transport, error):
    def function():
        raise error

    def op():
        try:
            yield Load(function)
        except Exception as caught:  # noqa: BLE001 - whatever it is
            return caught

    assert transport.run(op()) is error


def test_a_function_may_return_an_exception_as_its_value(transport):
    value = ValueError("to be cached")

    assert transport.run(loading(lambda: value)) is value


def test_an_awaitable_is_awaited_where_there_is_a_loop(transport):
    if transport.name != "asyncio":
        pytest.skip("there is no loop to await it on")

    async def answer():
        return "awaited"

    async def fail():
        raise ValueError("awaited")

    assert transport.run(loading(answer)) == "awaited"
    with pytest.raises(ValueError, match="awaited"):
        transport.run(loading(fail))


def test_the_time_of_users_functions_is_not_the_nodes(transport):
    """A page that takes a second to make must still be stored, and no node be blamed."""

    def op():
        yield Ask("cache-a", r.Ping())
        yield Load(lambda: time.sleep(0.6))
        yield Ask("cache-a", r.Store("k", b"v", None))
        return (yield Gather([Ask("cache-a", r.Fetch("k")), Ask("cache-b", r.Ping())]))[0]

    assert transport.run(op()) == b"v"
    assert transport.health.failing == []


def test_pauses_are_not_the_nodes_time_either(transport):
    """A lock that is waited for asks again and again, for longer than one deadline."""

    def op():
        for _ in range(4):
            yield Ask("cache-a", r.Ping())
            yield Pause(0.15)
        return (yield Ask("cache-a", r.Exists("k")))

    assert transport.run(op()) is False
    assert transport.health.failing == []


class Happened:
    """Be what a pause waits for: it happens soon, on another thread."""

    def __init__(self, seconds: float) -> None:
        self.event = threading.Event()
        self.calls: list[Callable[[], None]] = []
        threading.Timer(seconds, self.happen).start()

    def happen(self) -> None:
        self.event.set()
        for function in tuple(self.calls):
            function()

    def wait(self, seconds: float) -> bool:
        return self.event.wait(seconds)

    def call(self, function: Callable[[], None]) -> None:
        self.calls.append(function)
        if self.event.is_set():
            function()

    def forget(self, function: Callable[[], None]) -> None:
        self.calls.remove(function)


def pausing(seconds, until):
    return (yield Pause(seconds, until))


def test_a_pause_ends_with_what_it_waits_for(transport):
    happened = Happened(0.1)
    began = time.monotonic()

    transport.run(pausing(20, happened))
    transport.run(pausing(20, happened))

    assert time.monotonic() - began < 5
    assert happened.calls == []


def test_a_pause_for_what_does_not_happen_is_as_long_as_it_should(transport):
    happened = Happened(0.5)
    began = time.monotonic()

    transport.run(pausing(0.05, happened))

    assert not happened.event.is_set()
    assert happened.calls == []
    assert transport.name == "memory" or time.monotonic() - began >= 0.05
    happened.event.wait(5)


def test_debts_are_noted(transport):
    def op():
        yield Owe("cache-a", ["k", "l"])
        yield Owe("cache-b", (), ["k:*"])

    transport.run(op())

    noted = sorted((node, sorted(keys), patterns) for node, keys, patterns in transport.health.owed)
    assert noted == [("cache-a", ["k", "l"], ()), ("cache-b", [], ("k:*",))]


@pytest.mark.parametrize(
    ("request_", "keys"),
    [
        (r.Store("k", b"v", None), ("k",)),
        (r.StoreIf("k", b"v", None, "XX"), ("k",)),
        (r.StoreMany([("k", b"v"), ("l", b"v")], None), ("k", "l")),
        (r.Remove(["k", "l"]), ("k", "l")),
        (r.Expire("k", 0), ("k",)),
        (r.Expire("k", 1000), None),
        (r.Fetch("k"), None),
        (r.StoreIf("k", b"v", None, "NX"), None),
        (r.Increase("k", 1), None),
        (r.Acquire("k", b"n", 1), None),
        (r.Release("k", b"n"), None),
        (r.Prolong("k", b"n", 1, add=False), None),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("together", [False, True], ids=["alone", "gathered"])
def test_a_failed_write_is_a_debt_if_it_was_to_replace_something(transport, request_, keys, together):
    transport.kill("cache-a")

    if together:
        assert isinstance(transport.run(gather(("cache-a", request_), ("cache-b", r.Ping())))[0], TransportError)
    else:
        with pytest.raises(TransportError):
            transport.run(ask("cache-a", request_))

    owed = [(node, tuple(sorted(found)), patterns) for node, found, patterns in transport.health.owed]
    assert owed == ([] if keys is None else [("cache-a", keys, ())])


def test_a_removal_of_everything_that_takes_long_blames_no_node(transport):
    """``clear()`` of a full cache is many round trips; healthy nodes must not be taken for hung ones."""
    if transport.name == "memory":
        pytest.skip("takes no time")
    nodes = transport.nodes
    for name in NAMES:
        with pytest.importorskip("redis").Redis.from_url(nodes[name].url) as client:
            client.eval("for i = 1, 40000 do redis.call('SET', 'k:' .. i, 'v') end", 0)

    removed, failures = transport.run(Coordinator(TOPOLOGY).remove_matching("k:*"))

    assert failures == []
    assert removed == 160_000
    assert transport.health.failing == []
