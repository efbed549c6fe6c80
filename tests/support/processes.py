"""Programs that a test starts, and what it may ask of processes that are no children of its own."""

import os
import subprocess
import sys
from pathlib import Path

from distcache_django.testing import LocalNode
from distcache_django.testing.resp import ask

ROOT = Path(__file__).resolve().parents[2]


def run_python(script: str, **environment: str) -> subprocess.Popen[str]:
    """Start a Python of its own that can import the package, with pipes to talk to it."""
    return subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def is_gone(pid: int) -> bool:
    """Tell whether a process that may be no child of ours has ended, reaped or not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"


def is_answering(local: LocalNode) -> bool:
    """Tell whether a node answers a PING at once."""
    try:
        return ask(local.url, ("PING",), timeout=0.2) == [b"+PONG"]
    except OSError:
        return False
