"""Say on what a figure was measured, and keep processes where the measurement needs them.

On a virtual machine a loopback round trip takes ten times as long between two cores as on one, and an
unpinned run flips between the two at random: a benchmark that does not pin its processes measures the
scheduler.
"""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import django

Pin = Literal["same", "split", "none"]
PINS: tuple[Pin, ...] = ("same", "split", "none")


@dataclass(frozen=True, slots=True)
class Placement:
    """Where client and servers run; empty cores mean that the scheduler decides."""

    pin: Pin
    client: tuple[int, ...]
    servers: tuple[int, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the placement as it stands in a report."""
        return {"pin": self.pin, "client_cores": list(self.client), "server_cores": list(self.servers)}


def available_cores() -> tuple[int, ...]:
    """Return the cores this process may use, ascending; none where the system cannot pin."""
    if not hasattr(os, "sched_getaffinity"):
        return ()
    return tuple(sorted(os.sched_getaffinity(0)))


def placement(pin: Pin, cores: tuple[int, ...]) -> Placement:
    """Choose cores for ``pin``; raises ValueError where the machine has too few of them."""
    if pin == "none":
        return Placement(pin, (), ())
    needed = 1 if pin == "same" else 2
    if len(cores) < needed:
        raise ValueError(f"--pin {pin} needs {needed} pinnable core(s), this machine offers {len(cores)}")
    servers = cores[-1] if pin == "same" else cores[-2]
    return Placement(pin, (cores[-1],), (servers,))


def pin_self(cores: tuple[int, ...]) -> None:
    """Bind this process to ``cores``; threads started later inherit it, so call it first."""
    if cores:
        os.sched_setaffinity(0, cores)


def pin_process(pid: int, cores: tuple[int, ...]) -> None:
    """Bind every thread of another process to ``cores``; a thread that ends meanwhile is passed over."""
    if not cores:
        return
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(task.name), cores)


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _memory_mib() -> int | None:
    with contextlib.suppress(ValueError, OSError, AttributeError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    return None


def _is_virtual() -> bool:
    with contextlib.suppress(OSError):
        return " hypervisor " in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    return False


def git_revision(directory: Path) -> str | None:
    """Return the revision checked out in ``directory``, marked when files differ from it; None outside a
    repository.
    """

    def ask(arguments: Iterable[str]) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(directory), *arguments],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    revision = ask(["rev-parse", "--short=12", "HEAD"])
    if not revision:
        return None
    return f"{revision}+changes" if ask(["status", "--porcelain", "--untracked-files=no"]) else revision


def load_average() -> list[float]:
    """Return the system's load over 1, 5 and 15 minutes; above the number of cores figures are not to be
    trusted.
    """
    return [round(value, 2) for value in os.getloadavg()]


def describe_machine() -> dict[str, Any]:
    """Return machine, kernel and interpreter as they stand in a report; no host name and no path."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": len(available_cores()) or None,
        "virtual": _is_virtual(),
        "memory_mib": _memory_mib(),
        "kernel": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "gil": bool(getattr(sys, "_is_gil_enabled", lambda: True)()),
        "django": django.get_version(),
        "load_average": load_average(),
    }
