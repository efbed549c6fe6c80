"""What is measured: the operations, the data they work on, and the proof that a contender does them right.

A scenario fills the contender's keys through the contender itself, checks every answer it is going to time,
and only then hands the call over. A client that answered quickly and wrongly would be no rival;
`WrongAnswer` keeps it out of the table.
"""

from __future__ import annotations

import asyncio
import random
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from distcache_django.benchmark.calls import CallRunner, Runner, TaskRunner

KEYS = 400
BATCH = 100
SIZE = 100
TASKS = 100
TIMEOUT = 300

Call = Callable[..., Any]
Arguments = Sequence[tuple[Any, ...]]


class WrongAnswer(Exception):
    """A contender did not return what it was asked to keep."""


def _text(source: random.Random) -> str:
    return "".join(source.choices(string.ascii_letters + string.digits, k=SIZE))


def build_data(seed: int) -> dict[str, str]:
    """Return the keys and values of a run: texts of 100 characters that do not compress away."""
    source = random.Random(seed)
    return {f"item:{number:04d}": _text(source) for number in range(KEYS)}


def batches(keys: Sequence[str]) -> list[list[str]]:
    """Cut keys into the batches of the batch scenarios."""
    return [list(keys[start : start + BATCH]) for start in range(0, len(keys), BATCH)]


def expect(what: str, wanted: object, got: object) -> None:
    """Raise WrongAnswer unless both are equal and of one type; the values themselves stay out of the
    message.
    """
    if got != wanted or type(got) is not type(wanted):
        raise WrongAnswer(f"{what} returned {type(got).__name__} that is not what was stored")


def _fill(cache: Any, data: dict[str, str]) -> None:
    for keys in batches(list(data)):
        cache.set_many({key: data[key] for key in keys}, TIMEOUT)
    for key, value in data.items():
        expect("get", value, cache.get(key))
    expect("get of a missing key", None, cache.get("absent"))


def _get(cache: Any, data: dict[str, str]) -> tuple[Call, Arguments]:
    _fill(cache, data)
    return cache.get, [(key,) for key in data]


def _set(cache: Any, data: dict[str, str]) -> tuple[Call, Arguments]:
    for key, value in data.items():
        cache.set(key, value, TIMEOUT)
        expect("get after set", value, cache.get(key))
    return cache.set, [(key, value, TIMEOUT) for key, value in data.items()]


def _get_many(cache: Any, data: dict[str, str]) -> tuple[Call, Arguments]:
    _fill(cache, data)
    groups = batches(list(data))
    for keys in groups:
        expect("get_many", {key: data[key] for key in keys}, dict(cache.get_many(keys)))
    return cache.get_many, [(keys,) for keys in groups]


def _set_many(cache: Any, data: dict[str, str]) -> tuple[Call, Arguments]:
    groups = [{key: data[key] for key in keys} for keys in batches(list(data))]
    for group in groups:
        cache.delete_many(list(group))
        if cache.set_many(group, TIMEOUT):
            raise WrongAnswer("set_many reported keys that failed")
        expect("get_many after set_many", group, dict(cache.get_many(list(group))))
    return cache.set_many, [(group, TIMEOUT) for group in groups]


def _incr(cache: Any, data: dict[str, str]) -> tuple[Call, Arguments]:
    keys = [f"count:{key}" for key in data]
    for key in keys:
        cache.set(key, 41, TIMEOUT)
        expect("incr", 42, cache.incr(key))
        expect("get after incr", 42, cache.get(key))
    return cache.incr, [(key,) for key in keys]


def _add(cache: Any, data: dict[str, str]) -> tuple[Call, Arguments]:
    _fill(cache, data)
    cache.delete("added")
    expect("add of a new key", True, bool(cache.add("added", "first", TIMEOUT)))
    expect("add of a key that is there", False, bool(cache.add("added", "second", TIMEOUT)))
    expect("get after add", "first", cache.get("added"))
    return cache.add, [(key, value, TIMEOUT) for key, value in data.items()]


def _delete(cache: Any, data: dict[str, str]) -> tuple[Call, Arguments]:
    for key, value in data.items():
        cache.set(f"gone:{key}", value, TIMEOUT)
        expect("delete", True, bool(cache.delete(f"gone:{key}")))
        expect("get after delete", None, cache.get(f"gone:{key}"))
    return cache.delete, [(f"gone:{key}",) for key in data]


async def _aget(cache: Any, data: dict[str, str]) -> tuple[Call, Arguments]:
    for key, value in data.items():
        await cache.aset(key, value, TIMEOUT)
    answers = await asyncio.gather(*(cache.aget(key) for key in list(data)[:TASKS]))
    for key, got in zip(list(data)[:TASKS], answers, strict=True):
        expect("aget", data[key], got)
    return cache.aget, [(key,) for key in data]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row group of the report; ``units`` is how many keys one call concerns."""

    name: str
    title: str
    prepare: Callable[[Any, dict[str, str]], Any]
    units: int = 1
    is_async: bool = False
    has_c_client: bool = False

    def runner(self, cache: Any, data: dict[str, str], loop: asyncio.AbstractEventLoop) -> Runner:
        """Fill, check and return what is to be timed; raises WrongAnswer, and whatever the contender
        raises.
        """
        if self.is_async:
            call, arguments = loop.run_until_complete(self.prepare(cache, data))
            return TaskRunner(loop, call, arguments, TASKS)
        call, arguments = self.prepare(cache, data)
        return CallRunner(call, arguments)


FANOUT = "fan-out"
SCENARIOS: tuple[Scenario, ...] = (
    Scenario("get", "get, text of 100 characters", _get, has_c_client=True),
    Scenario("set", "set, text of 100 characters", _set),
    Scenario("get_many", "get_many of 100 keys", _get_many, units=BATCH),
    Scenario("set_many", "set_many of 100 keys", _set_many, units=BATCH),
    Scenario("aget", "aget from 100 tasks at once", _aget, is_async=True),
    Scenario("incr", "incr of a counter that is there", _incr),
    Scenario("add", "add of a key that is there", _add),
    Scenario("delete", "delete of a key that is not there", _delete),
    Scenario(FANOUT, "get_many of 100 keys on 4 nodes: all at once, and node after node", _get_many, units=BATCH),
)


def one_after_another(cache: Any, groups: Sequence[Sequence[Sequence[str]]], data: dict[str, str]) -> Runner:
    """Return a runner that asks for each batch node after node; ``groups`` holds, per batch, the keys of
    each node.
    """
    get_many = cache.get_many

    def call(parts: Sequence[Sequence[str]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for part in parts:
            found.update(get_many(part))
        return found

    for parts in groups:
        expect("get_many", {key: data[key] for part in parts for key in part}, call(parts))
    return CallRunner(call, [(parts,) for parts in groups])
