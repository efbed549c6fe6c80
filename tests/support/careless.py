"""A sharded cache as a first draft writes it: plausible, and wrong. The suites must refuse it.

It passes what a quick sequential test asks. Under several processes it loses increments and hands one lock to
two owners, and it gets Django's finer points wrong. A suite that lets it through has lost its teeth.
"""

import pickle
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import redis
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache


class CarelessCache(BaseCache):
    """Place keys by modulo and change values by reading and writing them back."""

    def __init__(self, location: str | list[str], params: dict[str, Any]) -> None:
        super().__init__(params)
        urls = location.split(",") if isinstance(location, str) else list(location)
        self._nodes = [redis.Redis.from_url(url) for url in urls]

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        value = self._node(key, version).get(self.make_key(key, version))  # mistake: the key is never validated
        return default if value is None else pickle.loads(cast("bytes", value))

    def set(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        seconds = self._seconds(timeout)  # mistake: a timeout of 0 becomes "for ever"
        self._node(key, version).set(self.make_key(key, version), pickle.dumps(value), ex=seconds or None)

    def add(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        if self.has_key(key, version):  # mistake: another process adds between the look and the write
            return False
        self.set(key, value, timeout, version)
        return True

    def has_key(self, key: str, version: int | None = None) -> bool:
        return self.get(key, version=version) is not None  # mistake: a cached None counts as missing

    def delete(self, key: str, version: int | None = None) -> bool:
        self._node(key, version).delete(self.make_key(key, version))
        return True  # mistake: claims to have deleted what was not there

    def incr(self, key: str, delta: int = 1, version: int | None = None) -> int:
        value = self.get(key, version=version)
        if value is None:
            raise ValueError(f"Key {key!r} not found")
        self.set(key, value + delta, version=version)  # mistake: loses updates, and resets the timeout
        return cast("int", value + delta)

    def touch(self, key: str, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        node, name, seconds = self._node(key, version), self.make_key(key, version), self._seconds(timeout)
        # Mistake: PERSIST answers 0 for a key that has no expiry, so an existing key is reported as missing.
        return bool(node.persist(name) if seconds is None else node.expire(name, seconds))

    def clear(self) -> None:
        for node in self._nodes:
            node.flushdb()  # mistake: takes the broker's keys and every other alias with it

    @contextmanager
    def lock(self, key: str, **_: object) -> Iterator[None]:
        """Hold a lock built on the `add` above."""
        deadline = time.monotonic() + 10
        while not self.add(key, 1, 10):
            if time.monotonic() > deadline:
                raise TimeoutError(key)
        try:
            yield
        finally:
            self.delete(key)

    def _node(self, key: str, version: int | None) -> "redis.Redis":
        return self._nodes[zlib.crc32(self.make_key(key, version).encode()) % len(self._nodes)]

    def _seconds(self, timeout: Any) -> int | None:
        deadline = cast("Callable[[Any], float | None]", self.get_backend_timeout)(timeout)
        return None if deadline is None else max(int(deadline - time.time()), 0)  # mistake: cuts 0.5 s down to 0
