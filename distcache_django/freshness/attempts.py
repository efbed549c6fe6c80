"""What a writer holds while it commits: the marks of one attempt."""

from __future__ import annotations

from dataclasses import dataclass, field

from distcache_django.exceptions import DistcacheError, TransportError

__all__ = ["Attempt", "MarkFailed"]


@dataclass(slots=True)
class Attempt:
    """Be one attempt to commit: its token, what it marked, and when, in monotonic seconds, before sending."""

    token: bytes
    dependencies: tuple[str, ...]
    marked_at: float
    records: tuple[str, ...] = field(repr=False, default=())


class MarkFailed(DistcacheError):
    """Report that not every dependency could be marked before COMMIT; ``attempt`` is what was marked."""

    def __init__(self, attempt: Attempt, failures: dict[str, TransportError]) -> None:
        reasons = "; ".join(f"{node}: {error.reason}" for node, error in sorted(failures.items()))
        super().__init__(f"the cache could not be told of a write before COMMIT ({reasons})")
        self.attempt = attempt
        self.nodes = tuple(sorted(failures))
