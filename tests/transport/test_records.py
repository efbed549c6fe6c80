"""Version records mean the same on every transport and server: incarnations, mints, marks, bumps, leases, sweeps.

A mark that has expired has lived for a millisecond, or was set with a life that was over.
"""

import time

import pytest

from distcache_django.core import requests as r
from distcache_django.core.effects import OweBumps
from distcache_django.core.freshness import Lease
from distcache_django.exceptions import TransportError
from tests.transport.conftest import ask, gather

NODE = "cache-a"
HOUR, DAY = 3_600_000, 86_400_000
LIFE = 60_000
PAST = -1000
A, B = b"incarnaA", b"incarnaB"
MINE, HIS = b"my-token", b"histoken"
NONCE, RIVAL = b"nonce", b"rival"


@pytest.fixture
def send(scripted):
    """Send one request to the node and return its reply."""
    return lambda request: scripted.run(ask(NODE, request))


@pytest.fixture
def node(send):
    """Have the node registered."""
    assert send(r.Register(A, 0))[:2] == (A, 0)
    return send


def version(incarnation, count):
    return incarnation + count.to_bytes(8)


def minted(send, *keys, lease=None):
    """Return the records as ``Mint`` leaves them."""
    return send(r.Mint(keys, DAY, lease))[0]


def marks_of(record):
    """Return the tokens of the marks in a record."""
    return [record[at + 8 : at + 16] for at in range(17, len(record), 16)]


def kept(send, key="v"):
    """Return a record as it is kept, or ``None``."""
    return send(r.Fetch(key))


def forget(send):
    """Have the node take another incarnation."""
    send(r.Remove(["dc:node"]))
    assert send(r.Register(B, 0))[:2] == (B, 0)


@pytest.fixture
def let_expire(scripted, send):
    """Mark a record and return when the mark has expired."""

    def mark(key, token):
        send(r.Mark([key], DAY, token, 1))
        if scripted.name == "memory":
            scripted.nodes.advance(0.1)
            return
        deadline = int.from_bytes(kept(send, key)[17:25])
        while time.time() * 1000 <= deadline + 1:  # the servers of this machine have its clock
            time.sleep(0.001)

    return mark


# ---------------------------------------------------------------- incarnations


@pytest.mark.parametrize(
    "request_", [r.Mint(["v"], DAY, Lease("l", NONCE, HOUR)), r.Mark(["v"], DAY, MINE, LIFE)], ids=["mint", "mark"]
)
def test_a_node_takes_part_only_when_it_is_registered(send, scripted, request_):
    assert send(request_) is None
    assert scripted.keys(NODE) == []


def test_the_first_to_register_names_the_incarnation(send):
    assert send(r.Register(A, 0))[:2] == (A, 0)
    assert send(r.Register(B, HOUR))[:2] == (A, 0)


def test_a_new_incarnation_is_in_quarantine(send):
    incarnation, left, _, _ = send(r.Register(A, HOUR))

    assert (incarnation, HOUR - 10_000 < left <= HOUR) == (A, True)
    # Whoever marks for a shorter time needs no longer a quarantine.
    assert send(r.Register(B, 1000))[:2] == (A, 1000)


@pytest.mark.parametrize("lost", ["dc:node", "dc:count"])
def test_a_node_that_lost_its_fence_or_its_count_is_another(node, lost):
    minted(node, "v")

    node(r.Remove([lost]))

    assert node(r.Mint(["v"], DAY)) is None
    assert node(r.Mark(["v"], DAY, MINE, LIFE)) is None
    assert node(r.Register(B, 0))[:2] == (B, 0)
    assert minted(node, "v") == [version(B, 1)]


def test_another_process_with_the_old_data_is_another_incarnation(distcache_nodes, blocking):
    """A restart, a snapshot, a replica that takes over: all have the fence of a process that is not theirs."""
    nodes = distcache_nodes(1, config={"appendonly": "yes", "appendfsync": "always"})
    driver = blocking(nodes.urls)
    endpoint = driver.endpoints[NODE]
    endpoint.greets = True
    send = lambda request: driver.run(ask(NODE, request))  # noqa: E731
    send(r.Register(A, 0))
    (before,) = minted(send, "v")
    generation = endpoint.generation

    nodes[NODE].restart(empty=False)

    assert kept(send) == before
    assert endpoint.generation > generation
    assert send(r.Register(B, 5000))[0] == B
    assert minted(send, "v") == [version(B, 1)]


# ---------------------------------------------------------------- versions


def test_versions_are_made_once_and_stay(node):
    first = minted(node, "v", "w", "v")

    assert first == [version(A, 1), version(A, 2), version(A, 1)]
    assert minted(node, "w", "v") == [version(A, 2), version(A, 1)]
    assert node(r.FetchMany(["v", "w", "x"])) == [version(A, 1), version(A, 2), None]
    assert DAY - 10_000 < node(r.TimeToLive("v")) <= DAY


