"""What a test may ask the nodes themselves, behind the backend's back."""

from collections.abc import Sequence
from typing import cast

import redis

# The connections of these questions carry a name, so that they are not counted among the site's.
OBSERVER = "observer"


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
        """Return the names of all keys on all nodes that match a glob."""
        found: set[str] = set()
        for client in self.clients(database):
            found.update(key.decode() for key in cast("list[bytes]", client.keys(pattern)))
        return found

    def pttl(self, suffix: str, database: int = 0) -> int:
        """Return the milliseconds the only key with this ending has left: -1 without expiry, -2 when missing."""
        answers = [
            client.pttl(name)
            for client in self.clients(database)
            for name in cast("Sequence[bytes]", client.keys(f"*{suffix}"))
        ]
        assert len(answers) < 2, f"{len(answers)} keys end with {suffix}"
        return answers[0] if answers else -2

    def ports(self) -> set[int]:
        """Return the port of each node."""
        return {int(url.rsplit(":", 1)[1]) for url in self.urls}

    def connections(self) -> int:
        """Return how many connections the nodes have between them, the observer's not counted."""
        entries = [entry for client in self.clients() for entry in client.client_list()]
        return sum(entry["name"] != OBSERVER for entry in entries)
