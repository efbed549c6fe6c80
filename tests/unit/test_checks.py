"""What `manage.py check` says of CACHES and DISTCACHE, without asking any server."""

import re
import socket
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import CheckMessage, Tags, run_checks
from django.test import override_settings

from distcache_django import DistributedCache
from distcache_django.checks import check_settings, globs_meet

ROOT = Path(__file__).resolve().parents[2]
BACKEND = "distcache_django.DistributedCache"
URLS = {"cache-a": "redis://10.9.9.1:6379/0", "cache-b": "redis://10.9.9.2:6379/0"}
SECRET = "hunter2-of-the-cache"


class Descendant(DistributedCache):
    """What a site may make of the backend."""


def entry(location: object = URLS, **params: Any) -> dict[str, Any]:
    return {"BACKEND": BACKEND, "LOCATION": location, **params}


def checked(**caches: dict[str, Any]) -> list[CheckMessage]:
    with override_settings(CACHES=caches):
        return check_settings()


def ids(messages: list[CheckMessage]) -> list[str]:
    return [str(message.id) for message in messages]


# ---------------------------------------------------------------- each alias


def test_settings_that_can_work_need_no_message() -> None:
    assert checked(default=entry(KEY_PREFIX="shop", OPTIONS={"DEADLINE": 0.5})) == []


def test_checks_run_with_those_of_the_caches() -> None:
    with override_settings(CACHES={"default": entry([])}):
        assert "distcache.E001" in ids(run_checks(tags=[Tags.caches]))


@pytest.mark.parametrize(
    ("wrong", "number"),
    [
        ({"LOCATION": []}, "E001"),
        ({"LOCATION": 6379}, "E001"),
        ({"LOCATION": ["redis://h:1/0", "redis://h:1/0"]}, "E002"),
        ({"LOCATION": ["http://h:1/0"]}, "E003"),
        ({"LOCATION": {"a b": "redis://h"}}, "E004"),
        ({"OPTIONS": {"DEADLIN": 1}}, "E005"),
        ({"OPTIONS": {"DEADLINE": -1}}, "E006"),
        ({"OPTIONS": ["DEADLINE"]}, "E006"),
        ({"OPTIONS": {"REPLICATION_FACTOR": 64}}, "E013"),
        ({"OPTIONS": {"REPLICATION_FACTOR": 2, "ON_NODE_DOWN": "redirect"}}, "W011"),
        ({"OPTIONS": {"RANGES": {"user:": [(1, 5, "nobody")]}}}, "E008"),
        ({"OPTIONS": {"SERIALIZER": "no.such.Serializer"}}, "E009"),
        ({"OPTIONS": {"CLIENT_CLASS": "django_redis.client.DefaultClient"}}, "W001"),
        ({"OPTIONS": {"ACCEPT_UNSIGNED": True}}, "W002"),
        ({"OPTIONS": {"ON_UNAVAILABLE": "miss", "IGNORE_EXCEPTIONS": True}}, "W003"),
    ],
)
def test_each_mistake_has_its_id_and_names_its_alias(wrong: dict[str, Any], number: str) -> None:
    messages = checked(default=entry(), other=entry(**{"KEY_PREFIX": "o", "LOCATION": URLS, **wrong}))

    assert ids(messages) == [f"distcache.{number}"]
    assert messages[0].obj == "CACHES['other']"
    assert messages[0].is_serious() == number.startswith("E")


def test_unknown_option_gets_the_nearest_name_as_hint() -> None:
    (message,) = checked(default=entry(OPTIONS={"DEADLNE": 1}))

    assert "DEADLNE" in message.msg
    assert "'DEADLINE'" in str(message.hint)


def test_all_mistakes_are_reported_at_once() -> None:
    messages = checked(default=entry([], OPTIONS={"NOPE": 1, "DEADLINE": "soon"}))

    assert sorted(ids(messages)) == ["distcache.E001", "distcache.E005", "distcache.E006"]


