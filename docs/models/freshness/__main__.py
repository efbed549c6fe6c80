"""Check configurations and mutants by name, or all of them: ``python -m docs.models.freshness [NAME ...]``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import replace

from docs.models.freshness.configurations import BUILT, BUILT_MUTANTS, CONFIGS, LONG, MUTANTS
from docs.models.freshness.search import check
from docs.models.freshness.state import Config

_HOLDING: Mapping[str, Config] = {**BUILT, **CONFIGS, **LONG}
_CAUGHT: Mapping[str, Config] = {**BUILT_MUTANTS, **MUTANTS}


def main(arguments: list[str]) -> int:
    """Print a line for each name, and the shortest trace of each mutant that is named; return 1 if one surprises."""
    parser = argparse.ArgumentParser(prog="python -m docs.models.freshness", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="by default all, the long ones last")
    names = parser.parse_args(arguments).names
    known = [*BUILT, *CONFIGS, *_CAUGHT, *LONG]
    if unknown := set(names) - set(known):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known are {', '.join(known)}")
    surprises = [name for name in names or known if not _is_expected(name, is_told=bool(names))]
    return 1 if surprises else 0


def _is_expected(name: str, *, is_told: bool) -> bool:
    begun = time.monotonic()
    # Nodes of a trace keep their names; to prove something, it is enough to look at them in one order.
    result = check(_HOLDING[name]) if name in _HOLDING else check(replace(_CAUGHT[name], symmetry=False))
    is_expected = result.holds == (name in _HOLDING)
    sys.stdout.write(
        f"{name:34} {'holds' if result.holds else 'VIOLATED':9} {result.states:10} states {result.steps:11} steps "
        f"{time.monotonic() - begun:7.1f} s{'' if is_expected else '   UNEXPECTED'}\n"
    )
    if not is_expected or is_told:
        for number, label in enumerate(result.trace, 1):
            sys.stdout.write(f"   {number:2}. {label}\n")
    sys.stdout.flush()
    return is_expected


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
