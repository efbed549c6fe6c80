"""Put the ORM cache between Django's querysets and its compilers, once per process.

Wrapped are: ``SQLCompiler.execute_sql`` (rows), ``QuerySet.get`` and what else reads (the short ways, see ``fastget``
and ``recall``), ``_filter_or_exclude`` and ``query`` (filters that wait, see ``plain``), ``_fetch_all`` and
``_prefetch_related_objects`` (options that related objects take over), and the places where Django reads in order to
write: what a write is based on comes from the database. ``QuerySet`` and managers get the methods of
``CacheQuerySet``. Nothing here has an effect on models that are not cached, nor where ``ENABLED`` is false.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.apps import apps
from django.db.models import Manager, Model, QuerySet
from django.db.models.deletion import Collector
from django.db.models.fields import related_descriptors
from django.db.models.manager import BaseManager
from django.db.models.sql import Query
from django.db.models.sql.compiler import SQLCompiler

from distcache_django.orm.fastget import wrap_get
from distcache_django.orm.manager import CacheQuerySet
from distcache_django.orm.options import AnyQuerySet, inherit, is_forbidden, no_cache, said_by
from distcache_django.orm.plain import wrap_filter, wrap_query
from distcache_django.orm.reads import wrap_execute_sql
from distcache_django.orm.recall import fetch, wrap_aggregate, wrap_count, wrap_exists

__all__ = ["install"]

_METHODS = ("cache", "nocache", "invalidated_update")
#: Methods that read what they then write: of models and querysets, and of the managers that relations make.
_BASED_ON_READS = (
    (Collector, "collect"),
    (Model, "_save_table"),
    (Model, "refresh_from_db"),
    (QuerySet, "bulk_create"),
)
_OF_RELATIONS = ("set", "set_base", "_get_missing_target_ids")
_installed = False


def install() -> None:
    """Wrap Django's reads. Once per process; calls after the first do nothing. Connects to nothing."""
    global _installed  # noqa: PLW0603 - Django's classes are the process's too
    if _installed:
        return
    _installed = True
    Query.distcache = None  # type: ignore[attr-defined]  # what .cache() says; see options
    for owner, name, wrap in _WRAPPED:
        setattr(owner, name, wrap(getattr(owner, name)))
    for owner, name in _BASED_ON_READS:
        setattr(owner, name, no_cache()(getattr(owner, name)))
    _wrap_factories()
    for name in _METHODS:
        _offer(name)


def _offer(name: str) -> None:
    """Give every queryset and manager a method, unless the site's own class has one of that name."""
    method = getattr(CacheQuerySet, name)

    @functools.wraps(method)
    def on_manager(self: BaseManager[Any], *args: Any, **kwargs: Any) -> Any:
        return getattr(self.get_queryset(), name)(*args, **kwargs)

    setattr(QuerySet, name, method)
    setattr(BaseManager, name, on_manager)


def _wrap_fetch_all(original: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(original)
    def _fetch_all(self: AnyQuerySet) -> None:
        if self._result_cache is not None:
            original(self)
        elif self._for_write:  # get_or_create() and its kin: what a write is based on is never cached
            with no_cache():
                original(self)
        else:
            fetch(self, original)
            options = said_by(self._query)  # not .query: a filter may still wait
            if options is not None and not is_forbidden():
                rows: Any = self._result_cache
                for row in rows:
                    if isinstance(row, Model):
                        vars(row._state)["distcache"] = options  # for its relations

    return _fetch_all


def _wrap_prefetch(original: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(original)
    def _prefetch_related_objects(self: AnyQuerySet) -> None:
        options = said_by(self._query)
        if options is None:
            original(self)
        else:
            with inherit(options):
                original(self)

    return _prefetch_related_objects


_WRAPPED: tuple[tuple[type, str, Callable[..., Any]], ...] = (
    (SQLCompiler, "execute_sql", wrap_execute_sql),
    (QuerySet, "get", wrap_get),
    (QuerySet, "_filter_or_exclude", wrap_filter),
    (QuerySet, "query", wrap_query),
    (QuerySet, "count", wrap_count),
    (QuerySet, "exists", wrap_exists),
    (QuerySet, "aggregate", wrap_aggregate),
    (QuerySet, "_fetch_all", _wrap_fetch_all),
    (QuerySet, "_prefetch_related_objects", _wrap_prefetch),
)


def _wrap_factories() -> None:
    """Have the managers that relations make read from the database what they are about to write."""
    names = ["create_reverse_many_to_one_manager", "create_forward_many_to_many_manager"]
    modules: list[Any] = [related_descriptors] * len(names)
    if apps.is_installed("django.contrib.contenttypes"):
        from django.contrib.contenttypes import fields  # noqa: PLC0415 - may be imported only where it is installed

        names.append("create_generic_related_manager")
        modules.append(fields)
    for module, name in zip(modules, names, strict=True):
        setattr(module, name, _wrap_factory(getattr(module, name)))


def _wrap_factory(original: Callable[..., type[Manager[Any]]]) -> Callable[..., type[Manager[Any]]]:
    @functools.wraps(original)
    def make(*args: Any, **kwargs: Any) -> type[Manager[Any]]:
        made = original(*args, **kwargs)
        for name in _OF_RELATIONS:
            if name in vars(made):
                setattr(made, name, no_cache()(vars(made)[name]))
        return made

    return make
