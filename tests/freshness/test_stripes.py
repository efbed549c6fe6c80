"""An epoch has records on all nodes: a reader asks one of them, beside its answer, and a writer ends them all."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import redis

from distcache_django.core.freshness import RECORD_PREFIX
from distcache_django.freshness.dependencies import STRIPES, coarse, epoch, field, record_keys
from distcache_django.freshness.recording import note
from distcache_django.freshness.service import Freshness
from distcache_django.testing import LocalNodes
from tests.freshness.stage import Stage
from tests.simulation.ground import MINUTE, Ground, ground_on

pytestmark = [pytest.mark.servers, pytest.mark.postgres]
TABLE = "shop"
EPOCH = epoch(TABLE)


@pytest.fixture
def ground(distcache_shared_nodes: LocalNodes) -> Iterator[Ground]:
    with ground_on(distcache_shared_nodes) as made:
        yield made


@pytest.fixture
def reader(ground: Ground) -> Freshness:
    return ground.process()


@pytest.fixture
def writer(ground: Ground, reader: Freshness) -> Freshness:
    return ground.process()


def striped(ground: Ground, table: str = TABLE) -> list[str]:
    """Return the nodes that have a record of the table's epoch."""
    owners = {ground.topology.owner(record) for record in record_keys("", epoch(table), 2**20)}
    return sorted(owners)


def number(ground: Ground, dependencies: tuple[str, ...]) -> Callable[[], int]:
    """Return what loads an answer: how often it was done."""

    def load() -> int:
        note(dependencies)
        ground.loads += 1
        return ground.loads

    return load


def read(ground: Ground, service: Freshness, *dependencies: str) -> int:
    return service.answer("|".join(dependencies), dependencies, number(ground, dependencies), MINUTE)


def asked(ground: Ground, look: Callable[[], object]) -> Counter[str]:
    """Return how many times a look asks each node for values."""

    def calls() -> Counter[str]:
        found: Counter[str] = Counter()
        for node in ground.nodes:
            with ground.client(node) as client:
                found[node] = client.info("commandstats").get("cmdstat_mget", {}).get("calls", 0)
        return found

    before = calls()
    look()
    return calls() - before


def test_an_epoch_has_records_on_every_one_of_a_few_nodes(ground):
    assert striped(ground) == sorted(ground.nodes)


@pytest.mark.parametrize("stem", [TABLE, f"{TABLE}:brand_id=3"], ids=["row", "value"])
def test_a_hit_on_a_row_or_a_value_asks_one_node(ground, reader, stem):
    for node in striped(ground):
        name = ground.name_at(node, stem)
        loaded = read(ground, reader, name, EPOCH)

        found = asked(ground, partial(read, ground, reader, name, EPOCH))
        assert found == {node: 1}
        assert read(ground, reader, name, EPOCH) == loaded


def test_a_hit_on_nothing_but_the_epoch_asks_one_node(ground, reader):
    loaded = read(ground, reader, EPOCH)

    assert list(asked(ground, lambda: read(ground, reader, EPOCH)).values()) == [1]
    assert read(ground, reader, EPOCH) == loaded


def test_an_answer_on_a_table_and_a_row_is_beside_the_row(ground, reader):
    """As a join is: the table has its record elsewhere, and the answer is not at a third node."""
    for node in striped(ground):
        names = ("zone", ground.name_at(node, TABLE), EPOCH)
        loaded = read(ground, reader, *names)

        assert asked(ground, partial(read, ground, reader, *names)) == dict.fromkeys({node, ground.owner("zone")}, 1)
        assert read(ground, reader, *names) == loaded


def test_a_hit_of_a_coroutine_asks_one_node(ground, reader):
    row = ground.name_at(striped(ground)[0], TABLE)

    async def look():
        return await reader.aanswer("asynchronous", (row, EPOCH), number(ground, ()), MINUTE)

    with asyncio.Runner() as runner:
        loaded = runner.run(look())
        assert asked(ground, lambda: runner.run(look())) == {ground.owner(row): 1}
        assert runner.run(look()) == loaded


def test_an_answer_at_a_node_without_a_record_of_the_epoch_is_cached_too(ground, writer, reader, monkeypatch):
    """Of many nodes some have none: there the first record vouches, at its own node."""
    monkeypatch.setattr("distcache_django.freshness.dependencies.STRIPES", 1)
    bare = ground.process()
    row = next(ground.name_at(node, TABLE) for node in ground.nodes if node != ground.owner(EPOCH))
    loaded = read(ground, bare, row, EPOCH)

    found = asked(ground, lambda: read(ground, bare, row, EPOCH))
    assert found == {ground.owner(row): 1, ground.owner(EPOCH): 1}
    assert read(ground, bare, row, EPOCH) == loaded
    writer.bump(coarse([TABLE]))
    assert read(ground, bare, row, EPOCH) != loaded


