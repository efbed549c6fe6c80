"""Django's own cache tests, unchanged, against the backend: called as they are, and through the awaited twins."""

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import django
import pytest

from tests.support import django_source, django_suite
from tests.support.django_suite import Outcome
from tests.support.nodes import Nodes
from tests.support.subjects import Layout

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(300)]

# How many of the tests count, by Django version: a run that quietly skips more has shown nothing.
COUNTS = {(5, 2): {"sync": 51, "async": 49}, (6, 0): {"sync": 51, "async": 49}, (6, 1): {"sync": 59, "async": 49}}
LAYOUTS = [
    Layout(count, replicas, mode)
    for (count, replicas), mode in itertools.product(((1, 1), (3, 1), (5, 1), (5, 3)), ("sync", "async"))
] + [Layout(2, 2, "sync")]
CULLING = {"test_cull", "test_cull_delete_when_store_empty", "test_zero_cull"}


@pytest.fixture(scope="session")
def django_tests() -> Path:
    try:
        return django_source.tests_of_django()
    except django_source.SourceUnavailable as error:
        if os.environ.get("DISTCACHE_REQUIRE_SERVERS") == "1":
            raise
        pytest.skip(str(error))


def test_backend_passes_djangos_own_tests(
    django_tests: Path, nodes: Nodes, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    # Side by side, in databases of their own: the suite sleeps most of its time.
    runs = {
        layout: django_suite.start(
            django_tests,
            "distcache",
            nodes.at(layout.nodes, database),
            layout.mode,
            tmp_path / str(layout),
            replicas=layout.replicas,
        )
        for database, layout in enumerate(LAYOUTS)
    }

    for layout, run in runs.items():
        report(f"{layout.nodes} nodes, {layout.replicas} owners of a key,", layout.mode, run.outcomes(), subtests)


def test_suite_accepts_djangos_own_backend_and_refuses_a_careless_one(
    django_tests: Path, nodes: Nodes, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    runs = {
        mode: django_suite.start(django_tests, "django", nodes.at(1, database), mode, tmp_path / mode)
        for database, mode in enumerate(("sync", "async"))
    }
    careless = django_suite.start(django_tests, "careless", nodes.at(3, 2), "sync", tmp_path / "careless")

    for mode, run in runs.items():
        report("RedisCache", mode, run.outcomes(), subtests)
    assert {outcome.test for outcome in careless.outcomes() if outcome.result == "failed"} >= {
        "test_delete_nonexistent",
        "test_has_key",
        "test_incr",
        "test_invalid_key_characters",
        "test_zero_timeout",
    }


def report(subject: str, mode: str, outcomes: Sequence[Outcome], subtests: pytest.Subtests) -> None:
    """Fail for each of Django's tests that failed, and where fewer counted than Django has."""
    for outcome in outcomes:
        with subtests.test(msg=f"{subject} {mode} {outcome.test}"):
            assert outcome.result != "failed", outcome.detail
    skipped = {outcome.test for outcome in outcomes if outcome.result == "skipped"}
    assert skipped >= CULLING
    assert mode == "async" or skipped == CULLING
    assert len(outcomes) - len(skipped) >= COUNTS[django.VERSION[:2]][mode]
