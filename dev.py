"""Make and refresh the checkout's virtual environments with the standard library alone.

    python dev.py env [--venv DIR] [--extras a,b] [--with REQUIREMENT]... [--exact-python]
    python dev.py bench-env [--venv DIR]
    python dev.py newest [--minimum 3.12]

`env` makes DIR, installs the checkout in it in editable form, and writes a stamp; a second run with the same
pyproject.toml finds the stamp and does nothing. `bench-env` does the same on the newest Python it finds and
installs the measured peers one by one: one that has no build for this Python is reported, not fatal.
`newest` prints the newest interpreter found.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent
MINIMUM = (3, 11)
NEWEST_SUPPORTED = (3, 14)
STAMP = ".distcache-stamp.json"
VERSION_OF = "import sys, ensurepip, venv; print('%d.%d' % sys.version_info[:2], sys.executable)"

NO_PIP = """\
{python} has neither `ensurepip` nor `pip`, so it cannot fill a virtual environment.
On Debian and Ubuntu: apt-get install python3-venv. Or name another interpreter:
    make demo PYTHON=/path/to/python3
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code."""
    options = _parser().parse_args(arguments)
    if options.command == "newest":
        return _print_newest(_version(options.minimum))
    if options.command == "bench-env":
        return _make_bench_environment(ROOT / options.venv)
    extras = [extra for extra in options.extras.split(",") if extra]
    return _make_environment(Path(sys.executable), ROOT / options.venv, extras, options.extra_requirements)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    env = commands.add_parser("env", help="make or refresh a virtual environment")
    env.add_argument("--venv", default=".venv")
    env.add_argument("--extras", default="")
    env.add_argument("--with", dest="extra_requirements", action="append", default=[])
    bench = commands.add_parser("bench-env", help="the same for `make bench`, on the newest Python found")
    bench.add_argument("--venv", default=".venv-bench")
    newest = commands.add_parser("newest", help="print the newest interpreter found")
    newest.add_argument("--minimum", default="3.11")
    return parser


# ---------------------------------------------------------------- interpreters


def find_interpreters() -> dict[tuple[int, int], str]:
    """Return one working interpreter per supported version.

    Each candidate is run: a pyenv shim exists for versions that are not installed.
    """
    found: dict[tuple[int, int], str] = {}
    for candidate in _candidates():
        version, executable = _probe(candidate)
        if MINIMUM <= version <= NEWEST_SUPPORTED:
            found.setdefault(version, executable)
    return found


def _candidates() -> Iterable[str]:
    yield sys.executable
    for minor in range(NEWEST_SUPPORTED[1], MINIMUM[1] - 1, -1):
        if path := shutil.which(f"python3.{minor}"):
            yield path
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from (str(path) for path in sorted(root.glob("versions/3.*/bin/python"), reverse=True))


def _probe(candidate: str) -> tuple[tuple[int, int], str]:
    try:
        done = subprocess.run([candidate, "-c", VERSION_OF], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return (0, 0), candidate
    version, _, executable = done.stdout.strip().partition(" ")
    return _version(version), executable


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def _print_newest(minimum: tuple[int, int]) -> int:
    found = {version: path for version, path in find_interpreters().items() if version >= minimum}
    if not found:
        print(f"no Python >= {minimum[0]}.{minimum[1]} that can make a virtual environment", file=sys.stderr)
        return 1
    print(found[max(found)])
    return 0


# ---------------------------------------------------------------- environments


def _make_environment(python: Path, venv: Path, extras: Iterable[str], requirements: Sequence[str]) -> int:
    wanted = {"pyproject": _pyproject_digest(), "with": sorted(requirements), "constraints": _constraints()}
    stamp = _read_stamp(venv)
    known = set(stamp.get("extras", [])) if all(stamp.get(name) == value for name, value in wanted.items()) else set()
    if set(extras) <= known and stamp and _runs(_python_of(venv)):
        return 0
    if not _runs(_python_of(venv)) and (failed := _create(python, venv)):
        return failed
    installed = sorted(known | set(extras))
    print(
        f"installing distcache_django[{','.join(installed)}] into {venv.name} ...",
        file=sys.stderr,
        flush=True,
    )
    if failed := _pip(venv, ["--editable", f"{ROOT}[{','.join(installed)}]", *requirements]):
        return failed
    _write_stamp(venv, {**wanted, "extras": installed})
    return 0


def _make_bench_environment(venv: Path) -> int:
    peers = _bench_requirements()
    found = find_interpreters()
    newest = Path(found[max(found)]) if found else Path(sys.executable)
    if failed := _make_environment(newest, venv, ["cli", "demo"], []):
        return failed
    stamp = _read_stamp(venv)
    if stamp.get("peers") == peers:
        missing = stamp.get("missing", [])
    else:
        missing = [peer for peer in peers if _pip(venv, [peer], quiet=True)]
        _write_stamp(venv, {**stamp, "peers": peers, "missing": missing})
    for peer in missing:
        print(f"peer not measured: {peer} cannot be installed on this Python", file=sys.stderr)
    return 0


def _bench_requirements() -> list[str]:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    shared = {requirement for name in ("cli", "demo") for requirement in extras[name]}
    # The marker is dropped on purpose: a peer that this Python cannot have must be reported, not skipped.
    return [requirement.partition(";")[0].strip() for requirement in extras["bench"] if requirement not in shared]


def _create(python: Path, venv: Path) -> int:
    has_ensurepip = importlib.util.find_spec("ensurepip") is not None
    if not has_ensurepip and importlib.util.find_spec("pip") is None:
        print(NO_PIP.format(python=python), file=sys.stderr)
        return 2
    print(f"making {venv.name} with {python} ...", file=sys.stderr, flush=True)
    command = [str(python), "-m", "venv", "--clear", str(venv)]
    if has_ensurepip:
        return subprocess.run(command, check=False).returncode
    # Debian splits ensurepip off; the system's pip can fill the environment instead.
    if failed := subprocess.run([*command, "--without-pip"], check=False).returncode:
        return failed
    bootstrap = [str(python), "-m", "pip", "--python", str(_python_of(venv)), "install", "--quiet", "pip"]
    return subprocess.run(bootstrap, check=False).returncode


def _pip(venv: Path, what: Sequence[str], *, quiet: bool = False) -> int:
    command = [str(_python_of(venv)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if constraints := _constraints():
        command += ["--constraint", constraints]
    done = subprocess.run([*command, *what], check=False, stderr=subprocess.DEVNULL if quiet else None)
    return done.returncode


def _constraints() -> str:
    return os.environ.get("CONSTRAINTS", "")


def _python_of(venv: Path) -> Path:
    return venv / "bin" / "python"


def _runs(python: Path) -> bool:
    return (
        python.exists()
        and not subprocess.run([python, "-c", "import pip"], check=False, capture_output=True).returncode
    )


# ---------------------------------------------------------------- the stamp


def _pyproject_digest() -> str:
    return hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()


def _read_stamp(venv: Path) -> dict[str, list[str]]:
    try:
        stamp: dict[str, list[str]] = json.loads((venv / STAMP).read_text())
    except (OSError, ValueError):
        return {}
    return stamp


def _write_stamp(venv: Path, stamp: dict[str, object]) -> None:
    (venv / STAMP).write_text(json.dumps(stamp, indent=1))


if __name__ == "__main__":
    sys.exit(main())
