"""Read ``DISTCACHE``: how fresh cached answers are, which models are cached, and what a failure costs.

Reads settings and imports the backends that ``CACHES`` names; looks at no model and connects to nothing. Names of
models and fields are checked by ``distcache_django.checks``, once the applications are loaded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

from django.conf import settings as django_settings
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

import distcache_django
from distcache_django.conf.options import OPTIONS, Option, _choice, _flag, _seconds, _whole, read_options
from distcache_django.conf.problems import Problems, nearest

__all__ = [
    "DEFAULT_UNTRACKED",
    "OPS",
    "Absent",
    "DistcacheSettings",
    "is_distributed",
    "load_settings",
    "names_of",
    "ops_of",
    "parse_distcache",
]

#: The kinds of queries that ``ops`` of a model can name.
OPS: Final = frozenset({"get", "fetch", "count", "exists", "aggregate"})

#: Tables that a site writes all the time and nobody caches: a mark for each of their rows would be for nothing.
DEFAULT_UNTRACKED: Final = (
    "sessions.session",
    "admin.logentry",
    "django_migrations",
    "django_celery_results_taskresult",
    "django_celery_results_groupresult",
    "django_celery_results_chordcounter",
    "django_celery_beat_periodictask",
    "django_celery_beat_periodictasks",
    "django_celery_beat_clockedschedule",
    "django_celery_beat_crontabschedule",
    "django_celery_beat_intervalschedule",
    "django_celery_beat_solarschedule",
)

_LATER = ("WRITE_BEHIND", "MONITOR", "ALERTS")
#: What django-cacheops knows besides, kept so that its settings can stay as they are.
_OF_CACHEOPS = ("local_get", "cache_on_save", "db_agnostic", "lock", "write_only", "name")
_MODEL = re.compile(r"\w+\.(?:\w+|\*)|\*\.\*")


@dataclass(frozen=True, slots=True)
class DistcacheSettings:
    """Be what ``DISTCACHE`` says. Times are in seconds.

    ``models`` is as given: see ``orm.profiles`` for what it means to a model. ``enabled`` is false also where
    there is neither a ``DISTCACHE`` nor a distributed ``"default"``: the site uses another cache.
    """

    freshness: str
    cache: str
    enabled: bool
    mark_timeout: float
    on_mark_failure: str
    models: Mapping[str, Mapping[str, Any] | None]
    max_dependencies: int
    lease: float
    untracked: frozenset[str]
    ttl_jitter: float


def names_of(value: object) -> tuple[str, ...] | None:
    """Return one name, or several, as a tuple; ``None`` where ``value`` is neither."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Iterable) and not isinstance(value, (bytes, Mapping)):
        names = tuple(value)
        return names if all(isinstance(name, str) and name for name in names) else None
    return None


def ops_of(value: object) -> frozenset[str] | None:
    """Return the kinds of queries that ``ops`` names; ``None`` where it names another."""
    names = names_of(value)
    if names is None:
        return None
    named = OPS if names == ("all",) else frozenset(names)
    return named if named <= OPS else None


_ACCEPTED: Mapping[str, Option] = MappingProxyType(
    {
        "FRESHNESS": _choice("strong", "bounded"),
        "MODELS": Option({}, lambda v: isinstance(v, Mapping), "a dict of 'app.model' to a dict or None"),
        "CACHE": Option("default", lambda v: isinstance(v, str) and v != "", "the name of an alias of CACHES"),
        "ENABLED": _flag(True),
        "MARK_TIMEOUT": _seconds(5.0),
        "ON_MARK_FAILURE": _choice("proceed", "raise"),
        "MAX_DEPENDENCIES": _whole(2**20, 2**10, 2**32),
        "LEASE": _seconds(3.0),
        "UNTRACKED": Option(
            DEFAULT_UNTRACKED,
            lambda v: not isinstance(v, str) and names_of(v) is not None,
            "a list of 'app.model' or names of tables",
        ),
        "TTL_JITTER": OPTIONS["TTL_JITTER"]._replace(default=0.1),
    }
)


_PROFILE: Mapping[str, Option] = MappingProxyType(
    {
        "timeout": Option(
            None,
            lambda v: v is None or (isinstance(v, (int, float)) and not isinstance(v, bool) and 0 < v < math.inf),
            "seconds above 0, or None: the cache's",
        ),
        "by": Option((), lambda v: names_of(v) is not None, "a list of names of fields"),
        "ops": Option(OPS, lambda v: ops_of(v) is not None, f"'all' or a list of {', '.join(sorted(OPS))}"),
    }
)


class Absent(Enum):
    """Stand for a setting that the site does not have; ``None`` would be a wrong value of it."""

    ABSENT = "absent"


