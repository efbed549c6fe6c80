"""What the simulation must catch: each rule of replication, broken by a line or two of the product's code.

The numbers are those of PROTOCOLS, "mutants that must fail"; 32 has nothing to break yet, there being no floor below
which stamps are void. Each has workloads and troubles that it is looked for in:
what takes a rare coincidence is not found by chance in a few thousand histories.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest import mock

from distcache_django.core import agreement, drafts, replicas
from distcache_django.core import requests as r
from distcache_django.core.agreement import Agreement
from distcache_django.core.clock import Stamps
from distcache_django.core.counting import Counting
from distcache_django.core.drafts import Draft
from distcache_django.core.effects import Ask, Gather
from distcache_django.core.fence import UP, Standings
from distcache_django.core.record import COUNTER, TAG, Counter
from distcache_django.core.repair import Repair
from distcache_django.core.replicas import Limits, Replicas
from distcache_django.core.replicated import ReplicatedCoordinator
from distcache_django.testing import memory_node, memory_records, memory_replicas
from tests.replication import faults
from tests.replication.counters import Counters, Folds
from tests.replication.workloads import Additions, Clearings, Deletions, Registers, Touches

#: What a node does with each request.
SCRIPTS: Any = memory_node._EXECUTE


class Mutant(NamedTuple):
    """Be a broken rule: its number in PROTOCOLS, and what it is looked for in."""

    number: int
    patch: Callable[[], AbstractContextManager[Any]]
    #: Of the histories that it is looked for in.
    options: dict[str, Any]


MUTANTS: dict[str, Mutant] = {}
_AT_ONE = (3, 3, 3, 1)
_LOSSES: dict[faults.Fault, float] = {faults.flush_after_write: 2.0, faults.crash: 1.0, faults.save: 1.0}
_LONG: dict[faults.Fault, float] = {faults.pause: 2.0}
_SLOWLY = {"length": 4.0, "paces": (0.0, 0.02, 0.3), "calls_left": 30}


def mutant(number: int, options: dict[str, Any], *targets: tuple[Any, Any]) -> Callable[[Any], Any]:
    """Take the decorated object for a mutant that replaces each of ``targets``; its name is the mutant's."""

    def take(replacement: Any) -> Any:
        @contextmanager
        def patched() -> Iterator[None]:
            with ExitStack() as stack:
                for target, name in targets:
                    if isinstance(target, dict):
                        stack.enter_context(mock.patch.dict(target, {name: replacement}))
                    else:
                        is_property = isinstance(vars(target).get(name), property)
                        new = property(replacement) if is_property else replacement
                        stack.enter_context(mock.patch.object(target, name, new))
                yield

        MUTANTS[replacement.__name__.strip("_")] = Mutant(number, patched, {"shape": (3, 3, 2, 2), **options})
        return replacement

    return take


# ---------------------------------------------------------------- writes


@mutant(1, {"workload": Registers, "theme": faults.LOSSES | faults.AWAY}, (Draft, "acknowledged"))
def hint_counts_for_w(self):
    return len(self.stored) + bool(self.missing and self.stored)


_judge = drafts.judge


@mutant(2, {"workload": Registers, "theme": faults.AWAY}, (replicas, "judge"))
def older_counts_as_stored(draft, node, status, absent):
    is_older = isinstance(status, bytes) and status[:1] == b"O"
    _judge(draft, node, b"=" if is_older else status, absent)


@mutant(
    7,
    {"workload": Deletions, "theme": {faults.mishaps: 3.0, faults.pause: 1.0}, "agents": 0, **_SLOWLY},
    (Standings, "not_after"),
)
def no_not_after(_self, _node, _expires):
    return 2**52


@mutant(8, {"workload": Registers, "theme": faults.AWAY | faults.NOISE}, (Limits, "grace_ms"))
def tombstones_live_too_short(_self):
    return 10


_put = memory_replicas._put


