"""Start the demo's own processes so that none of them outlives it, however it ends."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from distcache_django.testing import tether

PROJECT = Path(__file__).resolve().parents[2]
STOP_TIMEOUT = 8.0


class ProcessFailed(Exception):
    """A process of the demo ended with an error; the message holds the end of its output."""


class Child:
    """A Python process that Linux kills when this one ends; Ctrl-C at the terminal does not reach it.

    Start it from the main thread: the death signal is tied to the thread that starts the process.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        passed: Sequence[int] = (),
        is_piped: bool = False,
    ) -> None:
        self._log = log
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                [*_tether(), sys.executable, *arguments],
                cwd=PROJECT,
                env={**os.environ, **environment},
                stdin=subprocess.PIPE if is_piped else subprocess.DEVNULL,
                stdout=subprocess.PIPE if is_piped else output,
                stderr=output,
                pass_fds=tuple(passed),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Give the process id."""
        return self._popen.pid

    def order(self, orders: Mapping[str, Any]) -> None:
        """Send the process, which was started with pipes, one line of JSON."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(json.dumps(orders).encode() + b"\n")
        self._popen.stdin.flush()

    def answers(self, *, is_last: bool = False) -> Iterator[dict[str, Any]]:
        """Give the lines of JSON that it prints until it ends; `is_last`: tell it first that no order follows."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        if is_last:
            self._popen.stdin.close()
        for line in self._popen.stdout:
            yield json.loads(line)

    def is_running(self) -> bool:
        """Tell whether the process exists."""
        return self._popen.poll() is None

    def finish(self) -> None:
        """Wait for the end; raise `ProcessFailed` when it was not a success."""
        if self._popen.wait():
            raise ProcessFailed(f"a process ended with {self._popen.returncode}:\n{self.log_tail()}")

    def stop(self) -> None:
        """Ask the process to end, then make it end; harmless when it has ended."""
        if self.is_running():
            self._popen.terminate()
            try:
                self._popen.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                pipe.close()

    def log_tail(self, lines: int = 15) -> str:
        """Give the last lines of the process's log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])


def _tether() -> list[str]:
    """Give the words before a command that make it end with this process."""
    return [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), str(int(signal.SIGKILL)), "-", "-"]
