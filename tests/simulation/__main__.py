"""The long form: ``python -m tests.simulation {histories,mutants,story}``."""

import argparse
import sys
import time

from tests.simulation.history import History
from tests.simulation.mutants import MUTANTS
from tests.simulation.world import StaleHit

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    commands = parser.add_subparsers(required=True)
    histories = commands.add_parser("histories", help="play many histories; stop at the first that breaks a promise")
    histories.add_argument("--first", type=int, default=0)
    histories.add_argument("--count", type=int, default=100_000)
    histories.set_defaults(run=lambda given: play_all(given.first, given.count))
    mutants = commands.add_parser("mutants", help="find the first seed that catches each mutant")
    mutants.add_argument("names", nargs="*", default=list(MUTANTS))
    mutants.add_argument("--most", type=int, default=20_000)
    mutants.set_defaults(run=lambda given: catch_all(given.names, given.most))
    story = commands.add_parser("story", help="tell one history, of a mutant if one is named")
    story.add_argument("seed", type=int)
    story.add_argument("--mutant", choices=list(MUTANTS))
    story.set_defaults(run=lambda given: tell(given.seed, given.mutant))
    given = parser.parse_args(argv)
    return int(given.run(given))


def say(text: str) -> None:
    """Write a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def play_all(first: int, count: int) -> int:
    """Play histories; return 1 if one broke a promise."""
    began, hits, commits = time.monotonic(), 0, 0
    for seed in range(first, first + count):
        history = History(seed)
        try:
            history.play()
        except AssertionError as error:
            say(f"{history.world.story(400)}\nseed {seed}: {error}")
            return 1
        hits += history.hits
        commits += sum(history.world.rows.values())
        if (seed - first) % 5000 == 4999:
            say(f"{seed - first + 1} histories, {hits} hits, {commits} commits, {time.monotonic() - began:.0f} s")
    say(f"seeds {first} to {first + count - 1}: no hit older than promised; {hits} hits, {commits} commits")
    return 0


def catch_all(names: list[str], most: int) -> int:
    """Print the first seed that catches each mutant; return how many were not caught."""
    missed = 0
    for name in names:
        seed = first_caught(name, most)
        missed += seed is None
        say(f"{name}: {'not caught' if seed is None else seed}")
    return missed


def first_caught(name: str, most: int) -> int | None:
    """Return the first seed whose history has a hit that is too old."""
    with MUTANTS[name]():
        for seed in range(most):
            try:
                History(seed).play()
            except StaleHit:
                return seed
            except AssertionError:
                continue
    return None


def tell(seed: int, mutant: str | None) -> int:
    """Print a history; return 1 if it broke a promise."""
    history = History(seed)
    try:
        if mutant is None:
            history.play()
        else:
            with MUTANTS[mutant]():
                history.play()
    except AssertionError as error:
        say(f"{history.world.story(100_000)}\n{error}")
        return 1
    say(history.world.story(100_000))
    return 0


if __name__ == "__main__":
    sys.exit(main())
