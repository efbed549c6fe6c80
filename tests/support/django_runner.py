"""Run Django's own `BaseCacheTests` against a backend and write each test's result as JSON.

A program of its own, because the suite wants its own settings: `python -m tests.support.django_runner PLAN.json`.
The plan names the folder of Django's tests, the backend, its LOCATION and OPTIONS, the mode (`sync`, or `async`
for the same tests with each call routed to the awaited twin), and the file for the results.
"""

import inspect
import json
import sys
import traceback
import unittest
from pathlib import Path
from typing import Any, cast
from unittest import mock

import django
from django.conf import settings
from django.test import TestCase, override_settings
from django.test.runner import DiscoverRunner
from django.utils.module_loading import import_string

from tests.support import awaited

# Django leaves these two aliases out for its own Redis backend: the server evicts, the backend does not cull.
NO_CULLING = {"cull", "zero_cull"}
# Their values are lazy model fields, which query the database while they are pickled; on a loop Django forbids it.
QUERIES_WHILE_PICKLING = {
    "test_cache_read_for_model_instance_with_deferred",
    "test_cache_write_for_model_instance_with_deferred",
}


class Results(unittest.TestResult):
    """Keep one outcome for each test; a failed subtest fails its test."""

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: dict[str, tuple[str, str]] = {}

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802 - unittest's name
        super().startTest(test)
        self.outcomes[_name(test)] = ("passed", "")

    def addError(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802 - unittest's name
        self._failed(test, err)

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802 - unittest's name
        self._failed(test, err)

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:  # noqa: N802
        if err is not None:
            self._failed(test, err)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:  # noqa: N802 - unittest's name
        self.outcomes[_name(test)] = ("skipped", reason)

    def _failed(self, test: unittest.TestCase, err: Any) -> None:
        before = self.outcomes.get(_name(test), ("", ""))[1]
        self.outcomes[_name(test)] = ("failed", before + "".join(traceback.format_exception(*err)))


def _name(test: unittest.TestCase) -> str:
    return getattr(test, "_testMethodName", None) or str(test)


class AwaitedTests:
    """What differs when Django's tests reach the backend through its awaited twins."""

    def run(self, result: Any = None) -> Any:
        with awaited.event_loop():
            return super().run(result)  # type: ignore[misc]

    def setUp(self) -> None:
        super().setUp()  # type: ignore[misc]
        name = self._testMethodName  # type: ignore[attr-defined]
        if name in QUERIES_WHILE_PICKLING:
            raise unittest.SkipTest("pickling its value queries the database on the event loop")
        if inspect.iscoroutinefunction(inspect.unwrap(getattr(type(self), name))) or "_async_" in name:
            raise unittest.SkipTest("awaits the twins itself: part of the sync run")

    def test_get_or_set_racing(self) -> None:
        """Django patches `add`; the awaited twin asks `aadd`."""
        from django.core.cache import cache

        backend = type(cast("awaited.AwaitedCache", cache).awaited)
        with mock.patch.object(backend, "aadd", mock.AsyncMock(return_value=False)):
            assert cache.get_or_set("key", "default") == "default"


def main(plan: dict[str, Any]) -> None:
    """Set Django up, run the suite of the plan, write its results."""
    sys.path.insert(0, plan["tests"])
    settings.configure(
        SECRET_KEY="django-suite",
        INSTALLED_APPS=["cache"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3"}},
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        USE_TZ=False,
    )
    django.setup()
    runner = DiscoverRunner(verbosity=0, interactive=False)
    runner.setup_test_environment()
    databases = runner.setup_databases()
    results = Results()
    unittest.defaultTestLoader.loadTestsFromTestCase(_suite(plan)).run(results)
    runner.teardown_databases(databases)
    Path(plan["results"]).write_text(json.dumps(results.outcomes))


def _suite(plan: dict[str, Any]) -> type[unittest.TestCase]:
    from cache import tests  # type: ignore[import-not-found]  # Django's own, from the plan's folder

    backend = {"BACKEND": plan["backend"]}
    mixins: tuple[type, ...] = ()
    if plan["mode"] == "async":
        backend = {"BACKEND": "tests.support.awaited.AwaitedCache", "AWAITED": plan["backend"]}
        mixins = (AwaitedTests,)
    caches = tests.caches_setting_for_tests(
        base={**backend, "LOCATION": plan["location"], "OPTIONS": plan["options"]}, exclude=NO_CULLING
    )
    attributes = {"incr_decr_type_error": tuple(import_string(path) for path in plan["type_errors"])}
    suite = type("CacheTests", (*mixins, tests.BaseCacheTests, TestCase), attributes)
    return override_settings(CACHES=caches)(suite)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
