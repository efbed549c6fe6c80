"""Keep what questions that differ in values only have in common, and read rows with it.

Compiling a query finds out which columns its rows have, what they are called and how Django converts them. All of that
is the same whatever values the query is filtered by.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, cast

from django.db.models import Avg, Count, Max, Min, Sum, Value
from django.db.models.expressions import Col, OrderBy, Star

from distcache_django.orm.options import AnyQuery
from distcache_django.orm.reads import Rows

if TYPE_CHECKING:
    from django.db.models.sql.compiler import SQLCompiler

__all__ = ["AGGREGATES", "Shape", "forget_shapes", "is_fixed", "shape_of"]

AGGREGATES: Final = frozenset({Sum, Count, Avg, Max, Min})
#: Expressions of which Django makes the same SQL each time.
_FIXED: Final = AGGREGATES | {Col, OrderBy, Star, Value}
#: What compiling leaves on a compiler that reading its rows needs.
_COLUMNS: Final = ("select", "klass_info", "annotation_col_map", "col_count", "has_extra_select")
#: How many shapes are remembered.
_MOST: Final = 512


@dataclass(frozen=True, slots=True)
class Shape:
    """Be what is common to questions that differ in values only: a query, and what its compiler knows of columns."""

    query: AnyQuery
    #: What to set on it, a way to read rows that need no conversion among it.
    columns: Mapping[str, Any]
    #: What the values of a row are called, where they are those of an instance and no more.
    attnames: tuple[str, ...] | None
    #: By their places, how Django converts values; ``None`` where a compiler has to be asked each time.
    converters: Mapping[int, Any] | None

    def compiler(self, using: str) -> SQLCompiler:
        """Return a compiler that can read rows as if it had compiled."""
        compiler: SQLCompiler = self.query.get_compiler(using)
        vars(compiler).update(self.columns)
        return compiler

    def converted(self, using: str, rows: Rows) -> Iterable[Sequence[Any]]:
        """Return rows after Django's converters."""
        if self.converters is None:
            return cast("Iterable[Sequence[Any]]", self.compiler(using).results_iter([cast("list[Any]", rows)]))
        if not self.converters:
            return rows
        compiler: Any = self.compiler(using)
        return cast("Iterable[Sequence[Any]]", compiler.apply_converters(rows, self.converters))


def is_fixed(compiler: SQLCompiler) -> bool:
    """Return whether the SQL is the same each time: what a transform becomes depends on the present time zone, say."""
    parts = [expression for expression, _ in compiler.get_order_by()]
    parts.extend(compiler.query.annotation_select.values())
    return all(_FIXED.issuperset(map(type, part.flatten())) for part in parts)


_shapes: dict[tuple[Any, ...], Shape] = {}


def shape_of(form: tuple[Any, ...], compiler: SQLCompiler) -> Shape:
    """Return the shape of all questions of a form, by the compiler of one that has compiled."""
    found = _shapes.get(form)
    if found is None:
        if len(_shapes) >= _MOST:
            forget_shapes()
        columns = {name: value for name, value in vars(compiler).items() if name in _COLUMNS}
        converters = _converters(compiler)
        if converters is not None and not converters:
            columns["results_iter"] = chain.from_iterable
        found = _shapes[form] = Shape(compiler.query, columns, _attnames(compiler), converters)
    return found


def forget_shapes() -> None:
    """Forget all shapes."""
    _shapes.clear()


def _converters(compiler: SQLCompiler) -> Mapping[int, Any] | None:
    """Return how the compiler's rows are converted, ``None`` where that is not certainly so on all connections.

    Converters of a database's backend, and of fields of a site's own, may belong to one connection, and its thread.
    """
    read = [column for column, *_ in compiler.select[: compiler.col_count]]
    found: Mapping[int, Any] = compiler.get_converters(read)
    functions = [function for each, _ in found.values() for function in each]
    is_shared = all(getattr(each, "__module__", "").startswith("django.db.models.") for each in functions)
    return None if compiler.has_composite_fields(read) or not is_shared else found


def _attnames(compiler: SQLCompiler) -> tuple[str, ...] | None:
    """Return the names of the values in a row, ``None`` where they are not those of an instance, in order."""
    info: Any = compiler.klass_info
    if not info or info["select_fields"] != [*range(len(compiler.select))]:
        return None
    wanted = tuple(field.attname for field in info["model"]._meta.concrete_fields)
    columns: list[Any] = [column for column, *_ in compiler.select]
    return wanted if wanted == tuple(column.target.attname for column in columns) else None
