"""List every name that ``OPTIONS`` knows: its default, what it accepts and in which unit."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from distcache_django.conf.problems import Problems, nearest

__all__ = ["OPTIONS", "Option", "read_options"]


class Option(NamedTuple):
    """Describe one option: default, whether a value is right, and what right values are."""

    default: Any
    accepts: Callable[[Any], bool]
    expected: str


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, int) or math.isfinite(value)


def _choice(default: str, *others: str) -> Option:
    choices = (default, *others)
    return Option(default, lambda v: v in choices, " or ".join(repr(c) for c in choices))


def _seconds(default: float | None) -> Option:
    return Option(
        default,
        lambda v: (v is None and default is None) or (_is_number(v) and 0 < v <= 3600),
        "seconds, above 0 and at most 3600",
    )


def _flag(default: bool | None) -> Option:
    return Option(default, lambda v: isinstance(v, bool), "True or False")


def _whole(default: int, low: int, high: int) -> Option:
    return Option(
        default,
        lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= high,
        f"a whole number from {low} to {high}",
    )


def _text(default: str | None = None) -> Option:
    return Option(default, lambda v: v is None or (isinstance(v, str) and v != ""), "text that is not empty")


def _mapping() -> Option:
    return Option({}, lambda v: isinstance(v, Mapping), "a dict")


_IGNORED = Option(None, lambda _: True, "anything")

#: Every option, by name.
OPTIONS: Mapping[str, Option] = {
    "REPLICATION_FACTOR": _whole(1, 1, 64),
    "READ_CONSISTENCY": _choice("quorum", "one", "all"),
    "WRITE_CONSISTENCY": _choice("quorum", "one", "all"),
    "CONFLICT_RESOLUTION": _choice("lww", "vector_clock"),
    "RESOLVER": _text(),
    "RANGES": _mapping(),
    "VIRTUAL_NODES": _whole(160, 1, 100_000),
    "DEADLINE": _seconds(0.25),
    "SOCKET_CONNECT_TIMEOUT": _seconds(0.1),
    "SOCKET_TIMEOUT": _seconds(None),
    "ON_UNAVAILABLE": _choice("miss", "raise"),
    "ON_NODE_DOWN": _choice("miss", "redirect"),
    "IGNORE_EXCEPTIONS": _flag(None),
    "NEAR_CACHE": Option(None, lambda v: v is None or isinstance(v, Mapping), "None or a dict"),
    "TTL_JITTER": Option(0.0, lambda v: _is_number(v) and 0 <= v < 1, "a share from 0 up to, not including, 1"),
    "MAX_CLOCK_DRIFT": _seconds(0.5),
    "SIGNING_KEY": Option(None, lambda v: v is None or (isinstance(v, (str, bytes)) and len(v) > 0), "text or bytes"),
    "ACCEPT_UNSIGNED": _flag(False),
    "CLIENT": _choice("redis", "valkey"),
    "SERIALIZER": _text(),
    "COMPRESSOR": _text(),
    "PICKLE_VERSION": _whole(pickle.HIGHEST_PROTOCOL, -1, pickle.HIGHEST_PROTOCOL),
    "USERNAME": _text(),
    "PASSWORD": Option(None, lambda v: v is None or isinstance(v, str), "text"),
    "CONNECTION_POOL_KWARGS": _mapping(),
    "CLIENT_CLASS": _IGNORED,
    "PARSER_CLASS": _IGNORED,
}

#: Names of django-redis that have no meaning here, kept so that its settings can stay as they are.
_WITHOUT_EFFECT = ("CLIENT_CLASS", "PARSER_CLASS")
_SECRET = ("PASSWORD", "SIGNING_KEY", "CONNECTION_POOL_KWARGS")


def read_options(given: object, problems: Problems) -> dict[str, Any]:
    """Return the value of every option; what is wrong goes to ``problems``, and the default is taken instead."""
    values = {name: option.default for name, option in OPTIONS.items()}
    if not isinstance(given, Mapping):
        problems.add("E006", f"OPTIONS is of type {type(given).__name__}, not a dict.")
        return values
    for name, value in given.items():
        option = OPTIONS.get(name)
        if option is None:
            problems.add("E005", f"OPTIONS has the unknown name {name!r}.", nearest(str(name), OPTIONS))
        elif not option.accepts(value):
            shown = "the given value" if name in _SECRET else repr(value)
            problems.add("E006", f"OPTIONS[{name!r}]: {shown} is not {option.expected}.")
        else:
            values[name] = value
            if name in _WITHOUT_EFFECT:
                problems.add("W001", f"OPTIONS[{name!r}] is django-redis's and has no effect here.", "Remove it.")
    return values
