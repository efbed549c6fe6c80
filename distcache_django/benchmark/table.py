"""Write the report as aligned text, one table per scenario and placement."""

from __future__ import annotations

from typing import Any

from distcache_django.benchmark import outcomes
from distcache_django.benchmark.layout import columns, comparisons, number, span
from distcache_django.benchmark.orm import outcome
from distcache_django.benchmark.scenarios import SCENARIOS


def heading(report: dict[str, Any]) -> str:
    """Return on what the report was measured, and how."""
    host = report["machine"]
    virtual = ", virtual" if host["virtual"] else ""
    load = f"load {host['load_average'][0]:.2f} before, {report['load_average_after'][0]:.2f} after"
    lines = [
        [f"{host['cpu']} ({host['cores']} cores{virtual})", f"{host['kernel']} {host['architecture']}"],
        [host["python"], f"Django {host['django']}", report.get("server", "no server")],
        [f"revision {report['revision'] or 'unknown'}", f"seed {report['seed']}", load],
    ]
    return "\n".join([report["command"], *(", ".join(line) for line in lines)])


def contenders(report: dict[str, Any]) -> str:
    """Return who took part, in which version and with which settings, and who did not and why."""
    rows = []
    for each in report["contenders"]:
        versions = ", ".join(f"{name} {version}" for name, version in each["versions"].items() if version != "missing")
        rows.append([each["name"], str(each["nodes"]), versions or "-", each["settings"], each["status"]])
    return columns(["contender", "nodes", "versions", "settings", "status"], rows, left=frozenset({0, 2, 3, 4}))


def placement(place: dict[str, Any]) -> str:
    """Return every scenario measured under one placement, then the comparisons."""
    where = {
        "same": f"client and servers share core {place['client_cores']}",
        "split": f"client on core {place['client_cores']}, servers on core {place['server_cores']}",
        "none": "not pinned: the scheduler decides, and figures jump with it",
    }[place["pin"]]
    parts = [f"== pin {place['pin']}: {where}"]
    for scenario in SCENARIOS:
        if scenario.name in place["results"]:
            parts += ["", scenario.title, _results(place, scenario.name)]
    parts += [
        "",
        "comparisons (p50 of the rival / ours; for the C client ours / its)",
        comparisons(place["comparisons"]),
    ]
    return "\n".join(parts)


def _results(place: dict[str, Any], scenario: str) -> str:
    header = ["", "p50 us", "spread", "p95", "p99", "ops/s", "spread", "cpu us", "samples"]
    rows = []
    ordered = sorted(place["results"][scenario].items(), key=lambda item: float(item[1]["p50_us"]))
    for name, values in ordered:
        rows.append(
            [
                name,
                number(values["p50_us"]),
                span(values["p50_low_us"], values["p50_high_us"]),
                number(values["p95_us"]),
                number(values["p99_us"]),
                number(values["ops_per_s"]),
                span(values["ops_low"], values["ops_high"]),
                number(values["cpu_us"]),
                f"{values['samples']:,}",
            ]
        )
    failed = [f"{name}: {reason}" for name, reason in place["failures"][scenario].items()]
    return "\n".join([columns(header, rows) if rows else "nobody could run it", *failed])


def render(report: dict[str, Any]) -> str:
    """Return the whole report as text."""
    parts = [heading(report)]
    if "contenders" in report:
        parts.append(contenders(report))
    parts += [placement(place) for place in report.get("placements", ())]
    if report["suite"] == "faults":
        parts.append(outcomes.faults(report))
    if report["suite"] == "ring":
        parts.append(outcomes.ring(report))
    if report["suite"] == "orm":
        parts.append(outcome.render(report))
    if report["quick"]:
        parts.append("quick run: it shows that everything works; the figures prove nothing")
    return "\n\n".join(parts)
