"""Start Django's own cache tests against a backend, in a process of its own, and read what became of each."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.subjects import SUBJECTS

TIMEOUT = 150.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one of Django's tests: `passed`, `failed` or `skipped`, with the traceback or reason."""

    test: str
    result: str
    detail: str


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the suite under way."""

    process: subprocess.Popen[str]
    results: Path

    def outcomes(self) -> list[Outcome]:
        """Wait for the run to end and return each test's outcome, in the order of their names."""
        try:
            output, _ = self.process.communicate(timeout=TIMEOUT)
        finally:
            self.process.kill()
        assert self.process.returncode == 0, output
        found = json.loads(self.results.read_text())
        return [Outcome(test, *found[test]) for test in sorted(found)]


def start(tests: Path, subject: str, urls: Sequence[str], mode: str, folder: Path, *, replicas: int = 1) -> Run:
    """Start Django's `BaseCacheTests` for a subject on these nodes, `sync` or `async`."""
    chosen = SUBJECTS[subject]
    folder.mkdir()
    plan, results = folder / "plan.json", folder / "results.json"
    plan.write_text(
        json.dumps(
            {
                "tests": str(tests),
                "backend": chosen.backend,
                "location": list(urls),
                "options": {**chosen.options, **({"REPLICATION_FACTOR": replicas} if replicas > 1 else {})},
                "type_errors": chosen.type_errors,
                "mode": mode,
                "results": str(results),
            }
        )
    )
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.django_runner", str(plan)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return Run(process, results)
