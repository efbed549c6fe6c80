"""What was called and what came back: the part of a history that promises are about.

A call that raised ``QuorumNotReached`` or ``InDoubt``, or whose process died, may have happened, or may happen at any
later time, at most once. Clocks may differ, so what ends does so somewhere in ``EDGE`` seconds around its time.
"""

from collections.abc import Callable, Iterator
from math import inf
from typing import Any, NamedTuple

from distcache_django.core.effects import Op
from distcache_django.exceptions import NotAnInteger, Unavailable
from tests.replication.process import Thread
from tests.replication.world import DRIFT, START, Steps, World

EDGE = 2 * DRIFT

ACKNOWLEDGED, DOUBTFUL, OPEN = "acknowledged", "doubtful", "open"


class Call:
    """Be one call: by whom, of what, when, and how it ended."""

    __slots__ = ("began", "by", "ended", "key", "operation", "outcome", "state", "ttl", "value")

    def __init__(self, by: str, operation: str, key: str, value: Any, ttl: float | None, began: float) -> None:
        self.by = by
        self.operation = operation
        self.key = key
        self.value = value
        self.ttl = ttl
        self.began = began
        self.ended = inf
        self.state = OPEN
        self.outcome: Any = None

    def __repr__(self) -> str:
        ended = f"{self.ended - START:.4f}" if self.ended < inf else "-"
        given = "" if self.value is None else f" {self.value}"
        ttl = "" if self.ttl is None else f" for {self.ttl} s"
        began = f"{self.began - START:.4f}"
        return f"[{began} to {ended} {self.by} {self.operation} {self.key}{given}{ttl}: {self.state} {self.outcome}]"

    @property
    def is_acknowledged(self) -> bool:
        return self.state == ACKNOWLEDGED

    @property
    def acknowledged_at(self) -> float:
        """Return when it was certain to have happened: never, for one in doubt."""
        return self.ended if self.state == ACKNOWLEDGED else inf


class Ledger:
    """Write down calls."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.calls: list[Call] = []
        #: Times at which all memory was lost: nothing that was called before is promised after.
        self.amnesties: list[float] = []
        #: Whether nodes evict what they are to keep.
        self.is_evicting = False

    def open(self, thread: Thread, operation: str, key: str, value: Any = None, ttl: float | None = None) -> Call:
        """Write down that a call begins."""
        call = Call(thread.process.name, operation, key, value, ttl, self.world.now)
        self.calls.append(call)
        self.world.note(thread.process.name, operation, key, "" if value is None else value, "" if ttl is None else ttl)
        return call

    def close(self, call: Call, state: str, outcome: Any = None) -> None:
        """Write down how a call ended."""
        call.ended, call.state, call.outcome = self.world.now, state, outcome
        self.world.note(call)

    def call(
        self,
        thread: Thread,
        operation: str,
        key: str,
        op: Callable[[], Op[Any]],
        value: Any = None,
        ttl: float | None = None,
    ) -> Steps:
        """Make a call and write it down; return it."""
        call = self.open(thread, operation, key, value, ttl)
        try:
            outcome = yield from thread.process.run(op())
        except (Unavailable, NotAnInteger) as error:
            self.close(call, DOUBTFUL, type(error).__name__)
        else:
            self.close(call, ACKNOWLEDGED, outcome)
        return call

    def by_key(self) -> Iterator[tuple[str, list[Call]]]:
        """Return the calls of each key, in the order of their beginnings."""
        keys = dict.fromkeys(call.key for call in self.calls)
        for key in keys:
            yield key, [call for call in self.calls if call.key == key]

    def forgive(self) -> None:
        """Take what was called before all memory was lost for doubtful."""
        for moment in self.amnesties:
            for call in self.calls:
                if call.began < moment and call.is_acknowledged and not is_read(call):
                    call.state = DOUBTFUL


def is_read(call: Call) -> bool:
    return call.operation in {"get", "exists"}


class Span(NamedTuple):
    """Be when a value may have ended, at the earliest and at the latest."""

    earliest: float
    latest: float
