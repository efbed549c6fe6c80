"""Decide from failures and probes whether a node is asked: a step machine without clock or I/O.

States and what moves between them (anything else is forbidden):

    up          -- failed -->   suspect      no request waits for the node again; it is probed at once
    suspect     -- answered --> recovering
    suspect     -- silent -->   down
    down        -- answered --> recovering
    recovering  -- silent -->   down
    recovering  -- settled -->  up           enough good probes, and what the node missed has been dealt with

``failed`` changes nothing in a state other than up. A probe is a PING with a deadline: that a connection can be
made proves nothing, because the kernel of a stopped server still accepts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

__all__ = ["GOOD_PROBES", "Event", "Member", "State", "probe_delay", "step"]

#: Probes in a row that have to succeed before a node is used again.
GOOD_PROBES = 2
_FIRST_DELAY = 0.05
_LONGEST_DELAY = 0.5


class State(Enum):
    """Name what is known of a node."""

    UP = "up"
    SUSPECT = "suspect"
    DOWN = "down"
    RECOVERING = "recovering"


class Event(Enum):
    """Name what can happen to a node."""

    FAILED = "failed"
    ANSWERED = "answered"
    SILENT = "silent"
    SETTLED = "settled"


_TABLE = {
    (State.UP, Event.FAILED): State.SUSPECT,
    (State.SUSPECT, Event.FAILED): State.SUSPECT,
    (State.SUSPECT, Event.ANSWERED): State.RECOVERING,
    (State.SUSPECT, Event.SILENT): State.DOWN,
    (State.DOWN, Event.FAILED): State.DOWN,
    (State.DOWN, Event.ANSWERED): State.RECOVERING,
    (State.DOWN, Event.SILENT): State.DOWN,
    (State.RECOVERING, Event.FAILED): State.RECOVERING,
    (State.RECOVERING, Event.ANSWERED): State.RECOVERING,
    (State.RECOVERING, Event.SILENT): State.DOWN,
    (State.RECOVERING, Event.SETTLED): State.UP,
}


@dataclass(frozen=True, slots=True)
class Member:
    """Be what one process knows about one node. ``since`` is when the state began, on the caller's clock."""

    name: str
    state: State = State.UP
    since: float = 0.0
    reason: str = ""
    good_probes: int = 0
    bad_probes: int = 0

    @property
    def is_up(self) -> bool:
        """Return whether requests are sent to the node."""
        return self.state is State.UP

    @property
    def may_settle(self) -> bool:
        """Return whether enough probes in a row have succeeded."""
        return self.state is State.RECOVERING and self.good_probes >= GOOD_PROBES


def step(member: Member, event: Event, now: float, reason: str = "") -> Member:
    """Return ``member`` after ``event``.

    :raises ValueError: if the event cannot happen in this state; nothing has changed then.
    """
    state = _TABLE.get((member.state, event))
    if state is None or (event is Event.SETTLED and not member.may_settle):
        raise ValueError(f"node {member.name}: {event.value} cannot happen while {member.state.value}")
    changed = state is not member.state
    return replace(
        member,
        state=state,
        since=now if changed else member.since,
        reason=_reason(member, event, reason),
        good_probes=member.good_probes + 1 if event is Event.ANSWERED else _kept(member.good_probes, event),
        bad_probes=member.bad_probes + 1 if event is Event.SILENT else _kept(member.bad_probes, event),
    )


def _reason(member: Member, event: Event, reason: str) -> str:
    if event is Event.SETTLED:
        return ""
    return (reason or member.reason) if event is not Event.FAILED or member.is_up else member.reason


def _kept(count: int, event: Event) -> int:
    return count if event is Event.FAILED else 0


def probe_delay(member: Member, uniform: Callable[[float, float], float]) -> float:
    """Return the seconds until the next probe: doubling from 50 ms to 0.5 s while it is silent, with jitter."""
    if not member.bad_probes:
        return 0.0
    delay: float = min(_LONGEST_DELAY, _FIRST_DELAY * 2 ** (member.bad_probes - 1))
    return delay * uniform(0.8, 1.2)
