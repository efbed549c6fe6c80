"""Settings are read into frozen values; each mistake has its id, names its setting and shows no secret."""

import dataclasses
import hashlib

import pytest

from distcache_django.conf import cache as conf_cache
from distcache_django.conf import parse
from distcache_django.conf.options import OPTIONS
from distcache_django.conf.problems import Problems, nearest
from distcache_django.exceptions import InvalidDistcacheConfig
from distcache_django.testing.memory_node import _glob

URL = "redis://10.0.0.1:6379/0"
SECRET = "hunter2"


def ids(location=URL, **params):
    return sorted(problem.id.removeprefix("distcache.") for problem in parse(location, params)[1])


def settings_of(location=URL, **params):
    settings, problems = parse(location, params)
    problems.raise_errors()
    assert settings is not None
    return settings


def names(location):
    return [node.name for node in settings_of(location).nodes]


# ---------------------------------------------------------------- one mistake, one id


@pytest.mark.parametrize(
    ("location", "params", "expected"),
    [
        ("", {}, ["E001"]),
        ([], {}, ["E001"]),
        ({}, {}, ["E001"]),
        (None, {}, ["E001"]),
        (7, {}, ["E001"]),
        ([URL, URL], {}, ["E002"]),
        ("10.0.0.1:6379", {}, ["E003"]),
        ("http://10.0.0.1", {}, ["E003"]),
        ("redis://", {}, ["E003"]),
        ("redis://host:port", {}, ["E003"]),
        ("redis://[::1", {}, ["E003"]),
        ("unix://", {}, ["E003"]),
        ([None], {}, ["E003"]),
        ({"a": {}}, {}, ["E003"]),
        ({"a b": URL}, {}, ["E004"]),
        ({7: URL}, {}, ["E004"]),
        ({"a": {"url": URL, "wieght": 2}}, {}, ["E004"]),
        ({"a": {"url": URL, 5: 2}}, {}, ["E004"]),
        ({"a": {"url": URL, "replicas": []}}, {}, ["E004"]),
        ({"a": {"url": URL, "weight": 0}}, {}, ["E004"]),
        ({"a": {"url": URL, "weight": True}}, {}, ["E004"]),
        ({"a": {"url": URL, "weight": "2"}}, {}, ["E004"]),
        ({"a": {"url": URL, "weight": float("nan")}}, {}, ["E004"]),
        ({"a": {"url": URL, "zone": ""}}, {}, ["E004"]),
        ({"a": {"url": URL, "weight": 1e9}}, {}, ["E004"]),
        (URL, {"OPTIONS": {"DEADLNE": 1}}, ["E005"]),
        (URL, {"OPTIONS": {7: 1}}, ["E005"]),
        (URL, {"OPTIONS": []}, ["E006"]),
        (URL, {"OPTIONS": {"DEADLINE": 0}}, ["E006"]),
        (URL, {"OPTIONS": {"REPLICATION_FACTOR": 2}}, ["E013"]),
        (URL, {"OPTIONS": {"CONFLICT_RESOLUTION": "vector_clock"}}, ["E007"]),
        (URL, {"OPTIONS": {"NEAR_CACHE": {}}}, ["E007"]),
        (URL, {"OPTIONS": {"RANGES": {"user:": [(1, 2, "nowhere")]}}}, ["E008"]),
        (URL, {"OPTIONS": {"RANGES": {"user:": [(2, 1, "10.0.0.1:6379/0")]}}}, ["E008"]),
        (URL, {"OPTIONS": {"RANGES": {"user:": 5}}}, ["E008"]),
        (URL, {"KEY_FUNCTION": lambda key, prefix, version: 1 / 0}, ["E008"]),
        (URL, {"KEY_FUNCTION": "no.such.function"}, ["E008"]),
        (URL, {"OPTIONS": {"SERIALIZER": "no.such.Serializer"}}, ["E009"]),
        (URL, {"OPTIONS": {"COMPRESSOR": "nodots"}}, ["E009"]),
        (URL, {"OPTIONS": {"CONNECTION_POOL_KWARGS": {"no_such_argument": 1}}}, ["E012"]),
        (URL, {"OPTIONS": {"CLIENT_CLASS": "django_redis.client.DefaultClient"}}, ["W001"]),
        (URL, {"OPTIONS": {"PARSER_CLASS": None}}, ["W001"]),
        (URL, {"OPTIONS": {"ACCEPT_UNSIGNED": True}}, ["W002"]),
        (URL, {"OPTIONS": {"IGNORE_EXCEPTIONS": True, "ON_UNAVAILABLE": "raise"}}, ["W003"]),
        (URL, {"KEY_FUNCTION": lambda key, prefix, version: f"{key}:{version}"}, ["W005"]),
        (URL, {}, []),
    ],
)  # fmt: skip
def test_the_smallest_mistake_has_its_id(location, params, expected):
    settings, problems = parse(location, params)

    assert [problem.id for problem in problems] == [f"distcache.{number}" for number in expected]
    assert (settings is None) == any(problem.is_error for problem in problems)


