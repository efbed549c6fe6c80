"""The service on real nodes: what ends an answer, what keeps it, and what a node that forgets may still say."""

import logging
from collections.abc import Iterator

import pytest
from django.core.cache import caches
from django.test import override_settings

from distcache_django.freshness.service import Freshness, MarkFailed
from distcache_django.testing import LocalNodes
from tests.simulation.ground import MARK_TIMEOUT, Ground, ground_on
from tests.support.waiting import wait_until

pytestmark = pytest.mark.servers
ROW = "shop:7"


@pytest.fixture
def ground(distcache_shared_nodes: LocalNodes) -> Iterator[Ground]:
    with ground_on(distcache_shared_nodes) as made:
        made.values[ROW] = "old"
        yield made


@pytest.fixture
def one(ground: Ground) -> Freshness:
    return ground.process()


@pytest.fixture
def two(ground: Ground, one: Freshness) -> Freshness:
    return ground.process()


# ---------------------------------------------------------------- answers


def test_an_answer_is_loaded_once_and_shared(ground, one, two):
    assert ground.read(one, ROW) == "old"
    assert ground.read(one, ROW) == ground.read(two, ROW) == "old"

    assert ground.loads == 1
    assert (one.counts()["hits"], two.counts()["hits"]) == (1, 1)


def test_a_write_ends_the_answer_everywhere(ground, one, two):
    ground.read(two, ROW)

    ground.write(one, ROW, "new")

    assert ground.read(two, ROW) == ground.read(one, ROW) == "new"
    assert ground.loads == 2


def test_a_mark_means_ask_the_database(ground, one, two):
    ground.read(two, ROW)
    attempt = one.mark([ROW])
    ground.values[ROW] = "new"

    assert [ground.read(service, ROW) for service in (one, two)] == ["new", "new"]
    assert ground.loads == 3
    one.bump([ROW], attempt)
    ground.read(two, ROW)
    assert ground.is_cached(one, ROW)


def test_a_rollback_leaves_the_answer(ground, one):
    ground.read(one, ROW)

    one.unmark(one.mark([ROW]))

    assert ground.is_cached(one, ROW)


def test_an_answer_loaded_before_a_commit_is_not_served_after_it(ground, one, two):
    def load():
        before = ground.load(ROW)
        ground.write(two, ROW, "new")
        return before

    assert one.answer(f"of {ROW}", (ROW,), load, 60) == "old"

    assert ground.read(one, ROW) == ground.read(two, ROW) == "new"


@pytest.mark.parametrize("value", [None, 0, False, "", [], (1, None), {"k": 1.5}, -7, b"bytes"], ids=repr)
def test_any_value_is_cached(ground, one, value):
    ground.values[ROW] = value
    first = ground.read(one, ROW)

    assert first == value
    assert ground.is_cached(one, ROW)
    again = ground.read(one, ROW)
    assert (again, type(again)) == (value, type(value))


def test_an_answer_without_dependencies_lives_as_long_as_it_should(ground, one):
    """None of its nodes needs to be known for it."""
    for number in range(20):
        for _ in range(2):
            one.answer(f"free {number}", (), lambda: ground.load(ROW), 60)

    assert ground.loads == 20


def test_answers_of_tables_are_stored_and_ended_without_waiting(ground, one, two):
    """Their own node, their lease's and their records' differ: the lease of a miss must be gone with the fill."""
    for number in range(12):
        name = f"table{number}"
        for value in (1, 2, 3):
            ground.values[name] = value
            one.bump([name])
            assert [ground.read(service, name) for service in (one, two)] == [value, value]

    assert (one.counts()["waits"], two.counts()["waits"]) == (0, 0)
    assert ground.loads == 36


def test_an_answer_ends_with_each_of_its_dependencies(ground, one):
    names = [ground.name_at(node, "part") for node in ground.nodes]

    for name in names:
        one.answer("whole", names, lambda: ground.load(ROW), 60)
        before = ground.loads
        one.answer("whole", names, lambda: ground.load(ROW), 60)
        assert ground.loads == before
        one.bump([name])
        one.answer("whole", names, lambda: ground.load(ROW), 60)
        assert ground.loads == before + 1


def test_answers_expire(ground, one):
    load = lambda: ground.load(ROW)  # noqa: E731

    one.answer("short", (ROW,), load, 0.05)
    wait_until(lambda: one.answer("short", (ROW,), load, 0.05) and ground.loads > 1)


