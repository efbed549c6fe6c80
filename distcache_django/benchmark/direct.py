"""Ask a node directly, past every cache under test: what it is, what it holds.

What judges a client must not share its code, and the benchmark must be able to look at a node that the
client believes to be down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from distcache_django.testing.resp import ask

_TIMEOUT = 5.0


def server_version(url: str) -> str:
    """Return the server's name and version, as ``valkey 9.1.2``."""
    (info,) = ask(url, ("INFO", "server"), timeout=_TIMEOUT)
    fields = dict(line.split(":", 1) for line in info.decode(errors="replace").splitlines() if ":" in line)
    name = "valkey" if "valkey_version" in fields else "redis"
    return f"{name} {fields.get(f'{name}_version', '?')}"


def store(url: str, entries: Mapping[str, str]) -> None:
    """Store plain strings on a node."""
    ask(url, *(("SET", key, value) for key, value in entries.items()), timeout=_TIMEOUT)


def held(url: str, keys: Sequence[str], *, timeout: float = _TIMEOUT) -> frozenset[str]:
    """Return which of the keys a node holds; one round trip. Raises OSError when it does not answer."""
    replies = ask(url, *(("EXISTS", key) for key in keys), timeout=timeout)
    return frozenset(key for key, reply in zip(keys, replies, strict=True) if reply == b":1")


def remove(url: str, key: str) -> None:
    """Remove a key from a node; raises OSError when it does not answer."""
    ask(url, ("DEL", key), timeout=_TIMEOUT)
