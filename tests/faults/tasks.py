"""The longer tasks of other processes; see ``programs``."""

import asyncio
import faulthandler
import os
import random
import signal
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from tests.faults.ground import VICTIM, WAITED, cluster_of
from tests.faults.programs import heard, is_up, ready, say, wait_for
from tests.support import subjects

EXIT_OK = 0


class TimeLimit(Exception):
    """Be what a task queue raises from its signal handler."""


def _in_child(body: Callable[[], object], seconds: float = 12) -> object:
    """Fork, run ``body`` in the child, and return what it answered; a child that hangs is ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        faulthandler.dump_traceback_later(seconds / 2)  # shows where it hangs
        code = 1
        try:
            os.write(writing, repr(body()).encode())
            code = EXIT_OK
        except BaseException:  # noqa: BLE001 - shown by the test
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    ends = time.monotonic() + seconds
    while not os.waitpid(child, os.WNOHANG)[0]:
        if time.monotonic() > ends:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "the child hung"
        time.sleep(0.005)
    with os.fdopen(reading) as answer:
        return answer.read()


def fork_while_down(cache: Any, keys: list[str], well: list[str], resume: int) -> dict[str, Any]:
    """Fork while a node is down; parent and child go on, and both find the node again."""
    cache.set_many(dict.fromkeys([*keys, *well], "old"))
    ready()
    cache.get(keys[0])
    assert not is_up(cache)
    cache.set(keys[1], "new")

    def child() -> dict[str, Any]:
        lengths = []
        for key in [*keys, *keys]:
            began = time.monotonic()
            cache.get(key)
            lengths.append(time.monotonic() - began)
        found = cache.get_many(well)
        os.kill(resume, signal.SIGCONT)
        wait_for(lambda: is_up(cache))
        return {
            "waited": sum(length >= WAITED for length in lengths),
            "well": found == dict.fromkeys(well, "old"),
            "after": [cache.get(key) for key in keys],
        }

    answer = _in_child(child)
    wait_for(lambda: is_up(cache))
    return {"child": answer, "parent": [cache.get(key) for key in keys], "well": cache.get(well[0])}


def fork_while_locks_are_held(cache: Any, keys: list[str], well: list[str]) -> dict[str, Any]:
    """Fork many times while other threads change what is known of the nodes."""
    cache.get_many([*keys, *well])
    ready()
    done = threading.Event()
    # Looked up once: the lock in Django's table of caches is not ours, and a fork may find it held.
    cluster = cluster_of(cache)
    board = cluster.board

    def disturb() -> None:
        while not done.is_set():
            board.owe(VICTIM, keys)
            cluster.count("disturbed")

    threads = [threading.Thread(target=disturb) for _ in range(3)]
    for thread in threads:
        thread.start()

    def child() -> tuple[bool, bool]:
        cluster.count("child")
        cache.set(keys[0], "child")
        cache.set(well[0], "child")
        return cache.get(well[0]) == "child", is_up(cache) or bool(board.debt_count(VICTIM))

    try:
        answers: set[str] = set()
        for _ in range(15):
            answers.add(str(_in_child(child, 8)))
            if "the child hung" in answers:
                break
    finally:
        done.set()
        for thread in threads:
            thread.join()
    return {"answers": sorted(answers)}


def interrupt(cache: Any, keys: list[str], kind: str, call: str, victim: int) -> dict[str, Any]:
    """Raise an exception from a signal in the middle of a call; then ask on the same thread."""
    cache.set_many(dict.fromkeys(keys, "old"))
    cache.set("number", 1)
    ready()
    error = {"KeyboardInterrupt": KeyboardInterrupt, "SystemExit": SystemExit, "TimeLimit": TimeLimit}[kind]

    def strike(*_: object) -> None:
        raise error

    signal.signal(signal.SIGALRM, strike)
    calls: dict[str, Callable[[], object]] = {
        "get": lambda: cache.get(keys[0]),
        "set": lambda: cache.set(keys[0], "new"),
        "get_many": lambda: cache.get_many(keys),
        "set_many": lambda: cache.set_many(dict.fromkeys(keys, "new")),
        "lock": lambda: cache.lock("l").acquire(),
    }
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    raised = "nothing"
    try:
        calls[call]()
    except (KeyboardInterrupt, SystemExit, TimeLimit) as caught:
        raised = type(caught).__name__
    os.kill(victim, signal.SIGCONT)
    # Replies to what was cut off are on their way now: none of them may answer these.
    cache.set("fresh", "mine")
    cache.set(keys[1], "newer")
    answers = [cache.get(keys[1]), cache.get("fresh"), cache.get("absent", "none")]
    wait_for(lambda: is_up(cache))
    wait_for(lambda: cache.set(keys[1], "newest"))
    return {
        "raised": raised,
        "answers": answers,
        "later": [cache.get(keys[1]), cache.get("number"), cache.get("absent", "none")],
        "batch": {key: cache.get_many(keys).get(key) for key in keys},
    }


def interrupt_lost(cache: Any, key: str) -> dict[str, Any]:
    """Raise an exception while a write waits for a node that will never get it."""
    cache.set(key, "old")
    ready()

    def strike(*_: object) -> None:
        raise TimeLimit

    signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        cache.set(key, "new")
    except TimeLimit:
        say("paused")
    assert heard() == "healed"
    wait_for(lambda: cache.get("absent", "none") == "none" and is_up(cache))
    return {"answer": cache.get(key)}


def interrupt_at_random(cache: Any, keys: list[str], seed: int) -> dict[str, Any]:
    """Raise an exception every millisecond or so for a while; no answer may belong to another question."""
    ready()
    draw = random.Random(seed)
    cache.set_many({key: key for key in keys})
    struck = wrong = 0

    def strike(*_: object) -> None:
        raise TimeLimit

    signal.signal(signal.SIGALRM, strike)
    ends = time.monotonic() + 3
    while time.monotonic() < ends:
        key = draw.choice(keys)
        try:
            signal.setitimer(signal.ITIMER_REAL, draw.uniform(0.00002, 0.0015))
            for _ in range(20):
                if draw.random() < 0.2:
                    found = cache.get_many(keys)
                    wrong += any(k != v for k, v in found.items())
                elif draw.random() < 0.2:
                    cache.set(key, key)
                else:
                    wrong += cache.get(key, key) != key
            signal.setitimer(signal.ITIMER_REAL, 0)
        except TimeLimit:
            struck += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    return {"struck": struck, "wrong": wrong}


def use_at_exit(cache: Any, key: str) -> str:
    """Use the cache while the interpreter ends and a node does not answer."""
    import atexit

    def last() -> None:
        say(f'"{cache.get(key)} {cache.set(key, 1)}"')

    atexit.register(last)
    cache.get(key)
    ready()
    return "main"


def many_tasks(cache: Any, keys: list[str], well: list[str]) -> dict[str, Any]:
    """Send a hundred tasks to a hung node, cancel some of them, then more tasks; all on one loop."""
    unhandled: list[str] = []

    async def measured(key: str) -> float:
        began = time.monotonic()
        await cache.aget(key)
        return time.monotonic() - began

    async def body() -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: unhandled.append(str(context)))
        await cache.aset_many(dict.fromkeys([*keys, *well], "old"))
        ready()
        began = time.monotonic()
        tasks = [asyncio.create_task(measured(keys[i % len(keys)])) for i in range(80)]
        tasks += [asyncio.create_task(_write(keys[i % len(keys)])) for i in range(20)]
        others = [asyncio.create_task(measured(key)) for key in well * 5]
        await asyncio.sleep(0.2)
        for task in tasks[::5]:
            task.cancel()
        quick = await asyncio.gather(*others)
        await asyncio.gather(*tasks, return_exceptions=True)
        whole = time.monotonic() - began
        later = await asyncio.gather(*(measured(key) for key in keys * 10))
        return {"whole": whole, "later": max(later), "well": max(quick), "found": await cache.aget_many(well)}

    async def _write(key: str) -> float:
        await cache.aset(key, "new")
        return 0.0

    return {**asyncio.run(body()), "unhandled": unhandled}


def two_loops(cache: Any, keys: list[str], well: list[str]) -> dict[str, Any]:
    """Run a loop in each of two threads; both lose the node, both find it again."""
    cache.set_many(dict.fromkeys([*keys, *well], "old"))
    both = threading.Barrier(3)
    found: list[Any] = []

    async def body(mine: Any) -> dict[str, Any]:
        await mine.aget_many([*keys, *well])
        both.wait()
        both.wait()
        lengths = []
        for _ in range(20):
            began = time.monotonic()
            await asyncio.gather(*(mine.aget(key) for key in [*keys, *well]))
            lengths.append(time.monotonic() - began)
        return {"waited": sum(length >= WAITED for length in lengths), "well": await mine.aget_many(well)}

    def run() -> None:
        from django.core.cache import caches

        found.append(asyncio.run(body(caches["default"])))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    both.wait()
    ready()
    both.wait()
    for thread in threads:
        thread.join()
    return {"found": found}


def loop_ends_early(cache: Any, keys: list[str]) -> dict[str, Any]:
    """End loops while requests to a hung node are on their way, also while connecting; then go on elsewhere."""
    ready()

    async def leave() -> None:
        for key in keys:
            asyncio.ensure_future(cache.aget(key))  # noqa: RUF006 - it is abandoned on purpose
        await asyncio.sleep(0.05)

    for _ in range(3):
        asyncio.run(leave())
    return {"up": is_up(cache), "found": asyncio.run(cache.aget("well", "none"))}


def cancelled_write(cache: Any, key: str) -> dict[str, Any]:
    """Cancel a write to a node that does not answer."""

    async def body() -> object:
        await cache.aset(key, "old")
        ready()
        writing = asyncio.create_task(cache.aset(key, "new"))
        await asyncio.sleep(0.1)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        reading = await cache.aget(key, "missed")  # this one finds out
        say("paused")
        assert heard() == "healed"
        await asyncio.to_thread(wait_for, lambda: is_up(cache))
        return [reading, await cache.aget(key)]

    return {"answers": asyncio.run(body())}


def workload(cache: Any, seed: int, number: int, seconds: float, site: dict[str, Any]) -> dict[str, Any]:
    """Write and read keys of this process's own through all faults, and check every answer.

    ``floor`` is the newest acknowledged value of a key, ``ended`` every value whose end was attempted. A reader must
    see neither a value below the floor nor one that was ended: values only grow, so both mean ``value < least``.
    """
    draw = random.Random(f"{seed}-{number}")
    mine = {False: cache, True: subjects.build({**site, "KEY_PREFIX": "async"})}
    least: dict[tuple[bool, str], int] = {}
    lies: list[str] = []
    counts = {"hits": 0, "misses": 0, "acknowledged": 0, "refused": 0, "slow": 0}
    values = iter(range(1, 10**9))
    keys = [f"p{number}-{i}" for i in range(60)]
    ready()
    ends = time.monotonic() + seconds
    with asyncio.Runner() as runner:
        while time.monotonic() < ends:
            is_async = draw.random() < 0.3
            one, some = draw.choice(keys), draw.sample(keys, 8)
            action = draw.choice(["get", "get", "get_many", "set", "set_many", "delete", "delete_many", "clear"])
            if action == "clear" and draw.random() < 0.9:
                continue
            began = time.monotonic()
            _act(action, mine[is_async], runner if is_async else None, one, some, values, is_async, least, lies, counts)
            counts["slow"] += time.monotonic() - began > 1.5
            time.sleep(0.0005)
    return {"lies": lies[:10], **counts}


def _act(
    action: str,
    cache: Any,
    runner: asyncio.Runner | None,
    one: str,
    some: list[str],
    values: Any,
    is_async: bool,
    least: dict[tuple[bool, str], int],
    lies: list[str],
    counts: dict[str, int],
) -> None:
    def call(name: str, *args: Any) -> Any:
        return getattr(cache, name)(*args) if runner is None else runner.run(getattr(cache, f"a{name}")(*args))

    def check(key: str, found: int | None) -> None:
        counts["hits" if found is not None else "misses"] += 1
        if found is not None and found < least.get((is_async, key), 0):
            lies.append(f"{action} {key}: {found} < {least[is_async, key]} at {time.monotonic():.3f}")

    if action == "get":
        check(one, call("get", one))
    elif action == "get_many":
        found = call("get_many", some)
        for key in some:
            check(key, found.get(key))
    elif action in ("set", "set_many"):
        new = {key: next(values) for key in ([one] if action == "set" else some)}
        # Once attempted, nothing older may be seen, acknowledged or not.
        least.update({(is_async, key): value for key, value in new.items()})
        done = call("set", one, new[one], 60) if action == "set" else not call("set_many", new, 60)
        counts["acknowledged" if done else "refused"] += 1
    else:
        gone = {"delete": [one], "delete_many": some, "clear": [k for a, k in least if a is is_async]}[action]
        least.update({(is_async, key): next(values) for key in gone})
        call(action, *([] if action == "clear" else [one if action == "delete" else some]))
