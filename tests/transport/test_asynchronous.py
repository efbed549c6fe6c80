"""Event loops: shared writes, cancelled tasks, loops that end, links that died, and hung nodes."""

import asyncio
import contextlib
import gc
import time

import pytest

from distcache_django.core import requests as r
from distcache_django.core.effects import Ask
from distcache_django.exceptions import NodeTimeout, TransportError
from tests.support.waiting import wait_until
from tests.transport.conftest import NAMES, ask, gather, links_to, observer


@pytest.fixture
def nodes(distcache_shared_nodes):
    return distcache_shared_nodes


@pytest.fixture
def driver(nodes, asynchronous):
    return asynchronous(nodes.urls)


def calls_of(url, command):
    """Return how often a server has executed a command."""
    with observer(url) as client:
        return client.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0)


async def fill(driver, count=200):
    for name in NAMES:
        await driver.run(ask(name, r.StoreMany([(f"k{n}", f"{name} {n}".encode()) for n in range(count)], None)))


async def kill_links(url):
    with observer(url) as client:
        for entry in links_to(url):
            client.client_kill_filter(_id=entry["id"])


# ---------------------------------------------------------------- one tick, one write


async def test_the_reads_of_one_tick_are_one_command(nodes, driver):
    await fill(driver)
    url = nodes["cache-a"].url
    before = calls_of(url, "mget"), calls_of(url, "get")

    found = await asyncio.gather(*[driver.run(ask("cache-a", r.Fetch(f"k{n}"))) for n in range(100)])

    assert found == [f"cache-a {n}".encode() for n in range(100)]
    assert (calls_of(url, "mget") - before[0], calls_of(url, "get") - before[1]) == (1, 0)


async def test_a_thousand_reads_of_one_tick_do_not_become_one_huge_command(nodes, driver):
    await fill(driver)
    before = calls_of(nodes["cache-a"].url, "mget")

    found = await asyncio.gather(*[driver.run(ask("cache-a", r.Fetch(f"k{n % 200}"))) for n in range(1000)])

    assert found == [f"cache-a {n % 200}".encode() for n in range(1000)]
    assert 1 < calls_of(nodes["cache-a"].url, "mget") - before <= 10


async def test_the_answers_of_one_tick_go_to_those_who_asked(driver):
    async def work(number):
        node, key = NAMES[number % 4], f"w{number}"
        await driver.run(ask(node, r.Store(key, number, None)))
        counted = await driver.run(ask(node, r.Increase(key, 1)))
        inspected = await driver.run(ask(node, r.Inspect(key)))
        _, gathered = await driver.run(gather((NAMES[0], r.Ping()), (node if node != NAMES[0] else NAMES[1], r.Ping())))
        return counted, inspected, gathered, await driver.run(ask(node, r.Fetch(key)))

    found = await asyncio.gather(*[work(number) for number in range(100)])

    assert [answers[0] for answers in found] == [number + 1 for number in range(100)]
    assert all(answers[1] == (b"%d" % (n + 1), -1) and answers[3] == b"%d" % (n + 1) for n, answers in enumerate(found))


async def test_a_loop_has_one_link_to_each_node(nodes, driver):
    await asyncio.gather(*[driver.run(ask(NAMES[n % 4], r.Fetch(f"k{n}"))) for n in range(400)])

    assert [len(links_to(url)) for url in nodes.urls.values()] == [1, 1, 1, 1]


# ---------------------------------------------------------------- cancellation


async def test_cancelled_tasks_do_not_disturb_the_answers_of_others(driver):
    await fill(driver)
    for round_ in range(20):
        requests = [r.Fetch(f"k{n}") if n % 2 else r.Inspect(f"k{n}") for n in range(40)]
        tasks = [asyncio.create_task(driver.run(ask("cache-a", request))) for request in requests]
        for _ in range(round_ % 3):  # cancelled before, while and after they are sent
            await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

        for number, task in enumerate(tasks):
            if not task.cancelled():
                right = f"cache-a {number}".encode()
                assert task.result() == (right if number % 2 else (right, -1))


