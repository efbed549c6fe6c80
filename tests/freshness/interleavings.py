"""Orders of events in which a cache in front of a database goes wrong, forced one by one on any cache.

Each takes a stage, a kind of write and a shape of read, and returns what processes that took no part then saw.
An order is forced by holding a process inside psycopg (``gates``); nothing here knows the cache.
"""

from collections.abc import Callable, Mapping
from typing import Any

from tests.freshness.rows import KINDS, target
from tests.freshness.stage import Look, Stage

Scenario = Callable[[Stage, str, str], list[Look]]


def _trial(stage: Stage, kind: str) -> dict[str, int]:
    trial = stage.trial()
    return {**trial, "at": target(kind, trial)}


def _write(stage: Stage, kind: str, trial: Mapping[str, int], **options: Any) -> None:
    stage.actor("writer").call("write", kind=kind, **options, **trial)


def late_store(stage: Stage, kind: str, shape: str) -> list[Look]:
    """A: a reader loads the old row; a writer commits and invalidates; the reader stores what it loaded."""
    trial = _trial(stage, kind)
    reader = stage.actor("reader").begin("read", hold=["loaded"], shape=shape, **trial)
    assert reader.reached("loaded"), "the reader loaded nothing: somebody had cached it"
    _write(stage, kind, trial)
    reader.go("loaded").result()
    return stage.looks("after the late store", shape, kind, trial)


def late_store_in_autocommit(stage: Stage, kind: str, shape: str) -> list[Look]:
    """A, and the write is a statement in autocommit."""
    trial = _trial(stage, kind)
    reader = stage.actor("reader").begin("read", hold=["loaded"], shape=shape, **trial)
    assert reader.reached("loaded")
    _write(stage, kind, trial, atomic=False)
    reader.go("loaded").result()
    return stage.looks("after the late store", shape, kind, trial)


def old_snapshot(stage: Stage, kind: str, shape: str) -> list[Look]:
    """B: a REPEATABLE READ reader takes its snapshot; a writer commits; the reader loads from it and stores."""
    trial = _trial(stage, kind)
    if "snapshot reader" not in stage.names():
        databases = {"default": {**stage.databases["default"], "OPTIONS": {"isolation_level": 3}}}
        stage.fresh("snapshot reader", databases=databases)
    reader = stage.actor("snapshot reader").begin("read_in_snapshot", hold=["snapshot"], shape=shape, **trial)
    assert reader.reached("snapshot")
    _write(stage, kind, trial)
    reader.go("snapshot").result()
    return stage.looks("after the old snapshot was read", shape, kind, trial)


def old_snapshot_by_statement(stage: Stage, kind: str, shape: str) -> list[Look]:
    """B, and the isolation was set by a statement of the transaction."""
    trial = _trial(stage, kind)
    level = "REPEATABLE READ"
    reader = stage.actor("reader").begin("read_in_snapshot", hold=["snapshot"], shape=shape, level=level, **trial)
    assert reader.reached("snapshot")
    _write(stage, kind, trial)
    reader.go("snapshot").result()
    return stage.looks("after the old snapshot was read", shape, kind, trial)


def before_invalidation(stage: Stage, kind: str, shape: str) -> list[Look]:
    """C, D: the answer is cached; somebody reads it between COMMIT and whatever the writer does after it."""
    trial = _trial(stage, kind)
    stage.fill(shape, trial)
    writer = stage.actor("writer").begin("write", hold=["committed"], kind=kind, **trial)
    assert writer.reached("committed")
    between = stage.looks("between COMMIT and invalidation", shape, kind, trial)
    writer.go("committed").result()
    return between + stage.looks("after the write", shape, kind, trial)


def filled_before_commit(stage: Stage, kind: str, shape: str) -> list[Look]:
    """D3: a reader fills the cache just before COMMIT; somebody reads between COMMIT and invalidation."""
    trial = _trial(stage, kind)
    stage.fill(shape, trial)
    writer = stage.actor("writer").begin("write", hold=["commit", "committed"], kind=kind, **trial)
    assert writer.reached("commit")
    before = stage.looks("before COMMIT", shape, kind, trial)
    writer.go("commit")
    assert writer.reached("committed")
    between = stage.looks("between COMMIT and invalidation", shape, kind, trial)
    writer.go("committed").result()
    return before + between + stage.looks("after the write", shape, kind, trial)


