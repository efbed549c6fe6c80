"""Run server processes that never outlive the process that started them.

Linux delivers a child's death signal when the *thread* that forked it ends. All children are therefore
started by one daemon thread that lives as long as the process: a server started from a short-lived thread
(a test with a thread pool, a live server) stays up. Invariants:

* a child is tied to its parent before its program runs (see ``tether``);
* only the process that started a child signals it: a forked copy of the owner leaves it alone;
* what is still running when the interpreter ends is killed.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

from distcache_django.exceptions import DistcacheError
from distcache_django.testing import tether

__all__ = ["MissingServer", "ServerFailed", "TetheredProcess", "reserve_port"]

_SPAWN_TIMEOUT = 30.0


class MissingServer(DistcacheError, RuntimeError):
    """Report a server program that is not installed or may not be run here; the message says what to do."""


class ServerFailed(DistcacheError, RuntimeError):
    """Report a server that ended, did not become ready in time, or is not in the state that was asked for."""


def reserve_port() -> socket.socket:
    """Return a socket bound to a free loopback port, which keeps the port from others until it is closed.

    The socket does not listen, so connections are refused, and a server that sets ``SO_REUSEADDR`` can listen
    on the port beside it. Without it a client that keeps connecting to a dead server could be given the very
    port as its own and connect to itself, and the restarted server would find its port in use.
    """
    reservation = socket.socket()
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reservation.bind(("127.0.0.1", 0))
    return reservation


_Start = Callable[[], subprocess.Popen[bytes]]


class _Spawner:
    """Fork every child from one thread that ends only with the process."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[_Start, Future[subprocess.Popen[bytes]]]] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="distcache-testing-spawner", daemon=True).start()

    def spawn(self, start: _Start) -> subprocess.Popen[bytes]:
        future: Future[subprocess.Popen[bytes]] = Future()
        self._jobs.put((start, future))
        return future.result(_SPAWN_TIMEOUT)

    def _serve(self) -> None:
        while True:
            start, future = self._jobs.get()
            try:
                future.set_result(start())
            except Exception as error:  # noqa: BLE001 - handed to the thread that asked
                future.set_exception(error)


_spawner: _Spawner | None = None
_spawner_lock = threading.Lock()  # guards _spawner


def _get_spawner() -> _Spawner:
    global _spawner  # noqa: PLW0603 - one per process; a forked child makes its own
    with _spawner_lock:
        if _spawner is None:
            _spawner = _Spawner()
        return _spawner


def _forget_after_fork() -> None:
    global _spawner, _spawner_lock  # noqa: PLW0603 - the thread is not part of the forked child
    _spawner = None
    _spawner_lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_after_fork)


def _end_forgotten(popen: subprocess.Popen[bytes], program: str, owner: int) -> None:
    """End a process nobody stopped: its object was collected, or the interpreter ends."""
    if os.getpid() != owner or popen.poll() is not None:
        return
    popen.kill()
    popen.wait(_SPAWN_TIMEOUT)
    warnings.warn(f"{program} (pid {popen.pid}) was not stopped", ResourceWarning, stacklevel=2)


class TetheredProcess:
    """Own one child process that dies with this one; thread-safe as far as ``subprocess.Popen`` is.

    ``death_signal`` is what the child gets when this process ends. The child leads its own session, so Ctrl-C
    at a terminal reaches only the owner, which then ends it in its own order.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        directory: Path,
        death_signal: signal.Signals = signal.SIGKILL,
        user: tuple[int, int] | None = None,
    ) -> None:
        uid, gid = user or ("-", "-")
        prefix = [sys.executable, "-I", "-S", tether.__file__, os.getpid(), int(death_signal), uid, gid]
        arguments = [str(part) for part in (*prefix, *command)]
        self.program = Path(command[0]).name
        self._log = log
        self._owner = os.getpid()

        def start() -> subprocess.Popen[bytes]:
            with log.open("ab") as output:
                return subprocess.Popen(
                    arguments,
                    cwd=directory,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )

        self._popen = _get_spawner().spawn(start)
        # Finalizers run in the reverse order of creation when the interpreter ends: a server goes before the
        # directory that was made for it.
        self._finalizer = weakref.finalize(self, _end_forgotten, self._popen, self.program, self._owner)

    @property
    def pid(self) -> int:
        """Give the process id of the program (the tether replaces itself by it)."""
        return self._popen.pid

    @property
    def is_owned(self) -> bool:
        """Tell whether this process started the child, rather than a parent this one was forked from."""
        return os.getpid() == self._owner

    def is_running(self) -> bool:
        """Tell whether the process exists; a paused one does."""
        return self.is_owned and self._popen.poll() is None

    def wait(self, timeout: float) -> int:
        """Return the exit code, negative for a signal; kill what has not ended after ``timeout`` seconds."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            return self._popen.wait(timeout)
        finally:
            self._finalizer.detach()

    def log_tail(self, lines: int = 12) -> str:
        """Return the last lines of what the process wrote."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    def send(self, number: signal.Signals) -> None:
        """Send a signal; do nothing to a process that has ended or belongs to another owner."""
        if self.is_running():
            self._popen.send_signal(number)

    def pause(self) -> None:
        """Stop the process (SIGSTOP) and return when it is stopped."""
        if not self.is_running():
            raise ServerFailed(f"{self.program} is not running and cannot be paused")
        self._popen.send_signal(signal.SIGSTOP)
        # WNOWAIT leaves the exit status to Popen. A second pause finds the first one's report.
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Let a paused process run on (SIGCONT)."""
        self.send(signal.SIGCONT)

    def kill(self) -> None:
        """End the process at once (SIGKILL), paused or not, and reap it."""
        self.send(signal.SIGKILL)
        if self.is_owned:
            self.wait(_SPAWN_TIMEOUT)

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = 5.0) -> None:
        """Ask the process to end and kill it after ``timeout`` seconds; a paused one is woken first."""
        self.send(number)
        self.send(signal.SIGCONT)
        if self.is_owned:
            self.wait(timeout)
