"""Readers and writers of every kind at once, for some seconds, on a database of their own."""

import random
from collections.abc import Callable

import pytest

from distcache_django.testing import LocalPostgres
from tests.freshness.soak import Load, Report, show, soak
from tests.freshness.stage import Stage

pytestmark = [pytest.mark.servers, pytest.mark.postgres, pytest.mark.slow]


def run(make_stage: Callable[..., Stage], postgres: LocalPostgres, *, seconds: float, subject: str) -> Report:
    seed = str(random.randrange(10**9))
    stage = make_stage(subject=subject)
    report = soak(stage, Load(seconds, seed))
    print(f"seed {seed}\n{show(report)}")  # noqa: T201 - shown where the test fails
    return report


def test_no_answer_is_stale_under_load(make_stage: Callable[..., Stage], postgres: LocalPostgres) -> None:
    report = run(make_stage, postgres, seconds=8, subject="distcache")

    assert report.dirty_or_stale == ()
    assert report.stale == 0
    assert report.wrong == ()
    assert report.bumps > 100
    assert report.hit_ratio > 0.1  # a machine of two cores that does something else besides
    assert [kind for kind in report.writes if kind.startswith("failed")] == []
    assert len(report.writes) > 12


def test_careless_cache_is_stale_under_load(make_stage: Callable[..., Stage], postgres: LocalPostgres) -> None:
    def is_stale() -> bool:
        report = run(make_stage, postgres, seconds=2, subject="careless")
        return report.stale > 0 or report.wrong != ()

    assert any(is_stale() for _ in range(8))
