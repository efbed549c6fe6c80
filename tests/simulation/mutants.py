"""What the simulation must catch: each rule of the protocol, broken by a line or two.

The names are those of PROTOCOLS §8. Not expressible with one replica: a read at one of three, "newest wins" (the
stamp would have to be the writer's) and a repair that copies a version to another replica.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any
from unittest import mock

from distcache_django.core import requests as r
from distcache_django.core.freshness import RECORD_PREFIX, Versions
from distcache_django.testing import memory_node
from distcache_django.testing import memory_records as records
from distcache_django.testing.memory_node import MemoryNode
from tests.simulation import actors
from tests.simulation.world import Client, World

#: What a node does with each request.
SCRIPTS: Any = memory_node._EXECUTE

Mutant = Callable[[], AbstractContextManager[Any]]
MUTANTS: dict[str, Mutant] = {}


def mutant(*targets: tuple[Any, Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Take the decorated function for a mutant that replaces each of ``targets``; its name is the mutant's."""

    def take(replacement: Callable[..., Any]) -> Callable[..., Any]:
        @contextmanager
        def patched() -> Iterator[None]:
            with ExitStack() as stack:
                for target, name in targets:
                    if isinstance(target, dict):
                        stack.enter_context(mock.patch.dict(target, {name: replacement}))
                    else:
                        stack.enter_context(mock.patch.object(target, name, replacement))
                yield

        MUTANTS[replacement.__name__.strip("_")] = patched
        return replacement

    return take


def first_version(node: MemoryNode) -> bytes:
    """Return a version that is always the same."""
    return (records.incarnation(node) or b"") + bytes(8)


# ---------------------------------------------------------------- the writer


@mutant((Versions, "mark"))
def no_mark(_self, _records, _token):
    return {}
    yield


_mark = Versions.mark
_tell = Versions._tell
_bump = Versions.bump
_unmark = Versions.unmark


@mutant((Versions, "mark"))
def commit_without_all_marks(self, keys, token):
    yield from _mark(self, keys, token)
    return {}


@mutant((Versions, "bump"))
def clear_without_bump(self, keys, token):
    return (yield from _unmark(self, keys, token))


@mutant((actors.Write, "resign"))
def unknown_outcome_clears(self):
    yield from self.client.run(self.client.versions.bump(self.records, self.token))


@mutant((SCRIPTS, r.Bump))
def bump_clears_all_marks(node, request):
    for key in request.keys:
        if found := records.read(node, key):
            records.write(node, key, records.fresh(node), found.kind, [], request.ttl_ms)
    return True


@mutant((Versions, "_tell"))
def token_used_again(self, keys, request):
    def with_one_token(part):
        made = request(part)
        made.token = b"the same"
        return made

    return (yield from _tell(self, keys, with_one_token))


@mutant((Versions, "_tell"))
def silence_taken_for_success(self, keys, request):
    failures = yield from _tell(self, keys, request)
    return {node: error for node, error in failures.items() if "UNREGISTERED" not in error.reason}


@mutant((Client, "owe_bumps"))
def owed_bumps_forgotten(self, node, _keys):
    self.down |= {node}


# ---------------------------------------------------------------- the mark's end


_read_record = records.read


@mutant((records, "read"))
def silent_expiry(node, key):
    before = node.text(key)
    found = _read_record(node, key)
    return found and found._replace(version=before[:16])


@mutant((actors.Write, "may_apply"))
def expiry_during_commit(_self):
    return True


@mutant((MemoryNode, "is_volatile"))
def marked_record_evicted(_self, key):
    return key.startswith(RECORD_PREFIX)


# ---------------------------------------------------------------- the node's memory


@mutant((records, "fresh"))
def fixed_mint_value(node):
    node.put(records.COUNT, 0)
    return first_version(node)


_minted = records._minted


@mutant((records, "_minted"))
def mint_starts_anew(node, key, ttl_ms):
    if _read_record(node, key) is None:
        records.write(node, key, first_version(node), b"k", [], ttl_ms)
    return _minted(node, key, ttl_ms)


_register = records.register


@mutant((SCRIPTS, r.Register))
def incarnation_ignored(node, request):
    fence = node.text(records.FENCE)
    if records.incarnation(node) is not None:
        node.put(records.FENCE, records.fence_of(fence[1:9], node.run_id, 0))
    return _register(node, request)


@mutant((SCRIPTS, r.Register))
def quarantine_without_voiding(node, request):
    fence = node.text(records.FENCE)
    if records.incarnation(node) is not None and fence[9:49] != node.run_id:
        end = node.now_ms() + request.quarantine_ms
        node.put(records.FENCE, records.fence_of(fence[1:9], node.run_id, end))
    return _register(node, request)


@mutant((SCRIPTS, r.Register))
def voiding_without_quarantine(node, request):
    incarnation, _, *rest = _register(node, request)
    return incarnation, 0, *rest


@mutant((records, "_changed"))
def void_record_survives_a_bump(node, request, *, is_bump):
    for key in request.keys:
        if found := records.read(node, key):
            version = records.fresh(node) if is_bump else found.version
            marks = records.without(found.marks, request.token)
            records.write(node, key, version, found.kind, marks, request.ttl_ms)
    return True


_note_run = Client._note_run


@mutant((Client, "_note_run"))
def new_run_not_noticed(self, node):
    _note_run(self, node)
    self.generations[node] = 1


# ---------------------------------------------------------------- the reader


_read = Versions._read


@mutant((Versions, "_read"))
def checker_ignores_marks(self, look):
    entry, found = yield from _read(self, look)
    return entry, found if entry is None else [record and record[:16] for record in found]


@mutant((Versions, "_read"))
def missing_counts_as_a_vote(self, look):
    entry, found = yield from _read(self, look)
    for index, node in enumerate(look.nodes):
        if found[index] is None and self._life(node) is not None:
            found[index] = self._life(node).incarnation + bytes(8)
    return entry, found


@mutant((actors, "loaded"))
def load_before_versions(_world, _rows, early):
    return early


@mutant((World, "load"))
def lagging_database_replica(self, rows):
    return b",".join(b"%d" % self.previous[row] for row in rows)
