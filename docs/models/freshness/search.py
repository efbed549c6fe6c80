"""Visit every reachable state, breadth first: the first counterexample is a shortest one."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

from docs.models.freshness.faults import fault_steps
from docs.models.freshness.readers import fine_readers, is_stale, reduced_readers
from docs.models.freshness.state import DEAD, Config, Node, Snapshot, State, initial, put, unresolved
from docs.models.freshness.writers import writer_steps

__all__ = ["Result", "check"]

_Parents = dict[State, tuple[State, str] | None]


class Result(NamedTuple):
    """Be the outcome: whether P1 holds in all states, how many there are, and the trace where it does not."""

    holds: bool
    states: int
    steps: int
    trace: tuple[str, ...] = ()


def check(cfg: Config, *, limit: int = 60_000_000) -> Result:
    """Visit all states; stop at the first stale hit.

    :raises MemoryError: beyond ``limit`` states: neither proved nor refuted.
    """
    start = canonical(cfg, initial(cfg))
    assert start is not None
    parents: _Parents = {start: None}
    queue, steps = deque([start]), 0
    while queue:
        state = queue.popleft()
        for label, then in _steps(cfg, state):
            steps += 1
            if then is None or (not cfg.is_fine and is_stale(cfg, then)):
                return Result(False, len(parents), steps, _trace(parents, state, label, then))
            found = canonical(cfg, then)
            if found is not None and found not in parents:
                parents[found] = (state, label)
                queue.append(found)
        if len(parents) > limit:
            raise MemoryError(f"more than {limit} states")
    return Result(True, len(parents), steps)


def _steps(cfg: Config, state: State) -> Iterator[tuple[str, State | None]]:
    readers = fine_readers if cfg.is_fine else reduced_readers
    return itertools.chain(writer_steps(cfg, state), fault_steps(cfg, state), readers(cfg, state))


def _trace(parents: _Parents, state: State, label: str, last: State | None) -> tuple[str, ...]:
    if last is not None:
        label += f": STALE HIT {last.reader[0]}, begun at {last.reader[1]}"
    labels = [label]
    while (before := parents[state]) is not None:
        state, label = before
        labels.append(label)
    return tuple(reversed(labels))


# ---------------------------------------------------------------------------------------------------- equal states


def canonical(cfg: Config, state: State) -> State | None:
    """Rename versions, forget what cannot matter; return ``None`` for a state from which P1 cannot fail."""
    if not cfg.is_fine and _is_harmless(cfg, state):
        return None
    if not cfg.is_vector:
        return _with_ranks(cfg, state)
    open_marks = unresolved(cfg, state)
    nodes = [_renamed(cfg, node, open_marks) for node in state.nodes]
    reader = state.reader
    if not cfg.is_fine:
        if any(node.read[0] == DEAD for node in nodes):
            return None
    else:
        if reader[0] != -1 and sum(1 for node in nodes if node.read[0] > 0) < cfg.r:
            reader = put(reader, 0, -1)
        if reader[0] == -1:
            nodes = [node._replace(read=put(node.read, 0, 0)) for node in nodes]
    if cfg.is_symmetric:
        nodes.sort(key=repr)
    return state._replace(reader=reader, nodes=tuple(nodes))


def _is_harmless(cfg: Config, state: State) -> bool:
    value, due, _, _ = state.reader
    assert isinstance(value, int)
    assert isinstance(due, int)
    return due == 0 or value == cfg.writers or (value >= 0 and due >= 0 and value >= due)


def _renamed(cfg: Config, node: Node, open_marks: int) -> Node:
    """Return the node with its versions numbered in the order of their places; those seen nowhere else are dead."""
    kept = {node.version, node.snapshot.version if node.snapshot else 0, 1 if cfg.mint_fixed else 0}
    read = list(node.read)
    for k, version in enumerate(read):
        if version > 0 and version not in kept and read.count(version) == 1:
            read[k] = DEAD if k % 2 or not cfg.is_fine else 0
    names = {0: 0, 1: 1} if cfg.mint_fixed else {0: 0}
    for version in (node.version, *([node.snapshot.version] if node.snapshot else []), *read):
        if version >= 0 and version not in names:
            names[version] = len(names) + (0 if cfg.mint_fixed else 1)
    return node._replace(
        version=names[node.version],
        lost=node.lost & open_marks,
        snapshot=Snapshot(names[node.snapshot.version], node.snapshot.marks) if node.snapshot else None,
        read=tuple(names.get(version, version) for version in read),
    )


def _with_ranks(cfg: Config, state: State) -> State:
    """Return the state with its stamps renamed: by rank where their order counts, else by place."""
    names = _ranks(cfg, state)
    open_marks = unresolved(cfg, state)

    def name(value: Any) -> Any:
        return names.get(value, value)

    return state._replace(
        writers=tuple(w._replace(stamp=name(w.stamp), seen=name(w.seen)) for w in state.writers),
        reader=put(state.reader, 3, name(state.reader[3])),
        nodes=tuple(
            node._replace(
                version=name(node.version),
                lost=node.lost & open_marks,
                snapshot=Snapshot(name(node.snapshot.version), node.snapshot.marks) if node.snapshot else None,
                read=tuple(map(name, node.read)),
            )
            for node in state.nodes
        ),
    )


def _ranks(cfg: Config, state: State) -> dict[object, int]:
    order: list[object] = []
    for node in state.nodes:
        order += [node.version, *([node.snapshot.version] if node.snapshot else []), *node.read]
    order += [w.stamp for w in state.writers] + [w.seen for w in state.writers] + [state.reader[3]]
    used = [stamp for stamp in dict.fromkeys(order) if isinstance(stamp, int) and stamp > 0]
    if cfg.scheme == "newest":
        return {stamp: 2 * k + 2 for k, stamp in enumerate(sorted(used))}
    return {stamp: k + 2 for k, stamp in enumerate(used)}
