"""What readers do, in two grains.

*Reduced*: one filler makes one entry, one checker reads it. A node's ``read`` holds the version that the filler read
there, and the one that the checker read. Exact for P1: see README.md.

*Fine*: two whole readers in a loop, each step separate, and one register that holds the entry. A node's ``read``
holds the entry's version, then for each reader the version it read and the one of the entry it fetched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from docs.models.freshness.state import MISSING, NO_VOTE, UNFETCHED, UNREAD, Config, Node, State, put, with_node

__all__ = ["fine_readers", "is_stale", "reduced_readers"]

#: A step, and the state after it; ``None`` after a stale hit.
Steps = Iterator[tuple[str, State | None]]


def votes(cfg: Config, node: Node, who: str) -> bool:
    """Return whether a node has a vote in the read of ``who``."""
    if node.quarantine or (node.version == 0 and not cfg.missing_votes):
        return False
    return not node.marks or cfg.see_marks not in ("all", who)


def agreed(cfg: Config, found: Sequence[int]) -> int | None:
    """Return the stamp that replies agree on, where the writer carries it; ``None`` where there is none."""
    if cfg.scheme == "newest":
        return max(found) if max(found) > 0 else None
    return found[0] if len(set(found)) == 1 and found[0] > 0 else None


# ---------------------------------------------------------------------------------------------------- reduced


def reduced_readers(cfg: Config, state: State) -> Steps:
    """Yield the steps of the filler and of the checker."""
    value, _, early, _ = _reduced(state)
    if value < 0:
        if cfg.load_first and early < 0:
            yield "the filler's database snapshot is taken", _with_reader(state, 2, state.applied)
            return
        yield from _fills(cfg, state)
    yield from _checks(cfg, state)


def _reduced(state: State) -> tuple[int, int, int, int]:
    value, due, early, minted = state.reader
    assert isinstance(value, int)
    assert isinstance(due, int)
    assert isinstance(early, int)
    assert isinstance(minted, int)
    return value, due, early, minted


def _with_reader(state: State, index: int, value: Any) -> State:
    return state._replace(reader=put(state.reader, index, value))


def _fills(cfg: Config, state: State) -> Steps:
    early = _reduced(state)[2]
    have = [node.read[0] for node in state.nodes if node.read[0]]
    for i, node in enumerate(state.nodes):
        if node.read[0] or not votes(cfg, node, "filler"):
            continue
        version = node.version or MISSING
        then = with_node(state, i, node._replace(read=(version, node.read[1])))
        if cfg.late_versions and early < 0:
            early = state.applied
            then = _with_reader(then, 2, early)
        if len(have) + 1 < cfg.r:
            yield f"the filler reads the version at node {i}", then
        elif cfg.is_vector or agreed(cfg, [*have, version]):
            for value in _loads(cfg, state, early):
                label = f"the filler reads the version at node {i}, loads {value}, stores"
                yield label, _with_reader(then, 0, value)
        early = _reduced(state)[2]


def _loads(cfg: Config, state: State, early: int) -> Sequence[int]:
    """Return the values that a load may find now."""
    if cfg.load_first or cfg.late_versions:
        return [early]
    return range(state.applied + 1) if cfg.lagging_loads else [state.applied]


def _checks(cfg: Config, state: State) -> Steps:
    due = _reduced(state)[1]
    if sum(1 for node in state.nodes if node.read[1]) >= cfg.r:
        return
    for i, node in enumerate(state.nodes):
        if not node.read[1] and votes(cfg, node, "checker"):
            then = with_node(state, i, node._replace(read=(node.read[0], node.version or MISSING)))
            if due < 0:
                yield f"the checker begins and reads the version at node {i}", _with_reader(then, 1, state.due)
            else:
                yield f"the checker reads the version at node {i}", then


def is_stale(cfg: Config, state: State) -> bool:
    """Return whether the reduced checker has a hit on a value older than what was due when it began."""
    value, due, _, _ = _reduced(state)
    if not 0 <= value < due:
        return False
    pairs = [node.read for node in state.nodes]
    if cfg.is_vector:
        return sum(1 for entry, seen in pairs if entry > 0 and entry == seen) >= cfg.r
    seen = [pair[1] for pair in pairs if pair[1]]
    entry = [pair[0] for pair in pairs if pair[0]]
    return len(seen) == cfg.r and agreed(cfg, seen) is not None and agreed(cfg, seen) == agreed(cfg, entry)


# ---------------------------------------------------------------------------------------------------- fine


def fine_readers(cfg: Config, state: State) -> Steps:
    """Yield the steps of two readers."""
    for index in range(2):
        pc, due, value, fetched = _fine(state, index)
        name = f"R{index + 1}"
        if pc == 0:
            yield f"{name} begins", _with_reader(state, 1 + index, (1, state.due, -1, UNFETCHED))
        elif pc == 1:
            yield from _looks(cfg, state, index, due, fetched)
            yield f"{name} goes to the database, stores nothing", _idle(state, index)
        elif pc == 2:
            loaded = (3, -1, state.applied, UNFETCHED)
            yield f"{name} loads {state.applied}", _with_reader(state, 1 + index, loaded)
        else:
            yield f"{name} stores {value}", _stored(state, index, value)


def _fine(state: State, index: int) -> tuple[int, int, int, int]:
    mine: Any = state.reader[1 + index]
    pc, due, value, fetched = mine
    return pc, due, value, fetched


def _looks(cfg: Config, state: State, index: int, due: int, fetched: int) -> Steps:
    name, mine, entry = f"R{index + 1}", 1 + 2 * index, 2 + 2 * index
    for i, node in enumerate(state.nodes):
        if node.read[mine] == UNREAD:
            version = node.version if votes(cfg, node, "reader") else NO_VOTE
            yield (
                f"{name} reads the version at node {i}",
                with_node(state, i, node._replace(read=put(node.read, mine, version))),
            )
    if fetched == UNFETCHED:
        nodes = tuple(node._replace(read=put(node.read, entry, node.read[0])) for node in state.nodes)
        then = _with_reader(state, 1 + index, (1, due, -1, state.reader[0]))
        yield f"{name} fetches the entry", then._replace(nodes=nodes)
        return
    same = sum(1 for node in state.nodes if node.read[mine] > 0 and node.read[mine] == node.read[entry])
    voting = sum(1 for node in state.nodes if node.read[mine] not in (UNREAD, NO_VOTE))
    if same >= cfg.r and fetched >= 0:
        yield f"{name} HIT {fetched}, begun at {due}", None if fetched < due else _idle(state, index)
    elif voting >= cfg.r:
        nodes = tuple(node._replace(read=put(node.read, entry, 0)) for node in state.nodes)
        yield f"{name} misses", _with_reader(state, 1 + index, (2, -1, -1, UNFETCHED))._replace(nodes=nodes)


def _idle(state: State, index: int) -> State:
    mine, entry = 1 + 2 * index, 2 + 2 * index
    nodes = tuple(node._replace(read=put(put(node.read, mine, 0), entry, 0)) for node in state.nodes)
    return _with_reader(state, 1 + index, (0, -1, -1, UNFETCHED))._replace(nodes=nodes)


def _stored(state: State, index: int, value: int) -> State:
    mine = 1 + 2 * index
    nodes = tuple(node._replace(read=put(node.read, 0, max(node.read[mine], 0))) for node in state.nodes)
    return _with_reader(_idle(state._replace(nodes=nodes), index), 0, value)
