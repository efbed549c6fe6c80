"""Know which models are cached, and which columns of a table have dependencies of their own.

``DISTCACHE["MODELS"]`` has django-cacheops's shape: ``"app.model"`` is looked for first, then ``"app.*"``, then
``"*.*"``; ``None`` excludes. Whether a model is cached without being asked (``ops``) and which fields its answers
may depend on (``by``) are two things: ``by`` counts for explicitly cached querysets of a model too.

Everything here is looked up in dicts that are made once, and again when settings or the registry of models change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist
from django.core.signals import setting_changed
from django.db.models import Field, Model

from distcache_django.conf import load_settings
from distcache_django.conf.distcache import OPS, names_of, ops_of

__all__ = [
    "Profile",
    "column_field",
    "declared_columns",
    "fields_by_column",
    "is_untracked",
    "profile_of",
    "untracked_tables",
]

_FieldOf: TypeAlias = "Field[Any, Any]"


@dataclass(frozen=True, slots=True)
class Profile:
    """Be how a model is cached.

    ``timeout`` is in seconds, ``None`` the cache's own: an answer always expires. ``by`` names fields of this
    model whose equality filters have dependencies of their own. ``ops`` are the kinds of queries that are cached
    without being asked; there may be none.
    """

    timeout: float | None = None
    by: tuple[str, ...] = ()
    ops: frozenset[str] = OPS


def profile_of(model: type[Model]) -> Profile | None:
    """Return how a model is cached, or ``None`` where no query of it is cached without being asked.

    A proxy is cached as the model it stands for unless it is named itself. Models of a registry other than the
    site's (those of a migration, say) and models whose writes are not tracked are not cached.
    """
    try:
        return _profiles[model]
    except KeyError:
        found = _profiles[model] = _find_profile(model)
        return found


def column_field(model: type[Model], name: str) -> _FieldOf | None:
    """Return the field with a column that ``by`` names (by name or attribute), or ``None`` where there is none."""
    try:
        field = model._meta.get_field(name)
    except FieldDoesNotExist:
        return None
    return field if isinstance(field, Field) and field.concrete and not field.many_to_many else None


def declared_columns(table: str) -> tuple[str, ...]:
    """Return the columns of a table whose values have dependencies, in the order of their names.

    Those are the columns of ``by`` fields of any model on that table, and both foreign keys of the table that a
    many-to-many field made. The primary key is not among them: rows have dependencies of their own. The models of a
    migration may not have all of these columns yet.
    """
    return _tables().declared.get(table, ())


def fields_by_column(table: str) -> Mapping[str, _FieldOf]:
    """Return the fields of all models on a table, by column; empty where no model has that table."""
    return _tables().fields.get(table, _NO_FIELDS)


def untracked_tables() -> frozenset[str]:
    """Return the tables whose writes bump nothing; answers that read one of them must not be cached."""
    return _tables().untracked


def is_untracked(table: str) -> bool:
    """Return whether writes of a table bump nothing."""
    return table in _tables().untracked


@dataclass(frozen=True, slots=True)
class _Tables:
    """Be what is known by table. ``models`` is the list it was made from: the registry makes another if it changes."""

    models: list[type[Model]]
    declared: Mapping[str, tuple[str, ...]]
    fields: Mapping[str, Mapping[str, _FieldOf]]
    untracked: frozenset[str]


_NO_FIELDS: Mapping[str, _FieldOf] = MappingProxyType({})
_profiles: dict[type[Model], Profile | None] = {}
_known: _Tables | None = None


def _find_profile(model: type[Model]) -> Profile | None:
    if is_untracked(model._meta.db_table):
        return None
    return _named_profile(model)


def _named_profile(model: type[Model]) -> Profile | None:
    """Return the profile that the settings name, whether or not the model's writes are tracked."""
    if model._meta.apps is not apps or model._meta.abstract:
        return None
    given = {name.lower(): profile for name, profile in load_settings().models.items()}
    for name in _names(model):
        # A pattern does not mean views of the database, whose rows change with other tables.
        if name in given and (model._meta.managed or "*" not in name):
            return _make(given[name])
    return None


def _names(model: type[Model]) -> Iterator[str]:
    own, concrete = model._meta, (model._meta.concrete_model or model)._meta
    yield own.label_lower
    yield concrete.label_lower
    yield f"{own.app_label.lower()}.*"
    yield f"{concrete.app_label.lower()}.*"
    yield "*.*"


def _make(given: Mapping[str, Any] | None) -> Profile | None:
    if given is None:
        return None
    ops = ops_of(given.get("ops", OPS))
    assert ops is not None, "load_settings() raises for other ops"
    return Profile(given.get("timeout"), names_of(given.get("by", ())) or (), ops)


def _tables() -> _Tables:
    global _known  # noqa: PLW0603 - made once; two threads that both make it make the same
    # The registry keeps this list until a model is added, so its identity says whether ours is still right.
    models = apps.get_models(include_auto_created=True, include_swapped=True)
    known = _known
    if known is None or known.models is not models:
        _profiles.clear()
        known = _known = _make_tables(models)
    return known


def _make_tables(models: list[type[Model]]) -> _Tables:
    fields: dict[str, dict[str, _FieldOf]] = {}
    declared: dict[str, set[str]] = {}
    for model in models:
        for field in model._meta.concrete_fields:
            fields.setdefault(field.model._meta.db_table, {}).setdefault(_column(field), field)
        for field in _declared_fields(model):
            if not field.primary_key:
                declared.setdefault(field.model._meta.db_table, set()).add(_column(field))
    return _Tables(
        models,
        {table: tuple(sorted(columns)) for table, columns in declared.items()},
        {table: MappingProxyType(columns) for table, columns in fields.items()},
        frozenset(_untracked(load_settings().untracked)),
    )


def _column(field: _FieldOf) -> str:
    assert field.column is not None, "only fields with a column come here"
    return field.column


def _declared_fields(model: type[Model]) -> Iterable[_FieldOf]:
    """Yield the fields that have dependencies; an inherited one belongs to its parent's table."""
    if model._meta.auto_created:
        yield from (field for field in model._meta.concrete_fields if field.remote_field is not None)
    profile = _named_profile(model)
    for name in profile.by if profile is not None else ():
        field = column_field(model, name)
        if field is not None:
            yield field


def _untracked(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        try:
            yield apps.get_model(name)._meta.db_table
        except (LookupError, ValueError):  # an application that is not installed, or the name of a table
            yield name


def _forget(**kwargs: Any) -> None:
    """Look everything up anew at the next use; receiver of ``setting_changed``."""
    global _known  # noqa: PLW0603 - see _tables
    if kwargs.get("setting") in {"DISTCACHE", "CACHES", "INSTALLED_APPS"}:
        _known = None
        _profiles.clear()


setting_changed.connect(_forget, dispatch_uid="distcache_django.orm.profiles")
