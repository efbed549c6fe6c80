"""Locks: several threads take, extend and release them; never two hold one, and tokens grow."""

from collections.abc import Callable
from math import inf
from typing import Any, ClassVar, NamedTuple

from distcache_django.core import requests as r
from distcache_django.core.effects import Op
from tests.replication.ledger import DOUBTFUL, Call, Ledger
from tests.replication.process import Thread
from tests.replication.workloads import Workload
from tests.replication.world import DRIFT, Broken, Steps, World


class Held(NamedTuple):
    """Be a time during which a thread believed that it held a lock."""

    began: float
    ended: float
    token: int
    by: str


class Locks(Workload):
    """Take, extend and release one lock."""

    calls: ClassVar[dict[str, float]] = {"take": 1.0}

    def __init__(self, world: World, ledger: Ledger) -> None:
        super().__init__(world, ledger)
        self.keys = ["k"]
        self.held: list[Held] = []
        self.lives = world.random.choice(((1.0, 5.0), (0.6, 0.9), (0.7, 30.0)))
        self.patience = world.random.choice((0.01, 0.2, 1.0))

    def take(self, thread: Thread) -> Steps:
        """Take the lock, keep it for a while, extended or not, and release it or not."""
        world, random = self.world, self.world.random
        nonce, life = random.randbytes(4).hex().encode(), self.life()
        assert life is not None
        sent = world.now
        acquire = r.Acquire("k", nonce, round(life * 1000))
        call: Call = yield from self.ledger.call(thread, "lock", "k", _asked(thread, acquire), nonce, life)
        if not call.is_acknowledged or call.outcome is None:
            return
        began, ends = call.ended, sent + life - DRIFT
        if random.random() < 0.6:
            yield random.random() * self.patience
        if random.random() < 0.3 and world.now < ends:
            ends = yield from self.extend(thread, nonce, life, ends)
        does_release = random.random() < 0.7
        ended = min(ends, world.now) if does_release else ends
        if began < ended:  # who hears too late that it has the lock does not hold it
            self.held.append(Held(began, ended, call.outcome, call.by))
        if does_release:
            yield from self.ledger.call(thread, "release", "k", _asked(thread, r.Release("k", nonce)), nonce)

    def extend(self, thread: Thread, nonce: bytes, life: float, ends: float) -> Steps:
        """Extend the lock; return when it ends then."""
        sent = self.world.now
        request = r.Prolong("k", nonce, round(life * 1000), add=False)
        more: Call = yield from self.ledger.call(thread, "extend", "k", _asked(thread, request), nonce, life)
        if more.is_acknowledged:
            ends = sent + life - DRIFT if more.outcome else min(ends, sent)
        if self.world.random.random() < 0.5:
            yield self.world.random.random() * self.patience
        return ends

    def finish(self, thread: Thread) -> Steps:
        """Have all be able to ask who holds the lock."""
        call = yield from self.ledger.call(thread, "holder", "k", _asked(thread, r.Fetch("k")))
        return call.state != DOUBTFUL

    def check(self) -> None:
        """Raise ``Broken`` for two holders at one time, and for a token that did not grow."""
        amnesties = [-inf, *self.ledger.amnesties]
        held = sorted(self.held)
        for index, one in enumerate(held):
            for other in held[index + 1 :]:
                if any(one.began < moment < other.began for moment in amnesties):
                    continue
                if other.began < one.ended:
                    raise Broken(f"two holders: {one} and {other}")
                if other.token <= one.token:
                    raise Broken(f"token: {other} does not have a larger one than {one}")


def _asked(thread: Thread, request: r.Request) -> Callable[[], Op[Any]]:
    return lambda: thread.cache.ask_owner("k", request)
