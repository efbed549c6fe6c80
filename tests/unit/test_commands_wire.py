"""What goes over the wire for each request, and what its replies mean; no server, no socket."""

import hashlib

import hiredis
import pytest

from distcache_django.core import requests
from distcache_django.exceptions import NodeRefused, NotAnInteger
from distcache_django.transport import commands
from distcache_django.transport.commands import WIRES, ErrorReply, wires_without
from distcache_django.transport.health import NeedsFallback, decode

NONCE = b"nonce"
PLAIN = [
    (requests.Ping(), ["PING"]),
    (requests.Fetch("k"), ["GET k"]),
    (requests.Fetch("é"), ["GET é"]),
    (requests.FetchMany(["a", "b"]), ["MGET a b"]),
    (requests.Exists("k"), ["EXISTS k"]),
    (requests.TimeToLive("k"), ["PTTL k"]),
    (requests.Inspect("k"), ["GET k", "PTTL k"]),
    (requests.Store("k", b"v", None), ["SET k v"]),
    (requests.Store("k", 42, None), ["SET k 42"]),
    (requests.Store("k", -7, 1500), ["SET k -7 PX 1500"]),
    (requests.StoreIf("k", b"v", None, "NX"), ["SET k v NX"]),
    (requests.StoreIf("k", 42, 1500, "XX"), ["SET k 42 PX 1500 XX"]),
    (requests.StoreMany([("a", b"1"), ("b", 2)], None), ["MSETEX 2 a 1 b 2"]),
    (requests.StoreMany([("a", b"1"), ("b", 2)], 1500), ["MSETEX 2 a 1 b 2 PX 1500"]),
    (requests.Remove(["a", "b"]), ["UNLINK a b"]),
    (requests.Expire("k", 1500), ["PEXPIRE k 1500"]),
    (requests.Deadline("k", 99), ["PEXPIREAT k 99"]),
    (requests.Persist("k"), ["PERSIST k", "EXISTS k"]),
    (requests.Scan(5, "a*", 10), ["SCAN 5 MATCH a* COUNT 10"]),
]
SCRIPTS = [
    (requests.Increase("k", 3), ["1", "k", "3"]),
    (requests.Acquire("k", NONCE, 1500), ["1", "k", "nonce", "1500"]),
    (requests.Acquire("k", NONCE, None), ["1", "k", "nonce", "0"]),
    (requests.Release("k", NONCE), ["1", "k", "nonce"]),
    (requests.Prolong("k", NONCE, 1500, add=False), ["1", "k", "nonce", "1500", "0"]),
    (requests.Prolong("k", NONCE, 1500, add=True), ["1", "k", "nonce", "1500", "1"]),
]


def commands_in(payload):
    """Return the commands in some bytes, each as a list of words."""
    reader = hiredis.Reader()
    reader.feed(payload)
    found = []
    while (words := reader.gets()) is not False:
        found.append([word.decode() for word in words])
    return found


def decoded(request, reply, wire=None):
    return decode("cache-a", request, wire or WIRES[type(request)], reply)


@pytest.mark.parametrize(("request_", "expected"), PLAIN, ids=lambda value: str(value)[:40])
def test_a_request_travels_as_its_command(request_, expected):
    assert [" ".join(words) for words in commands_in(WIRES[type(request_)].encode(request_))] == expected


def test_every_request_class_has_a_wire():
    named = [getattr(requests, name) for name in requests.__all__]
    classes = {found for found in named if isinstance(found, type) and issubclass(found, requests.Request)}

    assert classes - {requests.Request} == set(WIRES)


@pytest.mark.parametrize("value", [b"", b"\r\n", b"$3\r\nabc\r\n", bytes(range(256)), b"x" * 100_000])
def test_bytes_travel_unchanged(value):
    reader = hiredis.Reader()
    for request in (
        requests.Store("k", value, None),
        requests.Store("k", value, 5),
        requests.StoreIf("k", value, 5, "NX"),
    ):
        reader.feed(WIRES[type(request)].encode(request))
        assert reader.gets()[2] == value


@pytest.mark.parametrize(("request_", "arguments"), SCRIPTS, ids=lambda value: str(value)[:40])
def test_a_script_goes_by_its_digest_and_falls_back_to_its_text(request_, arguments):
    wire = WIRES[type(request_)]
    assert wire.fallback is not None
    ((by_sha, sha, *rest),) = commands_in(wire.encode(request_))
    ((by_text, text, *same),) = commands_in(wire.fallback.encode(request_))

    assert (by_sha, by_text) == ("EVALSHA", "EVAL")
    assert rest == same == arguments
    assert sha == hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    with pytest.raises(NeedsFallback):
        decoded(request_, ErrorReply("NOSCRIPT No matching script."))
    with pytest.raises(NodeRefused):
        decoded(request_, ErrorReply("NOSCRIPT No matching script."), wire.fallback)


