"""The tests that Django ships in its source distribution: fetched when a suite needs them, never kept in the tree."""

import fcntl
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import django


class SourceUnavailable(Exception):
    """Django's source distribution could not be fetched; the message says why."""


def tests_of_django() -> Path:
    """Return the folder that holds the tests of the installed Django, fetching it the first time.

    One process fetches, others wait for it; an interrupted fetch leaves nothing that looks complete.
    Costs one download of 11 MB per Django version, then nothing. Raises SourceUnavailable.
    """
    folder = _cache_folder() / f"django-{django.__version__}-tests"
    with _locked(folder.with_suffix(".lock")):
        if not folder.is_dir():
            _fetch(folder)
    return folder


def _cache_folder() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "distcache_django"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        archive = _download(Path(scratch))
        unpacked = Path(scratch) / "unpacked"
        with tarfile.open(archive) as tar:
            # Python 3.11 learnt extraction filters in 3.11.4, and they are not its default.
            if hasattr(tarfile, "data_filter"):
                tar.extraction_filter = tarfile.data_filter
            tar.extractall(unpacked, [file for file in tar.getmembers() if _is_test(file.name)])
        (tests,) = unpacked.glob("*/tests")
        shutil.move(tests, folder)


def _is_test(path: str) -> bool:
    return path.split("/")[1:2] == ["tests"]


def _download(folder: Path) -> Path:
    # pip builds the metadata of every source distribution it downloads, for which it needs setuptools: hence
    # no --no-build-isolation. `:all:` would have setuptools itself built from source.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "django"]
    command += ["--retries", "1", "--timeout", "20", "--dest", str(folder), f"django=={django.__version__}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    except subprocess.TimeoutExpired as error:
        raise SourceUnavailable("pip download of Django's source distribution took more than 150 s") from error
    archives = list(folder.glob("*.tar.gz"))
    if done.returncode or not archives:
        reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise SourceUnavailable(f"Django's source distribution could not be fetched: {reason}")
    return archives[0]
