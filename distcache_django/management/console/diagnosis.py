"""What ``distcache doctor`` looks for: one function for each question, over reports that nodes have given.

``docs/reference/checks.md`` lists the ids; they are stable and never reused.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings as django_settings

from distcache_django.checks import databases
from distcache_django.cluster.inspection import NodeReport
from distcache_django.management.console.target import Target
from distcache_django.transport.inspect import database_of

__all__ = ["Case", "Finding", "Level", "examine"]

_OLDEST = {"redis": (6, 2), "valkey": (7, 2)}
_NEARLY_FULL = 0.9
_LOCAL = re.compile(r"localhost|127\.\d+\.\d+\.\d+|::1")


class Level(IntEnum):
    """Order findings by how much they matter; only warnings and failures are problems."""

    OK = 0
    NOTE = 1
    WARN = 2
    FAIL = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """Be one line of the result; what is in order has no id."""

    level: Level
    id: str
    text: str
    advice: str = ""

    def as_json(self) -> dict[str, str]:
        """Return the finding for a program."""
        level = self.level.name.lower()
        return {"level": level, "id": self.id, "text": self.text, "advice": self.advice}


@dataclass(frozen=True)
class Case:
    """Be what is examined: a cache alias and the reports of its nodes."""

    target: Target
    reports: Sequence[NodeReport]

    @property
    def told(self) -> Iterator[NodeReport]:
        """Yield the reports of nodes that said how they are."""
        return (report for report in self.reports if report.version is not None)


def examine(case: Case) -> Iterator[Finding]:
    """Yield what is found, question by question; a question without a finding yields that it is in order."""
    told = len(list(case.told))
    scope = "" if told == len(case.reports) else f" ({told} of {len(case.reports)} nodes could be examined)"
    for in_order, question in _QUESTIONS:
        found = list(question(case))
        yield from found
        if not found and in_order and told:
            yield Finding(Level.OK, "", in_order + scope)


def _finding(level: Level, number: str, text: str, advice: str = "") -> Finding:
    return Finding(level, f"distcache.{number}", text, advice)


def _answers(case: Case) -> Iterable[Finding]:
    none_answers = not any(report.up for report in case.reports)
    for report in case.reports:
        if report.has_refused_credentials:
            yield _finding(
                Level.FAIL,
                "E031",
                f"{report.name} refuses the credentials: {report.error}.",
                "Correct USERNAME and PASSWORD in OPTIONS, or in the node's URL.",
            )
        elif report.is_loading:
            yield _finding(Level.WARN, "W024", f"{report.name} is loading its data.", "Wait; see its log.")
        elif not report.up:
            yield _finding(
                Level.FAIL if none_answers else Level.WARN,
                "W010",
                f"{report.name} does not answer: {report.error}; its keys are {case.target.consequence()}.",
                f"Look at the server at {report.address}.",
            )


def _versions(case: Case) -> Iterable[Finding]:
    for report in case.told:
        oldest = _OLDEST.get(report.server or "")
        version = tuple(int(part) for part in re.findall(r"\d+", report.version or "")[:2])
        if oldest is None:
            yield _finding(
                Level.NOTE, "I004", f"{report.name} is {report.server}, which nobody has tried with this cache."
            )
        elif version < oldest:
            wanted = ".".join(map(str, oldest))
            yield _finding(
                Level.FAIL,
                "E032",
                f"{report.name} is {report.server} {report.version}, older than {wanted}.",
                "Update it.",
            )


def _identities(case: Case) -> Iterable[Finding]:
    by_run_id = defaultdict(list)
    for report in case.told:
        by_run_id[report.run_id].append(report.name)
    places = {name: place for place, name in databases(case.target.settings).items()}
    for run_id, names in by_run_id.items():
        if run_id is None or len(names) < 2:
            continue
        numbers = {places[name].number for name in names if name in places}
        what = "server and database" if len(numbers) < len(names) else "server"
        yield _finding(
            Level.WARN,
            "W015",
            f"{', '.join(names)} are the same {what}: one failure takes them all.",
            "Give each node a server of its own.",
        )


def _roles(case: Case) -> Iterable[Finding]:
    for report in case.told:
        if report.role == "replica":
            how = "refuses writes" if report.is_read_only else "loses what is written to it at the next sync"
            yield _finding(
                Level.FAIL, "E034", f"{report.name} is a replica and {how}.", "Name its primary in LOCATION."
            )


def _clocks(case: Case) -> Iterable[Finding]:
    options: Mapping[str, Any] = case.target.alias.params.get("OPTIONS", {})
    allowed = options.get("MAX_CLOCK_DRIFT", 0.5)
    for report in case.reports:
        if report.clock_skew_ms is not None and abs(report.clock_skew_ms) > allowed * 1000:
            seconds, way = abs(report.clock_skew_ms) / 1000, "ahead" if report.clock_skew_ms > 0 else "behind"
            yield _finding(
                Level.WARN,
                "W016",
                f"{report.name}: its clock is {seconds:.1f} s {way} of this machine's (allowed: {allowed:g} s).",
                "Run a time service (NTP) on both.",
            )


def _eviction(case: Case) -> Iterable[Finding]:
    by_policy = defaultdict(list)
    for report in case.told:
        by_policy[report.policy or "", report.maxmemory_bytes is not None].append(report.name)
    for (policy, is_bounded), names in by_policy.items():
        nodes = ", ".join(names)
        if policy.startswith("allkeys-") and case.target.holds_marks():
            text = f"{nodes}: maxmemory-policy {policy} may evict the marks that keep cached answers fresh."
            yield _finding(Level.FAIL, "E035", text, "Use volatile-lfu, or FRESHNESS='bounded'.")
        elif policy.startswith("allkeys-"):
            text = f"{nodes}: maxmemory-policy {policy} also evicts keys without expiry."
            yield _finding(Level.WARN, "W020", text, "Use volatile-lfu.")
        elif policy == "noeviction" and is_bounded:
            text = f"{nodes}: maxmemory-policy noeviction: a node that is full refuses writes."
            yield _finding(Level.WARN, "W021", text, "Use volatile-lfu.")
        elif policy == "noeviction":
            text = f"{nodes}: no maxmemory: a node grows until the system ends it."
            yield _finding(Level.NOTE, "I001", text)


def _room(case: Case) -> Iterable[Finding]:
    for report in case.told:
        used, limit = report.memory_bytes or 0, report.maxmemory_bytes
        if limit and used >= _NEARLY_FULL * limit:
            yield _finding(
                Level.WARN,
                "W023",
                f"{report.name} uses {used / limit:.0%} of its maxmemory.",
                "Give it more memory, or keep less.",
            )


def _permissions(case: Case) -> Iterable[Finding]:
    for report in case.reports:
        if report.denied:
            yield _finding(
                Level.NOTE,
                "I003",
                f"{report.name}: the user may not run {', '.join(report.denied)}: part of it cannot be examined.",
            )


def _broker(case: Case) -> Iterable[Finding]:
    cache_places = databases(case.target.settings)
    for name, url in _broker_urls():
        place = database_of(url)
        if place is not None and place in cache_places:
            yield _finding(
                Level.FAIL,
                "W014",
                f"the Celery broker ({name}) shares database {place.number} with node {cache_places[place]}: "
                "clear() cannot reach it, FLUSHDB would.",
                "Give the broker a database of its own, better a server.",
            )


def _broker_urls() -> Iterator[tuple[str, str]]:
    named = {name: getattr(django_settings, name, None) for name in ("CELERY_BROKER_URL", "BROKER_URL")}
    celery = getattr(django_settings, "CELERY", None)
    if isinstance(celery, Mapping):
        named["CELERY['broker_url']"] = celery.get("broker_url")
    for name, value in named.items():
        for part in re.split(r"[;,]", value) if isinstance(value, str) else value or ():
            yield name, str(part).strip()


def _secrecy(case: Case) -> Iterable[Finding]:
    has_password = dict(case.target.settings.connection_options).get("password") is not None
    for node in case.target.settings.nodes:
        parts = urlsplit(node.url)
        is_plain = parts.scheme == "redis" and not _LOCAL.fullmatch(parts.hostname or "localhost")
        if is_plain and (has_password or parts.password):
            yield _finding(
                Level.WARN,
                "W027",
                f"{node.name}: the password travels unencrypted to {parts.hostname}.",
                "Use rediss:// (TLS).",
            )


def _debug(_: Case) -> Iterable[Finding]:
    if django_settings.DEBUG:
        yield _finding(Level.NOTE, "I002", "DEBUG is on.", "Not in production.")


#: What to say when a question finds nothing, and the question.
_QUESTIONS: Sequence[tuple[str, Callable[[Case], Iterable[Finding]]]] = (
    ("all nodes answer", _answers),
    ("every server is recent enough", _versions),
    ("every node is a server of its own", _identities),
    ("no node is a replica", _roles),
    ("the clocks agree", _clocks),
    ("the eviction policies fit", _eviction),
    ("no node is nearly full", _room),
    ("no broker shares a database with the cache", _broker),
    ("", _secrecy),
    ("", _permissions),
    ("", _debug),
)
