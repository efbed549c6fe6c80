"""Four processes on one cache. A sequential suite lets a backend with lost updates through; these do not.

Each promise is also put to the careless backend, which must break it: otherwise the test would show nothing.
"""

import time
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import subjects
from tests.support.nodes import Nodes
from tests.support.workers import run_together

pytestmark = pytest.mark.servers

ROUNDS_TO_CATCH = 20
HOUR = 3600


# With copies, writers that get in each other's way may leave a node behind until an agent has mended it, and there is
# none here: tests/failover has clients side by side, and an agent.
@pytest.fixture(params=[1], ids="rf{}".format)
def setting(nodes: Nodes, request: pytest.FixtureRequest) -> dict[str, Any]:
    name, replicas = subjects.chosen(), int(request.param)
    subject = subjects.SUBJECTS[name]
    if replicas > 1 and not subject.is_replicated:
        pytest.skip(f"{name} does not replicate")
    return subjects.alias(name, nodes.at(4 if subject.is_sharded else 1), replicas=replicas)


@pytest.fixture
def careless(nodes: Nodes) -> dict[str, Any]:
    return subjects.alias("careless", nodes.at(3))


def counted(setting: dict[str, Any]) -> tuple[int, int]:
    """Return how often four processes raised a counter, and how often it was raised: once for each answer."""
    cache = subjects.build(setting)
    cache.set("hits", 0, 300)
    answers = run_together("count", setting, key="hits", times=500)
    return 2000, min(cache.get("hits"), len(set().union(*answers)))


def locks_won(setting: dict[str, Any]) -> tuple[int, int]:
    """Return how many locks there were for four processes to win, and how many wins they report."""
    subjects.build(setting).delete_many([f"lock-{number}" for number in range(200)])
    return 200, sum(len(won) for won in run_together("win", setting, locks=200))


def guarded(setting: dict[str, Any]) -> tuple[int, int]:
    """Return how often a number was raised under a lock, and by how much it rose."""
    cache = subjects.build(setting)
    cache.set("number", 0, 300)
    return sum(run_together("guard", setting, times=25)), cache.get("number")


def allowed(setting: dict[str, Any]) -> tuple[int, int]:
    """Return the limit of django-ratelimit, and how many of 240 requests from four processes it let through."""
    subjects.build(setting).clear()
    answers = run_together("rate_limited", setting, requests=60, address=address_whose_hour_is_young())
    return 100, sum(answers)


def address_whose_hour_is_young() -> str:
    """Return an address whose window of django-ratelimit does not end during the test.

    The window of an hour ends at a second that is the checksum of the key, modulo one hour.
    """
    now = int(time.time()) % HOUR
    addresses = (f"10.0.0.{i}" for i in range(1, 255))
    return next(name for name in addresses if (zlib.crc32(name.encode()) - now) % HOUR > HOUR // 4)


PROMISES = [counted, locks_won, guarded, allowed]
Promise = Callable[[dict[str, Any]], tuple[int, int]]


@pytest.mark.parametrize("promise", PROMISES)
def test_four_processes_lose_and_double_nothing(setting: dict[str, Any], promise: Promise) -> None:
    expected, found = promise(setting)

    assert found == expected


@pytest.mark.parametrize("promise", PROMISES)
def test_careless_backend_is_caught(careless: dict[str, Any], promise: Promise) -> None:
    for _ in range(ROUNDS_TO_CATCH):
        expected, found = promise(careless)
        if found != expected:
            return
    pytest.fail(f"{ROUNDS_TO_CATCH} rounds showed no lost or doubled update: the test is too tame")


def test_four_processes_agree_on_what_was_made(setting: dict[str, Any]) -> None:
    answers = run_together("load_once", setting, keys=100)

    cache = subjects.build(setting)
    for number, calls in enumerate(zip(*answers, strict=True)):
        makers = {mine for _, mine in calls}
        final = cache.get(f"made-{number}")
        assert final in makers
        assert {answer for answer, _ in calls} == {final}