@pytest.mark.parametrize(
    ("request_", "reply", "value"),
    [
        (requests.Fetch("k"), b"v", b"v"),
        (requests.Fetch("k"), None, None),
        (requests.FetchMany(["a", "b"]), [b"v", None], [b"v", None]),
        (requests.Exists("k"), 1, True),
        (requests.Exists("k"), 0, False),
        (requests.TimeToLive("k"), -2, -2),
        (requests.Inspect("k"), [b"v", 12], (b"v", 12)),
        (requests.Store("k", b"v", None), b"OK", True),
        (requests.StoreIf("k", b"v", None, "NX"), b"OK", True),
        (requests.StoreIf("k", b"v", None, "NX"), None, False),
        (requests.StoreMany([("k", b"v")], None), 1, True),
        (requests.Remove(["k"]), 1, 1),
        (requests.Increase("k", 1), 7, 7),
        (requests.Increase("k", 1), None, None),
        (requests.Expire("k", 1), 1, True),
        (requests.Deadline("k", 1), 0, False),
        (requests.Persist("k"), [0, 1], (False, True)),
        (requests.Scan(0, "*", 1), [b"17", [b"k", b"\xff", "é".encode()]], (17, ["k", "é"])),
        (requests.Acquire("k", NONCE, None), b"123", 123),
        (requests.Acquire("k", NONCE, None), None, None),
        (requests.Release("k", NONCE), 1, True),
        (requests.Prolong("k", NONCE, 1, add=False), 0, False),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_reply_means_what_the_request_says(request_, reply, value):
    found = decoded(request_, reply)

    assert found == value
    assert type(found) is type(value) or request_.__class__ is requests.Store


@pytest.mark.parametrize(
    "request_", [request for request, _ in PLAIN + SCRIPTS], ids=lambda value: type(value).__name__
)
def test_an_error_reply_names_the_node_and_its_code(request_):
    wire = WIRES[type(request_)]
    error = ErrorReply("OOM command not allowed")
    reply = error if wire.replies is None else [error] * wire.replies(request_)

    with pytest.raises(NodeRefused) as caught:
        decoded(request_, reply)

    assert (caught.value.node, caught.value.code) == ("cache-a", "OOM")
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "message", ["ERR value is not an integer or out of range", "ERR increment or decrement would overflow"]
)
def test_counting_what_is_no_integer_is_the_callers_error(message):
    with pytest.raises(NotAnInteger, match="'k'"):
        decoded(requests.Increase("k", 1), ErrorReply(message))


def test_one_error_of_two_replies_fails_the_request():
    with pytest.raises(NodeRefused):
        decoded(requests.Inspect("k"), [b"v", ErrorReply("ERR what")])


MANY = requests.StoreMany([("a", b"1"), ("b", 2)], 5)


@pytest.mark.parametrize("message", ["ERR unknown command 'MSETEX', with args", "NOPERM User has no permissions"])
def test_a_server_without_msetex_gets_a_set_for_each(message):
    with pytest.raises(NeedsFallback):
        decoded(MANY, ErrorReply(message))
    wire = wires_without(WIRES, requests.StoreMany)[requests.StoreMany]

    assert [" ".join(words) for words in commands_in(wire.encode(MANY))] == ["SET a 1 PX 5", "SET b 2 PX 5"]
    assert wire.replies is not None
    assert wire.replies(MANY) == 2
    assert decoded(MANY, [b"OK", b"OK"], wire) == [True, True]
    assert decoded(MANY, [b"OK", ErrorReply("OOM full")], wire) == [True, False]
    with pytest.raises(NodeRefused):
        decoded(MANY, [ErrorReply("OOM full")] * 2, wire)


def test_other_requests_keep_their_wires_when_one_falls_back():
    wires = wires_without(WIRES, requests.StoreMany)

    assert {name for name in WIRES if wires[name] is not WIRES[name]} == {requests.StoreMany}
    assert wires_without(wires, requests.StoreMany) is wires
    assert wires_without(WIRES, requests.Fetch) is WIRES


def test_what_may_be_sent_twice_is_what_does_nothing_the_second_time():
    once = {request for request in WIRES if not request.repeatable}

    assert once == {requests.StoreIf, requests.Increase, requests.Release, requests.Prolong}


@pytest.mark.parametrize(
    ("request_", "keys"),
    [
        (requests.Fetch("k"), []),
        (requests.Store("k", b"v", None), ["k"]),
        (requests.StoreIf("k", b"v", None, "XX"), ["k"]),
        (requests.StoreIf("k", b"v", None, "NX"), []),
        (MANY, ["a", "b"]),
        (requests.Expire("k", 1), []),
        (requests.Expire("k", 0), ["k"]),
        (requests.Expire("k", -1), ["k"]),
        (requests.Remove(["a", "b"]), ["a", "b"]),
        (requests.Increase("k", 1), []),
        (requests.Acquire("k", NONCE, 1), []),
        (requests.Release("k", NONCE), []),
        (requests.Prolong("k", NONCE, 1, add=False), []),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_what_was_to_be_replaced_is_deleted_after_a_failure(request_, keys):
    assert list(request_.replaces) == keys


def test_errors_that_mean_that_a_node_does_not_serve_are_known():
    assert {"LOADING", "NOAUTH", "MASTERDOWN"} <= commands.NOT_SERVING
    assert "OOM" not in commands.NOT_SERVING
