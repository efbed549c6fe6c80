"""Report every write of Django's compilers, with the rows it touches.

All of the ORM's writes end in ``execute_sql`` of three compilers: ``save()`` and ``delete()`` of instances, raw saves
(fixtures), querysets' ``update``, ``delete`` and ``bulk_*``, many-to-many changes (rows of the through table), what the
deletion collector does (cascades, SET_NULL, fast deletes), inherited models (each table for itself). So no signal is
needed: signals miss bulk writes, run before the row is known to be written, and carry an instance whose idea of the old
values is not the row's. A backend whose compilers do not call these is seen by its statements' text (``rawsql``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from django.core.exceptions import EmptyResultSet, FullResultSet
from django.db import connections
from django.db.models.sql import compiler as compilers
from django.db.models.sql.constants import MULTI, NO_RESULTS, ROW_COUNT

from distcache_django.freshness import dependencies
from distcache_django.freshness.recording import spoil
from distcache_django.freshness.service import freshness
from distcache_django.orm import capture, changes, rawsql
from distcache_django.orm.changes import MAX_ROWS, Row, Target
from distcache_django.orm.report import Find, Report, run_known, run_reported

if TYPE_CHECKING:
    from django.db.models import Field
    from django.db.models.sql import Query
    from django.db.models.sql.compiler import SQLCompiler, SQLDeleteCompiler, SQLInsertCompiler, SQLUpdateCompiler

    Fields = Sequence[Field[Any, Any]]

__all__ = ["install"]

Compiled = tuple[str, tuple[Any, ...]]
R = TypeVar("R")
# Results that do not show what a statement returned; a caller of another library's may ask for the cursor instead.
_COUNTED = frozenset({ROW_COUNT, NO_RESULTS, None})
_installed = False


def install() -> None:
    """Report writes of all connections from now on. Once per process; calls after the first do nothing."""
    global _installed  # noqa: PLW0603 - Django's classes are the process's too
    if _installed:
        return
    _installed = True
    _patch(compilers.SQLInsertCompiler, "execute_sql", _insert)
    _patch(compilers.SQLUpdateCompiler, "execute_sql", _update)
    _patch(compilers.SQLDeleteCompiler, "execute_sql", _delete)
    if hasattr(compilers.SQLUpdateCompiler, "execute_returning_sql"):  # Django 6.1
        _patch(compilers.SQLUpdateCompiler, "execute_returning_sql", _update_returning)
    _announce_reads()
    rawsql.install()


def _patch(owner: type, name: str, report: Callable[..., Any]) -> None:
    original = getattr(owner, name)

    @wraps(original)
    def execute(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not freshness().enabled or not changes.is_tracked(self.query.get_meta().db_table):
            return original(self, *args, **kwargs)
        spoil("it is loaded by code that writes")
        return report(self, original, *args, **kwargs)

    setattr(owner, name, execute)


def _announce_reads() -> None:
    """Let reads of compilers be known as such: their texts are many, and to look at each for a write would cost."""
    original = compilers.SQLCompiler.execute_sql
    writers = (compilers.SQLUpdateCompiler, compilers.SQLDeleteCompiler)

    @wraps(original)
    def execute_sql(self: SQLCompiler, *args: Any, **kwargs: Any) -> Any:
        if isinstance(self, writers) or not freshness().enabled:
            return original(self, *args, **kwargs)
        with capture.executing(capture.READING):
            return original(self, *args, **kwargs)

    compilers.SQLCompiler.execute_sql = execute_sql  # type: ignore[method-assign]


def _report_of(compiler: SQLCompiler, also: Iterable[str] = ()) -> Report:
    """Return a report that says nothing yet of the rows."""
    connection = compiler.connection
    model = cast("Any", compiler.query.model)
    # A transaction can be opened on a connection that has an alias only.
    target = changes.target_of(model) if connections[connection.alias] is connection else None
    also = frozenset(dependencies.coarse(also))
    return Report(connection, model._meta.db_table, capture.abilities_of(connection), target, also)


# ---------------------------------------------------------------- INSERT


def _insert(compiler: SQLInsertCompiler, original: Callable[..., Any], returning_fields: Fields | None = None) -> Any:
    report = _report_of(compiler)
    _plan_insert(report, compiler.query, returning_fields or ())
    # The same condition as in as_sql(): what Django reads back itself comes with the result.
    is_returning = bool(returning_fields) and report.connection.features.can_return_columns_from_insert
    statement = report.statement(is_returning=is_returning)
    compile_ = compiler.as_sql

    def as_sql() -> list[tuple[str, Any]]:
        return [(statement.named(report.text(sql, is_returning=is_returning)), params) for sql, params in compile_()]

    def run() -> Any:
        return _compiled(compiler, as_sql, original, returning_fields)

    if report.known is not None:
        return run_known(report, report.known, statement, run)
    if not report.returned:
        return run_reported(report, statement, run, _read_back(report, returning_fields))
    return run_reported(report, statement, run, _split(returning_fields) if is_returning else _rows_of(statement))


def _plan_insert(report: Report, query: Any, returning_fields: Fields) -> None:
    target = report.target
    report.is_bounded = True
    if target is None or len(query.objs) > MAX_ROWS:
        report.know_nothing()
        return
    keys = changes.inserted_keys(query, target, report.connection.vendor)
    moves = bool(query.update_fields) and target.may_change(field.column for field in query.update_fields)
    if query.on_conflict is None and keys is not None and not target.declared:
        report.known = changes.touched_keys(target, keys)
    elif report.abilities.returns:
        if _may_return(report, query) and (not moves or capture.can_return_old(report.abilities, target)):
            report.returned = capture.returning(report.connection, target, with_old=moves)
        else:
            report.know_nothing()
    elif report.abilities.lock is None or query.on_conflict is not None or target.pk not in returning_fields:
        report.know_nothing()


def _read_back(report: Report, returning_fields: Fields | None) -> Find[Any]:
    """Return how the rows of an INSERT are found where the database returns no more than their keys."""

    def find(result: Any) -> tuple[Any, list[Row] | None]:
        assert report.target is not None
        place = list(returning_fields or ()).index(report.target.pk)
        keys = [row[place] for row in result]
        return result, capture.read_keys(report.connection, report.target, keys, report.abilities) if keys else None

    return find


# ---------------------------------------------------------------- UPDATE


def _update(compiler: SQLUpdateCompiler, original: Callable[..., Any], result_type: Any) -> Any:
    compiled = _compile(compiler)
    return _perform(_plan_update(compiler, compiled), compiler, compiled, original, result_type)


def _update_returning(compiler: Any, original: Callable[..., Any], returning_fields: Fields | None) -> Any:
    """Be ``_update`` where Django wants values back (6.1); what it does by ``execute_sql`` is left to that."""
    can_return = compiler.connection.features.can_return_rows_from_update
    if not returning_fields or not can_return or compiler.query.get_related_updates():
        return original(compiler, returning_fields)
    compiler.returning_fields = returning_fields
    sql, params = compiler.as_sql()
    report = _plan_update(compiler, (sql, params))
    statement = report.statement(is_returning=True)

    def as_sql() -> Compiled:
        return statement.named(report.text(sql, is_returning=True)), params

    def run() -> Any:
        return _compiled(compiler, as_sql, original, returning_fields)

    if report.known is not None:
        return run_known(report, report.known, statement, run)
    find = _split(returning_fields) if report.returned else _found(report, statement)
    return run_reported(report, statement, run, find)


def _plan_update(compiler: SQLUpdateCompiler, compiled: Compiled) -> Report:
    report, query = _report_of(compiler), cast("Any", compiler.query)
    columns = {field.column for field, _, _ in query.values}
    if report.target is None or report.target.columns[0] in columns:
        report.know_nothing()
    elif compiled[0]:
        report.changes_declared = report.target.may_change(columns)
        _plan_rows(report, query, report.target, lambda: _condition(compiler), is_update=True)
    return report


def _condition(compiler: SQLUpdateCompiler) -> Compiled | None:
    """Return the condition of an UPDATE that has been compiled, as SQL."""
    try:
        sql, params = compiler.compile(cast("Any", compiler.query.where))
    except (EmptyResultSet, FullResultSet):
        return None
    return sql, tuple(params)


# ---------------------------------------------------------------- DELETE


def _delete(compiler: SQLDeleteCompiler, original: Callable[..., Any], result_type: Any = MULTI) -> Any:
    compiled = _compile(compiler)
    report = _report_of(compiler, changes.database_cascades(cast("Any", compiler.query.model)))
    start = f"DELETE FROM {report.connection.ops.quote_name(report.table)} WHERE "  # noqa: S608 - to recognise it by

    def condition() -> Compiled | None:
        sql, params = compiled
        return (sql.removeprefix(start), params) if sql.startswith(start) else None

    if report.target is None:
        report.know_nothing()
    else:
        _plan_rows(report, compiler.query, report.target, condition, is_update=False)
    return _perform(report, compiler, compiled, original, result_type)


# ---------------------------------------------------------------- what they share


def _perform(report: Report, compiler: Any, compiled: Compiled, original: Callable[..., Any], result_type: Any) -> Any:
    """Run an UPDATE or DELETE as its report is planned; return what Django's method does."""
    if result_type not in _COUNTED:
        report.know_nothing()
    statement = report.statement(is_returning=False)
    sql, params = compiled

    def as_sql() -> Compiled:
        return (statement.named(report.text(sql, is_returning=False)), params) if sql else compiled

    def run() -> Any:
        return _compiled(compiler, as_sql, original, result_type)

    if not sql:  # nothing to write in this table; statements for its parents report themselves
        return run()
    if report.known is not None:
        return run_known(report, report.known, statement, run)
    result = run_reported(report, statement, run, _found(report, statement))
    return statement.count if statement.count is not None and result_type == ROW_COUNT else result


