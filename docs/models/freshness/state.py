"""The states of the model, and what a configuration can change about its steps.

One row whose committed value is the number of commits so far, version records of it at one or more nodes, one or
two writers, readers, and an adversary. Versions are small numbers: they are only compared, so those that nobody
remembers may be renamed, which keeps the number of states finite.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

# Where a writer is. A message of a writer that is slow, and one that the network delays, look the same to a node, so
# a writer may stay in COMMITTED or ABORTED for ever; that is its crash there, too.
OPEN, SENT, APPLIED, COMMITTED, ABORTED, UNKNOWN, GONE = range(7)
#: The database has decided; no commit can follow.
RESOLVED: Final = frozenset({APPLIED, COMMITTED, ABORTED, GONE})

# What a reader holds of a node in place of a version: nothing yet, a record that was missing, no vote, and a version
# that can never be seen again.
UNREAD, MISSING, NO_VOTE, DEAD = 0, -3, -1, -4
#: What a reader has fetched in place of an entry's value: nothing yet.
UNFETCHED: Final = -2


class Writer(NamedTuple):
    """Be one transaction. ``stamp`` and ``seen`` belong to the schemes with one stamp."""

    pc: int = OPEN
    stamp: int = 0
    seen: int = 0
    #: Of a commit without all marks: -1 before it is applied, then its number until it is made up for.
    owed: int = 0


class Snapshot(NamedTuple):
    """Be what a node has saved of its record."""

    version: int
    marks: int


class Node(NamedTuple):
    """Be one node: its record, and what is known of it."""

    version: int = 2  # 0: there is no record
    marks: int = 0  # a bit for each writer
    lost: int = 0  # marks that were in the memory it lost
    quarantine: int = 0
    acked: int = 0  # a bit for each writer whose mark (of an owing writer: whose bump) is acknowledged
    snapshot: Snapshot | None = None
    read: tuple[int, ...] = (0, 0)  # versions that readers hold: see readers.py
    created: int = 0  # a mark made this record, and no reader has asked for it since


class State(NamedTuple):
    """Be the whole world. ``due`` is what a read that begins now may not fall behind."""

    applied: int
    due: int
    writers: tuple[Writer, ...]
    reader: tuple[object, ...]
    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Config:
    """Be one protocol in one world. The defaults are the protocol at replication factor 1."""

    nodes: int = 1
    #: Nodes that have to vote, and marks that have to be acknowledged (``acks``, unless said otherwise).
    r: int = 1
    w: int = 1
    acks: int | None = None
    writers: int = 2
    #: Several dependencies of one answer, one at each node: which of them each writer writes, as bits. Then every
    #: node has to vote, and every dependency that a writer writes has to be marked.
    touches: tuple[int, ...] | None = None
    #: "reduced", or "fine": every step of two whole readers.
    readers: str = "reduced"
    #: "vector": each node makes its own versions. One stamp that the writer carries: "agree", R replies must be
    #: equal; "newest", the newest of R replies counts.
    scheme: str = "vector"
    marks: bool = True
    #: COMMIT may be sent without all marks; the bump is owed, and P1 is suspended until it is delivered.
    proceeds: bool = False
    #: No marks at all: P1 is promised for commits that have been bumped.
    bounded: bool = False
    mark_bumps: bool = False
    clear_bumps: bool = True
    #: A record that a mark created goes with its last mark; a bump of a missing record does nothing.
    drops: bool = False
    #: A mark expires "resolved": once the database has decided; "guarded": also before COMMIT is sent, and the writer
    #: knows; "any" time; "never".
    expire: str = "resolved"
    expire_bumps: bool = True
    unknown_clears: bool = False
    #: "unmarked" records are evicted, or "any", or they are not ("off").
    evict: str = "unmarked"
    evict_detected: bool = False
    restart: bool = True
    #: Records of an earlier incarnation are void.
    floor: bool = True
    #: After a restart a node has no vote: "time", until no lost mark can matter; "none"; "copy", until it has
    #: copied the version (not the marks) of another node.
    quarantine: str = "time"
    repair: bool = False
    #: One mark for all writers: a flag, or a token that is used again.
    shared_mark: bool = False
    clears_all: bool = False
    #: Who looks at marks: "all", or only the "filler" of an entry, or its "checker".
    see_marks: str = "all"
    #: The load's snapshot is older than the versions.
    load_first: bool = False
    #: All versions but the first are read after the load.
    late_versions: bool = False
    #: A missing version restarts at a fixed value.
    mint_fixed: bool = False
    missing_votes: bool = False
    #: "newest": the bump's stamp is above all that was seen when marking.
    above_seen: bool = True
    #: Loads from a database replica that may lag behind.
    lagging_loads: bool = False
    symmetry: bool = True

    @property
    def is_vector(self) -> bool:
        """Return whether nodes make the versions."""
        return self.scheme == "vector"

    @property
    def is_fine(self) -> bool:
        """Return whether each step of a reader is a step of the model."""
        return self.readers == "fine"

    @property
    def is_symmetric(self) -> bool:
        """Return whether nodes may change places without changing anything."""
        return self.symmetry and self.is_vector and self.touches is None

    def bit(self, writer: int) -> int:
        """Return the mark of a writer."""
        return 1 if self.shared_mark else 1 << writer

    def writes(self, writer: int, node: int) -> bool:
        """Return whether a writer writes the dependency at a node."""
        return self.touches is None or bool(self.touches[writer] >> node & 1)

    def is_marked(self, writer: int, nodes: Sequence[Node]) -> bool:
        """Return whether enough acknowledgements of a writer's marks have arrived."""
        acked = [node.acked >> writer & 1 for node in nodes]
        if self.acks is not None or not self.marks:
            return sum(acked) >= (self.acks or 0)
        if self.touches is None:
            return sum(acked) >= self.w
        return all(acked[i] for i in range(self.nodes) if self.writes(writer, i))