def parse_distcache(
    given: object, caches: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[DistcacheSettings | None, Problems]:
    """Return the settings, or ``None`` where they cannot work, and everything that is wrong with them.

    ``given`` is ``settings.DISTCACHE``, or ``Absent.ABSENT`` where there is none; ``caches`` is
    ``settings.CACHES`` unless said otherwise. Imports the backend that is named; connects to nothing.
    """
    problems = Problems()
    entries = django_settings.CACHES if caches is None else caches
    if given is not Absent.ABSENT and not isinstance(given, Mapping):
        problems.add("E020", f"DISTCACHE is of type {type(given).__name__}.", "Make it a dict.")
        return None, problems
    values = _read({} if given is Absent.ABSENT else given, problems)
    if given is Absent.ABSENT:
        values["ENABLED"] = is_distributed(entries.get(values["CACHE"]))
    elif values["ENABLED"]:
        _check_cache(values, entries, problems)
    if any(problem.is_error for problem in problems):
        return None, problems
    return _settings(values), problems


def _settings(values: Mapping[str, Any]) -> DistcacheSettings:
    fields = {name.lower(): value for name, value in values.items()}
    fields["models"] = MappingProxyType(dict(values["MODELS"]))
    fields["untracked"] = frozenset(values["UNTRACKED"])
    return DistcacheSettings(**fields)


def _read(given: Mapping[Any, Any], problems: Problems) -> dict[str, Any]:
    values = {name: option.default for name, option in _ACCEPTED.items()}
    for name, value in given.items():
        option = _ACCEPTED.get(name)
        if option is None:
            if name not in _LATER:
                hint = nearest(str(name), (*_ACCEPTED, *_LATER))
                problems.add("E020", f"DISTCACHE has the unknown name {name!r}.", hint)
        elif not option.accepts(value):
            problems.add("E021", f"DISTCACHE[{name!r}]: {value!r} is not {option.expected}.")
        else:
            values[name] = value
    if later := [name for name in _LATER if name in given]:
        problems.add("W006", f"DISTCACHE: {', '.join(later)}: without effect in this version.", "Remove it.")
    _check_models(values["MODELS"], problems)
    return values


def _check_cache(values: Mapping[str, Any], entries: Mapping[str, Mapping[str, Any]], problems: Problems) -> None:
    alias = values["CACHE"]
    entry = entries.get(alias)
    if entry is None:
        problems.add("E022", f"DISTCACHE['CACHE']: CACHES has no alias {alias!r}.", nearest(alias, entries))
    elif not is_distributed(entry):
        problems.add(
            "E022",
            f"DISTCACHE['CACHE']: CACHES[{alias!r}] is {entry.get('BACKEND', 'no backend')}, not a DistributedCache.",
            "Name an alias that is one, or set ENABLED to False where another cache is used.",
        )
    elif values["FRESHNESS"] == "strong":
        _check_mark_timeout(values["MARK_TIMEOUT"], entry, problems)


def _check_mark_timeout(mark_timeout: float, entry: Mapping[str, Any], problems: Problems) -> None:
    """Marking and renewing take up to a deadline each, and a commit wants half of the mark's life before it."""
    options = read_options(entry.get("OPTIONS", {}), Problems())
    deadline = min(options["DEADLINE"], options["SOCKET_TIMEOUT"] or options["DEADLINE"])
    if mark_timeout < 4 * deadline:
        problems.add(
            "E023",
            f"DISTCACHE['MARK_TIMEOUT']: {mark_timeout:g} s is less than four deadlines ({deadline:g} s each): "
            "marks could expire while a commit runs.",
            f"Set it to {4 * deadline:g} or more, or lower DEADLINE.",
        )


def _check_models(models: Mapping[Any, Any], problems: Problems) -> None:
    seen: dict[str, str] = {}
    for name, profile in models.items():
        if not isinstance(name, str) or not _MODEL.fullmatch(name):
            problems.add(
                "E024", f"DISTCACHE['MODELS']: {name!r} names no models.", "Give 'app.model', 'app.*' or '*.*'."
            )
            continue
        if name.lower() in seen:
            problems.add("E024", f"DISTCACHE['MODELS'] names {seen[name.lower()]!r} and {name!r}.", "Keep one.")
        seen[name.lower()] = name
        if profile is not None:
            _check_profile(name, profile, problems)


def _check_profile(name: str, profile: object, problems: Problems) -> None:
    place = f"DISTCACHE['MODELS'][{name!r}]"
    if not isinstance(profile, Mapping):
        problems.add("E024", f"{place} is of type {type(profile).__name__}.", "Give a dict, or None: not cached.")
        return
    for key, value in profile.items():
        option = _PROFILE.get(key)
        if key in _OF_CACHEOPS:
            problems.add("W001", f"{place}: {key!r} is django-cacheops's and has no effect here.", "Remove it.")
        elif option is None:
            problems.add("E024", f"{place} has the unknown name {key!r}.", nearest(str(key), _PROFILE))
        elif not option.accepts(value):
            problems.add("E024", f"{place}[{key!r}]: {value!r} is not {option.expected}.")


def is_distributed(entry: Mapping[str, Any] | None) -> bool:
    """Return whether an entry of ``CACHES`` uses ``DistributedCache`` or a subclass of it; imports the backend."""
    try:
        backend = import_string((entry or {}).get("BACKEND", ""))
    except Exception:  # noqa: BLE001 - a module may fail as it likes; Django tells when the alias is used
        return False
    return isinstance(backend, type) and issubclass(backend, distcache_django.DistributedCache)


_loaded: DistcacheSettings | None = None


def load_settings() -> DistcacheSettings:
    """Return what ``settings.DISTCACHE`` says; read once, and again after a test has changed it.

    :raises InvalidDistcacheConfig: with every error in it.
    """
    global _loaded  # noqa: PLW0603 - read once; two threads that both read it find the same
    if _loaded is None:
        parsed, problems = parse_distcache(getattr(django_settings, "DISTCACHE", Absent.ABSENT))
        problems.raise_errors()
        _loaded = parsed
        assert parsed is not None
        return parsed
    return _loaded


def _forget(**kwargs: Any) -> None:
    """Read the settings anew at the next use; receiver of ``setting_changed``."""
    global _loaded  # noqa: PLW0603 - see load_settings
    if kwargs.get("setting") in {"DISTCACHE", "CACHES"}:
        _loaded = None


setting_changed.connect(_forget, dispatch_uid="distcache_django.conf.distcache")
