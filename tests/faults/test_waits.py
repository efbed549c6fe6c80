"""Who waits for a node that does not answer: at most one call of each thread, and no call that starts later."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.faults.ground import (
    SILENT,
    VICTIM,
    WAITED,
    Ground,
    Waits,
    cluster_of,
    is_up,
    keys_at,
    one_key_per_node,
    setting,
    wait_until_up,
)
from tests.faults.programs import run_together
from tests.support.waiting import Pulse, wait_until

pytestmark = pytest.mark.servers

THREADS = 8
REST = 0.002
ROOT = Path(__file__).resolve().parents[2]


class Reader(threading.Thread):
    """Read keys of all nodes until told to stop, and keep when each call began and ended.

    It rests between rounds: threads that never do keep each other from the interpreter for longer than a call
    may wait, and the clock then says nothing about the cache.
    """

    def __init__(self, ground: Ground, keys: list[str], stop: threading.Event) -> None:
        super().__init__()
        self._ground, self._keys, self._stop_now = ground, keys, stop
        self.calls: list[tuple[float, float]] = []
        self.errors: list[BaseException] = []

    def run(self) -> None:
        cache = self._ground.cache()
        try:
            while not self._stop_now.is_set():
                for key in self._keys:
                    began = time.monotonic()
                    cache.get(key)
                    self.calls.append((began, time.monotonic()))
                time.sleep(REST)
        except BaseException as error:  # noqa: BLE001 - shown by the test
            self.errors.append(error)


@pytest.mark.parametrize("fault", SILENT)
def test_each_thread_waits_once_and_no_later_call_waits(sync_ground: Ground, fault: str) -> None:
    sync_ground.prepare(fault)
    cache = sync_ground.cache()
    keys = [*one_key_per_node(cache).values(), *keys_at(cache, 3)]
    cache.set_many(dict.fromkeys(keys, 1))
    stop = threading.Event()
    readers = [Reader(sync_ground, keys, stop) for _ in range(THREADS)]
    for reader in readers:
        reader.start()
    wait_until(lambda: all(len(reader.calls) > 50 for reader in readers))

    sync_ground.begin(fault)
    try:
        wait_until(lambda: not is_up(cache))
        noted = time.monotonic()
        # Long enough for more probes to fail, and for calls that wait to have ended.
        wait_until(lambda: time.monotonic() > noted + 2.5)
        assert not is_up(cache)
    finally:
        stop.set()
        for reader in readers:
            reader.join()

    for reader in readers:
        assert reader.errors == []
        waited = [(began, ended) for began, ended in reader.calls if ended - began >= WAITED]
        assert len(waited) <= 1
        assert all(began < noted for began, _ in waited)
        assert len([began for began, _ in reader.calls if began > noted]) > 100


def test_threads_find_the_node_again(sync_ground: Ground, caplog: pytest.LogCaptureFixture) -> None:
    cache = sync_ground.cache()
    keys = keys_at(cache, 4)
    cache.set_many(dict.fromkeys(keys, 1))
    stop = threading.Event()
    readers = [Reader(sync_ground, keys, stop) for _ in range(THREADS)]
    for reader in readers:
        reader.start()
    try:
        with Pulse() as pulse:
            for _ in range(2):
                wait_until(lambda: all(len(reader.calls) > 50 for reader in readers))
                sync_ground.begin("kill")
                wait_until(lambda: not is_up(cache))
                sync_ground.end("kill")
                wait_until_up(cache)
                cache.set_many(dict.fromkeys(keys, 1))
                assert cache.get_many(keys) == dict.fromkeys(keys, 1)
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert [reader.errors for reader in readers] == [[]] * THREADS
    # By its reason and not by the clock: eight busy threads and a starting server keep each other waiting too.
    suspicions = [record.getMessage() for record in caplog.records if " is suspect" in record.getMessage()]
    assert suspicions
    assert not any("no answer" in suspicion for suspicion in suspicions)
    # And by the clock within the promise: at most one wait a thread in each of the two outages, not counting
    # the time in which the machine gave this process nothing.
    for reader in readers:
        waits = [(began, ended) for began, ended in reader.calls if ended - began - pulse.lost(began, ended) >= WAITED]
        assert len(waits) <= 2


def test_blame_stays_with_the_node_that_hangs(ground: Ground) -> None:
    cache = ground.cache({"DEADLINE": 0.5})
    mine = one_key_per_node(cache)
    cache.set_many(dict.fromkeys(mine.values(), 1))
    ground.begin("stop")

    cache.get_many(mine.values())
    cache.set_many(dict.fromkeys(mine.values(), 2))
    cache.clear()

    ups = {name for name, member in cluster_of(cache).members().items() if member.is_up}
    assert ups == set(mine) - {VICTIM}


def test_slow_loader_does_not_count_against_the_nodes(ground: Ground) -> None:
    """The user's own time is no part of an operation's deadline."""
    cache = ground.cache({"DEADLINE": 0.3})

    def load() -> str:
        time.sleep(0.4)
        return "loaded"

    assert cache.get_or_set("page", load, 60) == "loaded"

    assert cache.get("page") == "loaded"
    assert cluster_of(cache).counts() == {}
    assert all(member.is_up for member in cluster_of(cache).members().values())


def test_wait_for_a_lock_may_be_longer_than_a_deadline(ground: Ground) -> None:
    cache = ground.cache({"DEADLINE": 0.3})
    holder = cache.lock("job", timeout=0.9)
    assert holder.acquire()

    assert cache.lock("job", timeout=60, sleep=0.05).acquire(blocking_timeout=5) is True
    assert all(member.is_up for member in cluster_of(cache).members().values())


@pytest.mark.parametrize("is_batch", [False, True])
def test_link_that_breaks_late_does_not_double_the_wait(ground: Ground, is_batch: bool) -> None:
    gate = ground.behind_gate()
    cache = ground.cache()
    mine = one_key_per_node(cache)
    cache.set_many(dict.fromkeys(mine.values(), 1))
    cache.get(mine[VICTIM])
    gate.hold = lambda words: 0.0 if words[0] == b"PING" else 0.8
    gate.drop = lambda words: words[0] != b"PING"

    waits = Waits()
    with waits.call():
        if is_batch:
            assert cache.get_many(mine.values()).keys() == set(mine.values()) - {mine[VICTIM]}
        else:
            assert cache.get(mine[VICTIM]) is None

    assert waits.lengths[0] < 1.4


SIGNALLED = """
import json, os, signal, sys, time
import django
from django.conf import settings
settings.configure(SECRET_KEY="x", CACHES={"default": json.loads(sys.argv[1])})
django.setup()
from django.core.cache import cache
keys = json.loads(sys.argv[2])
assert cache.get_many(keys) != None
cache.get(keys[0])
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
print("ready", flush=True)
sys.stdin.readline()
began = time.monotonic()
answer = cache.get(keys[0], "missed")
took = time.monotonic() - began
signal.setitimer(signal.ITIMER_REAL, 0)
print(json.dumps([answer, took]), flush=True)
"""


def test_signals_do_not_prolong_the_wait(sync_ground: Ground) -> None:
    """A profiler's or watchdog's timer interrupts system calls; the deadline must not begin anew each time."""
    cache = sync_ground.cache()
    keys = keys_at(cache, 1)
    child = subprocess.Popen(
        [sys.executable, "-c", SIGNALLED, json.dumps(setting(sync_ground.urls)), json.dumps(keys)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "ready\n"
        sync_ground.begin("stop")
        out, _ = child.communicate("go\n", timeout=6)
    except subprocess.TimeoutExpired:
        pytest.fail("a call waits for ever while a timer interrupts it")
    finally:
        sync_ground.end("stop")
        child.send_signal(signal.SIGKILL)
        child.communicate()
    answer, took = json.loads(out)
    assert answer == "missed"
    assert took < 2


def test_several_processes_each_find_out_alone(sync_ground: Ground) -> None:
    cache = sync_ground.cache()
    keys: list[str] = [key for node in cluster_of(cache).endpoints for key in keys_at(cache, 3, node=node)]
    cache.set_many(dict.fromkeys(keys, 1))

    answers: list[dict[str, Any]] = run_together(
        "read_through_outage", setting(sync_ground.urls), processes=3, keys=keys, meanwhile=sync_ground.victim.pause
    )

    for answer in answers:
        assert answer["waited"] <= 1
        assert answer["later"] > 20
