"""Short stories in a fixed order, for real nodes: each is stale as soon as the rule that it is about is broken.

What the simulation finds by chance in memory is told here step by step to the servers' own scripts. A story returns
the value that was read last; its last line says which one is right.
"""

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from distcache_django.cluster import Cluster
from distcache_django.core import requests as r
from distcache_django.core.effects import Ask
from distcache_django.core.freshness import BYPASS, HIT, LOAD, RECORD_PREFIX, Lease, Versions
from distcache_django.testing.node import LocalNode
from distcache_django.transport.commands import Wire
from tests.support.waiting import wait_until

NODE = "cache-a"
KEY, RECORD = "answer", f"{RECORD_PREFIX}row"
MINE, HIS = b"my-token", b"histoken"
HOUR = 3_600_000

Wires = Mapping[type[r.Request], Wire]


class Process:
    """Be one process: its links, its view of the node, its knowledge of incarnations."""

    def __init__(self, url: str, wires: Wires, mark_ms: int) -> None:
        self.cluster = Cluster({NODE: url}, deadline=1.0, connect_timeout=1.0)
        endpoint = self.cluster.endpoints[NODE]
        endpoint.greets = True
        endpoint.wires = wires
        self.versions = Versions(
            lambda _: NODE,
            lambda _: endpoint.generation,
            clock=time.monotonic,
            wall=time.time,
            random=os.urandom,
            mark_ms=mark_ms,
        )

    def send(self, request: r.Request) -> Any:
        def op() -> Any:
            return (yield Ask(NODE, request))

        return self.cluster.run(op())

    def begin(self) -> Any:
        lease = Lease(f"{KEY}:lease", os.urandom(8), 3000)
        return self.cluster.run(self.versions.begin(self.versions.look(KEY, [RECORD]), lambda: lease)), lease

    def mark(self, token: bytes) -> dict[str, Any]:
        return self.cluster.run(self.versions.mark([RECORD], token))

    def bump(self, token: bytes = b"") -> None:
        self.cluster.run(self.versions.bump([RECORD], token))

    def unmark(self, token: bytes) -> None:
        self.cluster.run(self.versions.unmark([RECORD], token))


class Stage:
    """Be one node, its processes and a database of one number."""

    def __init__(self, node: LocalNode, wires: Wires, mark_ms: int) -> None:
        self.node = node
        self.wires = wires
        self.mark_ms = mark_ms
        self.value = 1
        self.made: list[Process] = []
        self.one = self.process()
        self.pass_quarantine(self.one)

    def process(self) -> Process:
        self.made.append(Process(self.node.url, self.wires, self.mark_ms))
        return self.made[-1]

    def close(self) -> None:
        for process in self.made:
            process.cluster.close()

    def read(self, process: Process | None = None) -> int:
        """Read as a site does: the hit, or what is loaded, which is then stored."""
        process = process or self.one
        begun, lease = process.begin()
        if begun.state is HIT:
            return int(begun.payload)
        if begun.state is LOAD:
            payload = b"%d" % self.value
            process.cluster.run(process.versions.fill(KEY, payload, begun.versions, HOUR, lease))
        return self.value

    def pass_quarantine(self, process: Process) -> None:
        """Let a process wait until the node has a vote for it."""

        def has_vote() -> bool:
            begun, lease = process.begin()
            if begun.state is LOAD:
                process.cluster.run(process.versions.fill(KEY, None, b"", 0, lease))
            return begun.state is not BYPASS

        wait_until(has_vote, what="the node has a vote")

    def await_mark_end(self) -> None:
        time.sleep(self.mark_ms / 1000 + 0.02)

    def restart(self) -> None:
        """Kill the node and start it with the data that was saved last."""
        self.node.kill()
        self.node.start()
        for process in self.made:
            wait_until(partial(is_usable, process), what="the node is used again")


def is_usable(process: Process) -> bool:
    """Return whether a process uses the node, having noticed by a request that it was restarted."""
    process.begin()
    return NODE not in process.cluster.board.down


