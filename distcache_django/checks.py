"""Check ``CACHES`` and ``DISTCACHE`` for ``manage.py check``; nothing here connects to anything.

``docs/reference/checks.md`` lists the ids; they are stable and never reused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - Django's name
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from distcache_django.backends.cache import DistributedCache
from distcache_django.conf import CacheSettings, Problem, Problems, parse
from distcache_django.conf.problems import nearest
from distcache_django.transport.inspect import Database, database_of

__all__ = ["Alias", "aliases", "check_settings", "databases", "globs_meet", "problems_of"]

_KNOWN = (
    "FRESHNESS",
    "MODELS",
    "CACHE",
    "ENABLED",
    "MARK_TIMEOUT",
    "ON_MARK_FAILURE",
    "WRITE_BEHIND",
    "MONITOR",
    "ALERTS",
)


@dataclass(frozen=True)
class Alias:
    """Be one entry of ``CACHES`` that uses this backend, as the backend is given it."""

    name: str
    location: object
    params: Mapping[str, Any]


def aliases() -> tuple[Alias, ...]:
    """Return the entries whose ``BACKEND`` is ``DistributedCache`` or a subclass of it."""
    return tuple(_aliases())


def _aliases() -> Iterator[Alias]:
    for name, entry in settings.CACHES.items():
        if _is_ours(entry.get("BACKEND", "")):
            params = {key: value for key, value in entry.items() if key not in ("BACKEND", "LOCATION")}
            yield Alias(name, entry.get("LOCATION", ""), params)


def _is_ours(path: Any) -> bool:
    try:
        backend = import_string(path)
    except Exception:  # noqa: BLE001 - a module may fail as it likes; Django tells when the alias is used
        return False
    return isinstance(backend, type) and issubclass(backend, DistributedCache)


def problems_of(alias: Alias) -> tuple[CacheSettings | None, Problems]:
    """Return an alias's settings, ``None`` where they cannot work, and all that is wrong with it alone."""
    parsed, problems = parse(alias.location, alias.params)
    if not _has_signing_key(alias):
        problems.add(
            "E010",
            "Signing needs a key, and SECRET_KEY is empty.",
            "Set SECRET_KEY, or SIGNING_KEY in OPTIONS.",
        )
        parsed = None
    return parsed, problems


def _has_signing_key(alias: Alias) -> bool:
    options = alias.params.get("OPTIONS")
    if isinstance(options, Mapping) and options.get("SIGNING_KEY"):
        return True
    try:
        return bool(settings.SECRET_KEY)
    except ImproperlyConfigured:
        return False


def check_settings(**_: Any) -> list[CheckMessage]:
    """Return everything that can be said about the settings without asking a server."""
    messages = []
    parsed: dict[str, CacheSettings] = {}
    for alias in aliases():
        cache_settings, problems = problems_of(alias)
        messages += [_message(problem, f"CACHES[{alias.name!r}]") for problem in problems]
        if cache_settings is not None:
            parsed[alias.name] = cache_settings
    messages += [_message(problem, place) for place, problem in _overlaps(parsed)]
    messages += [_message(problem, "DISTCACHE") for problem in _unknown_names()]
    return messages


def _message(problem: Problem, place: str) -> CheckMessage:
    kind = Error if problem.is_error else Warning
    return kind(problem.message, hint=problem.hint or None, obj=place, id=problem.id)


def databases(cache_settings: CacheSettings) -> dict[Database, str]:
    """Return where the keys of an alias are, each with the name of its node."""
    number = dict(cache_settings.connection_options).get("db")
    found = {}
    for node in cache_settings.nodes:
        place = database_of(node.url)
        if place is not None:
            found[place if number is None else place._replace(number=int(number))] = node.name
    return found


def _overlaps(parsed: Mapping[str, CacheSettings]) -> Iterator[tuple[str, Problem]]:
    for (first, one), (second, other) in combinations(sorted(parsed.items()), 2):
        if one.pattern is None or other.pattern is None or not globs_meet(one.pattern, other.pattern):
            continue
        if shared := databases(one).keys() & databases(other).keys():
            yield (
                f"CACHES[{first!r}], CACHES[{second!r}]",
                Problem(
                    "distcache.W004",
                    f"The keys of {first!r} (KEY_PREFIX {one.key_prefix!r}) and {second!r} "
                    f"(KEY_PREFIX {other.key_prefix!r}) cannot be told apart on {min(shared)}: "
                    "clear() of one deletes keys of the other.",
                    "Give each a KEY_PREFIX that is not the other's, nor the other's followed by a colon and more.",
                ),
            )


def globs_meet(one: str, other: str) -> bool:
    """Return whether some key matches both globs, of which only ``*`` and escaped signs are understood."""
    first, second = _tokens(one), _tokens(other)
    # Positions in both up to which some text matches; a star may match nothing, or the other's next sign.
    reached, todo = set(), [(0, 0)]
    while todo:
        i, j = place = todo.pop()
        if place == (len(first), len(second)):
            return True
        if place in reached:
            continue
        reached.add(place)
        one_sign, other_sign = first[i : i + 1], second[j : j + 1]
        if ("*",) in (one_sign, other_sign):
            todo += [(i + 1, j)] if one_sign else []
            todo += [(i, j + 1)] if other_sign else []
        elif one_sign and one_sign == other_sign:
            todo.append((i + 1, j + 1))
    return False


def _tokens(glob: str) -> tuple[str, ...]:
    """Return a glob's signs; an escaped star keeps its backslash, which tells it from a bare one."""
    return tuple(sign if sign in ("*", r"\*") else sign[-1] for sign in re.findall(r"\\.|.", glob, re.DOTALL))


def _unknown_names() -> Iterable[Problem]:
    problems = Problems()
    given = getattr(settings, "DISTCACHE", {})
    if not isinstance(given, Mapping):
        problems.add("E020", f"DISTCACHE is of type {type(given).__name__}.", "Make it a dict.")
        return problems
    for name in given:
        if name not in _KNOWN:
            problems.add("E020", f"DISTCACHE has the unknown name {name!r}.", nearest(str(name), _KNOWN))
    if known := sorted(name for name in given if name in _KNOWN):
        problems.add("W006", f"DISTCACHE: {', '.join(known)}: without effect in this version.", "Remove it.")
    return problems
