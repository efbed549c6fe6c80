"""What writers do: mark, COMMIT, bump or clear; and what can go wrong on the way."""

from __future__ import annotations

from collections.abc import Iterator

from docs.models.freshness.state import (
    ABORTED,
    APPLIED,
    COMMITTED,
    GONE,
    OPEN,
    SENT,
    UNKNOWN,
    Config,
    Node,
    State,
    Writer,
    fresh_here,
    fresh_stamps,
    settled,
    with_node,
    with_writer,
)

__all__ = ["writer_steps"]

Steps = Iterator[tuple[str, State]]


def writer_steps(cfg: Config, state: State) -> Steps:
    """Yield every step that a writer can take, and the state after it."""
    for index, writer in enumerate(state.writers):
        if writer.pc == OPEN:
            yield from _marks(cfg, state, index)
            yield from _ends_of_open(cfg, state, index)
            continue
        yield from _commits(cfg, state, index)
        if writer.pc == COMMITTED or (writer.pc == UNKNOWN and cfg.unknown_clears):
            yield from _bumps(cfg, state, index)
        if writer.pc == ABORTED:
            yield from _clears(cfg, state, index)
        if cfg.marks:
            yield from _late_marks(cfg, state, index)


def _moved(state: State, index: int, **changes: int) -> State:
    """Return the state after a writer has come further; what it knew of acknowledgements is of no more use."""
    writer = state.writers[index]
    nodes = state.nodes
    if writer.pc == OPEN:
        nodes = tuple(node._replace(acked=node.acked & ~(1 << index)) for node in nodes)
    writer = writer._replace(**changes)
    if writer.pc not in (OPEN, SENT, APPLIED, UNKNOWN):
        writer = writer._replace(seen=0)
    return with_writer(state._replace(nodes=nodes), index, writer)


# ---------------------------------------------------------------------------------------------------- marks


def _marked(cfg: Config, node: Node, bit: int) -> Node:
    version, created = node.version, node.created
    if cfg.is_vector and (version == 0 or cfg.mark_bumps):
        created = int(cfg.drops and version == 0) or created
        version = fresh_here(cfg, node)
    return node._replace(version=version, created=created, marks=node.marks | bit)


def _marks(cfg: Config, state: State, index: int) -> Steps:
    name, bit, writer = f"W{index + 1}", cfg.bit(index), state.writers[index]
    for i, node in enumerate(state.nodes):
        if not cfg.marks or node.acked >> index & 1 or not cfg.writes(index, i):
            continue
        marked = _marked(cfg, node, bit)
        seen = max(writer.seen, node.version) if cfg.scheme == "newest" else 0
        acked = with_node(state, i, marked._replace(acked=node.acked | 1 << index))
        yield f"{name} marks node {i}", with_writer(acked, index, writer._replace(seen=seen))
        if not node.marks & bit:
            yield f"{name} marks node {i}, reply lost", with_node(state, i, marked)


def _late_marks(cfg: Config, state: State, index: int) -> Steps:
    bit = cfg.bit(index)
    for i, node in enumerate(state.nodes):
        if not node.marks & bit and cfg.writes(index, i):
            yield f"a late mark of W{index + 1} reaches node {i}", with_node(state, i, _marked(cfg, node, bit))


# ---------------------------------------------------------------------------------------------------- the database


def _ends_of_open(cfg: Config, state: State, index: int) -> Steps:
    name = f"W{index + 1}"
    yield f"{name} rolls back", _moved(state, index, pc=ABORTED)
    yield f"{name} crashes before COMMIT", _moved(state, index, pc=GONE)
    if cfg.is_marked(index, state.nodes) and not cfg.bounded:
        yield f"{name} sends COMMIT", _moved(state, index, pc=SENT)
    elif cfg.proceeds or cfg.bounded:
        yield f"{name} sends COMMIT without all marks, and owes the bump", _moved(state, index, pc=SENT, owed=-1)


def _commits(cfg: Config, state: State, index: int) -> Steps:
    name, writer = f"W{index + 1}", state.writers[index]
    if writer.pc == SENT:
        yield f"the database commits {name}", _applied(state, index, APPLIED)
        yield f"the database refuses {name}, who sees it", _moved(state, index, pc=ABORTED, owed=0)
        yield f"{name} crashes, or loses its connection, in COMMIT", _moved(state, index, pc=UNKNOWN)
    elif writer.pc == APPLIED:
        above = writer.seen if cfg.above_seen else 0
        for stamp in [0] if cfg.is_vector else fresh_stamps(cfg, state, above):
            yield f"{name} sees COMMIT succeed", _moved(state, index, pc=COMMITTED, stamp=stamp)
        yield f"{name} crashes, or does not learn the outcome", _moved(state, index, pc=GONE, owed=0)
    elif writer.pc == UNKNOWN:
        yield f"the database commits {name} (nobody told)", _applied(state, index, GONE)
        yield f"the database drops {name}", _moved(state, index, pc=GONE, owed=0)


def _applied(state: State, index: int, pc: int) -> State:
    """Return the state after a commit: from now on it is due, unless its bump is owed."""
    owed, number = state.writers[index].owed, state.applied + 1
    state = _moved(state, index, pc=pc, owed=number if owed and pc == APPLIED else 0)
    return state._replace(applied=number, due=state.due if owed else number)


# ---------------------------------------------------------------------------------------------------- afterwards


def _bumps(cfg: Config, state: State, index: int) -> Steps:
    bit, writer = cfg.bit(index), state.writers[index]
    for i, node in enumerate(state.nodes):
        if not cfg.writes(index, i):
            continue
        bumped = _bumped(cfg, node, bit, writer)
        if writer.owed > 0:
            bumped = bumped._replace(acked=bumped.acked | 1 << index)
        if bumped != node:
            yield f"W{index + 1} bumps node {i}", _delivered(cfg, with_node(state, i, bumped), index)


def _bumped(cfg: Config, node: Node, bit: int, writer: Writer) -> Node:
    version = node.version
    if cfg.clear_bumps and (version or not cfg.drops):
        if cfg.is_vector:
            version = fresh_here(cfg, node)
        else:
            version = max(version, writer.stamp) if cfg.scheme == "newest" else writer.stamp
    marks = 0 if cfg.clears_all else node.marks & ~bit
    return settled(cfg, node._replace(version=version, marks=marks))


def _delivered(cfg: Config, state: State, index: int) -> State:
    """Return the state after a bump: a commit whose bump was owed is due once every node has had it."""
    writer = state.writers[index]
    missing = [i for i, node in enumerate(state.nodes) if cfg.writes(index, i) and not node.acked >> index & 1]
    if writer.owed <= 0 or missing:
        return state
    nodes = tuple(node._replace(acked=node.acked & ~(1 << index)) for node in state.nodes)
    state = state._replace(due=max(state.due, writer.owed), nodes=nodes)
    return with_writer(state, index, writer._replace(owed=0))


def _clears(cfg: Config, state: State, index: int) -> Steps:
    bit = cfg.bit(index)
    for i, node in enumerate(state.nodes):
        if node.marks & bit:
            cleared = settled(cfg, node._replace(marks=node.marks & ~bit))
            yield f"W{index + 1} clears node {i}", with_node(state, i, cleared)