def test_a_missing_client_library_is_an_error(monkeypatch):
    monkeypatch.setattr(conf_cache, "find_spec", lambda name: None)

    assert ids(OPTIONS={"CLIENT": "valkey"}) == ["E011"]
    assert ids(OPTIONS={"CLIENT": "redis"}) == []


WRONG: dict[str, tuple[object, ...]] = {
    "REPLICATION_FACTOR": (0, "2", True, 65, None),
    "READ_CONSISTENCY": ("most", None, 1),
    "WRITE_CONSISTENCY": ("QUORUM",),
    "CONFLICT_RESOLUTION": ("newest",),
    "RESOLVER": ("", 5),
    "RANGES": ([], None, "user:"),
    "VIRTUAL_NODES": (0, 1.5, True, 100_001),
    "DEADLINE": (0, -1, None, True, "1", float("inf"), float("nan"), 3601),
    "SOCKET_CONNECT_TIMEOUT": (0, None),
    "SOCKET_TIMEOUT": (0, "x"),
    "ON_UNAVAILABLE": ("ignore", True),
    "ON_NODE_DOWN": ("raise",),
    "IGNORE_EXCEPTIONS": (1, None, "yes"),
    "NEAR_CACHE": (True, []),
    "TTL_JITTER": (1, -0.1, True, "0"),
    "MAX_CLOCK_DRIFT": (0,),
    "SIGNING_KEY": ("", b"", 5),
    "ACCEPT_UNSIGNED": (1, None),
    "CLIENT": ("hiredis",),
    "SERIALIZER": ("", 5),
    "COMPRESSOR": ("", 5),
    "PICKLE_VERSION": (-2, 99, "4", True),
    "USERNAME": ("", 5),
    "PASSWORD": (5, b"x"),
    "CONNECTION_POOL_KWARGS": (None, []),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_value_is_refused_and_the_option_named(name, value):
    (problem,) = parse(URL, {"OPTIONS": {name: value}})[1]

    assert problem.id == "distcache.E006"
    assert repr(name) in problem.message


def test_every_option_is_tried_with_a_wrong_value():
    assert set(OPTIONS) - set(WRONG) == {"CLIENT_CLASS", "PARSER_CLASS"}


def test_the_defaults_are_right_values():
    assert [
        name for name, option in OPTIONS.items() if option.default is not None and not option.accepts(option.default)
    ] == []


def test_huge_numbers_are_refused_rather_than_raised():
    assert ids(OPTIONS={"DEADLINE": 10**400}) == ["E006"]


# ---------------------------------------------------------------- hints and errors


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("DEADLNE", "'DEADLINE'"),
        ("deadline", "'DEADLINE'"),
        ("SERIALISER", "'SERIALIZER'"),
        ("COMPRESOR", "'COMPRESSOR'"),
    ],
)
def test_the_nearest_name_is_the_hint(given, hint):
    (problem,) = parse(URL, {"OPTIONS": {given: 1}})[1]

    assert problem.hint == f"Did you mean {hint}?"


def test_without_a_near_name_all_are_listed():
    assert nearest("xyz", ["b", "a"]) == "Known are a, b."
    assert nearest("wieght", ["weight", "url"]) == "Did you mean 'weight'?"


def test_all_errors_are_raised_at_once_with_their_hints():
    problems = parse("nowhere", {"OPTIONS": {"DEADLNE": 1, "TTL_JITTER": 2, "ACCEPT_UNSIGNED": True}})[1]

    with pytest.raises(InvalidDistcacheConfig) as caught:
        problems.raise_errors()

    assert len(caught.value.problems) == 3
    assert "Did you mean 'DEADLINE'?" in str(caught.value)
    assert "W002" not in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_warnings_alone_raise_nothing():
    problems = Problems()
    problems.add("W001", "harmless")
    problems.raise_errors()
    assert not problems[0].is_error


# ---------------------------------------------------------------- secrets


