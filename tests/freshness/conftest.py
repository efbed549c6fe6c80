"""The ground of the freshness tests: PostgreSQL and four nodes for the session, a nursery, and stages on them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from distcache_django.testing import LocalNodes, LocalPostgres
from tests.freshness.stage import Nursery, Stage


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """What actors are forked from."""
    with closing(Nursery()) as found:
        yield found


@pytest.fixture(scope="session")
def postgres(distcache_postgres: LocalPostgres, nursery: Nursery) -> LocalPostgres:
    """PostgreSQL with the application's tables."""
    plan = {"subject": "none", "nodes": {"a": "redis://127.0.0.1:1/0"}}
    databases = {"default": distcache_postgres.django_settings()}
    actor = nursery.fork({**plan, "databases": databases})
    actor.call("create_tables")
    actor.kill()
    return distcache_postgres


@pytest.fixture(scope="session")
def nodes(postgres: LocalPostgres, nursery: Nursery) -> Iterator[LocalNodes]:
    """Four nodes that no test breaks or empties: an emptied one answers nothing for a while."""
    with LocalNodes(4) as found:
        # A node that is new answers nothing for as long as marks live, which for these marks is short.
        with closing(Stage(nursery, postgres, found, mark_timeout=1.0, options={"DEADLINE": 0.25})) as stage:
            stage.await_cache()
        yield found


@pytest.fixture(scope="session")
def make_stage(nursery: Nursery, postgres: LocalPostgres, nodes: LocalNodes) -> Iterator[Callable[..., Stage]]:
    """Make sites on the session's servers; they end with the session."""
    with ExitStack() as stack:

        def make(**settings: Any) -> Stage:
            stage = stack.enter_context(closing(Stage(nursery, postgres, settings.pop("nodes", nodes), **settings)))
            if stage.subject == "distcache":
                stage.await_cache()
            return stage

        yield make


@pytest.fixture(scope="session")
def make_nodes(postgres: LocalPostgres) -> Iterator[Callable[..., LocalNodes]]:
    """Start nodes that a module may break; they end with the session."""
    with ExitStack() as stack:

        def make(count: int = 4, **config: str) -> LocalNodes:
            return stack.enter_context(LocalNodes(count, config=config))

        yield make
