"""What `DISTCACHE` may say, what it means, and how it is refused."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

from distcache_django.conf import DistcacheSettings, load_settings, parse_distcache
from distcache_django.conf.distcache import DEFAULT_UNTRACKED, OPS, Absent, names_of, ops_of
from distcache_django.exceptions import InvalidDistcacheConfig

OURS: dict[str, Any] = {"BACKEND": "distcache_django.DistributedCache", "LOCATION": "redis://10.9.9.1:6379/0"}
OTHER = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}


@pytest.fixture(autouse=True)
def distributed_default() -> Iterator[None]:
    with override_settings(CACHES={"default": OURS, "sessions": OTHER, "second": OURS}):
        yield


def parsed(**given: Any) -> DistcacheSettings:
    found, problems = parse_distcache(given)
    assert found is not None, problems
    return found


def ids(given: Any, **caches: Any) -> list[str]:
    return [problem.id.removeprefix("distcache.") for problem in parse_distcache(given, caches or None)[1]]


def message(given: Any) -> str:
    (problem,) = parse_distcache(given)[1]
    return f"{problem.message} {problem.hint}"


# ---------------------------------------------------------------- values


def test_defaults_are_those_of_the_documentation() -> None:
    assert parsed() == DistcacheSettings(
        freshness="strong",
        cache="default",
        enabled=True,
        mark_timeout=5,
        on_mark_failure="proceed",
        models={},
        max_dependencies=2**20,
        lease=3,
        untracked=frozenset(DEFAULT_UNTRACKED),
        ttl_jitter=0.1,
    )


def test_each_name_reaches_its_field() -> None:
    assert parsed(
        FRESHNESS="bounded",
        CACHE="second",
        ENABLED=False,
        MARK_TIMEOUT=7,
        ON_MARK_FAILURE="raise",
        MODELS={"shop.product": {"timeout": 60, "by": ["category"], "ops": {"get"}}, "*.*": None},
        MAX_DEPENDENCIES=4096,
        LEASE=1.5,
        UNTRACKED=["shop.stock"],
        TTL_JITTER=0,
    ) == DistcacheSettings(
        freshness="bounded",
        cache="second",
        enabled=False,
        mark_timeout=7,
        on_mark_failure="raise",
        models={"shop.product": {"timeout": 60, "by": ["category"], "ops": {"get"}}, "*.*": None},
        max_dependencies=4096,
        lease=1.5,
        untracked=frozenset({"shop.stock"}),
        ttl_jitter=0,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FRESHNESS", "strict"),
        ("FRESHNESS", None),
        ("CACHE", ""),
        ("CACHE", None),
        ("ENABLED", 1),
        ("MARK_TIMEOUT", 0),
        ("MARK_TIMEOUT", -1),
        ("MARK_TIMEOUT", None),
        ("MARK_TIMEOUT", float("nan")),
        ("MARK_TIMEOUT", True),
        ("ON_MARK_FAILURE", "ignore"),
        ("MODELS", ["shop.product"]),
        ("MODELS", None),
        ("MAX_DEPENDENCIES", 1),
        ("MAX_DEPENDENCIES", 2.0**20),
        ("LEASE", "3"),
        ("LEASE", 0),
        ("UNTRACKED", "sessions.session"),
        ("UNTRACKED", [1]),
        ("TTL_JITTER", 1),
        ("TTL_JITTER", -0.1),
    ],
)
def test_wrong_value_is_refused_by_name(name: str, value: object) -> None:
    assert ids({name: value}) == ["E021"]
    assert f"DISTCACHE[{name!r}]" in message({name: value})


@pytest.mark.parametrize("value", [["MODELS"], "MODELS", None, 1])
def test_distcache_is_a_dict(value: object) -> None:
    assert ids(value) == ["E020"]


@pytest.mark.parametrize(("wrong", "right"), [("FRESHNES", "FRESHNESS"), ("model", "MODELS"), ("MONITORS", "MONITOR")])
def test_unknown_name_gets_the_nearest_as_hint(wrong: str, right: str) -> None:
    assert ids({wrong: 1}) == ["E020"]
    assert f"Did you mean {right!r}?" in message({wrong: 1})


def test_names_of_a_later_version_are_said_to_have_no_effect() -> None:
    assert ids({"WRITE_BEHIND": {}, "MONITOR": {}, "ALERTS": []}) == ["W006"]
    assert "WRITE_BEHIND, MONITOR, ALERTS" in message({"WRITE_BEHIND": {}, "MONITOR": {}, "ALERTS": []})


def test_settings_with_only_a_warning_can_be_used() -> None:
    assert parsed(ALERTS=[], FRESHNESS="bounded").freshness == "bounded"


# ---------------------------------------------------------------- the alias


@pytest.mark.parametrize(("alias", "part"), [("defualt", "Did you mean 'default'?"), ("sessions", "LocMemCache")])
def test_cache_must_be_a_distributed_one(alias: str, part: str) -> None:
    assert ids({"CACHE": alias}) == ["E022"]
    assert part in message({"CACHE": alias})


@pytest.mark.parametrize("entry", [{}, {"BACKEND": "no.such.Cache"}, {"BACKEND": "distcache_django.checks.aliases"}])
def test_backend_that_is_no_cache_is_refused(entry: dict[str, str]) -> None:
    assert ids({}, default=entry) == ["E022"]


def test_another_cache_is_fine_where_caching_is_off() -> None:
    assert not parsed(CACHE="sessions", ENABLED=False).enabled


@pytest.mark.parametrize(
    ("caches", "is_on"), [({"default": OURS}, True), ({"default": OTHER}, False), ({"x": OURS}, False)]
)
def test_site_without_distcache_has_it_with_a_distributed_default(caches: dict[str, Any], is_on: bool) -> None:
    found, problems = parse_distcache(Absent.ABSENT, caches)

    assert problems == []
    assert found is not None
    assert found.enabled is is_on


@pytest.mark.parametrize(
    ("options", "mark_timeout", "expected"),
    [
        ({}, 1, []),
        ({}, 0.99, ["E023"]),
        ({"DEADLINE": 1.25}, 5, []),
        ({"DEADLINE": 1.3}, 5, ["E023"]),
        ({"DEADLINE": 1.3, "SOCKET_TIMEOUT": 0.5}, 5, []),
        ({"DEADLINE": 0.25, "SOCKET_TIMEOUT": 2}, 1, []),
        ({"DEADLINE": "wrong"}, 1, []),
    ],
)
def test_mark_lives_for_four_deadlines(options: dict[str, Any], mark_timeout: float, expected: list[str]) -> None:
    assert ids({"MARK_TIMEOUT": mark_timeout}, default={**OURS, "OPTIONS": options}) == expected


def test_deadline_does_not_matter_without_marks() -> None:
    assert ids({"MARK_TIMEOUT": 0.1, "FRESHNESS": "bounded"}) == []


# ---------------------------------------------------------------- models


@pytest.mark.parametrize(
    "models",
    [
        {"shop.product": {}},
        {"shop.Product": None},
        {"shop.*": {"ops": "all", "timeout": 0.5}},
        {"*.*": {"ops": (), "by": "category", "timeout": None}},
        {"shop.product": {"ops": "get", "by": ("category", "brand")}},
        {"shop.product": {"ops": ["get", "fetch", "count", "exists", "aggregate"]}},
    ],
)
def test_shape_of_models(models: Any) -> None:
    assert dict(parsed(MODELS=models).models) == models


@pytest.mark.parametrize(
    "models",
    [
        {"product": {}},
        {"*.product": {}},
        {"shop.": {}},
        {"a.b.c": {}},
        {1: {}},
        {"shop.product": 60},
        {"shop.product": {"timeout": 0}},
        {"shop.product": {"timeout": "60"}},
        {"shop.product": {"timeout": True}},
        {"shop.product": {"timeout": float("inf")}},
        {"shop.product": {"by": [1]}},
        {"shop.product": {"by": {"category": 1}}},
        {"shop.product": {"by": [""]}},
        {"shop.product": {"ops": ["all", "get"]}},
        {"shop.product": {"ops": "gets"}},
        {"shop.product": {"ops": None}},
        {"shop.product": {"tiemout": 3}},
        {"shop.product": {}, "shop.Product": {}},
    ],
)
def test_wrong_shape_of_models(models: Any) -> None:
    assert ids({"MODELS": models}) == ["E024"]


def test_wrong_name_in_a_profile_gets_the_nearest_as_hint() -> None:
    assert "Did you mean 'timeout'?" in message({"MODELS": {"shop.product": {"tiemout": 3}}})


def test_names_of_cacheops_have_no_effect() -> None:
    assert ids({"MODELS": {"shop.*": {"ops": "get", "local_get": True}}}) == ["W001"]


def test_ops_are_named_alone_together_or_all() -> None:
    assert ops_of("all") == OPS
    assert ops_of("get") == frozenset({"get"})
    assert ops_of({"get", "count"}) == frozenset({"get", "count"})
    assert ops_of([]) == frozenset()
    assert ops_of("get,count") is None
    assert ops_of(3) is None


def test_names_are_text() -> None:
    assert names_of("category") == ("category",)
    assert names_of(["a", "b"]) == ("a", "b")
    assert names_of(b"ab") is None


# ---------------------------------------------------------------- in use


def test_settings_are_read_once() -> None:
    assert load_settings() is load_settings()


@override_settings(DISTCACHE={"FRESHNESS": "bounded"})
def test_changed_settings_are_read_again() -> None:
    before = load_settings()

    with override_settings(DISTCACHE={}):
        assert load_settings().freshness == "strong"
    with override_settings(CACHES={"default": OTHER}), pytest.raises(InvalidDistcacheConfig, match="E022"):
        load_settings()

    assert load_settings() == before


def test_every_error_is_raised_at_first_use() -> None:
    wrong = {"FRESHNES": "strong", "LEASE": 0, "MODELS": {"shop": {}}}
    with override_settings(DISTCACHE=wrong), pytest.raises(InvalidDistcacheConfig) as caught:
        load_settings()

    assert [text.split(")")[0] for text in caught.value.problems] == [
        "(distcache.E020",
        "(distcache.E021",
        "(distcache.E024",
    ]


def test_settings_cannot_be_changed_by_their_readers() -> None:
    with override_settings(DISTCACHE={"MODELS": {"*.*": None}}), pytest.raises(TypeError):
        load_settings().models["shop.product"] = {}  # type: ignore[index]
