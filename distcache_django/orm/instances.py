"""Make model instances of rows, without the detours of ``Model.__init__`` where nobody could tell.

Django makes an instance by one ``setattr`` for each field, between two signals: two thirds of what a cached row costs.
Where a model's class leaves all of that as Django made it, and nobody listens to the signals, what remains is that an
instance's dictionary holds the values, and its state where they are from. Everywhere else ``Model.from_db`` is called.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from inspect import getattr_static
from typing import Any, Final

from django.db.models import Model, query
from django.db.models.base import ModelState
from django.db.models.fields.related_descriptors import ForeignKeyDeferredAttribute
from django.db.models.query_utils import DeferredAttribute
from django.db.models.signals import post_init, pre_init

from distcache_django.orm.options import AnyQuerySet

__all__ = ["instances", "is_alone"]

#: What makes an instance: where a class has one of its own, only Django's way is right.
_MAKERS: Final = {name: getattr_static(Model, name) for name in ("__new__", "__init__", "__setattr__", "from_db")}
#: What a class may have in the place of a column's value: setting one of a new instance does no more than keep it.
_KEEPERS: Final = frozenset({DeferredAttribute, ForeignKeyDeferredAttribute})


def is_alone(queryset: AnyQuerySet) -> bool:
    """Return whether what a queryset makes of a row is an instance with the row's values, and knows of no others."""
    mode = getattr(queryset, "_fetch_mode", None)  # since Django 6.1
    return not queryset._known_related_objects and (mode is None or not mode.track_peers)


def instances(queryset: AnyQuerySet, using: str, attnames: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[Any]:
    """Return what a queryset that ``is_alone`` makes of rows: of all columns, after Django's converters.

    :param attnames: the names of the values, in the order of the model's columns.
    """
    model, mode = queryset.model, getattr(queryset, "_fetch_mode", None)
    if not _is_stock(model) or _is_heard(model):
        from_db = _from_db(model, mode)
        return [from_db(using, attnames, row) for row in rows]
    made = []
    for row in rows:
        instance = object.__new__(model)
        instance._state = state = ModelState()
        state.adding = False
        state.db = using
        if mode is not None:
            state.fetch_mode = mode
        values = instance.__dict__
        for name, value in zip(attnames, row, strict=True):
            values[name] = value
        made.append(instance)
    return made


def _is_heard(model: Any) -> bool:
    """Return whether somebody listens to the signals of a model's instances."""
    # Where there are no receivers at all, has_listeners() would cost a quarter of a microsecond.
    is_heard_before = bool(pre_init.receivers) and pre_init.has_listeners(model)
    return is_heard_before or (bool(post_init.receivers) and post_init.has_listeners(model))


def _from_db(model: Any, mode: Any) -> Callable[..., Any]:
    """Return the model's from_db(), with the fetch mode that Django 6.1 and later hand to it."""
    from_db: Callable[..., Any] = model.from_db
    if mode is None:
        return from_db
    adapt: Callable[..., Any] | None = vars(query).get("_get_from_db")  # copes with overrides that take no mode
    return functools.partial(from_db, fetch_mode=mode) if adapt is None else adapt(model, mode)


@functools.cache
def _is_stock(model: Any) -> bool:
    """Return whether making an instance of a class runs no code but Django's."""
    return (
        all(getattr_static(model, name) is maker for name, maker in _MAKERS.items())
        and type(model).__call__ is type.__call__
        and super(Model, model).__init__ is object.__init__  # of bases behind Model
        and all(type(getattr_static(model, field.attname)) in _KEEPERS for field in model._meta.concrete_fields)
    )
