"""Say what a write touches, as dependencies: each row with its old and new declared values, or the whole table.

A *target* is a table whose rows can be told apart by name. Where there is none (models of a migration, keys
without a canonical form, two models on one table), and where the rows of a write are unknown or too many,
the write is *coarse*: it ends every answer that read the table. Doubt costs hits, never correctness.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from django.apps import apps
from django.db import models
from django.db.models import Field
from django.db.models.deletion import get_candidate_relations_to_delete
from django.db.models.expressions import Col
from django.db.models.lookups import Exact, In, Lookup
from django.db.models.sql.where import AND, WhereNode

from distcache_django.freshness import dependencies
from distcache_django.orm.profiles import declared_columns, is_untracked
from distcache_django.orm.values import NotCanonical, canonical, canonical_from_db, is_refinable

if TYPE_CHECKING:
    from django.db.models.sql import InsertQuery, Query

__all__ = [
    "MAX_ROWS",
    "Target",
    "all_tables",
    "database_cascades",
    "inserted_keys",
    "is_plain",
    "is_tracked",
    "named_keys",
    "resolve_tables",
    "target_named",
    "target_of",
    "touched",
    "touched_keys",
]

#: A write of more rows than this is coarse: naming its rows would cost more than the answers are worth.
MAX_ROWS = 64

# Django 6.1's on_delete by the database: DB_CASCADE and its kin.
_ByDatabase: Any = type(models.DB_CASCADE) if hasattr(models, "DB_CASCADE") else None

Row = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Target:
    """Be a table whose rows have names: its primary key, and the fields whose values have dependencies.

    ``columns`` are what says what a row's write touches: the primary key's first, then those of ``declared``.
    """

    table: str
    pk: Field[Any, Any]
    declared: tuple[Field[Any, Any], ...]
    columns: tuple[str, ...]

    def may_change(self, columns: Iterable[str]) -> bool:
        """Return whether setting these columns can change a declared value: a generated one may follow any."""
        written = set(columns)
        return any(
            column in written or getattr(field, "generated", False)
            for column, field in zip(self.columns[1:], self.declared, strict=True)
        )


def is_tracked(table: str) -> bool:
    """Return whether writes of a table are to be reported."""
    return not is_untracked(table)


def target_of(model: type[models.Model]) -> Target | None:
    """Return the target that writes of a model have, or ``None`` where they can only be coarse."""
    meta = model._meta
    pk: Any = meta.pk
    if meta.apps is not apps or len(_registry.of(meta.db_table)) > 1 or pk is None or not is_refinable(pk):
        return None
    own = {field.column: field for field in _concrete(model)._meta.local_concrete_fields}
    columns = tuple(column for column in declared_columns(meta.db_table) if is_refinable(own[column]))
    return Target(meta.db_table, pk, tuple(own[column] for column in columns), (pk.column, *columns))


def target_named(table: str) -> Target | None:
    """Return the target that writes of a table have, or ``None`` where they can only be coarse."""
    found = _registry.of(table)
    return target_of(next(iter(found))) if len(found) == 1 else None


def touched(target: Target, rows: Iterable[Row]) -> set[str]:
    """Return what a write of these rows touches: nothing where there are none.

    A row is as the database gave it: the primary key, a value for each declared field, and as many again where
    the row had other values before.

    :raises NotCanonical: if one holds what its field could not have stored.
    """
    names: set[str] = set()
    for pk, *values in rows:
        names.add(target.table)
        names.add(dependencies.row(target.table, canonical_from_db(target.pk, pk)))
        for position, value in enumerate(values):
            place = position % len(target.declared)
            text = None if value is None else canonical_from_db(target.declared[place], value)
            names.add(dependencies.field(target.table, target.columns[place + 1], text))
    return names


def touched_keys(target: Target, keys: Iterable[str]) -> set[str]:
    """Return what a write of rows without declared values touches; ``keys`` are canonical."""
    return {target.table, *(dependencies.row(target.table, key) for key in keys)}


def named_keys(query: Query, target: Target, vendor: str) -> list[str] | None:
    """Return the canonical primary keys that a statement's condition is confined to, ``None`` where it is not.

    There may be no row of such a key, or the rest of the condition may not hold for it.
    """
    if not is_refinable(target.pk, vendor):  # the database may find a key equal that is spelled differently
        return None
    return _keys_of(query.where, target.pk, query.base_table or target.table)


def is_plain(where: WhereNode) -> bool:
    """Return whether a condition compares columns of the one table with values, and nothing else.

    Rows that are locked and for which such a condition held keep to it; with a subquery or a function they may not.
    """
    return all(is_plain(child) if isinstance(child, WhereNode) else _is_plain_lookup(child) for child in where.children)


def inserted_keys(query: InsertQuery, target: Target, vendor: str) -> list[str] | None:
    """Return the canonical primary keys of the rows to insert, ``None`` where the database is to assign them."""
    pk = target.pk
    is_given = any(field.column == pk.column for field in query.fields)
    if not is_given or type(pk).pre_save is not Field.pre_save or not is_refinable(pk, vendor):
        return None
    return _canonical_keys(pk, (getattr(row, pk.attname) for row in query.objs))


def database_cascades(model: type[models.Model]) -> set[str]:
    """Return the tables whose rows the database deletes or changes by itself when rows of ``model`` go."""
    found: set[str] = set()
    if _ByDatabase is not None:
        _collect_cascades(model, found, set())
    return {table for table in found if is_tracked(table)}


def resolve_tables(names: Iterable[str]) -> set[str]:
    """Return the tables that a statement's text names, as models name them, and those its deletes reach.

    Case, quotes and schema of a name are those of the statement. A name that no model has is returned as it is.
    """
    known = _registry.refresh().by_name
    found: set[str] = set()
    for name in names:
        bare = _bare(name)
        found.update(known.get(bare, (bare,)))
    if _ByDatabase is not None:
        written, seen = frozenset(found), set[type[models.Model]]()
        for model in apps.get_models(include_auto_created=True):
            if model._meta.db_table in written:
                _collect_cascades(model, found, seen)
    return {table for table in found if is_tracked(table)}


def all_tables() -> set[str]:
    """Return the tables of all installed models that are tracked."""
    tables = {model._meta.db_table for model in apps.get_models(include_auto_created=True)}
    return {table for table in tables if is_tracked(table)}


def _keys_of(where: WhereNode, pk: Field[Any, Any], alias: str) -> list[str] | None:
    """Look among conditions that must all hold: each of them alone confines the rows."""
    if where.negated or (where.connector != AND and len(where.children) > 1):
        return None
    for child in where.children:
        keys = _keys_of(child, pk, alias) if isinstance(child, WhereNode) else _keys_of_lookup(child, pk, alias)
        if keys is not None:
            return keys
    return None


def _keys_of_lookup(lookup: Any, pk: Field[Any, Any], alias: str) -> list[str] | None:
    if not isinstance(lookup, (Exact, In)) or lookup.bilateral_transforms or not _is_column(lookup, pk, alias):
        return None
    values = [lookup.rhs] if isinstance(lookup, Exact) else lookup.rhs
    return _canonical_keys(pk, values) if isinstance(values, (list, tuple, set, frozenset)) else None


def _is_column(lookup: Lookup[Any], pk: Field[Any, Any], alias: str) -> bool:
    left = lookup.lhs
    return isinstance(left, Col) and left.alias == alias and left.target.column == pk.column


def _is_plain_lookup(lookup: Any) -> bool:
    if not isinstance(lookup, Lookup) or not isinstance(lookup.lhs, Col):
        return False
    values = lookup.rhs if isinstance(lookup.rhs, (list, tuple, set, frozenset)) else [lookup.rhs]
    return not any(hasattr(value, "as_sql") for value in values)


def _canonical_keys(pk: Field[Any, Any], values: Iterable[Any]) -> list[str] | None:
    try:
        return [canonical(pk, value) for value in values]
    except NotCanonical:
        return None


def _collect_cascades(model: type[models.Model], found: set[str], seen: set[type[models.Model]]) -> None:
    if model in seen:
        return
    seen.add(model)
    for relation in get_candidate_relations_to_delete(_concrete(model)._meta):
        related: Any = relation.related_model
        on_delete = cast("Any", relation).field.remote_field.on_delete
        if isinstance(on_delete, _ByDatabase):
            found.add(related._meta.db_table)
            if on_delete is cast("Any", models).DB_CASCADE:
                _collect_cascades(related, found, seen)


def _concrete(model: type[models.Model]) -> type[models.Model]:
    """Return the model whose table this is: a proxy has its parent's."""
    return cast("type[models.Model]", model._meta.concrete_model)


def _bare(name: str) -> str:
    """Return the last part of a name that may have a schema, without quotes, in lower case."""
    return name.rpartition(".")[2].strip('"`[]').lower()


class _Registry:
    """Hold what is looked up by table, made anew when the registry of models changes."""

    models: object = None
    by_name: dict[str, set[str]]
    of_table: dict[str, set[Any]]

    def of(self, table: str) -> set[Any]:
        """Return the models whose rows are in a table: two of them could have other keys, or fields."""
        return self.refresh().of_table.get(table, set())

    def refresh(self) -> _Registry:
        # The registry keeps this list until a model is added, so its identity says whether ours is still right.
        current = apps.get_models(include_auto_created=True)
        if self.models is not current:
            by_name: dict[str, set[str]] = {}
            of_table: dict[str, set[Any]] = {}
            for model in current:
                table = model._meta.db_table
                by_name.setdefault(_bare(table), set()).add(table)
                of_table.setdefault(table, set()).add(_concrete(model))
            self.by_name = by_name
            self.of_table = of_table
            self.models = current
        return self


_registry = _Registry()