@pytest.mark.parametrize(
    ("location", "options"),
    [
        (f"redis://:{SECRET}@host:6379/0", {}),
        ([f"redis://user:{SECRET}@host"], {}),
        ({"a": f"redis://:{SECRET}@host"}, {}),
        ([f"redis://:{SECRET}@host", f"redis://:{SECRET}@host"], {}),
        (f"http://:{SECRET}@host", {}),
        (f"redis://:{SECRET}@host:port", {}),
        ({"a": {"url": f"redis://:{SECRET}@host", "weight": -1}}, {}),
        ({"a": {"url": f"redis://:{SECRET}@", "zone": 3}}, {}),
        (URL, {"PASSWORD": SECRET}),
        (URL, {"PASSWORD": [SECRET]}),
        (URL, {"SIGNING_KEY": SECRET}),
        (URL, {"SIGNING_KEY": [SECRET]}),
        (URL, {"CONNECTION_POOL_KWARGS": {"password": SECRET}}),
        (URL, {"CONNECTION_POOL_KWARGS": [("password", SECRET)]}),
        (URL, {"PASSWRD": SECRET}),
    ],
)
def test_secrets_are_shown_nowhere(location, options):
    settings, problems = parse(location, {"OPTIONS": options})

    assert SECRET not in repr(settings)
    assert SECRET not in repr(problems)
    assert SECRET not in repr(settings and settings.topology)


# ---------------------------------------------------------------- nodes


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("redis://10.0.0.1:7000/3", "10.0.0.1:7000/3"),
        ("redis://10.0.0.1", "10.0.0.1:6379/0"),
        ("redis://user:pw@Cache.Example:7000", "cache.example:7000/0"),
        ("rediss://host/", "host:6379/0"),
        ("redis://[::1]:7000/1", "[::1]:7000/1"),
        ("valkey://host:1/0", "host:1/0"),
        ("unix:///run/redis.sock", "/run/redis.sock"),
    ],
)
def test_nodes_of_a_list_are_named_after_where_they_are(url, name):
    assert names([url]) == [name]
    assert names(url) == [name]


def test_the_password_does_not_change_a_nodes_name():
    assert names(["redis://:one@host"]) == names(["redis://user:two@host"])


@pytest.mark.parametrize("separator", [",", ";", " ", "\n", ", "])
def test_text_may_list_several_urls(separator):
    assert names(separator.join(["redis://a", "redis://b"])) == ["a:6379/0", "b:6379/0"]


def test_databases_of_one_server_are_different_nodes():
    assert names(("redis://a/0", "redis://a/1")) == ["a:6379/0", "a:6379/1"]


def test_a_dict_names_its_nodes_and_may_weigh_and_zone_them():
    settings = settings_of({"x": URL, "y": {"url": "valkeys://h", "weight": 2, "zone": "eu"}})

    assert [(node.name, node.url, node.weight, node.zone) for node in settings.nodes] == [
        ("x", URL, 1.0, None),
        ("y", "rediss://h", 2.0, "eu"),
    ]
    assert settings.topology.ring.weights == {"x": 1.0, "y": 2.0}
    assert settings.topology.ring.zones == {"y": "eu"}


# ---------------------------------------------------------------- values


def test_the_defaults_are_those_of_the_documentation():
    settings = settings_of()

    assert (settings.deadline, settings.connect_timeout) == (0.25, 0.1)
    assert (settings.on_unavailable, settings.redirect, settings.client) == ("miss", False, "redis")
    assert (settings.ttl_jitter, settings.accept_unsigned, settings.signing_key) == (0.0, False, None)
    assert settings.topology.ring.virtual_nodes == 160


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings_of().deadline = 1.0


@pytest.mark.parametrize(
    ("options", "deadline", "connect"),
    [
        ({"SOCKET_TIMEOUT": 0.1}, 0.1, 0.1),
        ({"SOCKET_TIMEOUT": 5}, 0.25, 0.1),
        ({"DEADLINE": 2, "SOCKET_CONNECT_TIMEOUT": 1}, 2, 1),
        ({"DEADLINE": 0.05}, 0.05, 0.05),
    ],
)
def test_the_smaller_time_wins(options, deadline, connect):
    settings = settings_of(OPTIONS=options)

    assert (settings.deadline, settings.connect_timeout) == (deadline, connect)


