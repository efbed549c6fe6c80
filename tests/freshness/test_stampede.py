"""Many readers miss at once: one loads, the others wait for it; also when the loader's process is killed."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.freshness.stage import Actor, Stage

pytestmark = [pytest.mark.servers, pytest.mark.postgres]
LEASE = 1.0
#: Two hundred threads share two cores or less: nodes must not be given up for what the machine does.
PATIENT = {"DEADLINE": 4.0, "SOCKET_CONNECT_TIMEOUT": 4.0}
PROCESSES = 4
THREADS = 50


@pytest.fixture(scope="module")
def stage(make_stage: Callable[..., Stage]) -> Stage:
    """A site with the product."""
    return make_stage(mark_timeout=16.0, options=PATIENT, distcache={"LEASE": 10.0})


@pytest.fixture
def impatient(make_stage: Callable[..., Stage]) -> Stage:
    """A site whose leases are short."""
    return make_stage(mark_timeout=16.0, options=PATIENT, distcache={"LEASE": LEASE})


def begin_together(actors: Sequence[Actor], *, threads: int = THREADS, **arguments: Any) -> None:
    """Let every process read in many threads that start at one moment."""
    for actor in actors:
        actor.begin("read_together", hold=["together"], threads=threads, **arguments)
    for actor in actors:
        assert actor.reached("together")
    for actor in actors:
        actor.go("together")


def results(actors: Sequence[Actor]) -> tuple[list[Any], int, float]:
    """Return every answer, how often the database was asked, and how long the slowest reader took."""
    answers = [actor.result() for actor in actors]
    values = [value for answer in answers for value in answer.value["values"]]
    return values, sum(answer.loads for answer in answers), max(answer.value["slowest"] for answer in answers)


def actors_of(stage: Stage, count: int = PROCESSES) -> list[Actor]:
    """Return processes that have read before, as those of a running site have."""
    actors = [stage.fresh(f"reader {number}") for number in range(count)]
    for actor in actors:
        actor.call("read", shape="get", **stage.trial())
    return actors


def test_two_hundred_readers_of_new_processes_load_once(stage: Stage) -> None:
    """As after a deployment. More connections than one for each process would be too many for the database."""
    trial, actors = stage.trial(), [stage.fresh(f"reader {number}") for number in range(PROCESSES)]
    before = stage.sessions()
    begin_together(actors, shape="list", slow=0.2, **trial)
    values, loads, _ = results(actors)

    assert [value for value in values if value != stage.truth("list", trial)] == []
    assert loads == 1
    assert stage.sessions() - before <= 2 * PROCESSES


@pytest.mark.parametrize("shape", ["get", "list", "sum", "table"])
def test_two_hundred_readers_load_once(stage: Stage, shape: str) -> None:
    trial, actors = stage.trial(), actors_of(stage)
    begin_together(actors, shape=shape, slow=0.2, **trial)
    values, loads, _ = results(actors)

    assert len(values) == PROCESSES * THREADS
    assert [value for value in values if value != stage.truth(shape, trial)] == []
    assert loads == 1


def test_two_hundred_readers_load_once_at_every_expiry(stage: Stage) -> None:
    """Answers of a second's life, read over and over for three: as many loads as lives, not one more."""
    trial, actors = stage.trial(), actors_of(stage)
    begin_together(actors, shape="brief", slow=0.1, seconds=2.5, **trial)
    values, loads, _ = results(actors)

    assert len(values) == PROCESSES * THREADS
    assert [value for value in values if value != stage.truth("list", trial)] == []
    assert 2 <= loads <= 3


def test_one_more_loads_when_the_loader_is_killed(impatient: Stage) -> None:
    stage = impatient
    trial, actors = stage.trial(), actors_of(stage, PROCESSES - 1)
    loader = stage.fresh("loader").begin("read", hold=["loaded"], shape="list", **trial)
    assert loader.reached("loaded")
    begin_together(actors, shape="list", slow=0.1, **trial)
    loader.kill()
    values, loads, slowest = results(actors)

    assert [value for value in values if value != stage.truth("list", trial)] == []
    assert loads == 1
    assert slowest < 2 * LEASE + 1.0


def test_writer_among_readers(stage: Stage) -> None:
    """Readers that began before a write may answer the old or the new; those that begin after it, only the new.

    While the mark is there each reader asks the database, which serves a hundred at a time, and not two.
    """
    trial, actors = stage.trial(), actors_of(stage)
    old = stage.truth("list", trial)
    begin_together(actors, threads=15, shape="list", slow=0.2, **trial)
    stage.actor("writer").call("write", kind="update", **trial)
    new = stage.truth("list", trial)
    values, _, _ = results(actors)
    looks = stage.looks("after the stampede", "list", "update", trial)

    assert [value for value in values if value not in (old, new)] == []
    assert [look for look in looks if look.is_stale] == []
    assert looks[-1].loads == 0
