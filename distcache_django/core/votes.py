"""Ask owners of keys until enough of them have a vote: the read side of a quorum."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from distcache_django.core.effects import Ask, Gather, Op
from distcache_django.core.fence import FENCE, Fence
from distcache_django.core.record import NODE_TAG, Record, merged, parse
from distcache_django.core.requests import FetchMany
from distcache_django.exceptions import TransportError

if TYPE_CHECKING:
    from distcache_django.core.replicas import Replicas

__all__ = ["PATIENCE", "ROUNDS", "Reading", "Said"]

#: The share of the time left that a first round may take, so that there is some to do without who is silent.
PATIENCE: Final = 0.5
ROUNDS: Final = 4


class Said(NamedTuple):
    """Be what the voters among a key's owners hold for it, and whom it took to learn that."""

    records: dict[str, Record | None]
    nodes: Collection[str]

    @property
    def newest(self) -> Record | None:
        """Return what a quorum says."""
        return merged(record for record in self.records.values() if record is not None)

    def count(self, stamp: bytes) -> int:
        """Return how many voters have the write of this stamp."""
        return sum(record is not None and record.stamp == stamp for record in self.records.values())

    def behind(self, newest: Record, now_ms: float) -> list[str]:
        """Return the voters that have something other than the newest; nothing is as good as what has ended."""
        live = newest.is_live(now_ms)
        return [
            node
            for node, record in self.records.items()
            if (live if record is None else (record.version, record.payload) != (newest.version, newest.payload))
        ]


class Reading:
    """Collect what owners say of some keys until enough of them have a vote."""

    def __init__(self, replicas: Replicas, keys: Sequence[str], votes: int) -> None:
        self._replicas = replicas
        self._standings = replicas.standings
        self._keys = keys
        self._votes = votes
        self._order = [replicas.preferred(key) for key in keys]
        self._raw: list[dict[str, bytes | None]] = [{} for _ in keys]
        self._fences: dict[str, bytes | None] = {}
        self._failed: dict[str, TransportError] = {}

    def straight(self) -> Op[list[Record | None] | None]:
        """Ask once; return the record of each key if all who were asked vote and agree, as they mostly do.

        ``None``: ``run`` goes on from here.
        """
        parts: dict[str, list[int]] = {}
        for index, owners in enumerate(self._order):
            for node in owners[: self._votes]:
                parts.setdefault(node, []).append(index)
        replies = yield from self._ask(parts)
        copies: list[list[tuple[bytes, bytes | None]]] = [[] for _ in self._keys]
        for (node, part), reply in zip(parts.items(), replies, strict=True):
            tag = None if isinstance(reply, TransportError) else self._standings.vouched(node, reply[0])
            if tag is None:
                break
            for index, raw in zip(part, reply[1:], strict=True):
                copies[index].append((tag, raw))
        else:
            if all(map(_agree, copies)):
                return [parse(each[0][1]) for each in copies]
        yield from self._take_all(parts, replies)
        return None

    def run(self) -> Op[list[Said]]:
        """Ask until each key has its votes, or nobody is left to ask; return what is known of each key."""
        for _ in range(ROUNDS):
            if not (parts := self._parts()):
                break
            yield from self._take_all(parts, (yield from self._ask(parts)))
        fences = self._known_fences()
        voters = self._standings.voters(fences)
        return [
            Said({n: parse(raw, fences[n].incarnation) for n, raw in said.items() if n in voters}, self._order[i])
            for i, said in enumerate(self._raw)
        ]

    def _ask(self, parts: Mapping[str, Sequence[int]]) -> Op[list[Any]]:
        keys = self._keys
        spare = any(len(owners) > self._votes for owners in self._order)
        asks = [Ask(node, FetchMany((FENCE, *[keys[i] for i in part]))) for node, part in parts.items()]
        replies: list[Any] = yield Gather(asks, PATIENCE if spare else 1.0)
        return replies

    def _take_all(self, parts: Mapping[str, Sequence[int]], replies: Sequence[Any]) -> Op[None]:
        for (node, part), reply in zip(parts.items(), replies, strict=True):
            self._take(node, part, reply)
        yield from self._replicas.enlist(self._strangers())

    def _parts(self) -> dict[str, list[int]]:
        """Return which keys to ask which nodes for, so that each key gets its votes."""
        voters = self._standings.voters(self._known_fences())
        parts: dict[str, list[int]] = {}
        for index, owners in enumerate(self._order):
            lacking = self._votes - sum(node in voters for node in self._raw[index])
            left = [node for node in owners if node not in self._raw[index] and node not in self._failed]
            for node in left[:lacking] if lacking > 0 else ():
                parts.setdefault(node, []).append(index)
        return parts

    def _take(self, node: str, part: Sequence[int], reply: Any) -> None:
        if isinstance(reply, TransportError):
            self._failed[node] = reply
            return
        self._fences[node] = reply[0]
        for index, raw in zip(part, reply[1:], strict=True):
            self._raw[index][node] = raw

    def _strangers(self) -> set[str]:
        """Forget, and return, the nodes whose replies do not count before they are registered."""
        strangers = {node for node, raw in self._fences.items() if self._standings.fence(node, raw) is None}
        for node in strangers:
            del self._fences[node]
            for said in self._raw:
                said.pop(node, None)
        return strangers

    def _known_fences(self) -> dict[str, Fence]:
        found = {node: self._standings.fence(node, raw) for node, raw in self._fences.items()}
        return {node: fence for node, fence in found.items() if fence is not None}


def _agree(copies: Sequence[tuple[bytes, bytes | None]]) -> bool:
    """Return whether all copies of a key are the same, and none is void; each is given with its node's tag."""
    _, first = copies[0]
    if first is None:
        return all(raw is None for _, raw in copies)
    head, payload = first[: NODE_TAG.start], first[NODE_TAG.stop :]
    return all(
        raw is not None and raw[NODE_TAG] == tag and raw.startswith(head) and raw[NODE_TAG.stop :] == payload
        for tag, raw in copies
    )
