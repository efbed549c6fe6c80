"""What other processes do while a node is at fault: ``python -m tests.faults.programs TASK``.

A task reads its plan from standard input, says ``ready`` at the point where the fault is to begin, and prints its
answer as JSON when it has been told to go on.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.faults.ground import VICTIM, WAITED, cluster_of

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 60.0


def start(task: str, entry: Mapping[str, Any], **arguments: Any) -> "subprocess.Popen[str]":
    """Start a task; its warnings are errors, shown on standard error."""
    child = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tests.faults.programs", task],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    child.stdin.write(json.dumps({"cache": dict(entry), "arguments": arguments}) + "\n")
    child.stdin.flush()
    return child


def run_together(
    task: str,
    entry: Mapping[str, Any],
    *,
    processes: int = 1,
    meanwhile: Callable[[], None] = lambda: None,
    errors: list[str] | None = None,
    numbered: bool = False,
    **arguments: Any,
) -> list[Any]:
    """Run a task in several processes; ``meanwhile`` is called when all are ready. Return their answers."""
    numbers = [{"number": number} if numbered else {} for number in range(processes)]
    children = [start(task, entry, **number, **arguments) for number in numbers]
    try:
        for child in children:
            assert child.stdout is not None
            line = child.stdout.readline()
            assert line == "ready\n", child.stderr.read() if child.stderr else line
        meanwhile()
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        ends = [child.communicate(timeout=TIMEOUT) for child in children]
    finally:
        for child in children:
            child.kill()
            child.communicate()
    for child, (out, complaints) in zip(children, ends, strict=True):
        assert child.returncode == 0, complaints
        assert out, complaints
        if errors is not None:
            errors.append(complaints)
    return [json.loads(out.splitlines()[-1]) for out, _ in ends]


def say(line: str) -> None:
    """Tell the test a line."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def heard() -> str:
    """Return the next line of the test."""
    return sys.stdin.readline().rstrip()


def ready() -> None:
    """Say that the fault may begin, and wait for it."""
    say("ready")
    assert heard() == "go"


def is_up(cache: Any) -> bool:
    """Tell whether this process asks the victim."""
    return cluster_of(cache).members()[VICTIM].is_up


def wait_for(condition: Callable[[], object], seconds: float = 15) -> None:
    """Return when the condition holds."""
    expires = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < expires
        time.sleep(0.005)


def read_through_outage(cache: Any, keys: list[str]) -> dict[str, int]:
    """Read all keys for two seconds; count the calls that waited, and the rounds after the first of them."""
    cache.get_many(keys)
    ready()
    waited = later = 0
    ends = time.monotonic() + 3
    while time.monotonic() < ends:
        for key in keys:
            began = time.monotonic()
            cache.get(key)
            waited += time.monotonic() - began >= WAITED
        later += bool(waited)
        time.sleep(0.01)
    return {"waited": waited, "later": later}


def main(task: str) -> None:
    """Set Django up, run the task, print its answer."""
    import logging

    logging.disable(logging.CRITICAL)
    plan = json.loads(sys.stdin.readline())
    import django
    from django.conf import settings

    settings.configure(SECRET_KEY="programs", CACHES={"default": plan["cache"]}, USE_TZ=True)
    django.setup()
    from django.core.cache import cache

    from tests.faults import tasks

    chosen = globals().get(task) or getattr(tasks, task)
    say(json.dumps(chosen(cache, **plan["arguments"])))


if __name__ == "__main__":
    main(sys.argv[1])