async def test_a_cancelled_connection_does_not_disturb_the_next_request(driver):
    task = asyncio.create_task(driver.run(ask("cache-a", r.Ping())))
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task

    assert await driver.run(ask("cache-a", r.Exists("k"))) is False


async def test_a_timeout_of_the_callers_own_is_kept(nodes, driver):
    await driver.run(ask("cache-a", r.Ping()))
    nodes["cache-a"].pause()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await driver.run(ask("cache-a", r.Fetch("k")))
    nodes["cache-a"].resume()

    assert await driver.run(ask("cache-a", r.Exists("k"))) is False


async def test_a_write_that_was_cancelled_on_a_hung_node_is_a_debt(nodes, driver, told):
    """It may be lost with the link: what it was to replace must not be served as if nothing had been tried."""
    await driver.run(ask("cache-a", r.Store("k", b"old", None)))
    nodes["cache-a"].pause()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await driver.run(ask("cache-a", r.Remove(["k"])))

    with pytest.raises(TransportError):
        await driver.run(ask("cache-a", r.Fetch("k")))  # finds out that the node hangs

    assert ("cache-a", ("k",), ()) in told.owed


# ---------------------------------------------------------------- loops that end


def test_many_short_loops_leave_no_link_behind(nodes, driver):
    for number in range(50):
        asyncio.run(driver.run(gather(*[(name, r.Store(f"k{number}", b"v", None)) for name in NAMES])))
    gc.collect()

    wait_until(lambda: not any(links_to(url) for url in nodes.urls.values()), what="links closed")


def test_a_loop_that_ends_with_requests_on_their_way_leaves_nothing(nodes, driver):
    async def leave():
        await driver.run(ask("cache-a", r.Ping()))
        nodes["cache-a"].pause()
        waiting = [asyncio.create_task(driver.run(ask("cache-a", r.Fetch(f"k{n}")))) for n in range(5)]
        await asyncio.sleep(0.02)
        return waiting

    tasks = asyncio.run(leave())
    nodes["cache-a"].resume()
    gc.collect()

    assert all(task.cancelled() for task in tasks)
    wait_until(lambda: not links_to(nodes["cache-a"].url), what="links closed")


def test_a_loop_that_ends_while_connecting_leaves_nothing(nodes, driver):
    async def leave():
        asyncio.get_running_loop().create_task(driver.run(ask("cache-a", r.Ping())))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(leave())
    gc.collect()

    wait_until(lambda: not links_to(nodes["cache-a"].url), what="links closed")


