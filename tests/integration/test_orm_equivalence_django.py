"""Django's own tests of the ORM pass with every model cached and every answer taken from the cache."""

import os
from pathlib import Path
from typing import Any

import pytest

from distcache_django.testing import LocalNodes
from tests.support import django_orm, django_source

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(400)]

SUITES = [
    *("aggregation", "annotations", "basic", "custom_managers", "defer", "expressions", "foreign_object"),
    *("generic_relations", "get_or_create", "known_related_objects", "lookup", "m2m_through", "many_to_many"),
    *("many_to_one", "model_inheritance", "multiple_database", "null_fk", "one_to_one", "prefetch_related", "queries"),
    *("proxy_models", "select_for_update", "select_related", "update"),
]
#: Tests that look at the SQL of a query which is answered from the cache, or at what compiling it leaves behind.
LOOK_AT_SQL = {
    "many_to_many.tests.ManyToManyQueryTests.test_count_join_optimization",
    "many_to_many.tests.ManyToManyQueryTests.test_exists_join_optimization",
    "prefetch_related.test_prefetch_related_objects.PrefetchRelatedObjectsTests.test_foreignkey_forward",
    "prefetch_related.test_prefetch_related_objects.PrefetchRelatedObjectsTests.test_one_to_one_forward",
    "prefetch_related.test_prefetch_related_objects.PrefetchRelatedObjectsTests.test_one_to_one_reverse",
    "queries.tests.Queries1Tests.test_tickets_2076_7256",
}


@pytest.fixture(scope="session")
def django_tests() -> Path:
    try:
        return django_source.tests_of_django()
    except django_source.SourceUnavailable as error:
        if os.environ.get("DISTCACHE_REQUIRE_SERVERS") == "1":
            raise
        pytest.skip(str(error))


@pytest.mark.parametrize("vendor", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def test_djangos_own_tests_pass(
    request: pytest.FixtureRequest, django_tests: Path, tmp_path: Path, vendor: str
) -> None:
    entry: dict[str, Any] = {"ENGINE": "django.db.backends.sqlite3"}
    if vendor == "postgresql":
        entry = request.getfixturevalue("distcache_postgres").django_settings()
    with LocalNodes(2) as nodes:
        found = django_orm.run(django_tests, SUITES, nodes.urls, entry, tmp_path)

    failed = {test: text for test, text in found["failed"].items() if test not in LOOK_AT_SQL}
    assert not failed, "\n\n".join(failed.values())
    # A run that skips tests, or in which little is cached, has shown nothing.
    assert found["count"] > 1800
    assert found["counts"]["hits"] > 3000