def test_subclass_is_checked_too() -> None:
    assert ids(checked(default={**entry([]), "BACKEND": f"{__name__}.Descendant"})) == ["distcache.E001"]


@pytest.mark.parametrize(
    "backend", ["django.core.cache.backends.locmem.LocMemCache", "no.such.Cache", "distcache_django.checks.aliases"]
)
def test_other_backends_are_left_alone(backend: str) -> None:
    assert checked(default={"BACKEND": backend, "LOCATION": [], "OPTIONS": {"NOPE": 1}}) == []


def test_signing_needs_a_key() -> None:
    with override_settings(SECRET_KEY=""):
        assert ids(checked(default=entry())) == ["distcache.E010"]
        assert checked(default=entry(OPTIONS={"SIGNING_KEY": "k" * 32})) == []


def test_checking_connects_to_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        checked(default=entry(f"redis://127.0.0.1:{server.getsockname()[1]}/0"))

        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize(
    "params",
    [
        {"location": f"redis://:{SECRET}@h:1/x y", "OPTIONS": {"NOPE": 1}},
        {"location": {"a": f"htp://:{SECRET}@h"}},
        {"location": [f"redis://:{SECRET}@h", f"redis://:{SECRET}@h"]},
        {"OPTIONS": {"PASSWORD": [SECRET]}},
        {"OPTIONS": {"SIGNING_KEY": [SECRET]}},
    ],
)
def test_messages_keep_passwords_to_themselves(params: dict[str, Any]) -> None:
    messages = checked(default=entry(**params))

    assert messages
    assert SECRET not in repr(messages)


# ---------------------------------------------------------------- aliases side by side


@pytest.mark.parametrize(
    ("first", "second"), [("", ""), ("a", "a"), ("a", "a:1"), ("a:2", "a"), ("", ":x"), ("a*", "a*")]
)
def test_prefixes_that_cannot_be_told_apart(first: str, second: str) -> None:
    messages = checked(one=entry(KEY_PREFIX=first), two=entry(KEY_PREFIX=second))

    assert ids(messages) == ["distcache.W004"]
    assert "'one'" in messages[0].msg
    assert "'two'" in messages[0].msg


@pytest.mark.parametrize(("first", "second"), [("a", "b"), ("a", "ab"), ("", "a"), ("a:1", "a:2"), ("a*", "ab")])
def test_prefixes_that_differ(first: str, second: str) -> None:
    assert checked(one=entry(KEY_PREFIX=first), two=entry(KEY_PREFIX=second)) == []


@pytest.mark.parametrize(
    ("second", "is_shared"),
    [
        ({"x": "redis://10.9.9.1:6379/1"}, False),
        ({"x": "redis://10.9.9.3:6379/0"}, False),
        ({"x": "redis://:secret@10.9.9.1/0"}, True),
        ({"x": "redis://10.9.9.1:6379?db=0"}, True),
        ({"x": "unix:///run/redis.sock"}, False),
    ],
)
def test_equal_prefixes_matter_in_the_same_database_only(second: object, is_shared: bool) -> None:
    messages = checked(one=entry(), two=entry(second))

    assert ids(messages) == (["distcache.W004"] if is_shared else [])


def test_database_named_by_an_option_counts() -> None:
    other = entry({"x": "redis://10.9.9.1:6379"}, OPTIONS={"CONNECTION_POOL_KWARGS": {"db": 5}})

    assert checked(one=entry(), two=other) == []


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("*", "", True),
        ("a*", "*b", True),
        ("a*c", "ab", False),
        (r"a\*", "ab", False),
        (r"a\*", "a*", True),
        (r"a\?", "a?", True),
        ("ab", "abc", False),
        ("*a*b*", "xaybz", True),
        ("p:*:*", "p:" + "x" * 5000, False),
    ],
)
def test_globs_meet(one: str, other: str, meet: bool) -> None:
    assert globs_meet(one, other) is meet
    assert globs_meet(other, one) is meet


