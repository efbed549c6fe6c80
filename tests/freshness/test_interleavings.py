"""No answer is older than the database, in whatever order things happen."""

from collections.abc import Callable

import pytest

from tests.freshness.interleavings import SCENARIOS, Scenario
from tests.freshness.rows import SHAPES
from tests.freshness.stage import Stage

pytestmark = [pytest.mark.servers, pytest.mark.postgres]


@pytest.fixture(scope="module")
def stage(make_stage: Callable[..., Stage]) -> Stage:
    """A site with the product."""
    return make_stage()


@pytest.mark.parametrize(
    ("scenario", "kind"),
    [(scenario, kind) for scenario, kinds in SCENARIOS.items() for kind in kinds],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_nothing_stale_is_read(stage: Stage, scenario: Scenario, kind: str) -> None:
    for shape in SHAPES:
        looks = scenario(stage, kind, shape)
        assert [look for look in looks if look.is_stale] == []
        assert looks[-1].loads == 0, f"not cached when all is over: {looks}"
