"""``DistributedCache``: the backend that sites name in ``CACHES``, with a native async twin of every method."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from inspect import isawaitable
from typing import Any, TypeVar

from django.core.cache.backends.base import DEFAULT_TIMEOUT

from distcache_django.backends.face import SyncCache, _condition
from distcache_django.backends.keys import Unseen
from distcache_django.backends.locks import AsyncLock
from distcache_django.freshness.loading import service_for

__all__ = ["DistributedCache"]

T = TypeVar("T")


class DistributedCache(SyncCache):
    """Be a Django cache over several Redis or Valkey nodes.

    Every key has one owner, found by consistent hashing. An operation takes at most ``DEADLINE`` seconds; a node
    that does not answer costs a thread that once, and then its keys are misses until it is back
    (``ON_UNAVAILABLE``, ``ON_NODE_DOWN``). Nothing that was overwritten or deleted meanwhile comes back with it.

    Objects are light and may be made anywhere; links and the health of nodes are shared by the process. The
    ``a...`` twins run on the calling event loop and share its multiplexed links; they promise what their
    synchronous twins promise.
    """

    async def aget(self, key: Any, default: Any = None, version: Any = None) -> Any:
        """Be ``get`` for coroutines."""
        return await self._arun(self._ops.get(key, default, version))

    async def aset(  # type: ignore[override]  # it says what became of the request
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: Any = None,
        *,
        nx: bool = False,
        xx: bool = False,
    ) -> bool:
        """Be ``set`` for coroutines."""
        return bool(await self._arun(self._ops.set(key, value, timeout, version, _condition(nx, xx))))

    async def aadd(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> bool:
        """Be ``add`` for coroutines."""
        return bool(await self._arun(self._ops.add(key, value, timeout, version)))

    async def atouch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> bool:
        """Be ``touch`` for coroutines."""
        return bool(await self._arun(self._ops.touch(key, timeout, version)))

    async def adelete(self, key: Any, version: Any = None) -> bool:
        """Be ``delete`` for coroutines."""
        return bool(await self._arun(self._ops.delete(key, version)))

    async def ahas_key(self, key: Any, version: Any = None) -> bool:
        """Be ``has_key`` for coroutines."""
        return bool(await self._arun(self._ops.has_key(key, version)))

    async def aget_many(self, keys: Iterable[Any], version: Any = None) -> dict[Any, Any]:
        """Be ``get_many`` for coroutines."""
        found: dict[Any, Any] = await self._arun(self._ops.get_many(keys, version))
        return found

    async def aset_many(
        self, data: Mapping[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: Any = None
    ) -> list[Any]:
        """Be ``set_many`` for coroutines."""
        failed: list[Any] = await self._arun(self._ops.set_many(data, timeout, version))
        return failed

    async def adelete_many(self, keys: Iterable[Any], version: Any = None) -> None:
        """Be ``delete_many`` for coroutines."""
        await self._arun(self._ops.delete_many(keys, version))

    async def aget_or_set(self, key: Any, default: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> Any:
        """Be ``get_or_set`` for coroutines; what a callable ``default`` returns is awaited if it can be."""
        return await self._arun(self._ops.get_or_set(key, default, timeout, version))

    async def aget_or_load(
        self,
        key: Any,
        load: Callable[[], Awaitable[T] | T],
        timeout: Any = DEFAULT_TIMEOUT,
        depends_on: Iterable[Any] = (),
        version: Any = None,
    ) -> T:
        """Be ``get_or_load`` for coroutines; what ``load`` returns is awaited if it can be."""
        name, dependencies, seconds = self._wanted(key, depends_on, timeout, version)
        service = service_for(self._runtime, self._ops.keys.own, dependencies)
        if service is not None and seconds > 0:
            return await service.aanswer(name, dependencies, load, seconds)
        loaded = load()
        return await loaded if isawaitable(loaded) else loaded

    async def aincr(self, key: Any, delta: int = 1, version: Any = None) -> int:
        """Be ``incr`` for coroutines."""
        return int(await self._arun(self._ops.incr(key, delta, version)))

    async def adecr(self, key: Any, delta: int = 1, version: Any = None) -> int:
        """Be ``decr`` for coroutines."""
        return int(await self._arun(self._ops.incr(key, -delta, version)))

    async def aincr_version(self, key: Any, delta: int = 1, version: Any = None) -> int:
        """Be ``incr_version`` for coroutines."""
        return int(await self._arun(self._ops.incr_version(key, delta, version)))

    async def adecr_version(self, key: Any, delta: int = 1, version: Any = None) -> int:
        """Be ``decr_version`` for coroutines."""
        return int(await self._arun(self._ops.incr_version(key, -delta, version)))

    async def aclear(self) -> bool:  # type: ignore[override]  # it says what became of the request
        """Be ``clear`` for coroutines."""
        return bool(await self._arun(self._ops.clear()))

    async def aclose(self, **kwargs: Any) -> None:
        """Do nothing, as ``close``."""

    async def attl(self, key: Any, version: Any = None) -> int | None:
        """Be ``ttl`` for coroutines."""
        left: int | None = await self._arun(self._extras.ttl(key, version))
        return left

    async def apttl(self, key: Any, version: Any = None) -> int | None:
        """Be ``pttl`` for coroutines."""
        left: int | None = await self._arun(self._extras.pttl(key, version))
        return left

    async def apersist(self, key: Any, version: Any = None) -> bool:
        """Be ``persist`` for coroutines."""
        return bool(await self._arun(self._extras.persist(key, version)))

    async def aexpire(self, key: Any, timeout: Any, version: Any = None) -> bool:
        """Be ``expire`` for coroutines."""
        return bool(await self._arun(self._extras.expire(key, timeout, version)))

    async def apexpire(self, key: Any, timeout: Any, version: Any = None) -> bool:
        """Be ``pexpire`` for coroutines."""
        return bool(await self._arun(self._extras.pexpire(key, timeout, version)))

    async def aexpire_at(self, key: Any, when: Any, version: Any = None) -> bool:
        """Be ``expire_at`` for coroutines."""
        return bool(await self._arun(self._extras.expire_at(key, when, version)))

    async def apexpire_at(self, key: Any, when: Any, version: Any = None) -> bool:
        """Be ``pexpire_at`` for coroutines."""
        return bool(await self._arun(self._extras.pexpire_at(key, when, version)))

    async def akeys(self, search: str = "*", version: Any = None) -> list[str]:
        """Be ``keys`` for coroutines."""
        found: list[str] = await self._arun(self._extras.keys(search, version))
        return found

    async def aiter_keys(self, search: str = "*", version: Any = None, *, itersize: int = 1000) -> AsyncIterator[str]:
        """Be ``iter_keys`` for coroutines."""
        unseen = Unseen(self.topology)
        for node in self.topology.node_names:
            cursor = 0
            while True:
                cursor, found = await self._arun(self._extras.page(node, cursor, search, version, itersize))
                for key in unseen(found):
                    yield key
                if not cursor:
                    break

    async def adelete_pattern(
        self, pattern: str, version: Any = None, prefix: str | None = None, *, itersize: int = 1000
    ) -> int:
        """Be ``delete_pattern`` for coroutines."""
        return int(await self._arun(self._extras.delete_pattern(pattern, version, prefix, itersize)))

    def alock(
        self,
        key: Any,
        version: Any = None,
        timeout: float | None = None,
        sleep: float = 0.1,
        blocking: bool = True,
        blocking_timeout: float | None = None,
    ) -> AsyncLock:
        """Return a lock on ``key`` for coroutines, not yet taken; see ``lock``."""
        return AsyncLock(
            self._arun,
            self._runtime.coordinator,
            self._ops.keys.full(key, version),
            timeout=timeout,
            sleep=sleep,
            blocking=blocking,
            blocking_timeout=blocking_timeout,
        )

    async def aput(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> bool:
        """Be ``aset``, by its other name."""
        return await self.aset(key, value, timeout, version)

    async def ahandle_node_failure(self, name: str) -> None:
        """Be ``handle_node_failure`` for coroutines."""
        self._runtime.cluster.handle_node_failure(name)
