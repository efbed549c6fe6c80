"""Counting: incr and decr by several threads, mixed with set, and what must come of it.

The values that are set are ``BASE`` apart, more than all increments together, so a value says what was set last. An
increment counts under what it found: if it began after a set was acknowledged, and was acknowledged before a read of
that set's value began, it is in; if it ended before that set began, it is not.
"""

from typing import ClassVar

from distcache_django.core import requests as r
from tests.replication.ledger import Call, Ledger
from tests.replication.process import Thread
from tests.replication.workloads import Workload
from tests.replication.world import Broken, Steps, World

BASE = 1_000_000


class Counters(Workload):
    """Count."""

    calls: ClassVar[dict[str, float]] = {"get": 3.0, "incr": 10.0}

    def __init__(self, world: World, ledger: Ledger) -> None:
        super().__init__(world, ledger)
        self.keys = ["k"]
        self.most = 9
        self.sets = world.random.choice((0.0, 0.3, 1.0))
        self.weights["set"] = self.sets
        if world.random.random() < 0.4:
            self.weights["fold"] = world.random.choice((0.5, 2.0))
        self.begun: set[str] = set()

    def value(self) -> int:
        self._values += 1
        return BASE * self._values

    def step(self, thread: Thread) -> Steps:
        """Make one call; the first of all sets the counter."""
        if not self.begun:
            self.begun.add("k")
            return self.set(thread)
        return super().step(thread)

    def incr(self, thread: Thread) -> Steps:
        delta = self.world.random.choice((1, 1, 1, 2, 5, -1, -3))
        yield from self.ledger.call(
            thread, "incr", "k", lambda: thread.cache.ask_owner("k", r.Increase("k", delta)), delta
        )

    def fold(self, thread: Thread) -> Steps:
        call: Call = yield from self.ledger.call(
            thread, "fold", "k", lambda: thread.process.agreement.fold("incr", "k")
        )
        call.outcome = None

    def check(self) -> None:
        self.ledger.forgive()
        for _, calls in self.ledger.by_key():
            Count(calls, self.ledger).check()


class Folds(Counters):
    """Count, and fold all the time."""

    def __init__(self, world: World, ledger: Ledger) -> None:
        super().__init__(world, ledger)
        self.weights = {"get": 1.0, "incr": 6.0, "fold": 4.0, "set": world.random.choice((0.0, 0.5))}


class Count:
    """Judge the calls on one counter."""

    def __init__(self, calls: list[Call], ledger: Ledger) -> None:
        self.sets = [call for call in calls if call.operation == "set"]
        self.raises = [call for call in calls if call.operation == "incr" and not (_did_nothing(call))]
        self.reads = [call for call in calls if call.operation == "get" and call.is_acknowledged]
        # The first owner's value is what is returned, and nobody knows that it has just evicted what it had.
        answers = () if ledger.is_evicting else calls
        self.answers = [call for call in answers if call.operation == "incr" and call.is_acknowledged]

    def check(self) -> None:
        """Raise ``Broken`` for the first value that cannot be."""
        for read in self.reads:
            self._judge(read, None if read.outcome is None else int(read.outcome), ())
        for call in self.answers:
            self._judge(call, call.outcome, (call,))

    def _judge(self, call: Call, value: int | None, own: tuple[Call, ...]) -> None:
        if value is None:
            if any(s.acknowledged_at < call.began for s in self.sets):
                raise Broken(f"lost: {call} found no counter")
            return
        number = round(value / BASE)
        base = next((s for s in self.sets if s.value == number * BASE), None)
        if base is None or base.began > call.ended:
            raise Broken(f"made up: {call}")
        newer = next((s for s in self.sets if base.ended < s.began and s.acknowledged_at < call.began), None)
        if newer is not None and base.is_acknowledged:
            raise Broken(f"older: {call} is based on {base}, but there was {newer}")
        low, high = self._bounds(call, base, own)
        if not low <= value - base.value <= high:
            raise Broken(f"miscounted: {call}: between {low} and {high} should have been added to {base}")

    def _bounds(self, call: Call, base: Call, own: tuple[Call, ...]) -> tuple[int, int]:
        """Return the least and the most that can have been added to a base when a call ended."""
        low = high = 0
        for other in self.raises:
            if other.began > call.ended or (other.is_acknowledged and other.ended < base.began):
                continue
            # Acknowledged under this base, or under another that had come meanwhile.
            is_in = other in own or (base.acknowledged_at < other.began and other.acknowledged_at < call.began)
            delta = other.value
            low += delta if is_in else min(delta, 0)
            high += delta if is_in else max(delta, 0)
        return low, high


def _did_nothing(call: Call) -> bool:
    return call.is_acknowledged and call.outcome is None