Story = Callable[[Stage], int]
STORIES: dict[str, Story] = {}


def story(function: Story) -> Story:
    STORIES[function.__name__] = function
    return function


@story
def between_commit_and_bump(stage):
    stage.read()
    stage.one.mark(MINE)
    stage.value = 2
    return stage.read(stage.process())


@story
def after_the_bump(stage):
    stage.read()
    stage.one.mark(MINE)
    stage.value = 2
    stage.one.bump(MINE)
    return stage.read()


@story
def two_writers_one_bumps(stage):
    stage.read()
    two = stage.process()
    stage.one.mark(MINE)
    two.mark(HIS)
    stage.value = 2
    stage.one.bump(MINE)
    stage.read()
    stage.value = 3
    return stage.read()


@story
def two_writers_one_rolls_back(stage):
    stage.read()
    two = stage.process()
    stage.one.mark(MINE)
    two.mark(HIS)
    two.unmark(HIS)
    stage.value = 2
    return stage.read()


@story
def writer_dies_after_commit(stage):
    stage.read()
    stage.one.mark(MINE)
    stage.value = 2
    stage.await_mark_end()
    stage.read()
    return stage.read()


@story
def writer_dies_before_commit_and_another_sweeps(stage):
    stage.read()
    stage.one.mark(MINE)
    stage.value = 2
    stage.await_mark_end()
    stage.one.send(r.Mark(["elsewhere"], HOUR, HIS, 1000))
    return stage.read()


@story
def record_evicted_and_bumped(stage):
    """The record goes with the bump; whoever mints it next must not meet the version of the stored answer."""
    stage.read()
    stage.one.send(r.Remove([RECORD]))
    stage.one.mark(MINE)
    stage.value = 2
    stage.one.bump(MINE)
    stage.read()
    return stage.read()


@story
def record_gone_before_and_after(stage):
    stage.one.send(r.Remove([RECORD]))
    stage.read()
    stage.one.mark(MINE)
    stage.value = 2
    stage.one.bump(MINE)
    stage.one.send(r.Remove([RECORD]))
    return stage.read()


@story
def read_while_a_writer_is_slow(stage):
    stage.one.mark(MINE)
    time.sleep(0.02)
    stage.read()
    stage.value = 2
    return stage.read()


@story
def count_lost(stage):
    stage.read()
    stage.one.send(r.Remove(["dc:count"]))
    stage.one.mark(MINE)
    stage.value = 2
    stage.one.bump(MINE)
    stage.pass_quarantine(stage.one)
    return stage.read()


@story
def fence_lost_and_a_bump_without_a_mark(stage):
    two = stage.process()
    stage.pass_quarantine(two)
    stage.read(two)
    stage.one.send(r.Remove(["dc:node"]))
    stage.value = 2
    stage.one.bump()
    return stage.read(two)


@story
def old_data_comes_back(stage):
    stage.read()
    stage.one.send(Save())
    stage.one.mark(MINE)
    stage.value = 2
    stage.one.bump(MINE)
    stage.restart()
    return stage.read()


@story
def old_data_comes_back_and_time_passes(stage):
    stage.read()
    stage.one.send(Save())
    stage.one.mark(MINE)
    stage.value = 2
    stage.one.bump(MINE)
    stage.restart()
    stage.pass_quarantine(stage.one)
    return stage.read()


@story
def mark_lost_in_a_flush(stage):
    stage.read()
    stage.one.mark(MINE)
    stage.node.flush()
    two = stage.process()
    stage.read(two)
    stage.read(two)
    stage.value = 2
    return stage.read(two)


@story
def loaded_before_the_commit_stored_after_the_bump(stage):
    begun, lease = stage.one.begin()
    stage.one.mark(MINE)
    stage.value = 2
    stage.one.bump(MINE)
    stage.one.cluster.run(stage.one.versions.fill(KEY, b"1", begun.versions, HOUR, lease))
    return stage.read()


class Save(r.Request):
    """Have the node write its data to disk."""

    __slots__ = ()