# ---------------------------------------------------------------- DISTCACHE


def distcache_checked(value: object) -> list[CheckMessage]:
    with override_settings(CACHES={"default": entry()}, DISTCACHE=value):
        return check_settings()


def test_unknown_name_in_distcache_gets_a_hint() -> None:
    (message,) = distcache_checked({"FRESHNES": "strong"})

    assert message.id == "distcache.E020"
    assert message.obj == "DISTCACHE"
    assert "'FRESHNESS'" in str(message.hint)


def test_names_without_effect_are_said_to_be_so() -> None:
    (message,) = distcache_checked({"MONITOR": {}, "ENABLED": True, "ALERTS": []})

    assert message.id == "distcache.W006"
    assert "MONITOR, ALERTS:" in message.msg


@pytest.mark.parametrize(
    ("wrong", "number"),
    [
        ({"LEASE": "3"}, "E021"),
        ({"CACHE": "sessions"}, "E022"),
        ({"MARK_TIMEOUT": 0.5}, "E023"),
        ({"MODELS": {"product": {}}}, "E024"),
        ({"MODELS": {"shop.produkt": {}}}, "E025"),
        ({"MODELS": {"shop.brand": {}}, "UNTRACKED": ["shop.brand"]}, "E026"),
        ({"MODELS": {"shop.brand": {"local_get": True}}}, "W001"),
        ({"MODELS": {"shop.brand": {"by": "id"}}}, "W008"),
    ],
)
def test_each_mistake_in_distcache_has_its_id(wrong: dict[str, Any], number: str) -> None:
    (message,) = distcache_checked(wrong)

    assert message.id == f"distcache.{number}"
    assert message.obj == "DISTCACHE"
    assert message.is_serious() == number.startswith("E")


@pytest.mark.parametrize("value", [["MODELS"], "MODELS", None])
def test_distcache_is_a_dict(value: object) -> None:
    assert ids(distcache_checked(value)) == ["distcache.E020"]


def test_empty_distcache_is_fine() -> None:
    assert distcache_checked({}) == []


# ---------------------------------------------------------------- ids


def test_every_id_is_documented_and_every_documented_id_exists() -> None:
    used = {
        number
        for path in (ROOT / "distcache_django").rglob("*.py")
        for number in re.findall(r'["(](?:distcache\.)?([EWI]\d{3})[")]', path.read_text())
    }
    text = (ROOT / "docs" / "reference" / "checks.md").read_text()
    rows = re.findall(r"^\| `distcache\.([EWI]\d{3})` \|", text, re.MULTILINE)

    assert len(used) > 20
    assert len(rows) == len(set(rows)), "an id is listed twice"
    assert set(rows) == used


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ({}, []),
        ({"READ_CONSISTENCY": "one"}, ["distcache.W009"]),
        ({"WRITE_CONSISTENCY": "one", "READ_CONSISTENCY": "all"}, ["distcache.W009"]),
        ({"WRITE_CONSISTENCY": "all", "READ_CONSISTENCY": "one"}, []),
        ({"ON_NODE_DOWN": "redirect"}, ["distcache.W011"]),
    ],
)
def test_copies_whose_quorums_do_not_overlap_draw_a_warning(levels: dict[str, Any], expected: list[str]) -> None:
    location = [f"redis://10.0.0.{number}:6379/0" for number in (1, 2, 3)]

    messages = checked(default=entry(LOCATION=location, OPTIONS={"REPLICATION_FACTOR": 3, **levels}))

    assert ids(messages) == expected


def test_more_copies_than_nodes_is_an_error_that_names_the_setting() -> None:
    (message,) = checked(default=entry(LOCATION=URLS, OPTIONS={"REPLICATION_FACTOR": 64}))

    assert message.msg.startswith(f"OPTIONS['REPLICATION_FACTOR'] is 64, and LOCATION has {len(URLS)} node")
