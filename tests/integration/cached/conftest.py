"""A site with the zoo's rows in SQLite and two nodes, shared by the module."""

from collections.abc import Iterator

import pytest
from pytest_django import DjangoDbBlocker

from distcache_django.testing import LocalNodes
from tests.support.freshness import end_answers, zoo_site

MODELS = {"zoo.product": {"timeout": 60, "by": ["category"]}, "zoo.*": None}


@pytest.fixture(scope="package")
def whole_site(tmp_path_factory: pytest.TempPathFactory, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    entry = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path_factory.mktemp("cached") / "zoo.sqlite3")}
    with LocalNodes(2) as nodes, django_db_blocker.unblock(), zoo_site(entry, nodes.urls, MODELS=MODELS, LEASE=0.5):
        yield


@pytest.fixture
def site(whole_site: None) -> None:
    """The site, with nothing cached of what earlier tests read."""
    end_answers()
