"""Make timed calls: a slice of one contender at a time, every contender through the same loop.

The collector of reference cycles runs between slices and never inside one, equally for all. Each call is
timed on its own (two clock readings, about 0.1 µs, are part of every sample of every contender).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import shutil
import subprocess
import time
from array import array
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from distcache_django.benchmark.figures import Round

SOURCE = Path(__file__).with_name("get_loop.c")


class Runner(Protocol):
    """Makes ``calls`` calls in one go and says how long each took."""

    def run(self, calls: int) -> Round:
        """Run one slice."""
        ...


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class CallRunner:
    """Calls a function with the given argument tuples in turn."""

    def __init__(self, call: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> None:
        self._call = call
        self._arguments = cycle(arguments)

    def run(self, calls: int) -> Round:
        """Run one slice in this thread."""
        call, now, samples = self._call, time.perf_counter_ns, array("Q")
        record = samples.append
        chosen = list(islice(self._arguments, calls))
        with _collector_paused():
            cpu, start = time.process_time_ns(), now()
            for arguments in chosen:
                before = now()
                call(*arguments)
                record(now() - before)
            wall, cpu = now() - start, time.process_time_ns() - cpu
        return Round(samples, wall, cpu, calls)


class TaskRunner:
    """Awaits a coroutine function from many tasks of one event loop at once."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        call: Callable[..., Awaitable[Any]],
        arguments: Sequence[tuple[Any, ...]],
        tasks: int,
    ) -> None:
        self._loop = loop
        self._call = call
        self._arguments = arguments
        self._tasks = tasks

    def run(self, calls: int) -> Round:
        """Run one slice, spread evenly over the tasks and rounded up to one call for each."""
        each = max(1, calls // self._tasks)
        samples = array("Q")
        with _collector_paused():
            cpu, start = time.process_time_ns(), time.perf_counter_ns()
            self._loop.run_until_complete(self._all(each, samples))
            wall, cpu = time.perf_counter_ns() - start, time.process_time_ns() - cpu
        return Round(samples, wall, cpu, each * self._tasks)

    async def _all(self, each: int, samples: array[int]) -> None:
        await asyncio.gather(*(self._one(offset * 7, each, samples) for offset in range(self._tasks)))

    async def _one(self, offset: int, each: int, samples: array[int]) -> None:
        call, arguments, now, record = self._call, self._arguments, time.perf_counter_ns, samples.append
        size = len(arguments)
        for index in range(offset, offset + each):
            before = now()
            await call(*arguments[index % size])
            record(now() - before)


class CompilerMissing(Exception):
    """Nothing here can compile the C client."""


def compile_c_client(directory: Path) -> Path:
    """Compile the blocking C client into ``directory``; raises CompilerMissing without a working C
    compiler.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise CompilerMissing("not available: no C compiler found")
    target = directory / "get_loop"
    done = subprocess.run(
        [compiler, "-O2", "-o", str(target), str(SOURCE)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CompilerMissing(f"not available: {Path(compiler).name} failed: {done.stderr.strip()[:200]}")
    return target


class CRunner:
    """Drives the C client, a child process that inherits this process's cores; close it, or use it as a
    context.
    """

    def __init__(self, program: Path, port: int, keys: int) -> None:
        self._process = subprocess.Popen(
            [str(program), str(port), str(keys)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )

    def run(self, calls: int) -> Round:
        """Run one slice in the child; raises EOFError when it stopped, as it does on a bad reply."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"%d\n" % calls)
        wanted, parts = (calls + 1) * 8, bytearray()
        while len(parts) < wanted:
            part = os.read(self._process.stdout.fileno(), wanted - len(parts))
            if not part:
                raise EOFError("the C client stopped: it got no value, or lost its connection")
            parts += part
        samples = array("Q", bytes(parts))
        return Round(samples[:-1], samples[-1], None, calls)

    def close(self) -> None:
        """End the child; closing twice is harmless."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait(timeout=10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
