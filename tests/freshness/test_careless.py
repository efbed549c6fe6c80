"""The interleavings have teeth: what people write by hand is stale in them, and no cache at all is not."""

from collections.abc import Callable

import pytest

from tests.freshness import interleavings as order
from tests.freshness.interleavings import SCENARIOS, Scenario
from tests.freshness.rows import SHAPES
from tests.freshness.stage import Stage

pytestmark = [pytest.mark.servers, pytest.mark.postgres]


@pytest.fixture(scope="module")
def careless(make_stage: Callable[..., Stage]) -> Stage:
    """A site with a cache by hand."""
    return make_stage(subject="careless")


@pytest.mark.parametrize(
    ("scenario", "kind"),
    [
        (order.late_store, "save"),
        (order.late_store_in_autocommit, "update"),
        (order.old_snapshot, "save"),
        (order.old_snapshot_by_statement, "save"),
        (order.before_invalidation, "delete"),
        (order.filled_before_commit, "create"),
        (order.loaded_before_stored_after_mark, "bulk_update"),
        (order.rolled_back, "save"),
        (order.rolled_back_savepoint, "save"),
        (order.own_write, "raw"),
        (order.hook_before_write, "save"),
        (order.hook_before_write, "raw"),
        (order.filled_before_autocommit, "save"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_careless_cache_is_stale(careless: Stage, scenario: Scenario, kind: str) -> None:
    for shape in SHAPES:
        assert any(look.is_stale for look in scenario(careless, kind, shape)), shape


def test_no_cache_is_never_stale(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(subject="none")
    for scenario, kinds in SCENARIOS.items():
        stale = [look for look in scenario(stage, kinds[0], "list") if look.is_stale]
        assert stale == [], scenario.__doc__
