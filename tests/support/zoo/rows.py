"""Write random rows into the zoo's tables, one at a time, and say what each write bumps by the book."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from random import Random
from typing import Any

from django.db import IntegrityError, connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from distcache_django.freshness import dependencies
from distcache_django.orm.analysis import canonical_from_db, is_refinable
from tests.support.zoo import queries
from tests.support.zoo.schema import tables

Declared = Mapping[str, tuple[str, ...]]


def _values(field: models.Field[Any, Any]) -> Sequence[Any]:
    target = field
    while target.remote_field is not None:
        target = target.target_field  # type: ignore[attr-defined]  # a relation's
    kind = target.get_internal_type()
    found: Sequence[Any] = {
        "UUIDField": queries.UUIDS,
        "DateField": queries.DATES,
        "DateTimeField": queries.MOMENTS,
        "BooleanField": (True, False),
        "CharField": queries.CODES if target.primary_key else queries.NAMES,
        "TextField": queries.NAMES,
        "SlugField": queries.NAMES,
    }.get(kind, queries.KEYS)
    return (*found, None) if field.null else found


def declarable(model: type[models.Model]) -> list[str]:
    """Return the columns of a model's own table that may be declared: any but the primary key."""
    return [str(field.column) for field in model._meta.local_concrete_fields if not field.primary_key]


class Writer:
    """Write rows through SQL of its own, with what Django would store; foreign keys need not lead anywhere."""

    def __init__(self, rng: Random, declared: Declared, using: str = "default") -> None:
        self.rng = rng
        self.declared = declared
        self.connection: BaseDatabaseWrapper = connections[using]
        self.tables = tables()

    def fill(self, rows: int) -> None:
        """Start with some rows in every table."""
        for table in self.tables:
            for _ in range(rows):
                self._try(functools.partial(self._insert, table))

    def write(self, candidates: Collection[str]) -> set[str]:
        """Insert, change or delete a row of one of the tables, and return what that bumps."""
        return self._try(functools.partial(self._write, self.rng.choice(sorted(candidates))))

    def _try(self, write: Callable[[], set[str]]) -> set[str]:
        try:
            with transaction.atomic(using=self.connection.alias):
                return write()
        except IntegrityError:  # the two foreign keys of a many-to-many table are unique together
            return set()

    def _write(self, table: str) -> set[str]:
        kind = self.rng.choice(("insert", "update", "update", "update", "delete"))
        if kind == "insert":
            return self._insert(table)
        rows = self._rows(table)
        if not rows:
            return set()
        old = self.rng.choice(rows)
        return self._delete(table, old) if kind == "delete" else self._update(table, old)

    def _fields(self, table: str) -> list[models.Field[Any, Any]]:
        return list(self.tables[table]._meta.local_concrete_fields)

    def _rows(self, table: str) -> list[tuple[Any, ...]]:
        columns = ", ".join(self._quote(field.column) for field in self._fields(table))
        return self._run(f"SELECT {columns} FROM {self._quote(table)} ORDER BY 1", ())

    def _insert(self, table: str) -> set[str]:
        fields = self._fields(table)
        row = [self._value(field) for field in fields]
        key = next(index for index, field in enumerate(fields) if field.primary_key)
        taken = {str(old[key]) for old in self._rows(table)}
        if str(row[key]) in taken:
            return set()
        columns = ", ".join(self._quote(field.column) for field in fields)
        self._run(f"INSERT INTO {self._quote(table)} ({columns}) VALUES ({', '.join(['%s'] * len(row))})", row)
        return self._touched(table, self._found(table, row[key]))

    def _update(self, table: str, old: tuple[Any, ...]) -> set[str]:
        fields = self._fields(table)
        key = next(index for index, field in enumerate(fields) if field.primary_key)
        others = [field for field in fields if not field.primary_key]
        changed = self.rng.sample(others, min(len(others), self.rng.randint(1, 2)))
        assignments = ", ".join(f"{self._quote(field.column)} = %s" for field in changed)
        self._run(
            f"UPDATE {self._quote(table)} SET {assignments} WHERE {self._quote(fields[key].column)} = %s",
            [*(self._value(field) for field in changed), old[key]],
        )
        return self._touched(table, old, *self._found(table, old[key]))

    def _delete(self, table: str, old: tuple[Any, ...]) -> set[str]:
        fields = self._fields(table)
        key = next(index for index, field in enumerate(fields) if field.primary_key)
        self._run(f"DELETE FROM {self._quote(table)} WHERE {self._quote(fields[key].column)} = %s", [old[key]])
        return self._touched(table, old)

    def _found(self, table: str, key: Any) -> list[tuple[Any, ...]]:
        position = next(index for index, field in enumerate(self._fields(table)) if field.primary_key)
        return [row for row in self._rows(table) if str(row[position]) == str(key)]

    def _touched(self, table: str, *rows: Any) -> set[str]:
        names = {dependencies.table(table)}
        flat = [row for group in rows for row in (group if isinstance(group, list) else [group])]
        for row in flat:
            for field, raw in zip(self._fields(table), row, strict=True):
                if field.primary_key:
                    names.add(dependencies.row(table, canonical_from_db(field, raw)))
                elif field.column in self.declared[table] and is_refinable(field):
                    text = None if raw is None else canonical_from_db(field, raw)
                    names.add(dependencies.field(table, field.column, text))
        return names

    def _value(self, field: models.Field[Any, Any]) -> Any:
        return field.get_db_prep_save(self.rng.choice(_values(field)), self.connection)

    def _quote(self, name: str | None) -> str:
        return self.connection.ops.quote_name(str(name))

    def _run(self, sql: str, params: Collection[Any]) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, list(params))
            return cursor.fetchall() if cursor.description else []
