"""Serve the probe site from real server processes, ask it from many clients at once, and look at its sockets."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = 8
GUNICORN = ["-m", "gunicorn", "--bind", "fd://{fd}", "--log-level", "error", "--timeout", "120"]
PROBE = "tests.support.probe_site"
COMMANDS = {
    "preload": [*GUNICORN, "--preload", "--workers", "3", f"{PROBE}:application"],
    "gthread": [*GUNICORN, "--worker-class", "gthread", "--threads", "8", "--keep-alive", "60", f"{PROBE}:application"],
    "threads": ["-m", PROBE, "threads", "{fd}"],
    "uvicorn": ["-m", PROBE, "uvicorn", "{fd}"],
}


@dataclass(frozen=True, slots=True)
class Site:
    """A running server: its process, the port it listens on, and the path of its probe."""

    pid: int
    port: int
    path: str

    def ask(self, tokens: list[str]) -> list[dict[str, Any]]:
        """Send one request for each token, CLIENTS at a time over kept connections, and return the answers."""
        with ThreadPoolExecutor(CLIENTS) as pool:
            shares = pool.map(self._ask_in_turn, [tokens[start::CLIENTS] for start in range(CLIENTS)])
        return [answer for share in shares for answer in share]

    def _ask_in_turn(self, tokens: list[str]) -> list[dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            return [self._answer(connection, token) for token in tokens]
        finally:
            connection.close()

    def _answer(self, connection: http.client.HTTPConnection, token: str) -> dict[str, Any]:
        connection.request("GET", f"/{self.path}/{token}/")
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200, body.decode()
        return {"asked": token, **json.loads(body)}


@contextmanager
def serving(server: str, setting: Mapping[str, Any], *, log: Path, path: str = "echo") -> Iterator[Site]:
    """Run a server of COMMANDS on a free port until the block ends; its output goes to a file."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener, log.open("wb") as output:
        fd = listener.fileno()
        # Requests wait in the backlog until the server accepts: nobody has to wait for it to start.
        process = subprocess.Popen(
            [sys.executable, *(part.format(fd=fd) for part in COMMANDS[server])],
            cwd=ROOT,
            env={**os.environ, "PROBE_CACHES": json.dumps({"default": dict(setting)}), "PYTHONPATH": str(ROOT)},
            pass_fds=[fd],
            stdout=output,
            stderr=output,
        )
        try:
            yield Site(process.pid, listener.getsockname()[1], path)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def sockets_to(ports: set[int], pid: int) -> set[str]:
    """Return the kernel's names (inodes) of a process's established connections to any of these ports."""
    held = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue  # closed since the directory was listed
        if match := re.fullmatch(r"socket:\[(\d+)\]", target):
            held.add(match[1])
    return held & _connected_to(ports, pid)


def _connected_to(ports: set[int], pid: int) -> set[str]:
    # Columns of /proc/PID/net/tcp: number, local and remote address in hexadecimal, …, the inode as the tenth.
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return {row[9] for row in rows if int(row[2].split(":")[1], 16) in ports}


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
