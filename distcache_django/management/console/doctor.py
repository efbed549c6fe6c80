"""``distcache doctor``: look at the settings and at the servers, and say what is wrong and what to do.

Findings have the ids of ``docs/reference/checks.md``. ``diagnosis`` holds what is looked for.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from django.core.checks import CheckMessage

from distcache_django.checks import check_settings, problems_of
from distcache_django.cluster.inspection import inspect_nodes
from distcache_django.management.console.diagnosis import Case, Finding, Level, examine
from distcache_django.management.console.screen import CRITICAL, DEGRADED, OK, Outcome, Screen, count_text
from distcache_django.management.console.target import alias_named, open_target

__all__ = ["HELP", "add_arguments", "run"]

HELP = "Look at the settings and at the servers, and say what is wrong and what to do."
SCHEMA = "distcache-doctor/1"
_SHOWN = {
    Level.OK: ("[ ok ]", "SUCCESS"),
    Level.NOTE: ("[note]", "NOTICE"),
    Level.WARN: ("[warn]", "WARNING"),
    Level.FAIL: ("[FAIL]", "ERROR"),
}
_VERDICTS = {OK: "ok", DEGRADED: "degraded", CRITICAL: "critical"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare no options beyond those of every sub-command."""


def run(options: Mapping[str, Any], screen: Screen) -> Outcome:
    """Show all findings: degraded by a warning, critical by a failure."""
    findings = _findings(options["using"])
    worst = max(finding.level for finding in findings)
    count = sum(finding.level >= Level.WARN for finding in findings)
    critical = sum(finding.level is Level.FAIL for finding in findings)
    code = {Level.FAIL: CRITICAL, Level.WARN: DEGRADED}.get(worst, OK)
    outcome = Outcome(code, f"{count_text(count, 'problem')} ({critical} critical)")
    if options["json"]:
        screen.json(
            {
                "schema": SCHEMA,
                "alias": options["using"],
                "verdict": _VERDICTS[code],
                "problems": count,
                "critical": critical,
                "findings": [finding.as_json() for finding in findings],
            }
        )
    else:
        _show(findings, outcome, screen)
    return outcome


def _findings(name: str) -> Sequence[Finding]:
    alias = alias_named(name)
    parsed, _ = problems_of(alias)
    findings = [_from_check(message) for message in _messages_about(name)]
    if parsed is None:
        return findings
    if not findings:
        findings.append(Finding(Level.OK, "", "the settings are in order"))
    target = open_target(name)
    return findings + list(examine(Case(target, inspect_nodes(target.cluster.endpoints))))


def _messages_about(name: str) -> Sequence[CheckMessage]:
    """Return what the checks say of this alias, or of all together."""
    place = f"CACHES[{name!r}]"
    return [message for message in check_settings() if place in message.obj or message.obj == "DISTCACHE"]


def _from_check(message: CheckMessage) -> Finding:
    level = Level.FAIL if message.is_serious() else Level.WARN
    return Finding(level, str(message.id), f"{message.obj}: {message.msg}", message.hint or "")


def _show(findings: Sequence[Finding], outcome: Outcome, screen: Screen) -> None:
    for finding in findings:
        sign, role = _SHOWN[finding.level]
        text = " ".join(part for part in (finding.id, finding.text) if part)
        screen.line(f"{screen.paint(sign, role)} {text}{f' {finding.advice}' if finding.advice else ''}")
    screen.line(outcome.reason)