def test_a_version_is_never_given_twice(node):
    seen = set()
    for _ in range(3):
        seen.update(minted(node, "v"))
        node(r.Bump(["v"], DAY))
        seen.update(minted(node, "v"))
        node(r.Remove(["v"]))

    assert seen == {version(A, count) for count in range(1, 7)}


def test_a_record_that_is_asked_for_lives_on(node):
    minted(node, "v", "w")
    node(r.Expire("v", HOUR))
    node(r.Expire("w", 20 * HOUR))

    minted(node, "v", "w")

    assert node(r.TimeToLive("v")) > 23 * HOUR
    assert node(r.TimeToLive("w")) <= 20 * HOUR


# ---------------------------------------------------------------- marks


def test_a_mark_leaves_the_version_and_takes_the_expiry_away(node):
    minted(node, "v")

    assert node(r.Mark(["v"], DAY, MINE, LIFE)) is True

    record = kept(node)
    assert (record[:17], marks_of(record)) == (version(A, 1) + b"k", [MINE])
    assert node(r.TimeToLive("v")) == -1
    assert minted(node, "v") == [record]


def test_marks_of_several_writers_are_apart(node):
    minted(node, "v")
    node(r.Mark(["v"], DAY, MINE, LIFE))
    node(r.Mark(["v"], DAY, HIS, LIFE))

    assert marks_of(kept(node)) == [MINE, HIS]
    assert node(r.Unmark(["v"], DAY, MINE)) is True
    assert marks_of(kept(node)) == [HIS]
    assert kept(node)[:16] == version(A, 1)
    assert node(r.Bump(["v"], DAY, HIS)) is True
    assert kept(node) == version(A, 2)


def test_a_mark_that_is_set_again_is_prolonged(node):
    node(r.Mark(["v"], DAY, MINE, LIFE))
    before = kept(node)
    node(r.Mark(["v"], DAY, MINE, 2 * LIFE))

    assert marks_of(kept(node)) == [MINE]
    assert kept(node)[17:25] > before[17:25]


def test_a_bump_gives_a_new_version_and_spares_the_marks_of_others(node):
    minted(node, "v")
    node(r.Mark(["v"], DAY, HIS, LIFE))

    node(r.Bump(["v"], DAY, MINE))
    node(r.Bump(["v"], DAY))

    assert (kept(node)[:17], marks_of(kept(node))) == (version(A, 3) + b"k", [HIS])


@pytest.mark.parametrize("end", [r.Bump, r.Unmark])
def test_a_record_that_only_writers_asked_for_goes_with_its_last_mark(node, scripted, end):
    node(r.Mark(["v"], DAY, MINE, LIFE))
    node(r.Mark(["v"], DAY, HIS, LIFE))
    node(end(["v"], DAY, MINE))
    assert marks_of(kept(node)) == [HIS]

    node(end(["v"], DAY, HIS))

    assert scripted.keys(NODE) == ["dc:count", "dc:node"]
    assert minted(node, "v")[0] not in {version(A, 1), None}


@pytest.mark.parametrize("end", [r.Bump, r.Unmark])
def test_what_is_not_there_needs_no_new_version(node, scripted, end):
    assert node(end(["v"], DAY, MINE)) is True

    assert scripted.keys(NODE) == ["dc:count", "dc:node"]


@pytest.mark.parametrize("settle", ["mint", "mark", "bump", "unmark", "sweep"])
def test_an_expired_mark_leaves_a_new_version(node, let_expire, settle):
    minted(node, "v")
    let_expire("v", HIS)
    assert kept(node)[:16] == version(A, 1)  # a plain read settles nothing

    request = {
        "mint": r.Mint(["v"], DAY),
        "mark": r.Mark(["v"], DAY, MINE, LIFE),
        "bump": r.Bump(["v"], DAY, MINE),
        "unmark": r.Unmark(["v"], DAY, MINE),
        "sweep": r.Mark(["w"], DAY, MINE, LIFE),
    }[settle]
    node(request)

    record = kept(node)
    assert record[:16] > version(A, 1)
    assert marks_of(record) == ([MINE] if settle == "mark" else [])
    if settle != "mark":
        assert DAY - 10_000 < node(r.TimeToLive("v")) <= DAY


def test_one_expired_mark_of_two_leaves_the_other(node):
    minted(node, "v")
    node(r.Mark(["v"], DAY, MINE, LIFE))
    node(r.Mark(["v"], DAY, HIS, PAST))

    (record,) = minted(node, "v")

    assert (record[:16] > version(A, 1), marks_of(record)) == (True, [MINE])


def test_marks_whose_writers_never_came_back_are_swept_a_few_at_a_time(node, scripted):
    names = [f"v{number}" for number in range(20)]
    node(r.Mark(names, DAY, HIS, PAST))
    left = [len([key for key in scripted.keys(NODE) if key.startswith("v")])]

    for _ in range(2):
        node(r.Mark(["w"], DAY, MINE, LIFE))
        left.append(len([key for key in scripted.keys(NODE) if key.startswith("v")]))

    assert left == [12, 4, 0]


