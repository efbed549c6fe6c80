"""End all answers that depend on something, and say what instances and querysets stand for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import DEFAULT_DB_ALIAS, connections, router
from django.db.models import Model, QuerySet

from distcache_django.freshness import dependencies as names
from distcache_django.freshness import transactions
from distcache_django.freshness.naming import resolvers, tables_of
from distcache_django.freshness.service import freshness
from distcache_django.orm import analysis
from distcache_django.orm.profiles import declared_columns
from distcache_django.orm.sql import tables_read

__all__ = ["invalidate"]


def _rows_of(instance: Model) -> list[str]:
    if instance.pk is None:
        raise TypeError(f"depends_on cannot hold a {instance._meta.label} that is not saved")
    tables = sorted(tables_of(type(instance)))
    if not analysis.is_refinable(instance._meta.pk):
        return tables
    key = analysis.canonical(instance._meta.pk, instance.pk)
    return [name for table in tables for name in (names.row(table, key), names.epoch(table))]


def _queryset_dependencies(queryset: QuerySet[Any, Any]) -> Iterable[str]:
    try:
        sql, _ = queryset.query.get_compiler(using=queryset.db).as_sql()
    except EmptyResultSet:
        return sorted(tables_of(queryset.model))
    return sorted(
        analysis.dependencies(queryset.query, sql, declared_columns, connections[queryset.db].vendor)
        or tables_read(sql)
    )


def invalidate(*named: type[Model] | Model | QuerySet[Any, Any] | str, using: str | None = None) -> None:
    """End every cached answer that depends on what is named; the next reads load anew.

    An instance stands for its row and for the lists its values put it into, a model for its table, a queryset for the
    tables it reads, a string for a tag. In an open transaction this happens at its COMMIT, and not at all when it is
    rolled back. One round trip.

    :param using: the alias whose transaction counts; where models are written, if it is not named.
    :raises TypeError: for anything else.
    """
    if not freshness().enabled:
        return
    for each in named:
        with transactions.writing(using or _written_through(each), _bumped_by(each)):
            pass


def _written_through(named: Any) -> str:
    model: object = named if isinstance(named, type) else named.model if isinstance(named, QuerySet) else type(named)
    if isinstance(model, type) and issubclass(model, Model):
        return str(router.db_for_write(model))
    return DEFAULT_DB_ALIAS


def _bumped_by(named: Any) -> set[str]:
    if isinstance(named, str):
        return {names.tag(named)}
    if isinstance(named, type) and issubclass(named, Model):
        return names.coarse(tables_of(named))
    if isinstance(named, Model):
        tables = tables_of(type(named))
        if not analysis.is_refinable(named._meta.pk):
            return names.coarse(tables)
        return {*_rows_of(named), *_values_of(named), *tables} - set(names.epochs(tables))
    if isinstance(named, QuerySet):
        tables = {name for name in _queryset_dependencies(named) if ":" not in name}
        return names.coarse(tables | tables_of(named.model))
    raise TypeError(f"invalidate() cannot take {named!r}: name models, instances, querysets or tags")


def _values_of(instance: Model) -> set[str]:
    found = set()
    for field in instance._meta.concrete_fields:
        table = field.model._meta.db_table
        if field.column in declared_columns(table) and analysis.is_refinable(field):
            value = getattr(instance, field.attname)
            found.add(names.field(table, field.column, None if value is None else analysis.canonical(field, value)))
    return found


resolvers.update({Model: _rows_of, QuerySet: _queryset_dependencies})