# ---------------------------------------------------------------- memory of nodes


@pytest.fixture
def node(ground):
    """The name of the node with the record."""
    return ground.owner(ROW)


@pytest.mark.parametrize("lost", ["record", "dc:count", "dc:node", "everything"])
def test_what_a_node_loses_is_a_miss(ground, one, two, node, lost):
    ground.read(two, ROW)
    with ground.client(node) as client:
        if lost == "everything":
            client.flushall()
        else:
            client.delete(ground.record(ROW) if lost == "record" else lost)
    ground.write(one, ROW, "new")

    assert ground.read(two, ROW) == "new"
    for service in (one, two):
        ground.pass_quarantine(service)
    ground.read(two, ROW)
    assert ground.is_cached(one, ROW)
    assert ground.read(two, ROW) == "new"


def test_a_node_that_was_flushed_has_no_vote_for_a_while(ground, one, node):
    ground.read(one, ROW)
    with ground.client(node) as client:
        client.flushall()

    assert not ground.is_cached(one, ROW)
    assert not ground.is_cached(one, ROW)
    ground.pass_quarantine(one)
    ground.read(one, ROW)
    assert ground.is_cached(one, ROW)


def test_a_node_that_comes_back_with_old_data_serves_none_of_it(ground, one, two, node):
    ground.read(two, ROW)
    with ground.client(node) as client:
        client.save()
    ground.write(one, ROW, "new")

    ground.nodes[node].kill()
    ground.nodes[node].start()

    with ground.client(node) as client:
        assert client.exists(ground.record(ROW))
    assert [ground.read(service, ROW) for service in (one, two)] == ["new", "new"]
    for service in (one, two):
        ground.pass_quarantine(service)
        assert ground.read(service, ROW) == "new"
    assert ground.is_cached(one, ROW)


def test_clear_keeps_the_records(ground, one, node):
    """With them it would delete marks, of commits that are on their way."""
    ground.read(one, ROW)
    attempt = one.mark([ROW])
    entry = {"BACKEND": "distcache_django.DistributedCache", "LOCATION": dict(ground.nodes.urls)}

    with override_settings(CACHES={"default": entry}):
        caches["default"].clear()

    with ground.client(node) as client:
        assert [key for key in client.scan_iter() if not key.startswith(b"dc:")] == []
        assert client.exists("dc:count", "dc:marked", "dc:node") == 3
        assert client.get(ground.record(ROW))[-8:] == attempt.token
    one.bump([ROW], attempt)


def test_a_mark_whose_writer_died_expires_into_a_new_version(ground, one, two, node):
    ground.read(two, ROW)
    with ground.client(node) as client:
        before = client.get(ground.record(ROW))
        one.mark([ROW])
        ground.values[ROW] = "new"
        wait_until(lambda: ground.is_cached(two, ROW))
        assert client.get(ground.record(ROW)) != before
        assert client.pttl(ground.record(ROW)) > 0
    assert ground.read(two, ROW) == "new"


def test_marks_that_nobody_asks_for_are_swept_by_other_writers(ground, one, node):
    name, other = ground.name_at(node, "orphan"), ground.name_at(node, "other")
    one.mark([name])
    with ground.client(node) as client:
        assert client.exists(ground.record(name))

        def is_swept():
            one.unmark(one.mark([other]))
            return not client.exists(ground.record(name))

        wait_until(is_swept)
        assert client.zcard("dc:marked") == 0


def test_what_nobody_has_read_leaves_no_record(ground, one, node):
    names = [ground.name_at(node, f"unread{number}") for number in range(50)]
    with ground.client(node) as client:
        before = client.dbsize()
        attempt = one.mark(names)
        assert client.dbsize() == before + len(names) + len(["dc:marked"])

        one.bump(names, attempt)

        assert client.dbsize() == before


# ---------------------------------------------------------------- nodes that are away


@pytest.fixture
def out_of_reach(ground, node):
    """Pause the node for a while."""

    def pause():
        ground.nodes[node].pause()

    yield pause
    ground.nodes[node].resume()