def test_marks_of_an_older_incarnation_are_swept_too(node, scripted, let_expire):
    """They have no expiry: after a restart with old data they would be there for ever."""
    minted(node, "v")
    let_expire("v", HIS)
    forget(node)
    assert "v" in scripted.keys(NODE)

    node(r.Mark(["w"], DAY, MINE, LIFE))

    assert "v" not in scripted.keys(NODE)


# ---------------------------------------------------------------- void records


@pytest.mark.parametrize("request_", [r.Bump(["v"], DAY), r.Unmark(["v"], DAY, MINE)], ids=["bump", "unmark"])
@pytest.mark.parametrize("is_registered", [True, False])
def test_a_void_record_goes_at_a_bump(node, request_, is_registered):
    """Who has not yet heard of the new incarnation must not go on trusting it."""
    minted(node, "v")
    if is_registered:
        forget(node)
    else:
        node(r.Remove(["dc:node"]))

    assert node(request_) is True

    assert kept(node) is None


def test_a_mark_replaces_a_void_record(node):
    minted(node, "v")
    node(r.Mark(["v"], DAY, HIS, LIFE))
    forget(node)

    node(r.Mark(["v"], DAY, MINE, LIFE))

    assert (kept(node)[:17], marks_of(kept(node))) == (version(B, 1) + b"d", [MINE])


# ---------------------------------------------------------------- leases and answers


def test_a_lease_has_one_holder_until_it_fills_or_gives_up(node):
    lease, rival = Lease("l", NONCE, HOUR), Lease("l", RIVAL, HOUR)

    assert node(r.Mint(["v"], DAY, lease, "k", 3)) == ([version(A, 1)], b"")
    assert node(r.Mint(["v"], DAY, rival, "k", 3)) == ([version(A, 1)], None)
    assert node(r.Mint([], DAY, rival, "k", 3)) == ([], None)
    assert 0 < node(r.TimeToLive("l")) <= HOUR
    assert node(r.Fill("k", b"answer", HOUR, "l", RIVAL)) is True
    assert node(r.Exists("l")) is True
    assert node(r.Fill("k", None, HOUR, "l", NONCE)) is True
    assert node(r.Exists("l")) is False
    assert node(r.Fetch("k")) == b"answer"
    assert 0 < node(r.TimeToLive("k")) <= HOUR
    assert node(r.Mint(["v"], DAY, rival, "k", 3)) == ([version(A, 1)], b"ans")


def test_scripts_that_a_server_has_lost_are_sent_again(scripted, send):
    assert send(r.Register(A, 0))[:2] == (A, 0)
    scripted.forget_scripts()
    assert send(r.Register(B, 0))[:2] == (A, 0)
    for request, expected in [
        (r.Mint(["v"], DAY, Lease("l", NONCE, HOUR), "k", 3), ([version(A, 1)], b"")),
        (r.Mark(["v"], DAY, MINE, LIFE), True),
        (r.Unmark(["v"], DAY, MINE), True),
        (r.Bump(["v"], DAY, MINE), True),
        (r.Fill("k", b"x", HOUR, "l", NONCE), True),
    ]:
        scripted.forget_scripts()
        assert send(request) == expected
        scripted.forget_scripts()
        assert type(scripted.run(gather((NODE, request)))[0]) is type(expected)


def test_many_records_are_one_request(node):
    names = [f"v{number}" for number in range(3000)]

    assert node(r.Mark(names, DAY, MINE, LIFE)) is True
    assert node(r.Bump(names, DAY, MINE)) is True
    assert len(set(minted(node, *names))) == 3000


def test_keys_and_tokens_of_any_bytes_are_kept_apart(node):
    token = bytes(range(248, 256))
    minted(node, "é {x} \r\n", "")

    node(r.Mark(["é {x} \r\n", ""], DAY, token, LIFE))

    assert marks_of(kept(node, "")) == marks_of(kept(node, "é {x} \r\n")) == [token]


# ---------------------------------------------------------------- failures


def test_a_failed_bump_owes_no_deletion(scripted):
    """Deleting a record takes the marks of others with it: what a bump missed is a bump."""
    scripted.kill(NODE)

    for request in (r.Mark(["v"], DAY, MINE, LIFE), r.Bump(["v"], DAY), r.Mint(["v"], DAY), r.Register(A, 0)):
        with pytest.raises(TransportError):
            scripted.run(ask(NODE, request))

    assert scripted.health.owed == []


def test_owed_bumps_are_noted(scripted):
    def op():
        yield OweBumps(NODE, ["v", "w"])
        yield OweBumps("cache-b", ["x"])

    scripted.run(op())

    assert sorted((node, tuple(sorted(keys))) for node, keys in scripted.health.owed_bumps) == [
        (NODE, ("v", "w")),
        ("cache-b", ("x",)),
    ]
