"""``get_or_load``: values that end with what they depend on."""

# The zoo is in no settings that the plugin of mypy reads: it does not know of managers.
# mypy: disable-error-code="attr-defined, misc"

import asyncio
from itertools import count
from typing import Any

import pytest
from django.core.cache import cache, caches
from django.db import transaction
from django.test import override_settings

from distcache_django import invalidate
from distcache_django.exceptions import InvalidDistcacheConfig
from tests.support.zoo.models import Brand

pytestmark = [pytest.mark.servers, pytest.mark.usefixtures("site")]

_numbers = count()


@pytest.fixture
def key() -> str:
    return f"key {next(_numbers)} with spaces\n and a newline {'x' * 300}"


def test_value_is_loaded_once(key: str) -> None:
    loads = count(1)
    assert [cache.get_or_load(key, lambda: next(loads), 60) for _ in range(3)] == [1, 1, 1]


def test_version_and_key_tell_values_apart(key: str) -> None:
    loads = count(1)
    values = [cache.get_or_load(k, lambda: next(loads), 60, version=v) for k in (key, key + "!") for v in (1, 2)]
    assert values == [1, 2, 3, 4]


def test_value_ends_with_what_it_depends_on(key: str) -> None:
    loads = count(1)

    def get() -> Any:
        return cache.get_or_load(key, lambda: next(loads), 60, depends_on=[Brand, "rates"])

    assert [get(), get()] == [1, 1]
    Brand.objects.filter(pk=1).update(name="new")
    assert [get(), get()] == [2, 2]
    invalidate("rates")
    assert [get(), get()] == [3, 3]


def test_awaited_twin_shares_values(key: str) -> None:
    loads = count(1)

    async def load() -> int:
        await asyncio.sleep(0)
        return next(loads)

    async def several() -> list[int]:
        return list(await asyncio.gather(*(cache.aget_or_load(key, load, 60, depends_on=["rates"]) for _ in range(10))))

    assert asyncio.run(several()) == [1] * 10
    assert cache.get_or_load(key, lambda: next(loads), 60, depends_on=["rates"]) == 1


def test_transaction_that_has_written_loads(key: str) -> None:
    def get() -> str:
        return str(cache.get_or_load(key, lambda: Brand.objects.get(pk=1).name, 60, depends_on=[Brand]))

    Brand.objects.filter(pk=1).update(name="before")
    assert get() == "before"
    with transaction.atomic():
        Brand.objects.filter(pk=1).update(name="within")
        assert get() == "within"
        transaction.set_rollback(True)
    assert get() == "before"


def test_timeout_of_nothing_loads_each_time(key: str) -> None:
    loads = count(1)
    assert [cache.get_or_load(key, lambda: next(loads), 0) for _ in range(2)] == [1, 2]


def test_timeout_ends_a_value(key: str) -> None:
    loads = count(1)
    cache.get_or_load(key, lambda: next(loads), 0.01)
    asyncio.run(asyncio.sleep(0.02))
    assert cache.get_or_load(key, lambda: next(loads), 60) == 2


def test_error_of_the_loader_is_passed_on_and_not_stored(key: str) -> None:
    with pytest.raises(ZeroDivisionError):
        cache.get_or_load(key, lambda: 1 / 0, 60)
    assert cache.get_or_load(key, lambda: "loaded", 60) == "loaded"


def test_clear_ends_values(key: str) -> None:
    loads = count(1)
    cache.get_or_load(key, lambda: next(loads), 60, depends_on=["rates"])
    cache.clear()
    assert cache.get_or_load(key, lambda: next(loads), 60, depends_on=["rates"]) == 2


def test_dependencies_need_the_cache_that_writers_tell(key: str) -> None:
    from django.conf import settings

    entry = settings.CACHES["default"]
    with override_settings(CACHES={"default": entry, "other": {**entry, "KEY_PREFIX": "other"}}):
        other = caches["other"]
        assert other.get_or_load(key, lambda: 1, 60) == 1
        with pytest.raises(InvalidDistcacheConfig, match=r"depends_on .*'default'"):
            other.get_or_load(key, lambda: 1, 60, depends_on=[Brand])
