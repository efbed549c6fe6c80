"""What the processes of a run write down: every call with its times and how it ended, and every fault.

Times are those of the machine's monotonic clock, which all processes share. A call is ``acknowledged``; ``failed``,
which means for certain (``QuorumNotReached``); or ``in doubt``: it may have happened, or happen later, once.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

ACKNOWLEDGED, FAILED, IN_DOUBT = "acknowledged", "failed", "in doubt"


class Call(NamedTuple):
    """Be one call on one key: by which process, of what, when, and how it ended."""

    by: int
    kind: str
    key: str
    #: What was written, the increment, or the nonce's number of a lock.
    value: Any
    ttl: float | None
    began: float
    ended: float
    state: str
    outcome: Any
    #: The owners of the key.
    owners: str
    #: How long this process was given no time by the machine meanwhile, in seconds.
    lost: float = 0.0

    @property
    def is_acknowledged(self) -> bool:
        return self.state == ACKNOWLEDGED


class Fault(NamedTuple):
    """Be what was done to one node: when it began and ended, and when all nodes were whole after it."""

    kind: str
    node: str
    began: float
    ended: float
    whole: float

    @property
    def recovery(self) -> float:
        return self.whole - self.ended


def save(path: Path, rows: Iterable[tuple[Any, ...]]) -> None:
    """Write calls, one a line."""
    with path.open("w") as file:
        file.writelines(f"{json.dumps(row)}\n" for row in rows)


def load(path: Path) -> list[Call]:
    """Read calls."""
    with path.open() as file:
        return [Call(*json.loads(line)) for line in file]
