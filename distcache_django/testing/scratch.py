"""Keep the files of one server in a temporary directory that is removed also after a SIGKILL.

A directory is in use while its ``lock`` file is locked. The lock goes with the process that took it, so the
next process that makes a scratch directory finds the unlocked ones and removes them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import weakref
from pathlib import Path

__all__ = ["ScratchDirectory"]

_PREFIX = "distcache-testing-"


class ScratchDirectory:
    """Own a private temporary directory; ``close()`` removes it, and closing twice is harmless."""

    def __init__(self) -> None:
        _remove_abandoned()
        self.path, lock = _make_locked()
        self._finalizer = weakref.finalize(self, _remove, self.path, lock, os.getpid())

    def close(self) -> None:
        """Remove the directory with all it holds; a forked copy of the owner removes nothing."""
        self._finalizer()


def _remove(path: Path, lock: int, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(path, ignore_errors=True)
    os.close(lock)


def _lock_of(path: Path) -> int | None:
    """Lock a directory and return the descriptor, or None when another process has it or it is gone."""
    try:
        descriptor = os.open(path / "lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    # A sweep that came between creation and locking has removed the file: the lock is worth nothing.
    if os.fstat(descriptor).st_nlink == 0:
        os.close(descriptor)
        return None
    return descriptor


def _make_locked() -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        (path / "lock").touch(mode=0o600)
        if (descriptor := _lock_of(path)) is not None:
            return path, descriptor
        shutil.rmtree(path, ignore_errors=True)


def _remove_abandoned() -> None:
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if (descriptor := _lock_of(path)) is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(descriptor)