def _plan_rows(
    report: Report, query: Query, target: Target, condition: Callable[[], Compiled | None], *, is_update: bool
) -> None:
    """Decide how the rows of an UPDATE or DELETE are found out."""
    keys, abilities = changes.named_keys(query, target, report.connection.vendor), report.abilities
    report.is_bounded = keys is not None
    returns_old = is_update and bool(target.declared) and capture.can_return_old(abilities, target)
    if len(keys or ()) > MAX_ROWS or not query.where:  # a condition on other tables only does not confine it much
        report.know_nothing()
    elif keys is not None and not target.declared:
        report.known = changes.touched_keys(target, keys)
    elif not _may_return(report, query) or not (abilities.returns or changes.is_plain(query.where)):
        report.know_nothing()
    elif not abilities.returns or (report.changes_declared and not returns_old):
        report.condition = condition() if abilities.lock is not None else None
        if report.condition is None:
            report.know_nothing()
    if report.known is None and abilities.returns:
        report.returned = capture.returning(report.connection, target, with_old=returns_old)


def _may_return(report: Report, query: Query) -> bool:
    """Return whether the statement may be given RETURNING: SQLite refuses that on views and virtual tables."""
    return report.connection.vendor != "sqlite" or bool(query.get_meta().managed)


def _found(report: Report, statement: capture.Statement) -> Find[R]:
    """Return how the rows of an UPDATE or DELETE are found."""

    def find(result: R) -> tuple[R, Iterable[Row] | None]:
        if report.abilities.returns:
            return result, statement.rows
        # Rows that were locked cannot have left the condition (see is_plain); as many were written: the same ones.
        count = len(result) if isinstance(result, list) else result
        if count != len(report.locked) or report.target is None:
            return result, None
        if not report.changes_declared:
            return result, ()
        keys = [row[0] for row in report.locked]
        return result, capture.read_keys(report.connection, report.target, keys, report.abilities)

    return find


def _rows_of(statement: capture.Statement) -> Find[R]:
    return lambda result: (result, statement.rows)


def _split(returning_fields: Fields | None) -> Find[Any]:
    """Return how a result is parted into Django's columns and those that were added."""
    width = len(returning_fields or ())
    return lambda result: ([row[:width] for row in result], [row[width:] for row in result])


def _compile(compiler: Any) -> Compiled:
    """Compile a statement once; no text where it would write nothing."""
    try:
        sql, params = compiler.as_sql()
    except EmptyResultSet:
        return "", ()
    return sql, tuple(params)


def _compiled(compiler: Any, as_sql: Callable[[], Any], original: Callable[..., Any], argument: Any) -> Any:
    """Call Django's own method with a statement that is compiled already."""
    compiler.as_sql = as_sql
    try:
        return original(compiler, argument)
    finally:
        del compiler.as_sql
