"""What the adversary does: expire marks, evict records, restart nodes; and what readers do for a node on the way."""

from __future__ import annotations

from collections.abc import Iterator

from docs.models.freshness.state import (
    OPEN,
    Config,
    Node,
    Snapshot,
    State,
    fresh_here,
    fresh_stamps,
    put,
    settled,
    unresolved,
    with_node,
)

__all__ = ["fault_steps"]

Steps = Iterator[tuple[str, State]]


def fault_steps(cfg: Config, state: State) -> Steps:
    """Yield every step that nobody asked for, and the state after it."""
    for i in range(cfg.nodes):
        yield from _expiries(cfg, state, i)
        yield from _evictions(cfg, state, i)
        yield from _mints(cfg, state, i)
        if cfg.restart:
            yield from _restarts(cfg, state, i)
            yield from _recoveries(cfg, state, i)
        if cfg.repair:
            yield from _repairs(cfg, state, i)


def _expiries(cfg: Config, state: State, i: int) -> Steps:
    node = state.nodes[i]
    for index in range(1 if cfg.shared_mark else cfg.writers):
        bit = cfg.bit(index)
        if not node.marks & bit or not _may_expire(cfg, state, index, bit):
            continue
        acked = node.acked & ~(1 << index) if cfg.expire == "guarded" else node.acked
        if not cfg.expire_bumps:
            versions = [node.version]
        else:
            versions = [fresh_here(cfg, node)] if cfg.is_vector else fresh_stamps(cfg, state, node.version)
        for version in versions:
            expired = node._replace(version=version, marks=node.marks & ~bit, acked=acked)
            yield f"the mark of W{index + 1} expires at node {i}", with_node(state, i, settled(cfg, expired))


def _may_expire(cfg: Config, state: State, index: int, bit: int) -> bool:
    if cfg.expire in ("any", "never"):
        return cfg.expire == "any"
    is_early = cfg.expire == "guarded" and state.writers[index].pc == OPEN
    return is_early or not unresolved(cfg, state) & bit


def _evictions(cfg: Config, state: State, i: int) -> Steps:
    node = state.nodes[i]
    can_go = cfg.evict == "any" or (cfg.evict == "unmarked" and not node.marks)
    if not can_go or not (node.version or node.marks):
        return
    empty = node._replace(version=0, marks=0, created=0)
    if cfg.evict_detected and node.marks:
        known = empty._replace(lost=node.lost | node.marks, quarantine=1)
        yield f"node {i} evicts the record, and knows", with_node(state, i, known)
    else:
        yield f"node {i} evicts the record", with_node(state, i, empty)


def _mints(cfg: Config, state: State, i: int) -> Steps:
    node = state.nodes[i]
    if node.version or node.quarantine:
        return
    if cfg.is_vector:
        minted = node._replace(version=fresh_here(cfg, node))
        yield f"a reader has node {i} mint the missing version", with_node(state, i, minted)
        return
    for stamp in fresh_stamps(cfg, state):
        there = with_node(state, i, node._replace(version=stamp))
        remembered = there._replace(reader=put(there.reader, 3, stamp))
        yield f"a reader mints the missing version at node {i} (SET NX)", remembered
    last = state.reader[3]
    if isinstance(last, int) and last:
        yield f"the same minting reaches node {i} (SET NX)", with_node(state, i, node._replace(version=last))


def _restarts(cfg: Config, state: State, i: int) -> Steps:
    node = state.nodes[i]
    if not cfg.floor and node.snapshot is None and node.version:
        saved = node._replace(snapshot=Snapshot(node.version, node.marks))
        yield f"node {i} saves a snapshot", with_node(state, i, saved)
    new_life = node._replace(
        lost=node.lost | node.marks, quarantine=0 if cfg.quarantine == "none" else 1, version=0, marks=0, created=0
    )
    if node.version or node.marks or not node.quarantine:
        yield f"node {i} restarts empty or void", with_node(state, i, new_life)
    if node.snapshot:
        old = new_life._replace(version=node.snapshot.version, marks=node.snapshot.marks)
        yield f"node {i} restarts with its snapshot", with_node(state, i, old)


def _recoveries(cfg: Config, state: State, i: int) -> Steps:
    node = state.nodes[i]
    if not node.quarantine:
        return
    voting = node._replace(lost=0, quarantine=0)
    if cfg.quarantine == "time" and not node.lost & unresolved(cfg, state):
        yield f"quarantine of node {i} ends", with_node(state, i, voting)
    if cfg.quarantine == "copy":
        for j, other in _others(state, i):
            copied = voting._replace(version=max(node.version, other.version))
            yield f"node {i} copies the version of node {j} and votes", with_node(state, i, copied)


def _repairs(cfg: Config, state: State, i: int) -> Steps:
    node = state.nodes[i]
    for j, other in _others(state, i):
        is_behind = node.version == 0 or (cfg.scheme == "newest" and node.version < other.version)
        if is_behind and not node.quarantine:
            repaired = node._replace(version=other.version)
            yield f"read repair copies the version of node {j} to {i}", with_node(state, i, repaired)


def _others(state: State, i: int) -> Iterator[tuple[int, Node]]:
    for j, other in enumerate(state.nodes):
        if j != i and not other.quarantine and other.version:
            yield j, other
