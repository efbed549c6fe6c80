"""Two processes of one benchmark talking: the one that keeps the servers, and the one that measures.

The measuring process is pinned, has its own Django settings and does nothing but measure; whatever needs
another hand (pausing a node, a fault proxy) is done by its parent at its request, so that it costs the
measured process nothing. Messages are lines of JSON: the job and the replies go to the worker's standard
input, progress, requests and the result come back over its standard output. Clocks are `time.monotonic_ns`,
which both share.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, TextIO

_ORPHANED = 70


class WorkerFailed(Exception):
    """The measuring process ended without a result."""


class Channel:
    """The worker's end. Ends the whole process as soon as its parent has gone."""

    def __init__(self, source: TextIO, sink: TextIO) -> None:
        self._sink = sink
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(source,), daemon=True).start()

    @classmethod
    def over_standard_streams(cls) -> Channel:
        """Take over standard input and output; what libraries print from now on goes to standard error."""
        sink = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        return cls(sys.stdin, sink)

    def _read(self, source: TextIO) -> None:
        for line in source:
            self._lines.put(line)
        os._exit(_ORPHANED)

    def receive(self) -> Any:
        """Wait for the next message of the parent: the job first, then replies."""
        return json.loads(self._lines.get())

    def progress(self, text: str) -> None:
        """Tell the reader what is going on."""
        self._send({"progress": text})

    def request(self, action: str, **arguments: Any) -> Any:
        """Have the parent do something and return its reply when it is done."""
        self._send({"request": action, "arguments": arguments})
        return self.receive()

    def finish(self, result: dict[str, Any]) -> None:
        """Hand the result over."""
        self._send({"result": result})

    def _send(self, message: dict[str, Any]) -> None:
        self._sink.write(json.dumps(message) + "\n")
        self._sink.flush()


Serve = Callable[[str, dict[str, Any]], Any]


def run_worker(job: dict[str, Any], progress: TextIO, serve: Serve | None = None) -> dict[str, Any]:
    """Run a job in a process of its own and return its result; ``serve`` does what the worker requests.

    Raises WorkerFailed when it ended without a result. It is ended on the way out, and ends with this
    process.
    """
    command = [sys.executable, "-m", "distcache_django.benchmark.worker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        try:
            result = converse(worker, job, progress, serve)
        finally:
            worker.kill()
    if result is None:
        raise WorkerFailed("the measuring process ended without a result; it says why above")
    return result


def converse(
    worker: subprocess.Popen[str], job: dict[str, Any], progress: TextIO, serve: Serve | None
) -> dict[str, Any] | None:
    """Give a worker its job, serve its requests, and return its result; ``None`` if it ended without one."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    _write(worker.stdin, job)
    for line in worker.stdout:
        message = json.loads(line)
        if "result" in message:
            return dict(message["result"])
        if "progress" in message:
            progress.write(f"  {message['progress']}\n")
            progress.flush()
        elif serve is not None:
            _write(worker.stdin, serve(message["request"], message["arguments"]))
    return None


def _write(sink: Any, message: Any) -> None:
    sink.write(json.dumps(message) + "\n")
    sink.flush()
