"""Force the interleavings on one cache and print stale / trials: ``python -m tests.freshness.compare cacheops``.

For the table in the documentation. A rival has to be installed; ``none``, ``careless`` and ``distcache`` are here.
A trial is a scenario with one kind of write and one shape of read; it is stale if anything read in it was.
"""

import argparse
import sys
from contextlib import closing

from distcache_django.testing import LocalNodes, LocalPostgres
from tests.freshness.interleavings import COMPARED, Scenario
from tests.freshness.rows import SHAPES
from tests.freshness.stage import ActorFailed, Nursery, Stage


def tally(stage: Stage, scenario: Scenario, kinds: tuple[str, ...]) -> dict[str, tuple[int, int, int]]:
    """Return stale, failed and all trials of a scenario, by kind of write."""
    found = {}
    for kind in kinds:
        stale = failed = 0
        for shape in SHAPES:
            try:
                stale += any(look.is_stale for look in scenario(stage, kind, shape))
            except (ActorFailed, AssertionError) as error:
                failed += 1
                sys.stderr.write(f"{scenario.__name__} {kind} {shape}: {str(error).strip().splitlines()[-1]}\n")
                for name in stage.names():
                    stage.fresh(name)
        found[kind] = stale, failed, len(SHAPES)
    return found


def main() -> int:
    """Print a line for each scenario."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("subject", choices=["distcache", "cacheops", "cachalot", "careless", "none"])
    options = parser.parse_args()
    with LocalPostgres() as postgres, LocalNodes(4) as nodes, closing(Nursery()) as nursery:
        stage = Stage(nursery, postgres, nodes, subject=options.subject)
        with closing(stage):
            stage.actor("setup").call("create_tables")
            if options.subject == "distcache":
                stage.await_cache()
            for scenario, kinds in COMPARED.items():
                _print(scenario.__name__, tally(stage, scenario, kinds))
    return 0


def _print(name: str, found: dict[str, tuple[int, int, int]]) -> None:
    stale, failed, trials = (sum(counts) for counts in zip(*found.values(), strict=True))
    kinds = " ".join(f"{kind} {counts[0]}/{counts[2]}" for kind, counts in found.items())
    sys.stdout.write(f"{name:35} {stale:3}/{trials:<3} failed {failed:<3} {kinds}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
