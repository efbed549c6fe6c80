"""Many threads, tasks and processes at one answer: one loads, and whatever ends the loader lets the next one load."""

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from distcache_django.freshness.service import Freshness
from distcache_django.freshness.turns import Turn
from distcache_django.testing import LocalNodes
from tests.simulation.ground import Ground, ground_on
from tests.support.waiting import wait_until

pytestmark = pytest.mark.servers
ROW = "shop:7"
#: Long, so that whoever waits for a lease that nobody frees does not get through in time.
LEASE = 20.0
PROMPT = 5.0


@pytest.fixture
def ground(distcache_shared_nodes: LocalNodes) -> Iterator[Ground]:
    with ground_on(distcache_shared_nodes) as made:
        made.values[ROW] = "value"
        yield made


@pytest.fixture
def one(ground: Ground) -> Freshness:
    return ground.process(lease=LEASE)


@pytest.fixture
def two(ground: Ground, one: Freshness) -> Freshness:
    return ground.process(lease=LEASE)


class Loader:
    """Load slowly, and count what was begun and what was completed."""

    def __init__(self, seconds: float = 0.2) -> None:
        self.seconds = seconds
        self.begun = 0
        self.completed = 0
        self.lock = threading.Lock()

    def __call__(self) -> str:
        with self.lock:
            self.begun += 1
        time.sleep(self.seconds)
        with self.lock:
            self.completed += 1
        return "value"

    async def aload(self) -> str:
        self.begun += 1
        await asyncio.sleep(self.seconds)
        self.completed += 1
        return "value"


def read(service: Freshness, load: Callable[[], Any], key: str = "k") -> Any:
    return service.answer(key, (ROW,), load, 60)


# ---------------------------------------------------------------- stampedes


def test_a_hundred_threads_of_a_process_load_once(one):
    loader = Loader()
    with ThreadPoolExecutor(100) as pool:
        found = list(pool.map(lambda _: read(one, loader), range(100)))

    assert set(found) == {"value"}
    assert (loader.begun, loader.completed) == (1, 1)


async def test_a_hundred_tasks_of_a_loop_load_once(one):
    loader = Loader()

    found = await asyncio.gather(*[one.aanswer("k", (ROW,), loader.aload, 60) for _ in range(100)])

    assert set(found) == {"value"}
    assert (loader.begun, loader.completed) == (1, 1)


def test_threads_of_two_processes_load_once(one, two):
    loader = Loader()
    with ThreadPoolExecutor(40) as pool:
        found = list(pool.map(lambda number: read((one, two)[number % 2], loader), range(40)))

    assert set(found) == {"value"}
    assert (loader.begun, loader.completed) == (1, 1)


def test_a_write_during_the_load_makes_one_more_load(ground, one, two):
    loader = Loader(0.3)
    with ThreadPoolExecutor(20) as pool:
        futures = [pool.submit(read, one, loader) for _ in range(20)]
        wait_until(lambda: loader.begun)
        two.bump([ROW])
        assert {future.result() for future in futures} == {"value"}

    assert loader.completed == 2
    assert read(two, loader) == "value"
    assert loader.completed == 2


def test_different_answers_do_not_wait_for_each_other(one):
    loader = Loader(0.3)
    began = time.monotonic()
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda number: read(one, loader, f"k{number}"), range(10)))

    assert loader.completed == 10
    assert time.monotonic() - began < PROMPT


def test_a_lease_that_its_holder_takes_to_the_grave_ends(ground):
    """The loader's process was killed: one lease later another one loads, and stores."""
    dead, alive = ground.process(lease=0.5), ground.process(lease=0.5)
    wanted = dead.want("k", (ROW,), lambda: None, 60)
    turn = Turn(dead._turns)
    begun = dead._versions.begin(wanted.look, lambda: turn.ask(wanted.look.key))
    assert dead.runtime.cluster.run(begun).state == "load"

    loader = Loader(0.0)
    assert read(alive, loader) == read(alive, loader) == "value"

    assert loader.completed == 1
    assert alive.counts()["waits"] > 0


# ---------------------------------------------------------------- loaders that fail


class TimeIsUp(BaseException):
    """What a time limit of a worker raises."""


@pytest.mark.parametrize("error", [ValueError("no such row"), TimeIsUp(), KeyboardInterrupt(), SystemExit(1)], ids=repr)
def test_a_loader_that_raises_frees_the_lease(one, two, error):
    """Whatever it raises, and in a thread of the same process as in another process."""

    def fail():
        raise error

    for service in (one, two):
        with pytest.raises(type(error)):
            read(service, fail)
    began = time.monotonic()
    loader = Loader(0.0)
    assert read(one, loader) == read(two, loader) == "value"

    assert loader.completed == 1
    assert time.monotonic() - began < PROMPT


def test_those_who_wait_for_a_loader_that_fails_load_themselves(one):
    turns = iter([ValueError("first"), None])

    def load():
        time.sleep(0.1)
        if error := next(turns, None):
            raise error
        return "value"

    with ThreadPoolExecutor(10) as pool:
        futures = [pool.submit(read, one, load) for _ in range(10)]
        failed = [future for future in futures if future.exception() is not None]

    assert len(failed) == 1
    assert {future.result() for future in futures if future not in failed} == {"value"}


