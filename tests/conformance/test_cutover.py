"""Settings change under live data: other serializers, other compressors, and the cut-over from django-redis."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from django_redis.cache import RedisCache

from tests.support import subjects
from tests.support.nodes import Nodes

pytestmark = pytest.mark.servers

SETTINGS: dict[str, Mapping[str, object]] = {
    "default": {},
    "json": {"SERIALIZER": "django_redis.serializers.json.JSONSerializer"},
    "zlib": {"COMPRESSOR": "django_redis.compressors.zlib.ZlibCompressor"},
    "json-gzip": {
        "SERIALIZER": "django_redis.serializers.json.JSONSerializer",
        "COMPRESSOR": "django_redis.compressors.gzip.GzipCompressor",
    },
    "protocol-4": {"PICKLE_VERSION": 4},
}
VALUES: dict[str, object] = {
    "int": 7,
    "text": "x" * 2000,
    "dict": {"a": [1, 2.5, None, "ü"]},
    "none": None,
    "bool": True,
}


@pytest.mark.parametrize("after", SETTINGS)
@pytest.mark.parametrize("before", SETTINGS)
def test_values_of_earlier_settings_are_read(make_cache: Callable[..., Any], before: str, after: str) -> None:
    make_cache(OPTIONS=SETTINGS[before]).set_many(VALUES)

    cache = make_cache(OPTIONS=SETTINGS[after])

    assert cache.get_many(list(VALUES)) == VALUES
    assert [type(cache.get(key)) for key in VALUES] == [type(value) for value in VALUES.values()]


@pytest.fixture
def django_redis(nodes: Nodes) -> RedisCache:
    """django-redis on the first node."""
    return subjects.build(subjects.alias("django_redis", nodes.at(1)))


@pytest.fixture
def make_ours(nodes: Nodes) -> Callable[..., Any]:
    """Build the backend on the first node."""
    return lambda **options: subjects.build(subjects.alias("distcache", nodes.at(1), OPTIONS=options))


def test_values_of_django_redis_are_read_only_while_that_is_allowed(
    django_redis: RedisCache, make_ours: Callable[..., Any]
) -> None:
    django_redis.set_many(VALUES)

    assert make_ours(ACCEPT_UNSIGNED=True).get_many(list(VALUES)) == VALUES
    assert make_ours().get_many(list(VALUES)) == {"int": 7}


def test_counter_goes_on_where_django_redis_left_it(django_redis: RedisCache, make_ours: Callable[..., Any]) -> None:
    django_redis.set("hits", 41)

    assert make_ours().incr("hits") == 42
    assert django_redis.get("hits") == 42


def test_value_signed_with_an_earlier_key_is_read(make_cache: Callable[..., Any], settings: Any) -> None:
    make_cache().set("k", ["value"])

    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "a newer key"
    assert make_cache().get("k") == ["value"]

    settings.SECRET_KEY_FALLBACKS = []
    assert make_cache().get("k") is None