@mutant(11, {"workload": Additions, "theme": faults.AWAY | faults.NOISE}, (memory_replicas, "_put"))
def writes_ignore_promises(node, item, request):
    promise = memory_replicas._PROMISE + item.key
    node.discard(promise)
    return _put(node, item, request)


@mutant(17, {"workload": Touches, "theme": faults.AWAY}, (ReplicatedCoordinator, "touch"))
def touch_rewrites_the_payload(self, key, expires_at):
    record = yield from self.replicas.record("touch", key)
    if record is not None:
        again = Draft(key, self.topology.owners(key), lambda stamp: record._replace(stamp=stamp, expires_at=expires_at))
        yield from self.replicas.spread([again])
        self.replicas.check("touch", again)
    return record


@mutant(31, {"workload": Clearings, "theme": faults.AWAY}, (ReplicatedCoordinator, "remove_matching"))
def clear_by_deletion(self, pattern):
    found, failures = yield from self.scan(pattern)
    yield Gather([Ask(node, r.Remove(found)) for node in self.topology.node_names if node not in self.replicas.down()])
    return len(found), failures


_stamps = Stamps.__init__


@mutant(30, {"workload": Registers, "theme": {}}, (Stamps, "__init__"))
def actor_kept_over_fork(self, actor, lock):
    _stamps(self, b"parent", lock)


# ---------------------------------------------------------------- votes


@mutant(5, {"workload": Deletions, "theme": _LONG, "agents": 0, **_SLOWLY}, (Standings, "voters"))
def nobody_is_behind(_self, fences):
    return {node for node, fence in fences.items() if fence.state == UP}


@mutant(5, {"workload": Registers, "theme": _LOSSES, "shape": _AT_ONE}, (Standings, "voters"))
def missing_counts_as_a_vote(self, fences):
    behind = frozenset().union(*(fence.behind for fence in fences.values()))
    return {node for node in fences if self.tags[node] not in behind}


_init_replicas = Replicas.__init__


@mutant(19, {"workload": Registers, "theme": faults.AWAY}, (Replicas, "__init__"))
def one_vote_is_enough(self, *given, read, **options):
    _init_replicas(self, *given, read=min(read, 1), **options)


# ---------------------------------------------------------------- memory


@mutant(3, {"workload": Registers, "theme": {faults.siege: 1.0}, "agents": 1}, (Repair, "recover"))
def recovery_from_one_peer(self, node):
    replicas, standings = self._replicas, self._replicas.standings
    yield from replicas.enlist({node})
    if standings.state(node) in (None, UP):
        return standings.state(node) == UP
    self._needed = 1
    for other in replicas.topology.node_names:
        if other != node and (yield from self._copy(other, node)):
            break
    outcomes = yield from replicas.ask([Ask(node, r.Rise(standings.incarnation(node), standings.topology))])
    return outcomes[node] is True


_weigh = Repair._weigh


@mutant(6, {"workload": Registers, "theme": faults.AWAY}, (Repair, "_weigh"))
def replay_from_a_node_that_is_behind(self, told):
    return _weigh(self, {node: (raw, b"", slots) for node, (raw, _, slots) in told.items()})


_register = memory_records.register


@mutant(4, {"workload": Registers, "theme": _LOSSES, "shape": _AT_ONE}, (SCRIPTS, r.Register))
def state_not_in_the_fence(node, request):
    reply = _register(node, request)
    fence = node.text(memory_records.FENCE)
    node.put(memory_records.FENCE, fence[:57] + UP + fence[58:])
    return reply


@mutant(13, {"workload": Registers, "theme": _LOSSES, "shape": _AT_ONE}, (SCRIPTS, r.Register))
def incarnation_used_again(node, request):
    fence = node.text(memory_records.FENCE)
    if fence is not None and memory_records.incarnation(node) is not None:
        node.put(memory_records.FENCE, fence[:9] + node.run_id + fence[49:])
    return _register(node, request)


# ---------------------------------------------------------------- agreement


