"""Name the configurations that must hold, and the mutants that must be caught."""

from __future__ import annotations

from typing import Any, Final

from docs.models.freshness.state import Config

__all__ = ["BUILT", "BUILT_MUTANTS", "CONFIGS", "LONG", "MUTANTS"]

_Kw = dict[str, Any]

#: What this version has: one node for each dependency, records that a mark made go with it, and a mark that
#: outlives its writer expires on the server's clock.
_BUILT: Final[_Kw] = {"drops": True, "expire": "guarded"}
#: An answer with two dependencies at two nodes. The writers write both; one of them each, as the write of a known
#: row and of unknown rows of one table do (the answer depends on the row and on the epoch); or both and one.
_TWO: Final[_Kw] = {**_BUILT, "nodes": 2, "r": 2}
_BOTH, _APART, _MIXED = (3, 3), (1, 2), (3, 2)
_Q3: Final[_Kw] = {"nodes": 3, "r": 2, "w": 2}
_Q3_1W: Final[_Kw] = {**_Q3, "writers": 1}
_NEWEST: Final[_Kw] = {**_Q3_1W, "scheme": "newest"}
_PLAIN_TTL: Final[_Kw] = {"mark_bumps": True, "clear_bumps": False, "expire_bumps": False}

BUILT: Final = {
    "built": Config(**_BUILT),
    "built-proceeds": Config(**_BUILT, proceeds=True),
    "built-bounded": Config(**_BUILT, marks=False, bounded=True),
    "built-fine-1w": Config(**_BUILT, readers="fine", writers=1),
    "built-2deps-1w": Config(**_TWO, touches=(3,), writers=1),
    "built-2deps-apart": Config(**_TWO, touches=_APART),
    "built-2deps-proceeds-1w": Config(**_TWO, touches=(3,), writers=1, proceeds=True),
    "built-2deps-bounded-1w": Config(**_TWO, touches=(3,), writers=1, marks=False, bounded=True),
}

#: The protocol in general, and other protocols that hold.
CONFIGS: Final = {
    "rf1": Config(),
    "rf1-guarded-expiry": Config(expire="guarded"),
    "rf1-eviction-detected": Config(evict="any", evict_detected=True),
    "rf1-mark-bumps-too": Config(mark_bumps=True),
    # Useless, not unsafe: the bump ends what is stored under a mark.
    "rf1-filler-ignores-marks": Config(see_marks="checker"),
    "rf1-mark-bumps-plain-ttl": Config(**_PLAIN_TTL),
    "rf1-fine-1w": Config(readers="fine", writers=1),
    # An answer that depends on both is kept from being read by one mark; others depend on one of them only.
    "built-2deps-one-mark-1w": Config(**_TWO, touches=(3,), writers=1, acks=1),
    "rf3-1w": Config(**_Q3_1W),
    "rf3-1w-guarded-expiry": Config(**_Q3_1W, expire="guarded"),
    "rf3-1w-eviction-detected": Config(**_Q3_1W, evict="any", evict_detected=True),
    "rf3-1w-mark-bumps-plain-ttl": Config(**_Q3_1W, **_PLAIN_TTL),
}

#: From half a minute to half an hour each.
LONG: Final = {
    "built-2deps": Config(**_TWO, touches=_BOTH),
    "built-2deps-mixed": Config(**_TWO, touches=_MIXED),
    "built-2deps-proceeds": Config(**_TWO, touches=_MIXED, proceeds=True),
    "built-2deps-bounded": Config(**_TWO, touches=_MIXED, marks=False, bounded=True),
    "built-fine": Config(**_BUILT, readers="fine"),
    "rf3-2w": Config(**_Q3),
    "rf3-2w-guarded-expiry": Config(**_Q3, expire="guarded"),
    "rf1-fine": Config(readers="fine"),
}

#: Changes to what is built, each of which must be caught.
BUILT_MUTANTS: Final = {
    # the writer
    "no-mark": Config(**_BUILT, marks=False, acks=0),
    "commit-though-unmarked": Config(**_BUILT, acks=0),
    "clear-without-bump": Config(**_BUILT, clear_bumps=False),
    "owed-bump-only-clears": Config(**_BUILT, proceeds=True, clear_bumps=False),
    "bounded-without-bump": Config(**_BUILT, marks=False, bounded=True, clear_bumps=False),
    "unknown-outcome-clears": Config(**_BUILT, unknown_clears=True, writers=1),
    "bump-clears-all-marks": Config(**_BUILT, clears_all=True),
    "one-mark-slot": Config(**_BUILT, shared_mark=True),
    # the mark's end
    "mark-expires-silently": Config(**_BUILT, expire_bumps=False),
    "mark-expires-any-time": Config(drops=True, expire="any"),
    # memory
    "marked-record-evicted": Config(**_BUILT, evict="any"),
    "marked-record-evicted-2deps": Config(**_TWO, touches=(3,), writers=1, evict="any"),
    "mint-restarts-at-fixed-value": Config(**_BUILT, mint_fixed=True),
    "incarnation-ignored": Config(**_BUILT, floor=False, quarantine="none"),
    "quarantine-without-voiding": Config(**_BUILT, floor=False),
    "voiding-without-quarantine": Config(**_BUILT, quarantine="none"),
    # the reader
    "checker-ignores-marks": Config(**_BUILT, see_marks="filler"),
    "load-before-versions": Config(**_BUILT, load_first=True),
    "dependency-found-late": Config(**_TWO, touches=_APART, late_versions=True),
    "hit-on-one-of-two-dependencies": Config(**{**_TWO, "r": 1}, touches=_APART),
    "lagging-database-replica": Config(**_BUILT, lagging_loads=True),
}

MUTANTS: Final = {
    "mark-at-one-of-three": Config(**_Q3, acks=1),
    "one-mark-slot-rf3": Config(**_Q3, shared_mark=True),
    "mark-expires-any-time-rf3": Config(**_Q3_1W, expire="any"),
    "marked-record-evicted-rf3": Config(**_Q3_1W, evict="any"),
    "marked-record-evicted-bumping-mark": Config(evict="any", mark_bumps=True),
    "incarnation-ignored-rf3": Config(**_Q3_1W, floor=False, quarantine="none"),
    "floor-without-quarantine-rf3": Config(**_Q3_1W, quarantine="none"),
    "filler-ignores-marks-plain-ttl": Config(**_PLAIN_TTL, see_marks="checker"),
    "read-at-one-of-three": Config(nodes=3, r=1, w=2, writers=1),
    # one stamp that the writer carries, in place of one version for each node
    "agree": Config(**_Q3_1W, scheme="agree"),
    "agree-repair": Config(**_Q3_1W, scheme="agree", repair=True),
    "agree-recover-by-copy": Config(**_Q3_1W, scheme="agree", quarantine="copy"),
    "newest": Config(**_NEWEST, restart=False),
    "newest-small-stamp": Config(**_NEWEST, above_seen=False),
    "newest-small-stamp-rf1": Config(scheme="newest", writers=1, above_seen=False),
    "newest-no-faults-small-stamp": Config(**_NEWEST, above_seen=False, evict="off", restart=False),
    "newest-missing-votes": Config(**_NEWEST, missing_votes=True),
    "newest-recover-by-copy": Config(**_NEWEST, quarantine="copy"),
}
