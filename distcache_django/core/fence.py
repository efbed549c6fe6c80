"""Know which memory each node has, and whether what it says counts.

Every node keeps a small string, its *fence*, and every reply at ``REPLICATION_FACTOR`` 2 and more carries it:

    0   1  format
    1   8  incarnation: random, another one whenever the node's memory is not the one it had
    9  40  run_id of the server that registered
    49  8  end of the quarantine of version records (Unix milliseconds)
    57  1  state: newborn (its memory was found empty), recovering (another server's, maybe old), up
    58  8  what nodes there are and which slots each has
    66     4 bytes for each node that misses writes which this node has

A node *votes* if its fence is of this topology and up, and nobody calls it behind. A server that was restarted may
keep an old fence: so whenever a link to a node opens (``generation``), the node is asked to compare it with its run_id
before any of its replies counts.

All nodes newborn: nobody has lost anything, because there is nothing, and who sees that raises them all. Should a node
have lost its memory since, its incarnation is another one, and raising the one that was seen changes nothing. Should
others have been raised meanwhile, and written to, the node has either taken the writes or is called behind. Those that
are raised keep the incarnations of all: whoever finds one of these still newborn raises it, too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from statistics import median
from typing import Any, Final, NamedTuple

from distcache_django.core.effects import Ask, Gather, Op
from distcache_django.core.record import node_tag
from distcache_django.core.requests import Fetch, Register, Rise
from distcache_django.exceptions import TransportError

__all__ = ["FENCE", "Fence", "Standings"]

FENCE: Final = "dc:node"
NEWBORN: Final = b"n"
UP: Final = b"u"
#: Seconds by which a process's clock may be off.
_PLAUSIBLE: Final = 60.0
_FOUNDERS: Final = "dc:founders"
#: The share of the time left that registering may take: what it is for is still to be done, without who is silent.
_PATIENCE: Final = 0.5
_FORMAT: Final = b"2"
_STATE, _TOPOLOGY, _BEHIND = 57, slice(58, 66), 66


class Fence(NamedTuple):
    """Be what a node says of itself, and of the nodes that miss what it has."""

    incarnation: bytes
    state: bytes
    topology: bytes
    behind: frozenset[bytes]

    @classmethod
    def parse(cls, raw: bytes | None) -> Fence | None:
        """Read a fence; ``None`` where there is none of this format."""
        if raw is None or len(raw) < _BEHIND or raw[:1] != _FORMAT:
            return None
        behind = frozenset(raw[at : at + 4] for at in range(_BEHIND, len(raw), 4))
        return cls(raw[1:9], raw[_STATE : _STATE + 1], raw[_TOPOLOGY], behind)


class _Standing(NamedTuple):
    """Be what is known of a node: its fence as read and as parsed, and the links for which that was checked."""

    raw: bytes | None
    fence: Fence
    generation: int


class Standings:
    """Know the fences and the clocks of all nodes; one for each process and topology, shared by its threads.

    :param topology: 8 bytes that are the same for all who place slots alike.
    :param generation: changes whenever a link to a node opens.
    :param wall: returns Unix time in seconds, maybe off by any amount, but by the same at all times.
    """

    def __init__(
        self,
        topology: bytes,
        nodes: Iterable[str],
        *,
        generation: Callable[[str], int],
        wall: Callable[[], float],
        random: Callable[[int], bytes],
        quarantine_ms: int,
    ) -> None:
        self.topology = topology
        self.nodes = tuple(nodes)
        self.tags = {name: node_tag(name) for name in self.nodes}
        if len(set(self.tags.values())) < len(self.nodes):
            raise ValueError(f"two of the nodes {', '.join(self.nodes)} have the same hash: rename one")
        self._generation = generation
        self.wall = wall
        self.random = random
        self._quarantine_ms = quarantine_ms
        self._known: dict[str, _Standing] = {}
        self._offsets: dict[str, float] = {}
        #: Nodes that do not vote, as far as this process has heard: worth asking only where too few others do.
        self.unfit: frozenset[str] = frozenset()

    # ------------------------------------------------------------------ fences

    def fence(self, node: str, raw: bytes | None) -> Fence | None:
        """Return the fence that came with a reply; ``None`` where the node has to be registered before it counts."""
        known = self._known.get(node)
        if known is None or known.generation != self._generation(node):
            return None
        if known.raw == raw:
            return known.fence
        fence = Fence.parse(raw)
        if fence is None or fence.topology != self.topology:
            return None
        self._learn(node, _Standing(raw, fence, known.generation))
        return fence

    def vouched(self, node: str, raw: bytes | None) -> bytes | None:
        """Return the tag of a node's valid records if it votes and its fence is the one that is known."""
        known = self._known.get(node)
        if known is None or known.raw != raw or node in self.unfit or known.generation != self._generation(node):
            return None
        return known.fence.incarnation[:4]

    def voters(self, fences: Mapping[str, Fence]) -> set[str]:
        """Return the nodes whose replies count, of those that have replied with these fences."""
        behind = frozenset().union(*(fence.behind for fence in fences.values()))
        return {node for node, fence in fences.items() if fence.state == UP and self.tags[node] not in behind}

    def fit(self, nodes: Collection[str]) -> set[str]:
        """Return those of some nodes that vote, by what these have said last: the word of one that is away is old."""
        known = self._known
        return self.voters({node: known[node].fence for node in nodes if node in known})

    def unregistered(self, nodes: Iterable[str]) -> set[str]:
        """Return the nodes whose replies would not count."""
        known = self._known
        return {
            node for node in nodes if node not in known or known[node].generation != self._generation(node)
        }  # fmt: skip

    def incarnation(self, node: str) -> bytes | None:
        """Return a node's incarnation as far as this process has heard."""
        known = self._known.get(node)
        return known and known.fence.incarnation

    def state(self, node: str) -> bytes | None:
        """Return a node's state as far as this process has heard."""
        known = self._known.get(node)
        return known and known.fence.state

    def enlist(self, nodes: Collection[str]) -> Op[None]:
        """Have nodes compare their memory with what it was, in one round trip; raise all if all are newborn.

        What cannot be reached, or is of another topology, stays unregistered.
        """
        yield from self._register(nodes)
        if not any(map(self._is_newborn, nodes)):
            return
        # All others, too: what took this one's memory may have taken theirs since they were asked.
        yield from self._register({*self.nodes} - {*nodes})
        # Now: what is known may change while others are asked.
        newborn = {node: self._known[node].fence.incarnation for node in self.nodes if self._is_newborn(node)}
        names = {node: self.tags[node] + incarnation for node, incarnation in newborn.items()}
        founders = b"".join(names.values()) if len(names) == len(self.nodes) else (yield from self._founders())
        asks = [
            Ask(node, Rise(newborn[node], self.topology, founders)) for node, name in names.items() if name in founders
        ]
        if asks:
            yield Gather(asks)
            yield from self._register([ask.node for ask in asks])

    def _founders(self) -> Op[bytes]:
        """Return whom the nodes that are up were raised together with."""
        asks = [Ask(node, Fetch(_FOUNDERS)) for node, known in self._known.items() if known.fence.state == UP]
        replies = (yield Gather(asks)) if asks else ()
        return max((reply for reply in replies if isinstance(reply, bytes)), key=len, default=b"")

    def _register(self, nodes: Collection[str]) -> Op[None]:
        links: dict[str, int] = {}
        for _ in range(2):  # the first request may open the link, to a server that has been restarted since
            # Taken before asking: a link that opens meanwhile may lead to another one again.
            links = {node: self._generation(node) for node in nodes if links.get(node) != self._generation(node)}
            asks = [Ask(node, Register(self.random(8), self._quarantine_ms, self.topology)) for node in links]
            sent = self.wall()
            for ask, reply in zip(asks, (yield Gather(asks, _PATIENCE)) if asks else (), strict=True):
                self._note(ask.node, reply, links, sent)

    def _note(self, node: str, reply: Any, links: dict[str, int], sent: float) -> None:
        """Keep the answer of a node that was asked to register."""
        self._learn(node, None)
        if isinstance(reply, TransportError):
            links[node] = self._generation(node)
            return
        _, _, raw, now_ms = reply
        self.heard(node, now_ms, sent)
        fence = Fence.parse(raw)
        if fence is not None and fence.topology == self.topology:
            self._learn(node, _Standing(raw, fence, links[node]))

    def _learn(self, node: str, standing: _Standing | None) -> None:
        known = {**self._known, node: standing} if standing else {n: k for n, k in self._known.items() if n != node}
        voting = self.voters({name: each.fence for name, each in known.items()})
        self._known, self.unfit = known, frozenset(known) - voting

    def _is_newborn(self, node: str) -> bool:
        known = self._known.get(node)
        return known is not None and known.fence.state == NEWBORN

    # ------------------------------------------------------------------ time

    def heard(self, node: str, now_ms: int, sent: float) -> None:
        """Learn a node's time from a reply to a request that left at ``sent``: it was taken between then and now.

        What was known stays where it agrees with that, so that a process that was stopped in between learns nothing
        wrong.
        """
        least, most = now_ms / 1000 - self.wall(), now_ms / 1000 - sent
        self._offsets[node] = max(least, min(most, self._offsets.get(node, least)))

    def not_after(self, node: str, expires: float) -> int:
        """Return ``expires``, Unix seconds of this process, in the node's own milliseconds, or a little earlier."""
        return int((expires + self._offsets.get(node, 0.0)) * 1000)

    def now(self) -> float:
        """Return Unix time in seconds as most nodes have it: this process's own clock may be off."""
        offsets = [*self._offsets.values()]
        if not offsets:
            return self.wall()
        # A process may be off by some seconds; by more, it is the node, unless most of them say so.
        plausible = [offset for offset in offsets if abs(offset) < _PLAUSIBLE]
        if not plausible and 2 * len(offsets) <= len(self.nodes):
            return self.wall()
        return self.wall() + median(plausible or offsets)

    @property
    def is_lost(self) -> bool:
        """Return whether no node's time is known yet."""
        return not self._offsets
