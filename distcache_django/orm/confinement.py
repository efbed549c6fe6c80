"""Derive from a query's conditions to which rows its answer is confined, for each of its tables.

The rules, and why they hold, are at the head of ``analysis``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from django.db.models import BooleanField
from django.db.models.expressions import Col
from django.db.models.fields.related_lookups import RelatedExact, RelatedIn, RelatedIsNull
from django.db.models.lookups import Exact, In, IntegerFieldExact, IsNull
from django.db.models.sql.constants import LOUTER
from django.db.models.sql.datastructures import BaseTable, Join
from django.db.models.sql.where import AND, OR, WhereNode

from distcache_django.freshness import dependencies as names
from distcache_django.orm.values import canonical_exact, is_comparable, is_refinable

if TYPE_CHECKING:
    from django.db.models import Field
    from django.db.models.sql import Query

    FieldOf: TypeAlias = Field[Any, Any]

__all__ = ["MAX_VALUES", "Declared", "Guards", "guards_of"]

Declared: TypeAlias = Callable[[str], tuple[str, ...]]
#: A column and a value (in its canonical form, None for NULL) that a row may have.
_Atom: TypeAlias = "tuple[str, str | None]"
#: Every row that takes part has one of these.
_Bound: TypeAlias = "frozenset[_Atom]"
#: Bounds by alias, all of which hold.
_Bounds: TypeAlias = "dict[str, list[_Bound]]"
#: The dependencies that stand for an alias.
_Guard: TypeAlias = "frozenset[str] | None"

#: A condition with more values than this is no better than the table.
MAX_VALUES: Final = 32

# Exactly these: a site's own lookup of the same name may compare in its own way.
_EXACT: Final = frozenset({Exact, IntegerFieldExact, RelatedExact})
_IN: Final = frozenset({In, RelatedIn})
_IS_NULL: Final = frozenset({IsNull, RelatedIsNull})
_TABLES: Final = frozenset({BaseTable, Join})


@dataclass(slots=True)
class Guards:
    """Collect, for each table, the dependencies that stand for each of its aliases (``None`` where there are none).

    ``used`` are aliases that a query counts references to: they are certainly in its text. ``unused`` ones may be,
    where compiling added them. With ``is_single`` they are of one query, with ``is_complete`` nothing else is in the
    text.
    """

    used: dict[str, list[_Guard]] = field(default_factory=dict)
    unused: dict[str, list[_Guard]] = field(default_factory=dict)
    is_single: bool = False
    is_complete: bool = False

    def of_table(self, table: str, occurrences: int) -> _Guard:
        """Return what stands for all occurrences of a table in the text, ``None`` unless something does for each."""
        relevant = self.used.get(table, [])
        if occurrences != len(relevant) or not (self.is_single or self.is_complete):
            relevant = relevant + self.unused.get(table, [])
            if not (self.is_single and self.is_complete) or occurrences > len(relevant):
                return None
        if len(relevant) == 1:
            return relevant[0]
        guards = [guard for guard in relevant if guard]
        return frozenset().union(*guards) if len(guards) == len(relevant) else None


def guards_of(query: Query, declared: Declared, vendor: str, found: Guards) -> None:
    """Add to ``found`` what stands for each alias of a query that is no union and has no inner query."""
    aliases: Mapping[str, BaseTable | Join] = query.alias_map
    bounds: _Bounds = {}
    if query.where.children:
        scope = _Scope(aliases, declared, vendor)
        bounds = _of_node(query.where, scope)
        if bounds and len(aliases) > 1:
            _follow_joins(query, bounds, scope)
    else:
        scope = None
    for alias, source in aliases.items():
        guard = scope.guard(alias, bounds[alias]) if scope is not None and alias in bounds else None
        place = found.used if query.alias_refcount.get(alias) else found.unused
        place.setdefault(source.table_name, []).append(guard)


@dataclass(slots=True)
class _Scope:
    """Be the aliases of one query, and what is known of the columns that its conditions are about."""

    aliases: Mapping[str, BaseTable | Join]
    declared: Declared
    vendor: str
    ranks: dict[tuple[str, str], int] = field(default_factory=dict)

    def learn(self, table: str, column: FieldOf) -> None:
        """Remember a column: whether it has dependencies, and how few rows are likely to share one."""
        name = str(column.column)
        if (table, name) not in self.ranks:
            is_own = column.model._meta.db_table == table
            is_usable = is_own and (column.primary_key or name in self.declared(table))
            self.ranks[table, name] = _rank(column) if is_usable else _UNUSABLE

    def rank(self, alias: str, bound: _Bound) -> tuple[int, int]:
        """Return how good a bound is: the less the better, ``_UNUSABLE`` and more if it has no dependencies."""
        if len(bound) > MAX_VALUES:
            return _UNUSABLE, len(bound)
        table = self.aliases[alias].table_name
        return max(self._rank(table, column, value) for column, value in bound), len(bound)

    def _rank(self, table: str, column: str, value: str | None) -> int:
        rank = self.ranks.get((table, column), _UNUSABLE)
        if value is None:  # no row is named by NULL, and it is what many rows may have
            return _UNUSABLE if rank == _KEY else rank + 1
        return rank

    def guard(self, alias: str, bounds: list[_Bound]) -> _Guard:
        """Return the dependencies that stand for an alias, from the best of its bounds."""
        best = bounds[0] if len(bounds) == 1 else min(bounds, key=lambda bound: self.rank(alias, bound))
        if self.rank(alias, best)[0] >= _UNUSABLE:
            return None
        table = self.aliases[alias].table_name
        return frozenset(name for column, value in best for name in self._names(table, column, value))

    def _names(self, table: str, column: str, value: str | None) -> tuple[str, str]:
        """Return what stands for the rows that have a value, and for writes of which that is not known."""
        if value is not None and self.ranks[table, column] == _KEY:
            return names.row(table, value), names.epoch(table)
        return names.field(table, column, value), names.value_epoch(table)


_KEY, _UNIQUE, _OTHER, _CHOICE, _BOOLEAN, _UNUSABLE = 0, 1, 2, 4, 6, 9


def _rank(column: FieldOf) -> int:
    if column.primary_key:
        return _KEY
    if column.unique:
        return _UNIQUE
    if isinstance(column, BooleanField):
        return _BOOLEAN
    return _CHOICE if column.choices else _OTHER


def _of_node(node: WhereNode, scope: _Scope) -> _Bounds:
    """Return what a condition confines, nothing if it is negated."""
    if node.negated:
        return {}
    children = node.children
    if node.connector == AND or len(children) == 1:
        bounds: _Bounds = {}
        for child in children:
            for alias, more in _of_child(child, scope).items():
                bounds.setdefault(alias, []).extend(more)
        return bounds
    if node.connector != OR or node.contains_aggregate or node.contains_over_clause:
        return {}
    return _of_branches([_of_child(child, scope) for child in children], scope)


def _of_child(child: Any, scope: _Scope) -> _Bounds:
    if isinstance(child, WhereNode):
        return _of_node(child, scope)
    kind = type(child)
    if kind not in _EXACT and kind not in _IN and kind not in _IS_NULL:
        return {}
    column = child.lhs
    if type(column) is not Col or column.alias not in scope.aliases or child.bilateral_transforms:
        return {}
    source = scope.aliases[column.alias]
    if type(source) not in _TABLES or not is_refinable(column.target, scope.vendor):
        return {}
    bound = _of_lookup(child, kind, column.target, source)
    if bound is None:
        return {}
    scope.learn(source.table_name, column.target)
    return {column.alias: [bound]}


def _of_lookup(lookup: Any, kind: type, target: FieldOf, source: BaseTable | Join) -> _Bound | None:
    column = str(target.column)
    if kind in _IS_NULL:
        is_null = lookup.rhs is True and source.join_type != LOUTER
        return frozenset({(column, None)}) if is_null else None
    values = [lookup.rhs] if kind in _EXACT else lookup.rhs
    if not isinstance(values, (list, tuple, set, frozenset)):
        return None
    atoms: set[_Atom] = set()
    for value in values:
        if value is not None or kind in _EXACT:  # NULL in a list is left out of the SQL
            spelling = canonical_exact(target, value)
            if spelling is None:
                return None
            atoms.add((column, spelling))
    return frozenset(atoms) or None


def _of_branches(branches: list[_Bounds], scope: _Scope) -> _Bounds:
    """Return what confines an alias whichever of the branches holds."""
    bounds: _Bounds = {}
    for alias in set.intersection(*(set(branch) for branch in branches)):
        chosen = [min(branch[alias], key=lambda bound: scope.rank(alias, bound)) for branch in branches]
        bounds[alias] = [frozenset().union(*chosen)]
    return bounds


def _follow_joins(query: Query, bounds: _Bounds, scope: _Scope) -> None:
    """Carry bounds over the equalities of joins: first to the outer sides, then, from there too, to the inner ones."""
    joins: list[Any] = [join for join in query.alias_map.values() if type(join) is Join]
    for join in reversed(joins):
        if query.alias_refcount.get(join.table_alias) and join.table_alias in bounds:
            pairs = [(inner, outer) for outer, inner in _joined_fields(join)]
            _carry(bounds, scope, join.table_alias, join.parent_alias, pairs)
    for join in joins:
        if join.parent_alias in bounds:
            _carry(bounds, scope, join.parent_alias, join.table_alias, _joined_fields(join))


def _joined_fields(join: Any) -> tuple[tuple[FieldOf, FieldOf], ...]:
    fields: tuple[tuple[FieldOf, FieldOf], ...] = join.join_fields
    return fields or ()  # none where a foreign object names columns, as it did before Django 5


def _carry(bounds: _Bounds, scope: _Scope, source: str, target: str, pairs: Iterable[tuple[FieldOf, FieldOf]]) -> None:
    for here, there in pairs:
        if not is_comparable(here, there):
            continue
        scope.learn(scope.aliases[target].table_name, there)
        for bound in tuple(bounds[source]):
            carried = _renamed(bound, str(here.column), str(there.column))
            if carried and carried not in bounds.setdefault(target, []):
                bounds[target].append(carried)


def _renamed(bound: _Bound, here: str, there: str) -> _Bound | None:
    """Return a bound in terms of the other side's column, ``None`` if it is about another column of this side.

    NULL is equal to nothing: a row that has it in the column takes part in no join.
    """
    if any(column != here for column, _ in bound):
        return None
    return frozenset((there, value) for _, value in bound if value is not None)
