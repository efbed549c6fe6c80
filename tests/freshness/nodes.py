"""Do to nodes what memory pressure, operators and crashes do."""

import redis

from distcache_django.testing import LocalNode, LocalNodes
from distcache_django.testing.resp import ask


def evict(nodes: LocalNodes, pattern: str = "*") -> None:
    """Remove every key that has an expiry: the worst that a ``volatile-*`` policy can do."""
    for node in nodes.values():
        with redis.Redis(port=node.port) as client:
            volatile = [key for key in client.scan_iter(pattern, count=1000) if client.pttl(key) >= 0]
            if volatile:
                client.delete(*volatile)


def count_keys(nodes: LocalNodes, pattern: str) -> int:
    """Return how many keys there are whose names match a glob."""
    count = 0
    for node in nodes.values():
        with redis.Redis(port=node.port) as client:
            count += sum(1 for _ in client.scan_iter(pattern, count=1000))
    return count


def flush(nodes: LocalNodes) -> None:
    """Empty every node; its connections stay."""
    for node in nodes.values():
        assert ask(node.url, ("FLUSHALL",)) == [b"+OK"]


def save(node: LocalNode) -> None:
    """Write a snapshot, which the node loads when it starts again after ``kill``."""
    assert ask(node.url, ("SAVE",)) == [b"+OK"]


def restart(nodes: LocalNodes) -> None:
    """End every node as a crash does and start it: with its last snapshot, or empty where it made none."""
    for node in nodes.values():
        node.kill()
    nodes.start()


def fill_memory(node: LocalNode, *, megabytes: int) -> int:
    """Write values with an expiry until the node has evicted; return how many keys it has evicted."""
    with redis.Redis(port=node.port) as client:
        for number in range(megabytes * 100):
            client.set(f"flood:{number}", b"x" * 10_000, ex=600)
        return int(client.info("stats")["evicted_keys"])
