"""A cache whose blocking calls are answered by the awaited twins of another backend.

Suites that were written for blocking caches (Django's own among them) then exercise `aget`, `aset` and the rest
as they are. The backend under test is held, not inherited from: a twin that falls back to a blocking method must
reach that backend's method, not this one's.
"""

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Self

from django.utils.module_loading import import_string

_runner: asyncio.Runner | None = None


@contextmanager
def event_loop() -> Iterator[None]:
    """Give every awaited call inside the block one event loop of its own."""
    global _runner
    with asyncio.Runner() as runner:
        outer, _runner = _runner, runner
        try:
            yield
        finally:
            _runner = outer


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on the loop of the innermost `event_loop` block, or on one made for it alone."""
    return asyncio.run(coroutine) if _runner is None else _runner.run(coroutine)


class AwaitedCache:
    """Route each method `m` to the awaited `am` of the backend named by the setting `AWAITED`."""

    def __init__(self, location: object, params: dict[str, Any]) -> None:
        params = dict(params)
        backend = import_string(params.pop("AWAITED"))
        object.__setattr__(self, "awaited", backend(location, params))

    def __getattr__(self, name: str) -> Any:
        twin = getattr(self.awaited, f"a{name}", None)
        return _routed(twin) if callable(twin) else getattr(self.awaited, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self.awaited, name, value)

    def __contains__(self, key: str) -> bool:
        return bool(run(self.awaited.ahas_key(key)))


class AwaitedLock:
    """Route a lock's methods, and `with`, to an asynchronous lock."""

    def __init__(self, lock: Any) -> None:
        self.awaited = lock

    def __getattr__(self, name: str) -> Any:
        member = getattr(self.awaited, name)
        return _routed(member) if callable(member) else member

    def __enter__(self) -> Self:
        run(self.awaited.__aenter__())
        return self

    def __exit__(self, *error: object) -> None:
        run(self.awaited.__aexit__(*error))


def _routed(twin: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        return _blocking(twin(*args, **kwargs))

    return call


def _blocking(answer: Any) -> Any:
    if inspect.isasyncgen(answer):
        return run(_collected(answer))
    if inspect.iscoroutine(answer):
        return run(answer)
    return AwaitedLock(answer) if hasattr(answer, "__aenter__") else answer


async def _collected(items: Any) -> list[Any]:
    return [item async for item in items]
