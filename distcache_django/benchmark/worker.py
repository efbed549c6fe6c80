"""The process that measures: `python -m distcache_django.benchmark.worker`, started by
`channel.run_worker`.

It has its own Django settings, so that a site's middleware, signals or tracing cannot get into the figures,
and it is pinned before any client can start a thread.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.cache import caches

from distcache_django.benchmark import contest, machine, scenarios, trial
from distcache_django.benchmark.channel import Channel
from distcache_django.benchmark.contenders import OURS, PEERS, Contender


def main(channel: Channel) -> None:
    """Take a job from the channel, run it and hand its result back."""
    job = channel.receive()
    machine.pin_self(tuple(job["placement"]["client_cores"]))
    logging.basicConfig(level=logging.ERROR)
    # A peer warns on each call. The filters stay as they are, for another filter would cost that peer time.
    warnings.showwarning = _show_nothing  # type: ignore[assignment]  # takes what the original takes, and more
    run = {"ops": run_ops, "faults": run_faults}[job["kind"]]
    channel.finish(run(job, channel))


def _show_nothing(*_: object) -> None:
    """Drop a warning."""


def configure(entries: dict[str, Any]) -> None:
    """Set Django up with the given caches and nothing else."""
    settings.configure(
        CACHES={"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}, **entries},
        SECRET_KEY="benchmark only: signs the values of this run",
        USE_TZ=True,
    )
    django.setup()


def run_ops(job: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Run the scenarios of a job one after another, their contenders interleaved."""
    chosen = [each for each in (*OURS, *PEERS) if each.alias in job["contenders"]]
    configure({each.alias: each.settings(job["urls"], f"b{number:02d}") for number, each in enumerate(chosen)})
    unusable = {each.name: reason for each in chosen if (reason := import_error(each)) is not None}
    usable = [each for each in chosen if each.name not in unusable]
    plan = contest.Plan(job["rounds"], job["seconds"], job["seed"])
    results: dict[str, Any] = {}
    failures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="distcache-benchmark-") as scratch:
        loop = asyncio.new_event_loop()
        field = contest.Field(usable, lambda each: caches[each.alias], job["urls"], Path(scratch), loop)
        for scenario in _named(job["scenarios"]):
            channel.progress(f"pin {job['placement']['pin']:5}  {scenario.title}")
            summaries, failures[scenario.name] = contest.run_scenario(scenario, field, plan)
            results[scenario.name] = {name: asdict(summary) for name, summary in summaries.items()}
    return {"results": results, "failures": failures, "unusable": unusable}


def run_faults(job: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Run one trial of one fault."""
    entry = {
        "BACKEND": OURS[0].backend,
        "LOCATION": job["reached_at"],
        "KEY_PREFIX": f"f{job['number']}",
        "OPTIONS": {"ON_NODE_DOWN": job["policy"]},
    }
    configure({"measured": entry})
    setting = trial.Setting(
        partial(caches.__getitem__, "measured"),
        job["urls"],
        job["victim"],
        job["fault"],
        job["threads"],
        job["seconds"],
        job["seed"],
    )
    return trial.run_trial(setting, channel) | {"policy": job["policy"], "number": job["number"]}


def _named(names: Iterable[str]) -> list[scenarios.Scenario]:
    return [scenario for scenario in scenarios.SCENARIOS if scenario.name in set(names)]


def import_error(contender: Contender) -> str | None:
    """Return why a contender's backend does not import, or None when it does. Needs settings: some read
    them then.
    """
    module, _, attribute = contender.backend.rpartition(".")
    try:
        getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, SyntaxError) as error:
        return f"cannot be imported: {type(error).__name__}: {error}"
    return None


if __name__ == "__main__":
    main(Channel.over_standard_streams())
    sys.stderr.flush()
    # Clients leave threads and loops behind that complain, or hang, at an orderly end.
    os._exit(0)