def loaded_before_stored_after_mark(stage: Stage, kind: str, shape: str) -> list[Look]:
    """D3 with a slow reader: it has loaded before the writer came, and stores while COMMIT is on its way."""
    trial = _trial(stage, kind)
    reader = stage.actor("reader").begin("read", hold=["loaded"], shape=shape, **trial)
    assert reader.reached("loaded")
    writer = stage.actor("writer").begin("write", hold=["commit", "committed"], kind=kind, **trial)
    assert writer.reached("commit")
    reader.go("loaded").result()
    writer.go("commit")
    assert writer.reached("committed")
    between = stage.looks("between COMMIT and invalidation", shape, kind, trial)
    writer.go("committed").result()
    return between + stage.looks("after the write", shape, kind, trial)


def _at_every_point(stage: Stage, do: str, kind: str, shape: str, **options: Any) -> list[Look]:
    """Look, and so fill the cache, wherever a write can be held: before and after statement and COMMIT."""
    trial = _trial(stage, kind)
    stage.fill(shape, trial)
    points = ["write", "written", "commit", "committed"]
    writer = stage.actor("writer").begin(do, hold=points, kind=kind, **options, **trial)
    looks: list[Look] = []
    while (point := writer.next_point()) is not None:
        looks += stage.looks(f"at {point}", shape, kind, trial)
        writer.go(point)
    writer.result()
    return looks + stage.looks("after the write", shape, kind, trial)


def filled_before_autocommit(stage: Stage, kind: str, shape: str) -> list[Look]:
    """C: a write without a transaction is about to be sent, a reader fills the cache, the write becomes visible."""
    return _at_every_point(stage, "write", kind, shape, atomic=False)


def manual_commit(stage: Stage, kind: str, shape: str) -> list[Look]:
    """C, D, D3 with autocommit switched off and ``transaction.commit()``."""
    return _at_every_point(stage, "write_with_manual_commit", kind, shape)


def commit_by_text(stage: Stage, kind: str, shape: str) -> list[Look]:
    """C, D, D3 with BEGIN and COMMIT sent as statements through a cursor."""
    return _at_every_point(stage, "write_with_commit_by_text", kind, shape)


def nested_blocks(stage: Stage, kind: str, shape: str) -> list[Look]:
    """C, D, D3 with the write two savepoints deep, beside one that is rolled back."""
    return _at_every_point(stage, "write_in_nested_blocks", kind, shape)


def in_request(stage: Stage, kind: str, shape: str) -> list[Look]:
    """C, D, D3 with the transaction that ``ATOMIC_REQUESTS`` puts around a view."""
    return _at_every_point(stage, "write_in_request", kind, shape)


def asynchronous_writer(stage: Stage, kind: str, shape: str) -> list[Look]:
    """C, D, D3 with ``asave()`` and its like, which run in another thread."""
    return _at_every_point(stage, "write_asynchronously", kind, shape)


def rolled_back(stage: Stage, kind: str, shape: str) -> list[Look]:
    """F: the writer reads its own change inside the transaction, which is then rolled back."""
    trial = _trial(stage, kind)
    stage.fill(shape, trial)
    seen, truth = stage.actor("writer").call("change_read_and_roll_back", kind=kind, shape=shape, **trial).value
    inside = Look("in the writer's transaction", shape, kind, seen, truth, 1)
    return [inside, *stage.looks("after the rollback", shape, kind, trial)]


def rolled_back_savepoint(stage: Stage, kind: str, shape: str) -> list[Look]:
    """F: the change is made and read inside a savepoint that is rolled back; the transaction commits."""
    trial = _trial(stage, kind)
    inside, outside = stage.actor("writer").call("change_in_savepoint", kind=kind, shape=shape, **trial).value
    looks = [
        Look("in the savepoint", shape, kind, inside[0], inside[1], 1),
        Look("in the transaction, after the savepoint", shape, kind, outside[0], outside[1], 1),
    ]
    return looks + stage.looks("after the transaction", shape, kind, trial)


def own_write(stage: Stage, kind: str, shape: str) -> list[Look]:
    """H: the answer is cached; the writer reads it in the transaction after its change, and once more afterwards."""
    trial = _trial(stage, kind)
    stage.fill(shape, trial)
    seen, truth = stage.actor("writer").call("change_and_read", kind=kind, shape=shape, **trial).value
    own = Look("in the writer's transaction", shape, kind, seen, truth, 1)
    later = stage.look("in the writer's process", shape, kind, trial, actor="writer")
    return [own, later, *stage.looks("after the write", shape, kind, trial)]


def _hook(stage: Stage, kind: str, shape: str, **options: bool) -> list[Look]:
    trial = _trial(stage, kind)
    stage.fill(shape, trial)
    writer = stage.actor("writer").begin("write_with_hook", hold=["hook"], kind=kind, **options, **trial)
    assert writer.reached("hook")
    during = stage.looks("while an on_commit hook runs", shape, kind, trial)
    writer.go("hook").result()
    return during + stage.looks("after the write", shape, kind, trial)