def test_loops_of_several_threads_have_links_of_their_own(nodes, driver):
    import threading

    answers = []

    async def work(number):
        for _ in range(50):
            await driver.run(ask("cache-a", r.Store(f"t{number}", number, None)))
            answers.append(await driver.run(ask("cache-a", r.Fetch(f"t{number}"))) == b"%d" % number)

    threads = [threading.Thread(target=lambda n=n: asyncio.run(work(n))) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == [True] * 300


# ---------------------------------------------------------------- links that the server closed


@pytest.mark.parametrize(
    ("request_", "value"),
    [(r.Fetch("k0"), b"cache-a 0"), (r.Store("k0", b"new", None), True), (r.Inspect("k0"), (b"cache-a 0", -1)),
     (r.Increase("n", 1), 8)],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
async def test_a_link_that_was_closed_while_idle_is_replaced(nodes, driver, told, request_, value):
    await fill(driver, 1)
    await driver.run(ask("cache-a", r.Store("n", 7, None)))
    await kill_links(nodes["cache-a"].url)
    await asyncio.sleep(0.02)

    found = await driver.run(ask("cache-a", request_))

    assert found == value or (found == b"OK" and value is True)
    assert told.failures == []


async def test_a_link_that_closes_under_requests_repeats_those_that_may_be(nodes, driver, told):
    await fill(driver, 50)
    await kill_links(nodes["cache-a"].url)  # the loop has had no time to notice

    found = await asyncio.gather(*[driver.run(ask("cache-a", r.Fetch(f"k{n}"))) for n in range(50)])

    assert found == [f"cache-a {n}".encode() for n in range(50)]
    assert told.failures == []


async def test_counting_never_counts_twice(nodes, driver):
    await driver.run(ask("cache-a", r.Store("n", 0, None)))
    acknowledged, doubtful = 0, 0
    for round_ in range(40):
        if round_ % 2:
            await kill_links(nodes["cache-a"].url)
        try:
            await driver.run(ask("cache-a", r.Increase("n", 1)))
            acknowledged += 1
        except NodeTimeout:
            doubtful += 1

    assert acknowledged <= int(await driver.run(ask("cache-a", r.Fetch("n")))) <= acknowledged + doubtful


# ---------------------------------------------------------------- hung nodes


async def test_a_hung_node_costs_all_tasks_one_deadline_together(nodes, driver, told):
    await fill(driver, 1)
    nodes["cache-a"].pause()
    began = time.monotonic()

    found = await asyncio.gather(
        *[driver.run(ask(NAMES[n % 4], r.Fetch("k0"))) for n in range(100)], return_exceptions=True
    )

    assert driver.deadline * 0.9 <= time.monotonic() - began < driver.deadline * 3
    assert [isinstance(outcome, NodeTimeout) for outcome in found] == [n % 4 == 0 for n in range(100)]
    assert told.failing == ["cache-a"]
    told.down = frozenset({"cache-a"})
    began = time.monotonic()
    for _ in range(100):
        with pytest.raises(TransportError):
            await driver.run(ask("cache-a", r.Fetch("k0")))
    assert time.monotonic() - began < driver.deadline


async def test_a_gather_with_a_hung_node_costs_its_own_part_only(nodes, driver, told):
    value = b"x" * 2_000_000
    nodes["cache-b"].pause()

    outcomes = await driver.run(gather(*[(name, r.StoreMany([("large", value)], None)) for name in NAMES]))

    assert [name for name, outcome in zip(NAMES, outcomes, strict=True) if outcome is not True] == ["cache-b"]
    assert told.failing == ["cache-b"]


async def test_an_op_that_has_no_time_left_blames_nobody_else(nodes, driver, told):
    await fill(driver, 1)
    nodes["cache-a"].pause()

    def op():
        with contextlib.suppress(NodeTimeout):
            yield Ask("cache-a", r.Fetch("k0"))
        with contextlib.suppress(TransportError):
            yield Ask("cache-b", r.Fetch("k0"))
        return (yield from gather(("cache-c", r.Fetch("k0")), ("cache-d", r.Remove(["k0"]))))

    await driver.run(op())

    assert told.failing == ["cache-a"]


async def test_a_resumed_node_answers_the_right_questions(nodes, driver):
    await fill(driver)
    nodes["cache-a"].pause()
    with pytest.raises(NodeTimeout):
        await driver.run(ask("cache-a", r.Fetch("k1")))
    nodes["cache-a"].resume()

    for number in range(20):
        assert await driver.run(ask("cache-a", r.Fetch(f"k{number}"))) == f"cache-a {number}".encode()


async def test_a_failed_future_that_nobody_waits_for_says_nothing(nodes, driver):
    problems = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    await driver.run(ask("cache-a", r.Ping()))
    nodes["cache-a"].pause()
    tasks = [asyncio.create_task(driver.run(ask("cache-a", r.Inspect("k")))) for _ in range(5)]
    await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    with pytest.raises(NodeTimeout):
        await driver.run(ask("cache-a", r.Fetch("k")))
    await asyncio.gather(*tasks, return_exceptions=True)
    del tasks
    gc.collect()

    assert problems == []