async def test_a_cancelled_loader_frees_the_lease(one, two):
    loading = asyncio.Event()

    async def never():
        loading.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(one.aanswer("k", (ROW,), never, 60))
    await loading.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task

    loader = Loader(0.0)
    # The exception is alive, and with it the frames of the reader that was cancelled.
    assert caught.value is not None
    async with asyncio.timeout(PROMPT):
        assert await one.aanswer("k", (ROW,), loader.aload, 60) == "value"
        assert await two.aanswer("k", (ROW,), loader.aload, 60) == "value"
    assert loader.completed == 1


async def test_tasks_that_wait_for_a_cancelled_loader_load_once(one):
    loading = asyncio.Event()
    loader = Loader(0.1)

    async def never():
        loading.set()
        await asyncio.Event().wait()

    first = asyncio.create_task(one.aanswer("k", (ROW,), never, 60))
    await loading.wait()
    others = [asyncio.create_task(one.aanswer("k", (ROW,), loader.aload, 60)) for _ in range(20)]
    await asyncio.sleep(0.05)
    first.cancel()

    async with asyncio.timeout(PROMPT):
        assert set(await asyncio.gather(*others)) == {"value"}
    assert loader.completed == 1


async def test_a_cancelled_waiter_costs_the_others_nothing(one):
    loader = Loader(0.3)
    tasks = [asyncio.create_task(one.aanswer("k", (ROW,), loader.aload, 60)) for _ in range(20)]
    await asyncio.sleep(0.1)
    for task in tasks[5:15]:
        task.cancel()

    found = await asyncio.gather(*tasks, return_exceptions=True)

    assert found.count("value") == 10
    assert loader.completed == 1


def test_a_loop_that_is_closed_while_it_loads_leaves_no_claim(one):
    async def leave():
        loading = asyncio.Event()

        async def never():
            loading.set()
            await asyncio.Event().wait()

        task = asyncio.ensure_future(one.aanswer("k", (ROW,), never, 60))
        await loading.wait()
        return task

    task = asyncio.run(leave())  # cancels what is left
    assert task.cancelled()

    loader = Loader(0.0)
    began = time.monotonic()
    assert read(one, loader) == "value"
    assert time.monotonic() - began < PROMPT


def test_a_signal_in_the_middle_of_a_load_frees_the_lease(one):
    """As time limits of task queues interrupt."""
    loader = Loader(0.0)
    before = signal.signal(signal.SIGUSR1, lambda *_: raise_(TimeIsUp()))
    timer = threading.Timer(0.2, signal.pthread_kill, (threading.get_ident(), signal.SIGUSR1))
    timer.start()
    try:
        with pytest.raises(TimeIsUp):
            read(one, lambda: time.sleep(30))
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)

    began = time.monotonic()
    assert read(one, loader) == "value"
    assert time.monotonic() - began < PROMPT


def raise_(error: BaseException) -> None:
    raise error


# ---------------------------------------------------------------- answers that cannot be read


def test_a_damaged_answer_is_replaced(ground, one, caplog):
    loader = Loader(0.0)
    read(one, loader)
    key = one.want("k", (ROW,), loader, 60).look.key
    node = ground.topology.owner(key)
    with ground.client(node) as client:
        stored = client.get(key)
        client.set(key, stored[:-3] + b"???")

    assert read(one, loader) == read(one, loader) == "value"

    assert loader.completed == 2
    assert one.counts()["unreadable"] == 1


def test_a_damaged_answer_that_cannot_be_removed_is_loaded_each_time(ground, one):
    loader = Loader(0.0)
    read(one, loader)
    key = one.want("k", (ROW,), loader, 60).look.key
    with ground.client(ground.topology.owner(key)) as client:
        client.set(key, client.get(key)[:-3] + b"???")
        client.execute_command("ACL", "SETUSER", "default", "-unlink")
        try:
            assert [read(one, loader) for _ in range(3)] == ["value"] * 3
        finally:
            client.execute_command("ACL", "SETUSER", "default", "+unlink")

    assert loader.completed == 4


@pytest.mark.parametrize("rubbish", [b"", b"\x0f", b"\x0f\x00\x01", b"\x0f" * 40, b"text"])
def test_what_is_no_answer_is_a_miss(ground, one, rubbish):
    loader = Loader(0.0)
    read(one, loader)
    key = one.want("k", (ROW,), loader, 60).look.key
    with ground.client(ground.topology.owner(key)) as client:
        client.set(key, rubbish)

    assert read(one, loader) == read(one, loader) == "value"

    assert loader.completed == 2


# ---------------------------------------------------------------- forks


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_reads_what_its_parent_read(ground, one):
    loader = Loader(0.0)
    read(one, loader)

    assert in_child(lambda: read(one, loader) == "value" and loader.completed == 1)
    assert in_child(lambda: one.counts()["hits"] == 0)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_that_is_born_while_its_parent_loads_waits_for_it(ground, one):
    """The claim of the parent's thread is the parent's: in the child nobody would ever give it back."""
    loader = Loader(1.0)
    thread = threading.Thread(target=read, args=(one, loader))
    thread.start()
    wait_until(lambda: loader.begun)
    assert one._turns._endings

    fresh = Loader(0.0)
    assert in_child(lambda: not one._turns._endings)
    assert in_child(lambda: read(one, fresh) == "value" and fresh.completed == 0)

    thread.join()


def in_child(check: Callable[[], Any]) -> bool:
    """Return whether ``check`` is true in a forked child."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if check() else 1
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1] == 0