def test_a_commit_is_refused_or_owed_when_a_node_cannot_be_marked(ground, one, two, node, out_of_reach, caplog):
    ground.read(one, ROW)
    ground.read(two, ROW)
    out_of_reach()

    with pytest.raises(MarkFailed) as caught:
        one.mark([ROW])
    assert caught.value.nodes == (node,)
    ground.values[ROW] = "new"
    with caplog.at_level(logging.ERROR, "distcache_django.freshness"):
        one.bump([ROW], caught.value.attempt)
    assert ground.read(one, ROW) == "new"
    ground.nodes[node].resume()

    wait_until(lambda: not one.runtime.cluster.board.down, what="the node is used again")
    assert ground.read(one, ROW) == "new"
    assert ground.read(two, ROW) == "new"
    assert one.counts()["owed"] == 1


def test_a_bump_that_is_owed_spares_the_marks_of_others(ground, one, two, node, out_of_reach):
    ground.read(two, ROW)
    other = ground.process(mark_timeout=30.0)
    held = other.mark([ROW])
    out_of_reach()
    ground.values[ROW] = "new"
    one.bump([ROW])
    ground.nodes[node].resume()
    wait_until(lambda: not one.runtime.cluster.board.down, what="the node is used again")

    with ground.client(node) as client:
        assert client.get(ground.record(ROW))[-8:] == held.token
    assert not ground.is_cached(two, ROW)
    other.unmark(held)


def test_bumps_beyond_the_bound_end_everything_on_the_node(ground, one, two, node, out_of_reach, monkeypatch):
    monkeypatch.setattr("distcache_django.cluster.debts.BOUND", 20)
    ground.read(two, ROW)
    unharmed = ground.name_at(next(name for name in ground.nodes if name != node), "unharmed")
    ground.values[unharmed] = 1
    ground.read(two, unharmed)
    out_of_reach()
    ground.values[ROW] = "new"
    one.bump([ROW])
    one.bump([f"many:{number}" for number in range(200)])
    ground.nodes[node].resume()
    wait_until(lambda: not one.runtime.cluster.board.down, what="the node is used again")

    assert ground.read(two, ROW) == "new"
    assert ground.is_cached(two, unharmed)
    ground.read(two, ROW)
    assert ground.is_cached(two, ROW)  # marks are where they were, so there is no quarantine


def test_renewing_prolongs_a_mark(ground, one, two, node):
    ground.read(two, ROW)
    attempt = one.mark([ROW])
    before = attempt.marked_at

    def deadline():
        with ground.client(node) as client:
            return client.get(ground.record(ROW))[17:25]

    first = deadline()
    wait_until(lambda: one.renew(attempt) and deadline() > first)

    assert attempt.marked_at > before
    assert attempt.marked_at - before < MARK_TIMEOUT
    one.unmark(attempt)
    assert ground.is_cached(two, ROW)


# ---------------------------------------------------------------- room


def test_a_dependency_takes_little_room(ground, one, node, record_property):
    """The bytes of one dependency on its node: unread it is nothing, read it is a record, marked a little more."""
    ground.read(one, ROW)
    with ground.client(node) as client:
        read = client.memory_usage(ground.record(ROW))
        attempt = one.mark([ROW])
        marked = client.memory_usage(ground.record(ROW))
        key = ground.record(ROW)
        one.unmark(attempt)
    record_property("bytes_per_dependency", read)
    logging.getLogger(__name__).info("a dependency: %d bytes read, %d marked, its name %d", read, marked, len(key))

    assert read <= 160
    assert marked <= 224


# ---------------------------------------------------------------- places


def test_a_key_function_is_asked_each_time(ground, one):
    """As sites with several tenants have one, which names the present one."""
    tenant = "red"
    one.full_key = lambda key: f"{tenant}:{key}"
    loads: list[str] = []

    def load():
        loads.append(tenant)
        return tenant

    def read():
        return one.answer("q", (ROW,), load, 60)

    assert [read(), read()] == ["red", "red"]
    tenant = "blue"
    assert [read(), read()] == ["blue", "blue"]
    tenant = "red"
    assert read() == "red"
    assert loads == ["red", "blue"]


def test_the_same_key_with_other_dependencies_is_another_answer(ground, one):
    first, second = ground.name_at(min(ground.nodes), "first"), ground.name_at(max(ground.nodes), "second")

    for _ in range(2):
        assert one.answer("q", (first, ROW), lambda: "first", 60) == "first"
        assert one.answer("q", (second, ROW), lambda: "second", 60) == "second"
        one.bump([first])
