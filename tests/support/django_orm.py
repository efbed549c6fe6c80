"""Run Django's own tests of the ORM as a site that caches every model, in a process of their own.

This module is their settings, their test runner, and what starts them. Each answer of the cache is taken twice, so
that what a test sees came out of the cache; where a test counts queries, fewer will do.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import django
from django.test import testcases
from django.test.runner import DiscoverRunner
from django.test.utils import CaptureQueriesContext

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 240.0
_NODES, _DATABASE, _RESULTS = "DJANGO_ORM_NODES", "DJANGO_ORM_DATABASE", "DJANGO_ORM_RESULTS"


def run(tests: Path, suites: Sequence[str], urls: Mapping[str, str], database: Mapping[str, Any], folder: Path) -> Any:
    """Run suites of the folder ``tests``; return ``count``, ``failed`` (tracebacks) and the cache's ``counts``."""
    results = folder / "results.json"
    command = [sys.executable, "runtests.py", f"--settings={__name__}", "--parallel=1", "--verbosity=0", *suites]
    variables = {
        _NODES: json.dumps(dict(urls)),
        _DATABASE: json.dumps(dict(database)),
        _RESULTS: str(results),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    done = subprocess.run(
        command,
        cwd=tests,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert results.exists(), done.stdout + done.stderr
    return json.loads(results.read_text())


class Runner(DiscoverRunner):
    """Run the tests with the ORM cache in its places and nodes that vote; write what came of it as JSON."""

    def setup_databases(self, **kwargs: Any) -> Any:
        from distcache_django.freshness import transactions
        from distcache_django.freshness.service import Freshness
        from distcache_django.orm import install, writes
        from tests.support.freshness import ready_nodes

        databases = super().setup_databases(**kwargs)
        transactions.install()
        writes.install()
        install.install()
        ready_nodes()
        answer = Freshness.answer

        def answer_twice(self: Freshness, *args: Any, **options: Any) -> Any:
            answer(self, *args, **options)
            return answer(self, *args, **options)

        Freshness.answer = answer_twice  # type: ignore[method-assign]  # for this process
        testcases._AssertNumQueriesContext.__exit__ = _at_most  # type: ignore[method-assign]  # as above
        return databases

    def suite_result(self, suite: Any, result: Any, **kwargs: Any) -> int:
        from distcache_django.freshness.service import freshness

        failed = {test.id(): text for test, text in [*result.failures, *result.errors]}
        found = {"count": result.testsRun - len(result.skipped), "failed": failed, "counts": freshness().counts()}
        Path(os.environ[_RESULTS]).write_text(json.dumps(found))
        return super().suite_result(suite, result, **kwargs)


def _at_most(self: Any, *error: Any) -> None:
    CaptureQueriesContext.__exit__(self, *error)
    if error[0] is None:
        assert len(self) <= self.num


# ---------------------------------------------------------------- settings, in the process of the tests

if _NODES in os.environ:
    from tests.support.freshness import site_settings

    _entry = json.loads(os.environ[_DATABASE])
    DATABASES = {
        alias: {**_entry, **({"NAME": f"django_{alias}"} if "NAME" in _entry else {})} for alias in ("default", "other")
    }
    SECRET_KEY = "of-djangos-tests"
    PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    USE_TZ = False
    # As Django's own settings for them have it: what its default was then.
    DEFAULT_AUTO_FIELD = f"django.db.models.{'BigAutoField' if django.VERSION >= (6, 0) else 'AutoField'}"
    TEST_RUNNER = f"{__name__}.Runner"
    globals().update(site_settings(json.loads(os.environ[_NODES]), MODELS={"*.*": {"timeout": 600}}))
