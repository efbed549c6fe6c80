"""Outcomes reach an Op as what they are: values sent, failures thrown."""

import pytest

from distcache_django.core.effects import Ask, Gather, Load, Owe, Pause, Raised, step
from distcache_django.core.requests import Fetch, Ping, Remove
from distcache_django.exceptions import NodeTimeout
from distcache_django.testing.memory import MemoryNodes


def asking(log):
    try:
        log.append((yield Ask("a", Ping())))
    except NodeTimeout as error:
        log.append(error)
    log.append((yield Ask("a", Ping())))
    return "done"


def test_a_value_is_sent_and_the_next_effect_returned():
    log: list[object] = []
    op = asking(log)
    op.send(None)

    effect = step(op, b"PONG")

    assert log == [b"PONG"]
    assert isinstance(effect, Ask)


def test_an_error_is_thrown_and_can_be_caught():
    log: list[object] = []
    error = NodeTimeout("a", "late")
    op = asking(log)
    op.send(None)

    step(op, Raised(error))

    assert log == [error]


def test_an_exception_that_was_not_raised_is_a_value():
    value = ValueError("to be cached")
    op = loading(dict)
    op.send(None)

    with pytest.raises(StopIteration) as done:
        step(op, value)

    assert done.value.value is value


def test_the_end_of_an_op_carries_its_result():
    op = asking([])
    op.send(None)
    step(op, b"PONG")

    with pytest.raises(StopIteration) as done:
        step(op, b"PONG")

    assert done.value.value == "done"


def test_effects_keep_what_they_are_made_of():
    request = Fetch("k")
    ask = Ask("a", request)
    owe = Owe("a", ["k"], ["k:*"])

    assert (ask.node, ask.request) == ("a", request)
    assert Gather([ask]).asks == [ask]
    assert (owe.node, owe.keys, owe.patterns, Owe("a", []).patterns) == ("a", ["k"], ["k:*"], ())
    assert Load(dict).function is dict
    assert Pause(0.5).seconds == 0.5


def loading(function):
    return (yield Load(function))


def test_a_function_may_return_an_exception_as_its_value():
    """Values may be anything that can be pickled, exceptions among them (a cached failure, say)."""
    value = ValueError("to be cached")

    assert MemoryNodes(["a"]).run(loading(lambda: value)) is value


def test_an_exception_of_a_function_is_thrown_into_the_op():
    with pytest.raises(ZeroDivisionError):
        MemoryNodes(["a"]).run(loading(lambda: 1 // 0))


def test_memory_nodes_perform_every_effect_in_virtual_time():
    nodes = MemoryNodes(["a", "b"])
    began = nodes.now

    def op():
        yield Pause(2.5)
        yield Owe("a", ["k"])
        return (yield Gather([Ask("a", Ping()), Ask("b", Remove(["k"]))]))

    first, second = nodes.run(op())

    assert nodes.now == began + 2.5
    assert first.node == "a"
    assert second == 0
    assert nodes.down == {"a"}
    nodes.settle("a")
    assert nodes.down == frozenset()