@mutant(9, {"workload": Additions, "theme": {}}, (Agreement, "add"))
def add_by_a_look_and_a_write(self, operation, key, value, ttl_ms):
    if (yield from self._replicas.record(operation, key)) is not None:
        return False
    yield from self._replicas.store(key, value, ttl_ms)
    return True


_prepare = SCRIPTS[r.Prepare]


@mutant(10, {"workload": Additions, "theme": _LOSSES}, (SCRIPTS, r.Prepare))
def recovering_node_promises(node, request):
    fence = node.text(memory_records.FENCE)
    if fence is None or memory_records.incarnation(node) is None:
        return _prepare(node, request)
    node.put(memory_records.FENCE, fence[:57] + UP + fence[58:])
    try:
        return _prepare(node, request)
    finally:
        node.put(memory_records.FENCE, fence)


# ---------------------------------------------------------------- counters


_raise = Counting._raise


@mutant(12, {"workload": Counters, "theme": faults.AWAY | faults.NOISE}, (Counting, "_raise"))
def retried_under_another_field(self, call, *given):
    call.own.field = self._random(8)
    return (yield from _raise(self, call, *given))


@mutant(14, {"workload": Counters, "theme": {faults.evict: 1.0}}, (SCRIPTS, r.Raise))
def evicted_counter_begins_anew(node, request):
    if request.key not in node and memory_records.incarnation(node) is not None:
        empty = TAG + COUNTER + request.base + bytes(16) + memory_replicas._present(node) + bytes(12)
        node.put(request.key, empty)
    return memory_replicas.raise_field(node, request)


@mutant(15, {"workload": Counters, "theme": {}}, (memory_replicas, "_put"))
def fields_survive_a_new_base(node, item, request):
    held = memory_replicas._valid(node, item.key)
    answer = _put(node, item, request)
    if answer == b"S" and held is not None and held[1:2] == item.record[1:2] == COUNTER:
        _, fields, _ = memory_replicas._counter(held[36:])
        value, _, folded = memory_replicas._counter(node.text(item.key)[36:])
        payload = value + memory_replicas._joined(fields, b"", 24) + memory_replicas._joined(folded, b"", 32)
        node.amend(item.key, node.text(item.key)[:36] + payload)
    return answer


_judge_raise = Counting._judge


@mutant(16, {"workload": Counters, "theme": {}}, (Counting, "_judge"))
def another_base_counts_as_raised(self, call, raised, node, outcome):
    if isinstance(outcome, tuple) and outcome[0] == b"N":
        outcome = (b"S", outcome[1])
    _judge_raise(self, call, raised, node, outcome)


_raise_field = SCRIPTS[r.Raise]


@mutant(33, {"workload": Folds, "theme": {}}, (SCRIPTS, r.Raise))
def promise_does_not_block_raises(node, request):
    promise = node.text(memory_replicas._PROMISE + request.key)
    ttl_ms = node.ttl_ms(memory_replicas._PROMISE + request.key)
    node.discard(memory_replicas._PROMISE + request.key)
    try:
        return _raise_field(node, request)
    finally:
        if promise is not None:
            node.put(memory_replicas._PROMISE + request.key, promise, max(1, ttl_ms))


_folded = agreement.folded


@mutant(34, {"workload": Folds, "theme": {}}, (agreement, "folded"))
def fold_says_nothing_of_fields(record, until, now_ms):
    new = _folded(record, until, now_ms)
    return new._replace(payload=Counter.parse(new.payload)._replace(folded={}).pack())


@mutant(34, {"workload": Folds, "theme": {}}, (agreement, "folded"))
def fold_forgets_older_folds(record, until, now_ms):
    counter = Counter.parse(record.payload)
    return _folded(record._replace(payload=counter._replace(folded={}).pack()), until, now_ms)


_push = Counting._push


@mutant(
    35, {"workload": Folds, "theme": {faults.flush: 2.0, faults.cut: 1.0, faults.mishaps: 2.0}}, (Counting, "_push")
)
def base_believed_at_once(self, call, record, nodes):
    if len(nodes) < 3:
        return (yield from _push(self, call, record, nodes))
    return 3
