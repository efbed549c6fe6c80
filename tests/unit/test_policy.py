"""What an operation answers while its node does not: counted always, logged now and then, raised where asked."""

import logging
import threading

import pytest

from distcache_django import DistributedCache
from distcache_django.exceptions import CodecError, InDoubt, NodeRefused, NodeTimeout, NodeUnreachable, QuorumNotReached
from distcache_django.runtime import policy as policies
from distcache_django.runtime import runtime_for
from distcache_django.runtime.policy import Policy, unavailable
from distcache_django.testing.processes import reserve_port

LOGGER = "distcache_django.backends"
REFUSED = NodeUnreachable("cache-a", "connection refused")


class Clock:
    now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(policies, "time", clock)
    return clock


@pytest.fixture
def counted():
    return []


@pytest.fixture
def lenient(counted):
    return Policy("miss", counted.append)


def warnings_of(caplog):
    return [record for record in caplog.records if record.name == LOGGER]


def test_under_miss_the_answer_is_given_and_counted(lenient, counted):
    assert lenient.degrade("get", REFUSED, "fallback") == "fallback"
    assert lenient.degrade("set", REFUSED, False) is False
    assert counted == ["degraded.get", "degraded.set"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (REFUSED, QuorumNotReached),
        (NodeRefused("cache-a", "OOM full"), QuorumNotReached),
        (NodeTimeout("cache-a", "late"), InDoubt),
    ],
)
def test_under_raise_the_error_names_the_operation_and_the_node(counted, error, kind):
    with pytest.raises(kind) as caught:
        Policy("raise", counted.append).degrade("set", error, False)

    assert caught.value.__cause__ is error
    assert caught.value.nodes == ("cache-a",)
    assert (caught.value.required, caught.value.received) == (1, 0)
    assert str(caught.value).startswith("set: 0 of 1 required answers; nodes cache-a: ")
    assert counted == ["degraded.set"]


def test_only_a_request_that_may_have_happened_is_in_doubt():
    assert type(unavailable("incr", NodeTimeout("a", "late"))) is InDoubt
    assert type(unavailable("incr", NodeUnreachable("a", "refused"))) is QuorumNotReached


def test_each_degradation_is_logged_once_per_interval(lenient, counted, clock, caplog):
    for _ in range(100):
        lenient.degrade("get", REFUSED, None)
    assert len(warnings_of(caplog)) == 1

    clock.now += 9.9
    lenient.degrade("get", REFUSED, None)
    assert len(warnings_of(caplog)) == 1

    clock.now += 0.2
    lenient.degrade("get", REFUSED, None)
    assert len(warnings_of(caplog)) == 2
    assert len(counted) == 102


def test_operations_and_nodes_are_logged_apart(lenient, clock, caplog):
    for operation in ("get", "set"):
        for node in ("cache-a", "cache-b"):
            lenient.degrade(operation, NodeUnreachable(node, "refused"), None)

    records = warnings_of(caplog)

    assert {(record.operation, record.node) for record in records} == {
        ("get", "cache-a"), ("get", "cache-b"), ("set", "cache-a"), ("set", "cache-b"),
    }  # fmt: skip
    assert all(record.levelno == logging.WARNING for record in records)


def test_the_first_failure_is_logged_on_a_machine_that_has_just_started(lenient, clock, caplog):
    clock.now = 0.0

    lenient.degrade("get", REFUSED, None)

    assert len(warnings_of(caplog)) == 1


def test_unreadable_values_are_counted_and_logged_without_the_value(lenient, counted, clock, caplog):
    for _ in range(3):
        lenient.unreadable(":1:k", CodecError("the signature does not match"))

    (record,) = warnings_of(caplog)
    assert counted == ["unreadable"] * 3
    assert ":1:k" in record.getMessage()
    assert "signature" in record.getMessage()


def test_threads_count_every_degradation_and_log_few(lenient, counted, clock, caplog):
    def degrade():
        for _ in range(50):
            lenient.degrade("get", REFUSED, None)

    threads = [threading.Thread(target=degrade) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(counted) == 200
    assert 1 <= len(warnings_of(caplog)) <= 4


def test_the_cache_objects_of_one_process_share_one_interval(caplog):
    """Django makes an object for each thread and each task: a log line for each would be one per request."""
    with reserve_port() as refusing:
        location = f"redis://127.0.0.1:{refusing.getsockname()[1]}/0"
        for _ in range(5):
            DistributedCache(location, {}).get("k")

        runtime = runtime_for(location, {})
        assert runtime.cluster.counts() == {"degraded.get": 5}
        runtime.cluster.close()
    assert len(warnings_of(caplog)) == 1
