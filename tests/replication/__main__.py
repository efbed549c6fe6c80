"""The long form: ``python -m tests.replication {histories,mutants,story}``."""

import argparse
import sys
import time

from tests.replication.history import History
from tests.replication.mutants import MUTANTS
from tests.replication.world import Broken, Stuck

__all__ = ["main"]

_REPORTED = 1000


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.replication", description=__doc__)
    commands = parser.add_subparsers(required=True)
    histories = commands.add_parser("histories", help="play many histories; stop at the first that breaks a promise")
    histories.add_argument("--first", type=int, default=0)
    histories.add_argument("--count", type=int, default=100_000)
    histories.add_argument("--keep-going", action="store_true", help="list all that break a promise")
    histories.set_defaults(run=lambda given: play_all(given.first, given.count, keep_going=given.keep_going))
    mutants = commands.add_parser("mutants", help="find the first seed that catches each mutant")
    mutants.add_argument("names", nargs="*", default=list(MUTANTS))
    mutants.add_argument("--first", type=int, default=0)
    mutants.add_argument("--most", type=int, default=20_000)
    mutants.set_defaults(run=lambda given: catch_all(given.names, given.first, given.most))
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


def play_all(first: int, count: int, *, keep_going: bool) -> int:
    """Play histories; return how many broke a promise. Says from where to go on, should it be stopped."""
    began, bad, calls, acknowledged = time.monotonic(), 0, 0, 0
    for seed in range(first, first + count):
        history = History(seed)
        try:
            history.play()
        except AssertionError as error:
            bad += 1
            say(f"seed {seed}: {type(error).__name__}: {error}")
            if not keep_going:
                say(history.world.story(400))
                return bad
        calls += len(history.ledger.calls)
        acknowledged += sum(call.is_acknowledged for call in history.ledger.calls)
        if (seed - first) % _REPORTED == _REPORTED - 1:
            done = f"{seed - first + 1} histories, {calls} calls, {acknowledged} acknowledged, {bad} broken"
            say(f"{done}, {time.monotonic() - began:.0f} s; go on with --first {seed + 1}")
    say(f"seeds {first} to {first + count - 1}: {bad} broke a promise; {calls} calls, {acknowledged} acknowledged")
    return bad


def catch_all(names: list[str], first: int, most: int) -> int:
    """Print the first seed that catches each mutant; return how many were not caught."""
    missed = 0
    for name in names:
        seed = next((seed for seed in range(first, first + most) if is_caught(name, seed)), None)
        missed += seed is None
        say(f"{MUTANTS[name].number:3} {name}: {'not caught' if seed is None else seed}")
    return missed


def is_caught(name: str, seed: int) -> bool:
    """Return whether a history breaks a promise with a mutant; it may also end otherwise."""
    with MUTANTS[name].patch():
        try:
            History(seed, **MUTANTS[name].options).play()
        except Broken:
            return True
        except Stuck:
            return False
        except Exception:  # noqa: BLE001 - what a mutant does is not foreseen
            return False
    return False


def tell(seed: int, mutant: str | None) -> int:
    """Print a history; return 1 if it broke a promise."""
    error: AssertionError | None = None
    history: History | None = None
    try:
        if mutant is None:
            history = History(seed)
            history.play()
        else:
            with MUTANTS[mutant].patch():
                history = History(seed, **MUTANTS[mutant].options)
                history.play()
    except AssertionError as found:
        error = found
    assert history is not None
    say(f"{history.world.story(100_000)}\n{error or 'all promises were kept'}")
    return error is not None


if __name__ == "__main__":
    sys.exit(main())
