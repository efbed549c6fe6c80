"""Check ``CACHES`` and ``DISTCACHE`` for ``manage.py check``; nothing here connects to anything.

``docs/reference/checks.md`` lists the ids; they are stable and never reused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - Django's name
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model

from distcache_django.conf import CacheSettings, DistcacheSettings, Problem, Problems, parse, parse_distcache
from distcache_django.conf.distcache import Absent, is_distributed, names_of
from distcache_django.conf.problems import nearest
from distcache_django.orm.profiles import column_field
from distcache_django.orm.values import is_refinable
from distcache_django.transport.inspect import Database, database_of

__all__ = ["Alias", "aliases", "check_settings", "databases", "globs_meet", "problems_of"]


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
        if is_distributed(entry):
            params = {key: value for key, value in entry.items() if key not in ("BACKEND", "LOCATION")}
            yield Alias(name, entry.get("LOCATION", ""), params)


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
    return messages + [_message(problem, "DISTCACHE") for problem in _distcache()]


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


def _distcache() -> Problems:
    """Return what is wrong with ``DISTCACHE``, the names of models and fields in it included."""
    parsed, problems = parse_distcache(getattr(settings, "DISTCACHE", Absent.ABSENT))
    if parsed is not None:
        for name, given in parsed.models.items():
            _check_models(name, given or {}, problems)
        _check_untracked(parsed, problems)
    return problems


def _check_models(name: str, given: Mapping[str, Any], problems: Problems) -> None:
    models = _models_of(name, problems)
    for field in names_of(given.get("by", ())) or ():
        _check_field(name, field, models, problems)


def _models_of(name: str, problems: Problems) -> list[type[Model]]:
    """Return the models that a name of ``MODELS`` means; that there are none is a problem."""
    label, _, model = name.lower().partition(".")
    if label == "*":
        return list(apps.get_models())
    config = apps.app_configs.get(label) or next((c for c in apps.get_app_configs() if c.label.lower() == label), None)
    place = f"DISTCACHE['MODELS'][{name!r}]"
    if config is None:
        problems.add("E025", f"{place}: no application has the label {label!r}.", nearest(label, apps.app_configs))
        return []
    found = list(config.get_models(include_auto_created=True))
    if model == "*":
        return found
    named = [candidate for candidate in found if candidate._meta.model_name == model]
    if not named:
        known = [candidate._meta.model_name or "" for candidate in config.get_models()]
        problems.add("E025", f"{place}: {label!r} has no model {model!r}.", nearest(model, known))
    return named


def _check_field(name: str, field: str, models: list[type[Model]], problems: Problems) -> None:
    """A pattern's field has to be one of some of its models."""
    place = f"DISTCACHE['MODELS'][{name!r}]['by']"
    columns = [found for model in models if (found := column_field(model, field)) is not None]
    if models and not columns:
        known = [each.name for model in models for each in model._meta.concrete_fields]
        problems.add("E025", f"{place}: {field!r} is no field with a column.", nearest(field, set(known)))
    if columns and all(column.primary_key for column in columns):
        problems.add("W008", f"{place}: {field!r} is the primary key, which needs no mention.", "Remove it.")
    if any(not is_refinable(column) for column in columns):
        problems.add(
            "W007",
            f"{place}: the values of {field!r} cannot be told apart reliably, so answers depend on the whole table.",
            "Remove it.",
        )


def _check_untracked(parsed: DistcacheSettings, problems: Problems) -> None:
    untracked = {name.lower() for name in parsed.untracked}
    for name in sorted(name for name, given in parsed.models.items() if given is not None):
        tables = {model._meta.db_table for model in _models_of(name, Problems()) if "*" not in name}
        if name.lower() in untracked or tables & parsed.untracked:
            problems.add(
                "E026",
                f"DISTCACHE: {name!r} is in MODELS, and its writes are UNTRACKED, so nothing of it can be cached.",
                "Name it in one of the two.",
            )
