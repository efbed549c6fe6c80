"""Whatever pickles comes back as it was, and comes back fresh."""

import datetime
import decimal
import enum
import fractions
import ipaddress
import pickle
import uuid
from collections import OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
from django.utils.safestring import SafeString, mark_safe

from tests.support.nodes import Nodes

pytestmark = pytest.mark.servers

MEGABYTES = 5 * 1024 * 1024

Point = namedtuple("Point", "x y")  # noqa: PYI024 - what old code caches


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Flags(enum.IntFlag):
    READ = 1
    WRITE = 2


class Count(int):
    """A number with a class of its own."""


@dataclass
class Product:
    name: str
    tags: set[str]


class Unpicklable:
    def __getstate__(self) -> object:
        raise pickle.PickleError("refuses")


VALUES = [
    *(0, 1, -1, 42, 2**31, 2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 2**64, 10**100),
    *(True, False, None),
    *(0.0, -0.5, 1e300, float("inf"), 1 + 2j, decimal.Decimal("1.10"), fractions.Fraction(1, 3)),
    *("", "text", "42", "-7", "007", " 42", "4_2", "清 ünï \U0001f600", "\ud800", "\x00\r\n", "a" * 70_000),
    *(b"", b"bytes", b"42", b"\x80\x04", b"\x00\xff", bytes(range(256)), bytearray(b"array")),
    *([], [1, "2", None], (), (1, (2, 3)), {}, {"a": {"b": [1]}, 2: b"c"}, {1, 2}, frozenset({3})),
    *(datetime.date(2026, 2, 28), datetime.timedelta(microseconds=1), datetime.time(1, 2)),
    datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    *(uuid.UUID(int=7), ipaddress.ip_address("::1"), range(3), slice(1, 2), Ellipsis, NotImplementedError),
    *(Point(1, 2), Colour.RED, Level.HIGH, Flags.READ | Flags.WRITE, Count(7), Product("cup", {"blue"})),
    *(OrderedDict(b=1, a=2), defaultdict(list, a=[1]), deque([1, 2], maxlen=2), mark_safe("<b>"), print, int),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}-{ascii(value)[:24]}")
def test_value_comes_back_as_it_was(cache: Any, value: object) -> None:
    cache.set("set", value)
    cache.add("added", value)
    cache.set_many({"many": value})

    singles = [cache.get("set"), cache.get("added"), cache.get_or_set("many", "unused")]
    batch = cache.get_many(["set", "added", "many"])

    assert singles == [value] * 3
    assert batch == dict.fromkeys(["set", "added", "many"], value)
    assert {type(found) for found in (*singles, *batch.values())} == {type(value)}


def test_nan_comes_back(cache: Any) -> None:
    cache.set("nan", float("nan"))

    assert cache.get("nan") != cache.get("nan")


def test_safe_text_stays_safe(cache: Any) -> None:
    cache.set("html", mark_safe("<b>"))

    assert isinstance(cache.get("html"), SafeString)


def test_exception_comes_back(cache: Any) -> None:
    cache.set("error", ValueError("why", 1))

    assert cache.get("error").args == ("why", 1)


def test_each_read_is_a_fresh_object(cache: Any) -> None:
    cache.set("list", [1])

    cache.get("list").append(2)
    cache.get_many(["list"])["list"].append(3)

    assert cache.get("list") == [1]


def test_later_changes_of_a_stored_object_are_not_stored(cache: Any) -> None:
    value = [1]
    cache.set("list", value)
    value.append(2)

    assert cache.get("list") == [1]


@pytest.mark.parametrize(
    "value", [b"\x00" * MEGABYTES, "ü" * MEGABYTES, [0.5] * 100_000], ids=["bytes", "text", "list"]
)
def test_big_value_comes_back(cache: Any, value: object) -> None:
    cache.set("big", value)
    cache.set_many({"big-a": value, "small": 1})

    assert cache.get("big") == value
    assert cache.get_many(["big-a", "small"]) == {"big-a": value, "small": 1}


@pytest.mark.parametrize("store", ["set", "add"])
def test_value_that_does_not_pickle_raises_and_changes_nothing(cache: Any, nodes: Nodes, store: str) -> None:
    cache.set("kept", "old")

    with pytest.raises(pickle.PickleError):
        getattr(cache, store)("new", Unpicklable())
    with pytest.raises(pickle.PickleError):
        cache.set("kept", Unpicklable())

    assert nodes.keys("*:new") == set()
    assert cache.get("kept") == "old"


KEYS = ["k", "ключ", "清", "a:b:c", "{tag}rest", "a{}b", "}{", "*", "k[1]?", "x" * 200, "\U0001f600", "%s", "1", ""]


@pytest.mark.parametrize("key", KEYS)
def test_any_key_that_draws_no_warning_is_found_again(cache: Any, key: str) -> None:
    cache.set(key, [key])

    assert cache.get(key) == [key]
    assert cache.get_many([key]) == {key: [key]}
    assert key in cache
    assert cache.touch(key, 50) is True
    assert cache.delete(key) is True
    assert cache.get(key) is None


@pytest.mark.parametrize("key", [7, 1.5, None, ("a",), SafeString("safe")])
def test_key_need_not_be_text(cache: Any, key: Any) -> None:
    cache.set(key, "value")

    assert cache.get(key) == "value"
    assert list(cache.get_many([key])) == [key]
