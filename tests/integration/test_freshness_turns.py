"""Readers that wait for a load of their own process are woken when it ends, however it does, and look again."""

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from distcache_django.freshness import turns
from distcache_django.freshness.service import Freshness
from distcache_django.testing import LocalNodes
from tests.simulation.ground import Ground, ground_on
from tests.support.waiting import wait_until

pytestmark = pytest.mark.servers
ROW = "shop:7"
LEASE = 60.0
#: Who is not woken looks again after this time, which no test waits for.
NEVER = 30.0
PROMPT = 10.0
READERS = 20


class TimeIsUp(BaseException):
    """What a time limit of a worker raises."""


class Load:
    """Load when it is allowed to; the first one may end with an error."""

    def __init__(self, ground: Ground, error: BaseException | None = None) -> None:
        self.ground = ground
        self.error = error
        self.begun = 0
        self.gate = threading.Event()

    def __call__(self) -> Any:
        self.begun += 1
        value, error = self.ground.load(ROW), self.error
        self.error = None
        assert self.gate.wait(PROMPT)
        if error is not None:
            raise error
        return value

    async def aload(self) -> Any:
        return await asyncio.to_thread(self)


@pytest.fixture(autouse=True)
def _woken_or_never(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_LONGEST_PAUSE", NEVER)


@pytest.fixture
def ground(distcache_shared_nodes: LocalNodes) -> Iterator[Ground]:
    with ground_on(distcache_shared_nodes) as made:
        made.values[ROW] = "old"
        yield made


@pytest.fixture
def one(ground: Ground) -> Iterator[Freshness]:
    service = ground.process(lease=LEASE)
    yield service
    assert service._turns._endings == {}


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(READERS + 1) as made:
        yield made


def read(service: Freshness, load: Callable[[], Any]) -> Any:
    return service.answer("k", (ROW,), load, 60)


def aread(service: Freshness, load: Load) -> "asyncio.Task[Any]":
    return asyncio.create_task(service.aanswer("k", (ROW,), load.aload, 60))


def all_wait(service: Freshness, readers: int = READERS) -> None:
    wait_until(lambda: service.counts()["waits"] >= readers, what="all readers wait")


def outcomes(futures: list["Future[Any]"]) -> list[Any]:
    return [future.exception(PROMPT) or future.result() for future in futures]


def test_threads_are_woken_with_the_answer(ground, one, pool):
    load = Load(ground)
    first = pool.submit(read, one, load)
    wait_until(lambda: load.begun)
    others = [pool.submit(read, one, load) for _ in range(READERS)]
    all_wait(one)
    load.gate.set()

    assert outcomes([first, *others]) == ["old"] * (READERS + 1)
    assert load.begun == 1
    assert one.counts()["waits"] == READERS  # nobody looked again meanwhile


@pytest.mark.parametrize("error", [ValueError("no"), TimeIsUp(), KeyboardInterrupt(), SystemExit(1)], ids=repr)
def test_threads_are_woken_by_a_load_that_fails(ground, one, pool, error):
    load = Load(ground, error)
    first = pool.submit(read, one, load)
    wait_until(lambda: load.begun)
    others = [pool.submit(read, one, load) for _ in range(READERS)]
    all_wait(one)
    load.gate.set()

    assert outcomes([first]) == [error]
    assert outcomes(others) == ["old"] * READERS
    assert load.begun == 2


def test_threads_are_woken_by_an_answer_that_cannot_be_stored(ground, one, pool):
    """Each has to load then, one after another."""
    ground.values[ROW] = threading.Lock()
    load = Load(ground)
    readers = [pool.submit(read, one, load) for _ in range(5)]
    all_wait(one, 4)
    load.gate.set()

    assert outcomes(readers) == [ground.values[ROW]] * 5
    assert load.begun == 5


def test_threads_are_woken_when_dependencies_are_found_by_the_load(ground, one, pool):
    load = Load(ground)
    readers = [pool.submit(one.recorded, "k", load, 60, (ROW,)) for _ in range(READERS)]
    all_wait(one, READERS - 1)
    load.gate.set()

    assert outcomes(readers) == ["old"] * READERS
    assert load.begun == 1


def test_a_reader_that_was_woken_does_not_take_what_is_older_than_it(ground, one, pool):
    """The load began before a commit, the reader that waits for it after that."""
    load, writer = Load(ground), ground.process()
    first = pool.submit(read, one, load)
    wait_until(lambda: load.begun)
    ground.write(writer, ROW, "new")
    second = pool.submit(read, one, load)
    all_wait(one, 1)
    load.gate.set()

    assert outcomes([first, second]) == ["old", "new"]


async def test_tasks_are_woken_with_the_answer(ground, one):
    load = Load(ground)
    tasks = [aread(one, load) for _ in range(READERS)]
    await asyncio.to_thread(all_wait, one, READERS - 1)
    load.gate.set()

    async with asyncio.timeout(PROMPT):
        assert await asyncio.gather(*tasks) == ["old"] * READERS
    assert load.begun == 1


async def test_tasks_are_woken_by_a_load_that_is_cancelled(ground, one):
    load = Load(ground)
    first = aread(one, load)
    await asyncio.to_thread(wait_until, lambda: load.begun)
    others = [aread(one, load) for _ in range(READERS)]
    await asyncio.to_thread(all_wait, one)
    first.cancel()
    load.gate.set()

    async with asyncio.timeout(PROMPT):
        assert await asyncio.gather(*others) == ["old"] * READERS
    assert load.begun == 2


async def test_a_task_is_woken_by_a_thread_and_one_that_gave_up_is_forgotten(ground, one, pool):
    load = Load(ground)
    first = pool.submit(read, one, load)
    await asyncio.to_thread(wait_until, lambda: load.begun)
    (ending,) = one._turns._endings.values()
    tasks = [aread(one, load) for _ in range(2)]
    await asyncio.to_thread(wait_until, lambda: len(ending._calls) == 2)
    tasks[0].cancel()
    await asyncio.to_thread(wait_until, lambda: len(ending._calls) == 1)
    load.gate.set()

    async with asyncio.timeout(PROMPT):
        assert await tasks[1] == "old"
    assert outcomes([first]) == ["old"]
    assert ending._calls == []


def test_a_reader_is_not_harmed_by_a_loop_that_was_closed(ground, one, pool):
    """Whoever ends its turn calls those that waited a moment ago, and their loop may be gone by then."""
    load = Load(ground)
    first = pool.submit(read, one, load)
    wait_until(lambda: load.begun)
    (ending,) = one._turns._endings.values()

    async def wait_and_give_up():
        task = aread(one, load)
        await asyncio.to_thread(wait_until, lambda: ending._calls)
        kept = ending._calls[:]
        task.cancel()
        return kept

    ending._calls += asyncio.run(wait_and_give_up())
    load.gate.set()

    assert outcomes([first]) == ["old"]
    assert read(one, load) == "old"


def test_no_wake_up_is_lost(ground, one, pool):
    """Loads that take no time: readers begin to wait while they end."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    began = time.monotonic()
    try:
        for _ in range(50):
            one.bump([ROW])
            found = [pool.submit(read, one, lambda: "value") for _ in range(8)]
            assert outcomes(found) == ["value"] * 8
    finally:
        sys.setswitchinterval(interval)

    assert time.monotonic() - began < NEVER
