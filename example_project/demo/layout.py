"""The demo's report as people read it."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

from example_project.demo.report import BACK, KILLED, PAUSED, STEADY, by_name, percent


def deliver(outcome: dict[str, Any], destination: Path | bool | None, stdout: TextIO) -> None:
    """Print the report; also write it as JSON to a file, or print JSON instead where that is asked for."""
    text = json.dumps(outcome, indent=2) + "\n"
    if isinstance(destination, Path):
        destination.write_text(text)
    stdout.write(text if destination is True else render(outcome))
    stdout.flush()


def render(outcome: dict[str, Any]) -> str:
    """Lay the report out as text."""
    parts = (_heading(outcome), _phases(outcome), _costs(outcome), _checks(outcome))
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _heading(outcome: dict[str, Any]) -> list[str]:
    setting, total, overall = outcome["setting"], outcome["total"], outcome["overall"]
    verdict = "OK" if outcome["ok"] else "FAILED"
    site = (f"{setting['nodes']} cache nodes", setting["database"], setting["servers"])
    times = (f"{name} {overall[f'{name}_ms']:.1f} ms" for name in ("p50", "p95", "p99", "slowest"))
    return [
        f"{verdict}: {total['requests']:,} requests in {total['seconds']:.0f} s, {total['errors']} failed",
        f"Site      {', '.join(site)}, {setting['products']:,} products",
        f"Load      {setting['clients']} clients, {setting['source']}, {total['http_writes']} price changes",
        *_freshness(outcome),
        f"Speed     {total['requests_per_second']:,.0f} requests/s, {', '.join(times)}",
        f"Pages     {_counted(outcome['kinds'])}",
        *(f"Error     {sample}" for sample in outcome["error_samples"] + outcome["written"]["error_samples"]),
        *(f"Stale     {sample}" for sample in outcome["stale_samples"]),
    ]


def _freshness(outcome: dict[str, Any]) -> list[str]:
    total, written = outcome["total"], outcome["written"]
    answers, reads = total["hits"] + total["misses"], total["requests"] - total["http_writes"]
    free, hits = percent(total["free"] / max(reads, 1)), percent(total["hits"] / max(answers, 1))
    return [
        f"Writers   {_counted(written['kinds'])}",
        f"          {written['rows']:,} rows committed, {written['undone']} undone, {written['bumps']:,} version bumps",
        f"Reads     {total['checked']:,} checked, {total['of_written']:,} of written rows, {total['stale']} stale",
        f"Cache     {free} of the pages without a query, {hits} of {answers:,} answers from the cache",
    ]


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in counts.items()) or "none"


def _phases(outcome: dict[str, Any]) -> list[str]:
    head = "phase,s,requests,/s,no query,hits,p50 ms,p95,p99,slowest,failed,checked,stale".split(",")
    rows = [
        (
            phase["name"],
            f"{phase['seconds']:.1f}",
            f"{phase['requests']:,}",
            f"{phase['requests_per_second']:.0f}",
            percent(phase["free_ratio"]),
            percent(phase["hit_ratio"]),
            *(f"{phase[f'{name}_ms']:.1f}" for name in ("p50", "p95", "p99", "slowest")),
            str(phase["errors"]),
            f"{phase['checked']:,}",
            str(phase["stale"]),
        )
        for phase in outcome["phases"]
    ]
    return _table([head, *rows], left_columns=1)


def _costs(outcome: dict[str, Any]) -> list[str]:
    """Say what each fault cost against the steady phase."""
    phases, setting = by_name(outcome), outcome["setting"]
    if PAUSED not in phases:
        return []
    steady = percent(phases[STEADY]["free_ratio"])
    lines = []
    for name, node in ((PAUSED, setting["paused"]), (KILLED, setting["killed"])):
        phase = phases[name]
        slowest = f"slowest {phase['slowest_ms']:.0f} ms ({phase['slowest_kind']})"
        free = percent(phase["free_ratio"])
        lines.append(f"{name} ({node}): {free} of the pages without a query, {steady} before; {slowest}")
    share = percent(outcome["lost_node_share"])
    lines.append(f"{setting['killed']} owned {share} of the keys; the others kept theirs")
    lines.append(
        f"{outcome['written']['unwarned']} commits went ahead without a node that was away; while their processes "
        f"owed it the news, {outcome['total']['suspended']} reads lacked them ({BACK}: {phases[BACK]['suspended']})"
    )
    return [*lines, *(f"  {sample}" for sample in outcome["suspended_samples"][:3])]


def _checks(outcome: dict[str, Any]) -> list[str]:
    rows = [
        (
            "ok" if check["ok"] else "MISS",
            "*" if check["asserted"] else "",
            check["name"],
            check["value"],
            check["goal"],
        )
        for check in outcome["checks"]
    ]
    return [
        *_table([("", "", "figure", "measured", "goal"), *rows], left_columns=3),
        "* decides the exit code",
    ]


def _table(rows: Iterable[Sequence[str]], *, left_columns: int) -> list[str]:
    cells = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]

    def line(row: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if number < left_columns else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join(padded).rstrip()

    return [line(row) for row in cells]
