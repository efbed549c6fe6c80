"""The node in memory does to version records what a server does: the same histories leave the same bytes.

Only deadlines differ, because the clocks do: they are compared as alive or over.
"""

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distcache_django.core import requests as r
from distcache_django.core.freshness import Lease
from distcache_django.testing.memory_node import MemoryNode
from distcache_django.testing.resp import ask as raw
from tests.transport.conftest import ask

NODE = "cache-a"
HOUR, DAY = 3_600_000, 86_400_000
OVER, ALIVE = -HOUR, HOUR
INCARNATIONS = [b"incarnaA", b"incarnaB"]
KEYS = ["v", "w", "x"]

keys = st.lists(st.sampled_from(KEYS), min_size=1, max_size=3)
tokens = st.sampled_from([b"token-00", b"token-01"])
leases = st.none() | st.builds(Lease, st.just("lease"), st.sampled_from([b"one", b"two"]), st.just(HOUR))
requests = st.one_of(
    st.builds(r.Register, st.sampled_from(INCARNATIONS), st.sampled_from([0, HOUR])),
    st.builds(r.Mint, keys, st.just(DAY), leases, st.just("answer"), st.sampled_from([1, 3, 99])),
    st.builds(r.Mint, keys, st.just(3 * DAY)),
    st.builds(r.Mark, keys, st.just(DAY), tokens, st.sampled_from([OVER, ALIVE, ALIVE])),
    st.builds(r.Bump, keys, st.just(DAY), tokens | st.just(b"")),
    st.builds(r.Unmark, keys, st.just(DAY), tokens),
    st.builds(
        r.Fill,
        st.just("answer"),
        st.none() | st.just(b"value"),
        st.just(HOUR),
        st.just("lease"),
        st.sampled_from([b"one", b"two"]),
    ),
    st.builds(r.Remove, st.lists(st.sampled_from([*KEYS, "dc:node", "dc:count"]), min_size=1, max_size=1)),
)


def plain(record):
    """Return a record with its deadlines as alive or over."""
    if record is None or len(record) < 17:
        return record
    now = time.time() * 1000
    marks = [(int.from_bytes(record[at : at + 8]) > now, record[at + 8 : at + 16]) for at in range(17, len(record), 16)]
    return record[:17], marks


def comparable(request, reply):
    """Return a reply without what depends on the moment."""
    if reply is None:
        return None
    if isinstance(request, r.Register):
        return reply[0], reply[1] > 0
    if isinstance(request, r.Mint):
        return [plain(record) for record in reply[0]], reply[1]
    return reply


@pytest.fixture(scope="module", params=["valkey", "redis"])
def url(request):
    """Return the URL of a server of either kind."""
    name = "_redis_nodes" if request.param == "redis" else "_distcache_session_nodes"
    nodes = request.getfixturevalue(name)
    nodes.restore()
    return nodes[NODE].url


def state(fetch, ttl):
    """Return all that two nodes may differ in; expiries to the day."""
    records = [plain(fetch(key)) for key in KEYS]
    expiries = [round(left / DAY) if (left := ttl(key)) > 0 else left for key in KEYS]
    return records, expiries, [fetch(key) for key in ("dc:count", "lease", "answer")]


@pytest.fixture
def driver(url, blocking):
    return blocking({NODE: url})


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(history=st.lists(requests, min_size=1, max_size=20))
def test_histories_leave_the_same(url, driver, history):
    raw(url, ("FLUSHALL",))
    now = time.time()
    twin = MemoryNode(NODE, lambda: now)  # as in a script, time stands still while a request is executed
    twin.execute(r.Register(INCARNATIONS[0], 0))
    driver.run(ask(NODE, r.Register(INCARNATIONS[0], 0)))

    for number, request in enumerate(history):
        now = time.time()
        replies = [comparable(request, reply) for reply in (driver.run(ask(NODE, request)), twin.execute(request))]
        assert replies[0] == replies[1], (number, request, replies)

    def from_server(key):
        return driver.run(ask(NODE, r.Fetch(key)))

    def left_at_server(key):
        return driver.run(ask(NODE, r.TimeToLive(key)))

    assert state(from_server, left_at_server) == state(twin.text, twin.ttl_ms)
    scores = raw(url, *[("ZSCORE", "dc:marked", key) for key in KEYS])
    assert {key for key, score in zip(KEYS, scores, strict=True) if score != b"$-1"} == set(twin.marked)
