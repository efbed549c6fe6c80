"""One process on nodes in memory: two records, an answer beside the first of them and one away from both."""

import itertools

from distcache_django.core.freshness import LOAD, RECORD_PREFIX, Lease, Versions

NAMES = ("a", "b", "c")
R1, R2 = f"{RECORD_PREFIX}1", f"{RECORD_PREFIX}2"
#: Answer ``k`` is beside the first record and away from the second; ``far`` is away from both. The names of leases
#: would put them elsewhere.
OWNERS = {"k": "a", R1: "a", R2: "b", "far": "c", "k:lease": "c", "far:lease": "a"}
MARK_MS = 5000
MINE, HIS = b"my-token", b"histoken"


class Site:
    """Run what a process does, and count its round trips."""

    def __init__(self, nodes):
        self.nodes = nodes
        self.wall_skew = 0.0
        count = itertools.count(1)
        self.versions = Versions(
            OWNERS.__getitem__,
            nodes.generations.__getitem__,
            clock=lambda: nodes.now - 1_600_000_000,
            wall=lambda: nodes.now + self.wall_skew,
            random=lambda size: next(count).to_bytes(size),
            mark_ms=MARK_MS,
        )

    def asked(self, op):
        """Return the result of an Op and what it has asked, as (node, kind of request)."""
        self.nodes.requests.clear()
        result = self.nodes.run(op)
        return result, [(node, type(request).__name__) for node, request in self.nodes.requests]

    def begin(self, key="k", records=(R1,), nonce=b"one"):
        lease = nonce and Lease(f"{key}:lease", nonce, 3000)
        return self.nodes.run(self.versions.begin(self.versions.look(key, records), lambda: lease))

    def fill(self, begun, payload=b"answer", key="k", nonce=b"one"):
        lease = Lease(f"{key}:lease", nonce, 3000)
        return self.nodes.run(self.versions.fill(key, payload, begun.versions, 60_000, lease))

    def store(self, **about):
        """Have an answer stored; ends the quarantine of nodes that were not registered."""
        self.begin(**about)
        self.nodes.advance(MARK_MS / 1000)
        begun = self.begin(**about)
        assert begun.state is LOAD
        about.pop("records", None)
        assert self.fill(begun, **about)

    def mark(self, *records, token=MINE):
        return self.nodes.run(self.versions.mark(records, token))

    def bump(self, *records, token=MINE):
        return self.nodes.run(self.versions.bump(records, token))