def initial(cfg: Config) -> State:
    """Return the state in which everything begins."""
    if cfg.is_fine:
        # the entry's value; for each reader: where it is, what was due when it began, the value loaded, the one fetched
        reader: tuple[object, ...] = (-1, *((0, -1, -1, UNFETCHED),) * 2)
        read: tuple[int, ...] = (0,) * 5
    else:
        reader = (-1, -1, -1, 0)  # the entry's value, what was due when the checker began, early load, stamp minted
        read = (0, 0)
    return State(0, 0, (Writer(),) * cfg.writers, reader, (Node(read=read),) * cfg.nodes)


T = TypeVar("T")


def put(items: tuple[T, ...], index: int, item: T) -> tuple[T, ...]:
    """Return ``items`` with another one at ``index``."""
    return (*items[:index], item, *items[index + 1 :])


def with_node(state: State, index: int, node: Node) -> State:
    """Return the state with another node at ``index``."""
    return state._replace(nodes=put(state.nodes, index, node))


def with_writer(state: State, index: int, writer: Writer) -> State:
    """Return the state with another writer at ``index``."""
    return state._replace(writers=put(state.writers, index, writer))


def unresolved(cfg: Config, state: State) -> int:
    """Return the marks of the writers whose commit may still follow."""
    bits = 0
    for index, writer in enumerate(state.writers):
        if writer.pc not in RESOLVED:
            bits |= cfg.bit(index)
    return bits


# ---------------------------------------------------------------------------------------------------- versions


def fresh_here(cfg: Config, node: Node) -> int:
    """Return a version that this node never used before: larger than any that is still remembered."""
    if cfg.mint_fixed and node.version == 0:
        return 1
    return max(node.version, *node.read, 1, node.snapshot.version if node.snapshot else 0) + 1


def stamps(cfg: Config, state: State) -> list[int]:
    """Return the stamps that somebody remembers, in order."""
    found: set[int] = set()
    for node in state.nodes:
        found.update(node.read, [node.version], [node.snapshot.version] if node.snapshot else [])
    for writer in state.writers:
        found.update((writer.stamp, writer.seen))
    minted = 0 if cfg.is_fine else state.reader[3]
    assert isinstance(minted, int)
    return sorted(stamp for stamp in found | {minted} if stamp > 0)


def fresh_stamps(cfg: Config, state: State, above: int = 0) -> list[int]:
    """Return the stamps that a writer may make: under "newest" at any place in the order, since clocks are skewed."""
    known = stamps(cfg, state)
    if cfg.scheme == "newest":
        return [stamp for stamp in [*(known_one + 1 for known_one in known), 1] if stamp > above]
    return [(known[-1] if known else 0) + 1]


def settled(cfg: Config, node: Node) -> Node:
    """Return the node after a mark went off: a record that a mark created goes with the last one."""
    if cfg.drops and node.created and not node.marks:
        return node._replace(version=0, created=0)
    return node
