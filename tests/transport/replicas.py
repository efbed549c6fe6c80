"""The requests on replicated records, with what most tests do not care about filled in."""

from distcache_django.core import requests as r
from distcache_django.core.fence import Fence
from distcache_django.core.record import COUNTER, VALUE, Counter, Record, parse

NODE = "cache-a"
HOUR, DAY = 3_600_000, 86_400_000
DRIFT = 500
A, B = b"A-incarn", b"B-incarn"
TOPOLOGY = b"topology"
FOREVER = 2**52
GONE, AWAY = b"gone", b"\xff\x00aw"


def stamp(ms, count=0, actor=b"actor1"):
    return ms.to_bytes(6) + count.to_bytes(2) + actor


OLD, STAMP, NEW = stamp(1), stamp(2), stamp(3)


def outcome(send, request):
    reply = send(request)
    assert isinstance(reply, r.Scripted)
    return reply.outcome


def value(at=STAMP, payload=b"value", kind=VALUE, **changes):
    return Record(kind, at, payload=payload, **changes)


def put(record, key="k", *, ttl_ms=None, absent=b"", slot=0, not_after_ms=FOREVER, topology=TOPOLOGY, **options):
    item = r.PutItem(key, record.pack(), ttl_ms, absent, slot)
    return r.Put([item], topology, not_after_ms, DRIFT, **options)


def stored(send, record, **options):
    """Return the answer to storing one record."""
    (answer,) = outcome(send, put(record, **options))
    return answer


def prepare(ballot, key="k", **changes):
    given = {"topology": TOPOLOGY, "not_after_ms": FOREVER, "drift_ms": DRIFT, "grace_ms": HOUR}
    return r.Prepare(key, ballot, **{**given, **changes})


def raised(plus=1, minus=0, base=STAMP, field=b"field--1", **changes):
    given = {"absent": b"", "slot": 0, "topology": TOPOLOGY, "not_after_ms": FOREVER}
    return r.Raise("k", base, field, plus, minus, **{**given, **changes})


def void(*items):
    return r.Void(items, TOPOLOGY, FOREVER)


def settle(tag, *items, slots=()):
    return r.Settle(tag, items, slots, TOPOLOGY)


def kept(send, key="k"):
    """Return the record of a key as the node keeps it."""
    return parse(send(r.Fetch(key)))


def fence(send):
    found = Fence.parse(send(r.Fetch("dc:node")))
    assert found is not None
    return found


def missed(send, tag=GONE):
    """Return what is noted for a node as it is listed: keys, slots with their serials."""
    _, found, slots = send(r.Missed(tag, 0, 1000))
    return found, slots


def marks(send, tag=GONE):
    """Return what is noted for a node: keys with their stamps, and slots."""
    found, slots = missed(send, tag)
    return {each.key: each.stamp for each in found}, {*slots}


def noted(send, *items):
    return outcome(send, r.Noted(items, TOPOLOGY))


def serial(number):
    return number.to_bytes(8)


def forget(send):
    """Have the node take another incarnation, as a server that was restarted with its data does."""
    old = send(r.Fetch("dc:node"))
    send(r.Store("dc:node", old[:9] + b"f" * 40 + old[49:], None))
    assert send(r.Register(B, 0, TOPOLOGY))[0] == B


def all_kinds():
    """Return one request of each kind that changes something."""
    return [
        put(value(NEW), absent=GONE),
        prepare(NEW),
        raised(absent=GONE),
        void(("k", NEW)),
        settle(AWAY, r.Noticed("k", STAMP, serial(1)), slots=[(1, 2)]),
        r.Rise(A, TOPOLOGY),
    ]


def snapshot(scripted, send):
    """Return all keys that a node has, with their values."""
    return {key: send(r.Fetch(key)) for key in scripted.keys(NODE)}


def counter(fields=(), folded=(), base=0, at=STAMP):
    return value(at, Counter(base, dict(fields), dict(folded)).pack(), COUNTER)


def counted(send):
    return Counter.parse(kept(send).payload)
