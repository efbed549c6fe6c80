"""The long form: ``python -m tests.failover --cycles 200 [--resume FILE]``.

Cycles are played in runs of ten, each on nodes of its own. What each run came to is appended to FILE, a line each;
with the same FILE a command that was interrupted goes on where it was. The report is written beside it.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.failover.judge import judge
from tests.failover.liveness import Summary, summarise
from tests.failover.report import write
from tests.failover.run import play

#: Cycles of one run.
RUN = 10


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.failover", description=__doc__)
    parser.add_argument("--cycles", type=int, default=200)
    parser.add_argument("--resume", type=Path, default=Path("failover.jsonl"), metavar="FILE")
    parser.add_argument("--report", type=Path, metavar="FILE", help="where the report goes (beside the former)")
    parser.add_argument("--seed", type=int, default=1, help="of the first run")
    parser.add_argument("--server", choices=["valkey", "redis"], default="valkey")
    given = parser.parse_args(argv)
    runs = [Summary(**json.loads(line)) for line in _lines(given.resume)]
    report: Path = given.report or given.resume.with_suffix(".md")
    while (left := given.cycles - sum(len(run.faults) for run in runs)) > 0:
        seed = given.seed + len(runs)
        with tempfile.TemporaryDirectory() as directory:
            calls, faults = play(Path(directory), seed, min(RUN, left), given.server)
        runs.append(summarise(seed, given.server, calls, faults, judge(calls)))
        with given.resume.open("a") as file:
            file.write(f"{json.dumps(runs[-1]._asdict())}\n")
        report.write_text(write(runs))
        say(f"seed {seed}: {len(calls)} calls, {len(faults)} faults, {len(runs[-1].unexpected)} failures unexcused")
        for violation in runs[-1].violations:
            say(f"  {': '.join(violation)}")
    return int(any(run.violations for run in runs))


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def say(text: str) -> None:
    """Write a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
