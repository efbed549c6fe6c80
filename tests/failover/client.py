"""One client process: a mix of calls on keys that all clients share, each written down."""

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from distcache_django.exceptions import LockNotOwned, QuorumNotReached, Unavailable
from tests.failover.calls import ACKNOWLEDGED, FAILED, IN_DOUBT, Call, save
from tests.failover.programs import Orders
from tests.support.waiting import Pulse

#: Keys that are written all the time; others are written once, and must last.
HOT = 24
COUNTERS = 3
LOCKS = 2
HOUR = 3600
SHORT = 1.0
#: The time in which all clients add the same key.
RACE = 0.1
LOCK_LIFE = 1.5
#: Calls that took less than this are not asked what kept them.
SWIFT = 0.1
#: How often each kind of call is made.
WEIGHTS = {
    "get_hot": 28,
    "set_hot": 16,
    "delete_hot": 5,
    "set_once": 8,
    "get_once": 12,
    "delete_once": 3,
    "set_short": 2,
    "get_short": 4,
    "incr": 14,
    "get_counter": 3,
    "add": 7,
    "get_added": 3,
    "hold": 4,
}


class Client:
    """Make calls and write them down."""

    def __init__(self, cache: Any, number: int, seed: int, weights: Mapping[str, int]) -> None:
        self._cache = cache
        self._number = number
        self._weights = {**WEIGHTS, **weights}
        self._random = Random(seed * 1000 + number)
        self._calls: list[Call] = []
        self._values = 0
        self._once = 0
        self._owners: dict[str, str] = {}
        self._pulse = Pulse()

    def begin(self) -> None:
        """Set the counters, once for all clients."""
        for number in range(COUNTERS):
            self._cache.set(f"counter-{number}", 0, HOUR)

    def work(self, orders: Orders, rest: float) -> None:
        """Make calls until told to stop."""
        kinds, weights = [*self._weights], [*self._weights.values()]
        with self._pulse:
            while not orders.is_given("stop"):
                (kind,) = self._random.choices(kinds, weights)
                getattr(self, kind)()
                time.sleep(rest)
            time.sleep(2 * Pulse.BEAT)

    def audit(self) -> None:
        """Read every key that this client wrote, and all counters."""
        for key in dict.fromkeys(call.key for call in self._calls if call.kind in {"set", "delete", "add"}):
            self._get(key)
        for number in range(COUNTERS):
            self._get(f"counter-{number}")

    def save(self, path: Path) -> None:
        """Write down all calls."""
        save(path, map(self._with_lost, self._calls))

    def _with_lost(self, call: Call) -> Call:
        if call.ended - call.began < SWIFT and call.is_acknowledged:
            return call
        return call._replace(lost=round(self._pulse.lost(call.began, call.ended), 4))

    # ------------------------------------------------------------------ calls

    def _call(self, kind: str, key: str, do: Callable[[], Any], value: Any = None, ttl: float | None = None) -> Call:
        owners = self._owners.get(key)
        if owners is None:
            owners = self._owners[key] = " ".join(self._cache.locate(key).owners)
        began = time.monotonic()
        try:
            outcome = do()
            state = ACKNOWLEDGED
        except QuorumNotReached as error:
            state, outcome = FAILED, str(error)
        except Unavailable as error:
            state, outcome = IN_DOUBT, str(error)
        except (ValueError, LockNotOwned) as error:  # the answer is that there is none
            state, outcome = ACKNOWLEDGED, type(error).__name__
        call = Call(self._number, kind, key, value, ttl, began, time.monotonic(), state, outcome, owners)
        self._calls.append(call)
        return call

    def _value(self) -> str:
        self._values += 1
        return f"{self._number}:{self._values}"

    def _get(self, key: str) -> None:
        self._call("get", key, lambda: self._cache.get(key))

    def _set(self, key: str, ttl: float | None = None) -> None:
        value = self._value()
        self._call("set", key, lambda: self._cache.set(key, value, ttl or HOUR), value, ttl)

    def _delete(self, key: str) -> None:
        self._call("delete", key, lambda: self._cache.delete(key))

    def _hot(self) -> str:
        return f"hot-{self._random.randrange(HOT)}"

    def get_hot(self) -> None:
        self._get(self._hot())

    def set_hot(self) -> None:
        self._set(self._hot())

    def delete_hot(self) -> None:
        self._delete(self._hot())

    def _some_once(self) -> str:
        return f"once-{self._random.randrange(3)}-{self._random.randrange(self._once + 1)}"

    def set_once(self) -> None:
        self._once += 1
        self._set(f"once-{self._number}-{self._once}")

    def get_once(self) -> None:
        self._get(self._some_once())

    def delete_once(self) -> None:
        self._delete(self._some_once())

    def set_short(self) -> None:
        self._set(f"short-{self._random.randrange(HOT)}", SHORT)

    def get_short(self) -> None:
        self._get(f"short-{self._random.randrange(HOT)}")

    def incr(self) -> None:
        key, delta = f"counter-{self._random.randrange(COUNTERS)}", self._random.choice((1, 1, 2, 5))
        self._call("incr", key, lambda: self._cache.incr(key, delta), delta)

    def get_counter(self) -> None:
        self._get(f"counter-{self._random.randrange(COUNTERS)}")

    def _race(self) -> int:
        return int(time.monotonic() / RACE)

    def add(self) -> None:
        key, value = f"race-{self._race()}", self._value()
        self._call("add", key, lambda: self._cache.add(key, value, HOUR), value)

    def get_added(self) -> None:
        self._get(f"race-{self._race() - self._random.randrange(20)}")

    def hold(self) -> None:
        """Take a lock, hold it for a while, and mostly release it; the rest expire."""
        key = f"lock-{self._random.randrange(LOCKS)}"
        lock = self._cache.lock(key, timeout=LOCK_LIFE, blocking=False)
        if (
            not self._call("lock", key, lambda: lock.acquire() and lock.token, None, LOCK_LIFE).outcome
            or not lock.token
        ):
            return
        threading.Event().wait(self._random.choice((0.0, 0.002, 0.02)))
        if self._random.random() < 0.95:
            self._call("release", key, lock.release, lock.token)