@pytest.mark.parametrize(("ignore", "policy"), [(True, "miss"), (False, "raise")])
def test_ignore_exceptions_keeps_its_meaning(ignore, policy):
    assert settings_of(OPTIONS={"IGNORE_EXCEPTIONS": ignore}).on_unavailable == policy


def test_connection_options_are_gathered_and_the_pool_size_dropped():
    options = {
        "USERNAME": "u",
        "PASSWORD": "p",
        "CONNECTION_POOL_KWARGS": {"max_connections": 5, "socket_keepalive": True},
    }

    assert settings_of(OPTIONS=options).connection_options == (
        ("password", "p"),
        ("socket_keepalive", True),
        ("username", "u"),
    )


def test_serializers_and_compressors_are_named_by_their_path():
    json, zlib = "django_redis.serializers.json.JSONSerializer", "django_redis.compressors.zlib.ZlibCompressor"
    settings = settings_of(OPTIONS={"SERIALIZER": json, "COMPRESSOR": zlib})

    assert (settings.serializer, settings.compressor) == (json, zlib)


def test_aliases_share_a_cluster_if_they_reach_the_same_nodes_alike():
    plain = settings_of()

    assert settings_of(KEY_PREFIX="other", OPTIONS={"TTL_JITTER": 0.5}).cluster_key == plain.cluster_key
    assert settings_of(OPTIONS={"DEADLINE": 1}).cluster_key != plain.cluster_key
    assert settings_of(OPTIONS={"PASSWORD": "p"}).cluster_key != plain.cluster_key
    assert settings_of("redis://10.0.0.1:6379/1").cluster_key != plain.cluster_key


# ---------------------------------------------------------------- the shape of keys


def hashed(key, prefix, version):
    return f"{prefix}:h:{hashlib.md5(f'{prefix}{version}{key}'.encode()).hexdigest()}"


SHAPES = [
    ("", None, ":1:k"),
    ("app", None, "app:1:k"),
    ("a*b[c]?", None, "a*b[c]?:1:k"),
    ("a\\b^-", None, "a\\b^-:1:k"),
    ("monkey", None, "monkey:1:k"),
    ("keys", None, "keys:1:k"),
    ("app", lambda key, prefix, version: f"{prefix}/{key}", "app/k"),
    ("app", lambda key, prefix, version: f"{prefix}:{key}:{version}", "app:k:1"),
    ("app", lambda key, prefix, version: f"{prefix}:{version}:{{{key}}}", "app:1:{k}"),
    ("app", hashed, "app:h:abc"),
]


@pytest.mark.parametrize(
    ("prefix", "function", "full"), SHAPES, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_the_pattern_matches_the_aliass_keys_in_every_version(prefix, function, full):
    pattern = settings_of(KEY_PREFIX=prefix, KEY_FUNCTION=function).pattern
    assert pattern is not None

    matches = _glob(pattern).fullmatch

    assert matches(full)
    assert matches(full.replace(":1", ":27"))
    assert not matches("other:1:k")
    assert not matches("x" + full)


@pytest.mark.parametrize(
    ("prefix", "full"), [("", ":1:user:5"), ("app", "app:1:user:5"), ("monkey", "monkey:1:user:5")]
)
def test_ranges_find_the_number_in_the_full_key(prefix, full):
    settings = settings_of(
        {"x": URL, "y": "redis://b"}, KEY_PREFIX=prefix, OPTIONS={"RANGES": {"user:": [(1, 9, "x"), (10, 19, "y")]}}
    )

    assert settings.topology.owner(full) == "x"
    assert settings.topology.owner(full.replace(":5", ":15")) == "y"
    assert settings.topology.owner(full.replace(":1:", ":33:")) == "x"


def test_ranges_need_keys_that_can_be_read():
    assert ids(KEY_FUNCTION=hashed, KEY_PREFIX="app", OPTIONS={"RANGES": {"u:": [(1, 2, "10.0.0.1:6379/0")]}}) == [
        "E008"
    ]


def test_the_pattern_of_hashed_keys_does_not_take_a_coincidence_for_a_rule():
    """Two digests begin with the same digit once in sixteen times; the pattern must not begin with it, too."""
    patterns = {n: settings_of(KEY_PREFIX=f"app{n}", KEY_FUNCTION=hashed).pattern for n in range(64)}

    assert {n: pattern for n, pattern in patterns.items() if pattern != f"app{n}:h:*"} == {}


def test_keys_that_begin_alike_with_nothing_have_no_pattern():
    assert settings_of(KEY_FUNCTION=lambda key, prefix, version: f"{version}{key}").pattern is None
