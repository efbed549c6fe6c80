"""What a test may ask the nodes themselves, behind the backend's back."""

import time
from collections.abc import Iterator, Sequence
from typing import cast

import redis

from distcache_django.core import record

# The connections of these questions carry a name, so that they are not counted among the site's.
OBSERVER = "observer"
# Milliseconds that pass between the questions to two nodes, at most.
COPIES_MAY_DIFFER = 1000


class Nodes:
    """The nodes of a test session: their addresses, and what plain clients see on them."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.urls = tuple(urls)
        self._clients: dict[int, list[redis.Redis]] = {}

    def at(self, count: int, database: int = 0) -> list[str]:
        """Return the URLs of the first `count` nodes, at one database."""
        return [f"{url}/{database}" for url in self.urls[:count]]

    def clients(self, database: int = 0) -> list["redis.Redis"]:
        """Return a plain client for each node."""
        if database not in self._clients:
            self._clients[database] = [
                redis.Redis.from_url(f"{url}/{database}", client_name=OBSERVER) for url in self.urls
            ]
        return self._clients[database]

    def close(self) -> None:
        """Close the clients; closing twice is harmless."""
        for clients in self._clients.values():
            for client in clients:
                client.close()

    def flush(self) -> None:
        """Empty every database of every node."""
        for client in self.clients():
            client.flushall()

    def keys(self, pattern: str = "*", database: int = 0) -> set[str]:
        """Return the names of all keys on all nodes that match a glob; what replication keeps of ended ones is none."""
        return {name for name, _ in self._left(pattern, database)}

    def pttl(self, suffix: str, database: int = 0) -> int:
        """Return the milliseconds the only key with this ending has left: -1 without expiry, -2 when missing.

        Copies of a key have to agree.
        """
        answers = [*self._left(f"*{suffix}", database)]
        assert len({name for name, _ in answers}) < 2, f"{len(answers)} keys end with {suffix}"
        ends = [left for _, left in answers]
        assert not ends or max(ends) - min(ends) < COPIES_MAY_DIFFER, f"copies of {suffix} end in {ends} ms"
        return ends[0] if ends else -2

    def _left(self, pattern: str, database: int) -> Iterator[tuple[str, int]]:
        """Yield each copy of each live key, and the milliseconds it has left."""
        for client in self.clients(database):
            names = [name for name in cast("list[bytes]", client.keys(pattern)) if not name.startswith(b"dc:p:")]
            for name, raw in zip(names, client.mget(names) if names else (), strict=True):
                left = client.pttl(name) if raw is None or raw[:1] != record.TAG else _left_of(cast("bytes", raw))
                if left != -2:
                    yield name.decode(), left

    def ports(self) -> set[int]:
        """Return the port of each node."""
        return {int(url.rsplit(":", 1)[1]) for url in self.urls}

    def connections(self) -> int:
        """Return how many connections the nodes have between them, the observer's not counted."""
        entries = [entry for client in self.clients() for entry in client.client_list()]
        return sum(entry["name"] != OBSERVER for entry in entries)


def _left_of(raw: bytes) -> int:
    """Return the milliseconds that a record has left; its node keeps it for longer."""
    found = record.parse(raw, None)
    now_ms = time.time() * 1000
    if found is None or not found.is_live(now_ms):
        return -2
    return round(found.expires_at - now_ms) if found.expires_at else -1
