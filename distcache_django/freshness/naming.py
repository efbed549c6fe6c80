"""Say what an answer depends on by naming it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.db.models import Model, QuerySet

from distcache_django.freshness import dependencies as names

__all__ = ["Named", "dependencies_of", "resolvers", "tables_of"]

#: What ``depends_on`` may hold: models, instances, querysets, tags, and functions of the call that return such.
Named = type[Model] | Model | QuerySet[Any, Any] | str | Callable[..., Any]

#: How instances and querysets are resolved; the ORM cache, which knows how, fills this in.
resolvers: dict[type, Callable[[Any], Iterable[str]]] = {}


def tables_of(model: type[Model]) -> set[str]:
    """Return the tables in which the rows of a model are: its own and its parents'."""
    models = [model, *model._meta.all_parents]
    return {each._meta.concrete_model._meta.db_table for each in models}  # type: ignore[union-attr]


def dependencies_of(named: Iterable[Named], *args: Any, **kwargs: Any) -> tuple[str, ...]:
    """Return the dependencies that ``depends_on`` names, for a call with these arguments.

    A model stands for all of its rows, an instance for its row, a queryset for the rows it would find, a string for
    a tag; a function is called with the arguments and returns one of these or several.

    :raises TypeError: for anything else.
    """
    found: dict[str, None] = {}
    for each in named:
        found.update(dict.fromkeys(_dependencies(each, args, kwargs)))
    return tuple(found)


def _dependencies(named: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterable[str]:
    if isinstance(named, str):
        return (names.tag(named),)
    if isinstance(named, type) and issubclass(named, Model):
        return sorted(tables_of(named))
    for kind, resolve in resolvers.items():
        if isinstance(named, kind):
            return resolve(named)
    if callable(named):
        made = named(*args, **kwargs)
        several = made if isinstance(made, (list, tuple, set, frozenset)) else (made,)
        return dependencies_of(several)
    raise TypeError(f"depends_on cannot hold {named!r}: name models, instances, querysets, tags or functions")
