"""One run: some cycles of faults on one stage, and what came of it."""

import time
from pathlib import Path
from random import Random

from distcache_django.testing.programs import ServerKind
from tests.failover.calls import Call, Fault
from tests.failover.mutants import STORIES
from tests.failover.stage import FAULTS, NODES, Stage

__all__ = ["play", "play_story", "schedule"]


def schedule(seed: int, cycles: int) -> list[tuple[str, str, float]]:
    """Return faults, nodes and lengths: each kind about as often, on any node."""
    random = Random(seed)
    kinds: list[str] = []
    while len(kinds) < cycles:
        kinds += random.sample([*FAULTS], len(FAULTS))
    return [(kind, random.choice(NODES), random.choice((0.2, 0.5, 0.9))) for kind in kinds[:cycles]]


def play(directory: Path, seed: int, cycles: int, server: ServerKind = "valkey") -> tuple[list[Call], list[Fault]]:
    """Play cycles of faults under load."""
    with Stage(directory, seed=seed, server=server) as stage:
        stage.wait_whole()
        for kind, node, seconds in schedule(seed, cycles):
            stage.fault(kind, node, seconds)
        return stage.finish(), stage.faults


def play_story(directory: Path, name: str, *, is_careless: bool) -> list[Call]:
    """Play the story of a mutant, with careful clients or with careless ones."""
    story, is_mended, weights = STORIES[name]
    with Stage(directory, seed=1, mutant=name if is_careless else "", has_agent=is_mended, weights=weights) as stage:
        stage.wait_whole()
        time.sleep(1.5)
        story(stage)
        return stage.finish()
