"""Own one real Valkey or Redis node on loopback, and break it in every way."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self
from urllib.parse import quote

from distcache_django.testing.processes import ServerFailed, TetheredProcess, reserve_port
from distcache_django.testing.programs import ServerKind, server_program
from distcache_django.testing.resp import ask
from distcache_django.testing.scratch import ScratchDirectory

__all__ = ["LocalNode"]

_START_TIMEOUT = 10.0
_POLL_INTERVAL = 0.005
_ANSWER_TIMEOUT = 0.5
_PORT_ATTEMPTS = 5
_DEFAULT_CONFIG: Mapping[str, str] = {
    "bind": "127.0.0.1",
    "save": "",
    "appendonly": "no",
    # A replica's first synchronisation would otherwise wait 5 s for others to join it.
    "repl-diskless-sync-delay": "0",
    "daemonize": "no",
}


class LocalNode:
    """Own one server process, its port and its directory, until ``close()``.

    The port stays the node's from the first start to ``close()``, whether or not the server runs. ``config``
    holds directives of the server's configuration file; ``{"appendonly": "yes"}`` makes the node persistent.
    With ``directory`` the files are kept there and not removed. Not for several threads at once.
    """

    def __init__(
        self,
        name: str,
        *,
        server: ServerKind = "valkey",
        config: Mapping[str, str] | None = None,
        password: str | None = None,
        directory: Path | None = None,
    ) -> None:
        self.name = name
        self.server = server
        self.config = {**_DEFAULT_CONFIG, **(config or {})}
        self._password = password
        self._given_directory = directory
        self._process: TetheredProcess | None = None
        self._scratch: ScratchDirectory | None = None
        self._reservation: socket.socket | None = None
        self._owner = os.getpid()

    def __repr__(self) -> str:
        state = f"pid {self._process.pid}" if self._process and self.is_running() else "down"
        return f"<LocalNode {self.name} {state}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def port(self) -> int:
        """Give the node's port, which it keeps over restarts; a node that never started has none."""
        if self._reservation is None:
            raise ServerFailed(f"node {self.name} has not been started and has no port")
        return int(self._reservation.getsockname()[1])

    @property
    def url(self) -> str:
        """Give the node's ``redis://`` URL, with the password where it has one."""
        credentials = f":{quote(self._password, safe='')}@" if self._password else ""
        return f"redis://{credentials}127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Give the process id of the server; a node that is down has none."""
        if self._process is None or not self._process.is_running():
            raise ServerFailed(f"node {self.name} is down and has no process")
        return self._process.pid

    @property
    def is_persistent(self) -> bool:
        """Tell whether the node writes an append-only file."""
        return self.config["appendonly"] == "yes"

    def is_running(self) -> bool:
        """Tell whether the process exists; a paused one does."""
        return self._process is not None and self._process.is_running()

    def start(self) -> None:
        """Start the server and return when it answers; do nothing when it runs.

        A first start picks a free port, and another one when somebody else took it meanwhile. Raises
        MissingServer, or ServerFailed with the end of the server's log.
        """
        if os.getpid() != self._owner:
            raise ServerFailed(f"node {self.name} belongs to process {self._owner}, not to this fork of it")
        if self.is_running():
            return
        is_new = self._reservation is None
        attempts = _PORT_ATTEMPTS if is_new else 1
        try:
            while not self._start_once(is_last=attempts == 1):
                attempts -= 1
        except BaseException:
            self.close() if is_new else self.kill()
            raise

    def wait_ready(self, timeout: float = _START_TIMEOUT) -> None:
        """Return when the server answers and has loaded its data; after ``timeout`` s raise ServerFailed."""
        deadline = time.monotonic() + timeout
        process = self._process
        if process is None:
            raise ServerFailed(f"node {self.name} has not been started")
        while not self._answers(process, min(_ANSWER_TIMEOUT, timeout)):
            if not process.is_running():
                raise ServerFailed(f"node {self.name} is down:\n{process.log_tail()}")
            if time.monotonic() > deadline:
                raise ServerFailed(f"node {self.name} did not answer in {timeout:g} s:\n{process.log_tail()}")
            time.sleep(_POLL_INTERVAL)

    def stop(self) -> None:
        """Shut the server down in good order, paused or not; its files stay until ``close()``."""
        if self._process is not None:
            self._process.stop(signal.SIGTERM)

    def kill(self) -> None:
        """End the server at once (SIGKILL), as a crash does."""
        if self._process is not None:
            self._process.kill()

    def pause(self) -> None:
        """Freeze the server (SIGSTOP): its port accepts connections and nothing is answered."""
        if self._process is None:
            raise ServerFailed(f"node {self.name} is down and cannot be paused")
        self._process.pause()

    def resume(self) -> None:
        """Let a paused server run on (SIGCONT); do nothing to another."""
        if self._process is not None:
            self._process.resume()

    def restart(self, empty: bool = True) -> None:
        """Stop the server if it runs and start it on the same port, without its data or with it.

        With ``empty=False`` the data is what the node's append-only file holds: of a node that was killed,
        every write it had answered. Raises ValueError when the node keeps none.
        """
        if not empty and not self.is_persistent:
            hint = 'start it with config={"appendonly": "yes"}'
            raise ValueError(f"node {self.name} keeps nothing on disk: {hint}")
        if empty:
            self.kill()
            shutil.rmtree(self._directory / "data", ignore_errors=True)
        else:
            self.stop()
        self.start()

    def flush(self) -> None:
        """Remove all keys, scripts and functions of a running node."""
        replies = ask(self.url, ("FLUSHALL",), ("SCRIPT", "FLUSH"), ("FUNCTION", "FLUSH"))
        if replies[0] != b"+OK":
            raise ServerFailed(f"node {self.name} was not flushed: {replies[0].decode()}")

    def close(self) -> None:
        """End the server, give up its port and remove its temporary directory; harmless when done twice."""
        self.stop()
        self._release_port()
        if self._scratch is not None:
            self._scratch.close()
            self._scratch = None

    @property
    def _directory(self) -> Path:
        if self._given_directory is not None:
            return self._given_directory
        if self._scratch is None:
            self._scratch = ScratchDirectory()
        return self._scratch.path

    def _start_once(self, *, is_last: bool) -> bool:
        """Start the server; return False when somebody took the port meanwhile and there is another try."""
        if self._reservation is None:
            self._reservation = reserve_port()
        self._launch()
        try:
            self.wait_ready()
        except ServerFailed as error:
            if is_last or "in use" not in str(error):
                raise
            self._release_port()
            return False
        return True

    def _launch(self) -> None:
        program = server_program(self.server)
        directory = self._directory
        (directory / "data").mkdir(parents=True, exist_ok=True)
        (directory / "server.log").unlink(missing_ok=True)
        configuration = directory / "server.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(self._configuration(directory / "data"))
        self._process = TetheredProcess(
            [program, configuration], log=directory / "server.log", directory=directory / "data"
        )

    def _configuration(self, data: Path) -> str:
        directives = {name: value or '""' for name, value in self.config.items()}
        directives |= {"port": str(self.port), "dir": f'"{data}"'}
        if self._password is not None:
            escaped = self._password.replace("\\", "\\\\").replace('"', '\\"')
            directives["requirepass"] = f'"{escaped}"'
        return "".join(f"{name} {value}\n" for name, value in directives.items())

    def _answers(self, process: TetheredProcess, timeout: float) -> bool:
        """Tell whether this node's own process answers, rather than a stranger on the same port."""
        try:
            pong, server = ask(self.url, ("PING",), ("INFO", "server"), timeout=timeout)
        except OSError:
            return False
        if pong.startswith((b"-LOADING", b"-BUSY")):
            return False
        # Where the configuration forbids the questions, any answer must do.
        return server.startswith(b"-") or f"process_id:{process.pid}\r".encode() in server

    def _release_port(self) -> None:
        if self._reservation is not None:
            self._reservation.close()
            self._reservation = None