def test_which_record_a_reader_takes_is_its_own_business(ground, writer, reader):
    """Two that disagree keep storing over each other's answers, and serve none that a coarse write has ended."""
    other = ground.process()
    place = other._placing.place
    other._placing.beside = lambda key, names: [place(name).records[-1] for name in names]
    row = next(
        ground.name_at(node, TABLE) for node in ground.nodes if node != ground.topology.owner(place(EPOCH).records[-1])
    )
    for _ in range(3):
        for one in (reader, other):
            loaded = read(ground, one, row, EPOCH)
            assert read(ground, one, row, EPOCH) == loaded
            writer.bump(coarse([TABLE]))
            assert [read(ground, each, row, EPOCH) > loaded for each in (one, other, reader)] == [True] * 3


def test_a_coarse_write_ends_answers_at_every_node(ground, writer, reader):
    """mutant: only the first record of an epoch is bumped."""
    rows = [ground.name_at(node, TABLE) for node in ground.nodes]
    answers = [(*some, EPOCH) for some in [[row] for row in rows] + [[field(TABLE, "brand_id", "3")], [], rows]]
    before = [read(ground, reader, *names) for names in answers]
    assert [read(ground, reader, *names) for names in answers] == before

    writer.bump(coarse([TABLE]))

    assert not {read(ground, reader, *names) for names in answers} & set(before)


def test_marks_of_a_coarse_write_stop_answers_at_every_node(ground, writer, reader):
    rows = [ground.name_at(node, TABLE) for node in ground.nodes]
    before = [read(ground, reader, row, EPOCH) for row in rows]

    attempt = writer.mark(coarse([TABLE]))
    assert not {read(ground, reader, row, EPOCH) for row in rows} & set(before)
    writer.unmark(attempt)

    assert [read(ground, reader, row, EPOCH) for row in rows] == before


def test_a_write_of_a_row_leaves_the_answers_of_others(ground, writer, reader):
    one, other = (ground.name_at(node, TABLE) for node in striped(ground)[:2])
    before = [read(ground, reader, row, EPOCH) for row in (one, other)]

    writer.bump([one, TABLE])

    after = [read(ground, reader, row, EPOCH) for row in (one, other)]
    assert (after[0] == before[0], after[1] == before[1]) == (False, True)


def test_an_answer_whose_dependencies_are_found_ends_with_a_coarse_write(ground, writer, reader):
    """mutant: records beside a learned answer.

    Versions are kept by name while it loads, so that they must be those of one record: in every process.
    """
    for node in ground.nodes:
        names = (ground.name_at(node, TABLE), EPOCH)
        load = number(ground, names)

        def recorded(service: Freshness, node: str = node, load: Callable[[], int] = load) -> int:
            return service.recorded(f"learned at {node}", load, MINUTE)

        loaded = recorded(reader)
        assert [recorded(reader), recorded(writer), recorded(reader)] == [loaded] * 3

        writer.bump(coarse([TABLE]))

        assert recorded(reader) == recorded(writer) == loaded + 1


def test_an_answer_with_a_part_that_is_cached_by_itself_ends_with_a_coarse_write(ground, writer, reader):
    """The part takes its epoch's nearest record, what it is a part of the first one."""
    rows = [ground.name_at(node, TABLE) for node in ground.nodes]

    def whole():
        return reader.recorded("whole", lambda: [read(ground, reader, row, EPOCH) for row in rows], MINUTE)

    before = whole()
    assert whole() == before

    writer.bump(coarse([TABLE]))

    assert not set(whole()) & set(before)


@pytest.fixture(scope="module")
def stage(make_stage: Callable[..., Stage]) -> Stage:
    """A site with the product."""
    return make_stage()


def test_every_record_of_the_epoch_is_marked_before_commit(stage: Stage, ground: Ground) -> None:
    """mutant: only the first record of an epoch is bumped. Which rows the SQL writes is not known."""
    trials = [stage.trial() for _ in range(8)]
    for trial in trials:
        stage.fill("get", trial)
    writer = stage.actor("writer").begin("write", hold=["commit"], kind="raw_rows", **trials[0])
    assert writer.reached("commit")
    found = [value for node in stage.nodes.values() for value in records_at(node.url)]
    assert len(found) == STRIPES
    assert all(len(value) > len(b"version of sixte") for value in found)
    looks = [look for trial in trials for look in stage.looks("before COMMIT", "get", "raw_rows", trial)]
    assert all(look.loads for look in looks)
    writer.go("commit").result()
    looks += [look for trial in trials for look in stage.looks("after COMMIT", "get", "raw_rows", trial)]

    assert [look for look in looks if look.is_stale] == []
    assert [look.loads for look in looks[-2 * len(trials) :]] == [1, 0] * len(trials)


def records_at(url: str) -> list[bytes]:
    """Return the records of the table's epoch that a node has."""
    with redis.Redis.from_url(url) as client:
        return [client.get(key) for key in client.scan_iter(f"{RECORD_PREFIX}*{{stock_item:\\**}}", count=1000)]
