"""Tasks, loops and threads of one process: every reply reaches the call that asked for it, and nothing piles up."""

import asyncio
import itertools
import random
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.cache import CacheHandler

from tests.support import subjects
from tests.support.nodes import Nodes
from tests.support.waiting import wait_until

pytestmark = pytest.mark.servers

NODES = 4
TASKS = 100
LOOPS = 100
THREADS = 200
# A connection per node for the main thread and for a loop, one per node for what looks after it, and as much again
# for what the garbage collector has not reached yet.
BOUND = NODES * 6


# With copies, writers that get in each other's way may leave a node behind until an agent has mended it, and there is
# none here: tests/failover has clients side by side, and an agent.
@pytest.fixture(params=[1], ids="rf{}".format)
def caches(nodes: Nodes, request: pytest.FixtureRequest) -> Iterator[CacheHandler]:
    """Django's handler: an instance for each thread and task that asks; keys have one owner, or three."""
    handler = CacheHandler({"default": subjects.alias("distcache", nodes.at(NODES), replicas=request.param)})
    yield handler
    handler.close_all()


async def use(cache: Any, name: str, rounds: int = 10) -> None:
    """Store and read back values nobody else has, several calls at once."""
    for number in range(rounds):
        expected = {f"{name}-{number}-{i}": f"{name}={number}={i}" for i in range(NODES)}
        await asyncio.gather(cache.aset_many(expected), cache.aset(name, number))
        found, single = await asyncio.gather(cache.aget_many(list(expected)), cache.aget(name))
        assert found == expected
        assert single == number


def use_blocking(cache: Any, name: str, rounds: int = 10) -> None:
    """Do the same blocking."""
    for number in range(rounds):
        expected = {f"{name}-{number}-{i}": f"{name}={number}={i}" for i in range(NODES)}
        cache.set_many(expected)
        cache.set(name, number)
        assert cache.get_many(list(expected)) == expected
        assert cache.get(name) == number


async def test_tasks_get_their_own_answers(caches: CacheHandler) -> None:
    async def task(number: int) -> None:
        await use(caches["default"], f"task-{number}")

    await asyncio.gather(*(task(number) for number in range(TASKS)))


async def test_cancelled_tasks_leave_the_others_their_answers(caches: CacheHandler) -> None:
    dice = random.Random(7)
    tasks = [asyncio.create_task(use(caches["default"], f"task-{number}")) for number in range(TASKS)]
    victims = tasks[::2]

    for victim in victims:
        for _ in range(dice.randrange(4)):
            await asyncio.sleep(0)
        victim.cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)

    assert ends[1::2] == [None] * (TASKS // 2)
    assert {type(end) for end in ends[::2]} <= {asyncio.CancelledError, type(None)}
    await use(caches["default"], "afterwards")


async def test_calls_that_time_out_leave_the_next_ones_their_answers(caches: CacheHandler) -> None:
    cache = caches["default"]
    await cache.aset_many({f"big-{i}": "x" * 500_000 for i in range(8)})

    for number in range(50):
        try:
            async with asyncio.timeout(0.0005):
                await cache.aget_many([f"big-{i}" for i in range(8)])
        except TimeoutError:
            pass
        await use(cache, f"after-{number}", rounds=1)


class Interrupted(BaseException):
    """What a signal handler raises in the middle of a call: a worker's time limit, Ctrl-C."""


def interrupting_after(steps: int) -> Callable[..., None]:
    """Return a profiler that interrupts at one of the calls and returns the thread is about to make."""
    countdown = itertools.count(steps, -1)

    def interrupt(*_: object) -> None:
        if next(countdown) == 0:
            raise Interrupted

    return interrupt


# The link of an interrupted call is dropped, and its socket closes with it.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
# So is a generator that the profiler interrupts while it is being closed.
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
def test_interrupted_call_leaves_the_next_ones_their_answers(caches: CacheHandler) -> None:
    cache = caches["default"]
    cache.set("k", "value")
    interrupted = 0

    for steps in range(0, 300, 3):
        sys.setprofile(interrupting_after(steps))
        try:
            try:
                cache.get_many(["k", "absent", "other"])
            finally:
                sys.setprofile(None)  # may itself be the call that is interrupted, which takes the profiler off
        except Interrupted:
            interrupted += 1
        use_blocking(cache, f"after-{steps}", rounds=1)

    assert interrupted


def test_loops_one_after_the_other_leave_nothing_behind(caches: CacheHandler, nodes: Nodes) -> None:
    before = nodes.connections()

    for number in range(LOOPS):
        asyncio.run(use(caches["default"], f"loop-{number}", rounds=1))
        async_to_sync(use)(caches["default"], f"adapted-{number}", 1)

    wait_until(lambda: nodes.connections() <= before + BOUND, what="the end of the loops' connections")


def test_loops_side_by_side_get_their_own_answers(caches: CacheHandler) -> None:
    def run(number: int) -> None:
        asyncio.run(use(caches["default"], f"loop-{number}"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(8)))


def test_threads_get_their_own_answers(caches: CacheHandler) -> None:
    def run(number: int) -> None:
        use_blocking(caches["default"], f"thread-{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(40)))


def test_short_threads_leave_nothing_behind(caches: CacheHandler, nodes: Nodes) -> None:
    before = nodes.connections()

    for number in range(THREADS):
        thread = threading.Thread(target=lambda name=f"thread-{number}": use_blocking(caches["default"], name, 1))
        thread.start()
        thread.join()

    wait_until(lambda: nodes.connections() <= before + BOUND, what="the end of the threads' connections")


def test_one_instance_may_be_shared_by_threads(caches: CacheHandler) -> None:
    cache = caches["default"]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: use_blocking(cache, f"shared-{number}"), range(40)))


def test_blocking_calls_work_beside_a_running_loop(caches: CacheHandler) -> None:
    async def both() -> None:
        cache = caches["default"]
        await use(cache, "awaited", rounds=2)
        use_blocking(cache, "blocking", rounds=2)
        await asyncio.to_thread(use_blocking, cache, "thread", 2)
        await use(cache, "again", rounds=2)

    asyncio.run(both())