def hook_before_write(stage: Stage, kind: str, shape: str) -> list[Look]:
    """E: an ``on_commit`` hook registered before the write starts a task, which reads."""
    return _hook(stage, kind, shape, is_first=True, is_robust=False)


def hook_after_write(stage: Stage, kind: str, shape: str) -> list[Look]:
    """E, and the hook was registered after the write."""
    return _hook(stage, kind, shape, is_first=False, is_robust=False)


def robust_hook(stage: Stage, kind: str, shape: str) -> list[Look]:
    """E, with ``robust=True``, behind a robust hook that has raised."""
    return _hook(stage, kind, shape, is_first=True, is_robust=True)


def asynchronous_reader(stage: Stage, kind: str, shape: str) -> list[Look]:
    """A and D with the asynchronous methods: a late store, then reads between COMMIT and invalidation."""
    trial = _trial(stage, kind)
    reader = stage.actor("reader").begin("aread", hold=["loaded"], shape=shape, **trial)
    assert reader.reached("loaded")
    writer = stage.actor("writer").begin("write", hold=["committed"], kind=kind, **trial)
    assert writer.reached("committed")
    reader.go("loaded").result()
    seen = stage.actor("witness").call("aread", shape=shape, **trial)
    between = Look("between COMMIT and invalidation", shape, kind, seen.value, stage.truth(shape, trial), seen.loads)
    writer.go("committed").result()
    again = stage.actor("witness").call("aread", shape=shape, **trial)
    after = Look("after the write", shape, kind, again.value, stage.truth(shape, trial), again.loads)
    return [between, after, *stage.looks("after the write", shape, kind, trial)]


#: Scenario and the kinds of write it makes sense for.
SCENARIOS: dict[Scenario, tuple[str, ...]] = {
    late_store: KINDS,
    late_store_in_autocommit: KINDS,
    old_snapshot: KINDS,
    old_snapshot_by_statement: ("save", "update"),
    before_invalidation: KINDS,
    filled_before_commit: KINDS,
    loaded_before_stored_after_mark: KINDS,
    filled_before_autocommit: KINDS,
    manual_commit: ("save", "update", "delete", "raw"),
    commit_by_text: ("save", "update", "raw"),
    nested_blocks: ("save", "update", "delete", "raw"),
    in_request: ("save", "update", "delete", "raw"),
    asynchronous_writer: ("save", "update", "delete", "create"),
    rolled_back: KINDS,
    rolled_back_savepoint: KINDS,
    own_write: KINDS,
    hook_before_write: ("save", "update", "delete", "raw"),
    hook_after_write: ("save", "update", "delete", "raw"),
    robust_hook: ("save", "update", "delete", "raw"),
    asynchronous_reader: ("save", "update", "delete", "create", "raw"),
}


# ---------------------------------------------------------------- of which the suite has more thorough forms


def killed_writer(stage: Stage, kind: str, shape: str) -> list[Look]:
    """K: the writer is killed between COMMIT and invalidation."""
    trial = _trial(stage, kind)
    stage.fill(shape, trial)
    writer = stage.fresh("victim").begin("write", hold=["committed"], kind=kind, **trial)
    assert writer.reached("committed")
    writer.kill()
    return stage.looks("after the kill", shape, kind, trial)


def killed_writer_after_late_fill(stage: Stage, kind: str, shape: str) -> list[Look]:
    """K, and a reader filled the cache just before COMMIT."""
    trial = _trial(stage, kind)
    writer = stage.fresh("victim").begin("write", hold=["commit", "committed"], kind=kind, **trial)
    assert writer.reached("commit")
    looks = stage.looks("before COMMIT", shape, kind, trial)
    writer.go("commit")
    assert writer.reached("committed")
    writer.kill()
    return looks + stage.looks("after the kill", shape, kind, trial)


def moved_row(stage: Stage, how: str, shape: str) -> list[Look]:
    """L: A moves the row from shelf 1 to 2; B, whose instance still says 1, moves it to 3: the lists of all three."""
    trial = {**stage.trial(), "third": stage.trial()["other"]}
    stage.actor("second writer").call("load_stale_instance", **trial)
    stage.actor("writer").call("write", kind="move", **trial)
    groups = [{**trial, "shelf": trial[group]} for group in ("shelf", "other", "third")]
    for group in groups:
        stage.fill(shape, group)
    stage.actor("second writer").call("move_stale_instance", how=how, atomic=True, **trial)
    return [look for group in groups for look in stage.looks("after the second move", shape, how, group)]


COMPARED: dict[Scenario, tuple[str, ...]] = {
    **SCENARIOS,
    killed_writer: KINDS,
    killed_writer_after_late_fill: KINDS,
    moved_row: ("save", "save_fields", "bulk_update", "update"),
}
