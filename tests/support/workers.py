"""Several processes at once on one cache, as a site has them: lost updates show nowhere else.

The test calls `run_together`. Each child is `python -m tests.support.workers TASK`: it reads its settings, makes its
cache, says `ready`, waits for `go`, does its task and prints the answer as JSON.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 60.0


class WorkerFailed(Exception):
    """A worker process did not do its task; that says nothing about the cache's promises."""


def run_together(task: str, setting: Mapping[str, Any], *, processes: int = 4, **arguments: Any) -> list[Any]:
    """Run one task in several processes that begin together; return their answers."""
    plan = json.dumps({"CACHES": {"default": dict(setting)}, "arguments": arguments})
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.workers", task],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    try:
        return _answers(children, plan)
    finally:
        for child in children:
            child.kill()
            child.communicate()


def _answers(children: list["subprocess.Popen[str]"], plan: str) -> list[Any]:
    for child in children:
        _say(child, plan)
    for child in children:
        assert child.stdout is not None
        if child.stdout.readline() != "ready\n":
            raise WorkerFailed("a worker process did not start: see its traceback above")
    for child in children:
        _say(child, "go")
    answers = [child.communicate(timeout=TIMEOUT)[0] for child in children]
    if any(child.returncode for child in children):
        raise WorkerFailed("a worker process ended with an error: see its traceback above")
    return [json.loads(answer) for answer in answers]


def _say(child: "subprocess.Popen[str]", line: str) -> None:
    assert child.stdin is not None
    child.stdin.write(f"{line}\n")
    child.stdin.flush()


def count(cache: Any, *, key: str, times: int) -> list[int]:
    """Increment a counter; return what each increment answered."""
    return [cache.incr(key) for _ in range(times)]


def win(cache: Any, *, locks: int) -> list[int]:
    """Try to add each of many locks; return those that were won."""
    return [number for number in range(locks) if cache.add(f"lock-{number}", 1, 60)]


def guard(cache: Any, *, times: int) -> int:
    """Change a number by reading and writing it, under a lock that must exclude the others."""
    for _ in range(times):
        with cache.lock("guard", timeout=30, sleep=0.002, blocking_timeout=30):
            number = cache.get("number")
            cache.set("number", number + 1)
    return times


def rate_limited(cache: Any, *, requests: int, address: str) -> int:
    """Send requests through django-ratelimit at 100 an hour; return how many were let through."""
    from django.test import RequestFactory
    from django_ratelimit.core import is_ratelimited

    def is_allowed() -> bool:
        request = RequestFactory().get("/", REMOTE_ADDR=address)
        return not is_ratelimited(request, group="shop", key="ip", rate="100/h", increment=True)

    return sum(is_allowed() for _ in range(requests))


def load_once(cache: Any, *, keys: int) -> list[list[str]]:
    """Fill keys by get_or_set with a value of this process's own; return what each call answered."""
    mine = str(time.perf_counter_ns())
    return [[cache.get_or_set(f"made-{i}", lambda: mine, 60), mine] for i in range(keys)]


def main(task: str) -> None:
    """Set Django up from standard input, wait for the start, do the task, print its answer."""
    plan = json.loads(sys.stdin.readline())
    import django
    from django.conf import settings

    settings.configure(SECRET_KEY="workers", CACHES=plan["CACHES"], USE_TZ=True)
    django.setup()
    from django.core.cache import cache

    cache.get("connected")
    _report("ready")
    assert sys.stdin.readline() == "go\n"
    _report(json.dumps(globals()[task](cache, **plan["arguments"])))


def _report(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
