"""The judge of real runs finds what is wrong in a history, and nothing in one that is right."""

from typing import Any

import pytest

from tests.failover.calls import ACKNOWLEDGED, FAILED, IN_DOUBT, Call, Fault
from tests.failover.judge import judge
from tests.failover.liveness import first_answers, summarise, unexpected
from tests.failover.report import write

KEYS = {"get": "hot-1", "set": "hot-1", "delete": "hot-1", "add": "race-1", "incr": "counter-1"}


def call(kind: str, began: float, ended: float, **more: Any) -> Call:
    key = more.pop("key", KEYS.get(kind, "lock-1"))
    fields = {"by": 0, "value": None, "ttl": None, "state": ACKNOWLEDGED, "outcome": None, "owners": "a b c", **more}
    return Call(kind=kind, key=key, began=began, ended=ended, **fields)


def promises(*calls: Call) -> set[str]:
    return {violation.promise for violation in judge(sorted(calls, key=lambda c: c.began))}


ONE, TWO = call("set", 1, 2, value="one"), call("set", 3, 4, value="two")
LOCK = call("lock", 1, 1.1, ttl=1.5, outcome=7)


def read(value: Any, began: float = 5.0, ended: float = 6.0, key: str = "hot-1") -> Call:
    return call("get", began, ended, outcome=value, key=key)


@pytest.mark.parametrize(
    "calls",
    [
        (ONE, TWO, read("two")),
        (ONE, TWO, read("one", 2.5, 3.5)),
        (ONE, call("set", 1, 2, value="two"), read("one"), read("one", 7, 8)),
        (ONE, call("set", 3, 4, value="two", state=IN_DOUBT), read("one"), read("two", 7, 8)),
        (ONE, call("delete", 3, 4), read(None)),
        (ONE, call("delete", 3, 4, state=IN_DOUBT), read("one"), read(None, 7, 8)),
        (call("set", 1, 2, value="one", ttl=1.0), read(None)),
        (ONE, call("set", 3, 4, value="two", state=FAILED), read("one")),
        (call("incr", 1, 2, value=2, outcome=2), call("incr", 3, 4, value=3, state=IN_DOUBT), read(2, key="counter-1")),
        (call("incr", 1, 2, value=2, outcome=2), call("incr", 3, 4, value=3, state=IN_DOUBT), read(5, key="counter-1")),
        (call("add", 1, 2, value="one", outcome=True), call("add", 1, 3, value="two", outcome=False)),
        (LOCK, call("release", 1.2, 1.3, value=7), call("lock", 1.25, 1.3, ttl=1.5, outcome=8, by=1)),
        (LOCK, call("lock", 2.3, 2.4, ttl=1.5, outcome=8, by=1)),
    ],
)
def test_right_histories_pass(calls: tuple[Call, ...]) -> None:
    assert promises(*calls) == set()


@pytest.mark.parametrize(
    ("promise", "calls"),
    [
        ("lost", (ONE, read(None))),
        ("lost", (call("delete", 0, 0.5), ONE, read(None))),
        ("older", (ONE, TWO, read("one"))),
        ("older", (ONE, call("delete", 3, 4), read("one"))),
        ("older", (ONE, call("set", 1, 4, value="two"), read("two", 2.1, 2.2), read("one"))),
        ("older", (ONE._replace(state=IN_DOUBT), read("one", 2, 2.1), TWO, read("one"))),
        ("undead", (call("set", 1, 2, value="one", ttl=1.0), read("one"))),
        ("made up", (ONE, read("three"))),
        ("refused", (ONE, call("set", 3, 4, value="two", state=FAILED), read("two"))),
        ("two winners", (call("add", 1, 2, value="one", outcome=True), call("add", 1, 3, value="two", outcome=True))),
        ("no winner", (call("add", 1, 2, value="one", outcome=False),)),
        ("two values", (call("add", 1, 2, value="one", outcome=True), read("two", key="race-1"))),
        ("miscounted", (call("incr", 1, 2, value=2, outcome=2), read(1, key="counter-1"))),
        ("miscounted", (call("incr", 1, 2, value=2, outcome=2), read(4, key="counter-1"))),
        ("miscounted", (call("incr", 1, 2, value=2, state=FAILED), read(2, key="counter-1"))),
        ("counter lost", (call("incr", 1, 2, value=2, outcome="ValueError"),)),
        ("two holders", (LOCK, call("lock", 1.3, 1.4, ttl=1.5, outcome=8, by=1))),
        ("token", (LOCK, call("lock", 2.3, 2.4, ttl=1.5, outcome=7, by=1))),
        ("lock lost", (LOCK, call("release", 1.2, 1.3, value=7, outcome="LockNotOwned"))),
    ],
)
def test_broken_promises_are_found(promise: str, calls: tuple[Call, ...]) -> None:
    assert promise in promises(*calls)


def test_failures_are_excused_only_by_a_busy_machine_or_by_another_client() -> None:
    failed = call("set", 1, 2, value="one", state=FAILED)
    attempt = call("add", 1, 2, value="one", state=IN_DOUBT)
    rival = call("add", 1.5, 3, value="two", outcome=True, by=1)

    assert unexpected([failed]) == [failed]
    assert unexpected([failed._replace(lost=0.2)]) == []
    assert unexpected([attempt]) == [attempt]
    assert unexpected([attempt, rival]) == []


def test_the_report_says_what_was_measured() -> None:
    fault = Fault("kill_empty", "a", 1.0, 2.0, 3.5)
    calls = [ONE._replace(began=1.1, ended=1.2), call("get", 5, 6, state=FAILED, outcome="no vote")]

    assert list(first_answers(calls, [fault])) == [pytest.approx(0.1)]
    text = write([summarise(1, "valkey", calls, [fault], judge(calls))])

    assert "| kill_empty | 1 | 1.50 s | 1.50 s |" in text
    assert "| get | 1 | 1 | 0 |" in text
    assert "**0 broken promises**" in text
