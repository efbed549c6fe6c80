"""Careless clients: each breaks one rule of replication, in the client processes of a run, and has to be caught.

What catches each is a *story*: the shortest course of faults in which the rule matters. Without the mutant the same
story breaks no promise.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from distcache_django.core.drafts import Draft
from distcache_django.core.fence import Standings
from distcache_django.core.replicas import Replicas
from tests.failover.stage import Stage

__all__ = ["MUTANTS", "STORIES"]


def one_store_is_enough() -> None:
    """Count a write as acknowledged that one owner has stored."""
    _patch(Replicas, "write", property(lambda self: 1, lambda self, value: None))


def takes_any_word() -> None:
    """Let nodes vote that are recovering from the loss of their memory, or behind."""
    _patch(Standings, "voters", lambda self, fences: set(fences))


def forgets_the_absent() -> None:
    """Acknowledge writes without a note of who has missed them."""
    _patch(Replicas, "tags", lambda self, nodes: b"")
    _patch(Draft, "acknowledged", property(lambda self: len(self.stored)))


def _patch(owner: type, name: str, value: Any) -> None:
    setattr(owner, name, value)


MUTANTS: Mapping[str, Callable[[], None]] = {
    each.__name__: each for each in (one_store_is_enough, takes_any_word, forgets_the_absent)
}


def last_owner_dies(stage: Stage) -> None:
    """Two nodes are paused; a third has alone what is written meanwhile, and loses its memory before they are back."""
    first, second, third, _ = stage.nodes.values()
    first.pause()
    second.pause()
    time.sleep(1.0)
    third.restart(empty=True)
    first.resume()
    second.resume()
    time.sleep(0.5)


def two_memories_lost(stage: Stage) -> None:
    """Two nodes lose their memory at once, and nobody can help them."""
    first, second, _, _ = stage.nodes.values()
    first.restart(empty=True)
    second.restart(empty=True)
    time.sleep(1.0)


def missed_deletions(stage: Stage) -> None:
    """A node is paused while keys are deleted, and asked for them when the others have forgotten the tombstones."""
    stage.fault("pause", "cache-b", 1.5)
    time.sleep(2.5)


#: For each mutant the story that catches it, whether nodes are mended in it, and how often clients call otherwise.
STORIES: Mapping[str, tuple[Callable[[Stage], None], bool, Mapping[str, int]]] = {
    "one_store_is_enough": (last_owner_dies, False, {}),
    "takes_any_word": (two_memories_lost, False, {}),
    "forgets_the_absent": (missed_deletions, True, {"set_once": 25, "delete_once": 30, "get_once": 0}),
}
