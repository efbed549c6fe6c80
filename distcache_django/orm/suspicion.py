"""Find what makes a query's answer depend on more than rows, where its text does not show it.

Locks that a database ignores, ``extra()`` and raw SQL, whose parentheses may not be balanced, so that conditions
beside it need not confine anything.
"""

from __future__ import annotations

import re
from typing import Any, Final, cast

from django.db.models.expressions import Col, RawSQL, Value
from django.db.models.lookups import Lookup
from django.db.models.sql import AggregateQuery, Query
from django.db.models.sql.where import ExtraWhere, WhereNode

__all__ = ["suspicion"]

_PLAIN: Final = frozenset({Col, Value, str, int, bool, float, bytes, type(None)})
_COLUMN: Final = re.compile(r"""(["`])[^"`]+\1\.(["`])[^"`]+\2""")
_RAW: Final = (RawSQL, ExtraWhere)
# Expressions that hold others are few levels deep; what is deeper is no query that anybody wrote.
_MAX_VISITED: Final = 10_000


def suspicion(query: Query) -> str | None:
    """Return why a query must not be cached whatever its text says, ``None`` if nothing is found."""
    if query.select_for_update:
        return "it locks rows"
    if query.explain_info is not None:
        return "it explains"
    if _uses_extra(query):
        return "it uses extra()"
    if isinstance(query, AggregateQuery) and (found := suspicion(query.inner_query)):
        return found
    for part in query.combined_queries:
        if found := suspicion(part):
            return found
    return _in_expressions(query)


def _uses_extra(query: Query) -> bool:
    """Return whether a query has text of its own in it, other than the columns that Django's prefetching selects."""
    if query.extra_tables or query.extra_order_by:
        return True
    return bool(query.extra) and not all(
        _COLUMN.fullmatch(text) and not params for text, params in query.extra.values()
    )


def _in_expressions(query: Query) -> str | None:
    pending: list[Any] = []
    if _is_plain(query.where) and not (query.annotations or query.order_by or _filtered_relations(query)):
        return None if all(type(column) is Col for column in query.select) else _search([*query.select])
    _push_query(query, pending)
    return _search(pending)


def _filtered_relations(query: Query) -> dict[str, Any]:
    relations: dict[str, Any] = cast("Any", query)._filtered_relations
    return relations


def _is_plain(where: WhereNode) -> bool:
    """Return whether a condition is a few lookups of columns with values, as most are."""
    for child in where.children:
        if not isinstance(child, Lookup) or type(child.lhs) is not Col:
            return False
        kind = type(child.rhs)
        if kind not in _PLAIN and hasattr(child.rhs, "resolve_expression"):
            return False
        if kind is list and not all(type(value) in _PLAIN for value in child.rhs):
            return False
    return True


def _search(pending: list[Any]) -> str | None:
    visited = 0
    while pending:
        visited += 1
        node = pending.pop()
        if type(node) in _PLAIN:
            continue
        if isinstance(node, _RAW):
            return "it contains raw SQL"
        if visited > _MAX_VISITED:
            return "it is too large to look through"
        if isinstance(node, Query):
            if _uses_extra(node) or node.select_for_update:
                return "a subquery of it uses extra() or locks rows"
            _push_query(node, pending)
        else:
            _push(node, pending)
    return None


def _push_query(query: Query, pending: list[Any]) -> None:
    pending += query.where.children
    pending += query.select
    pending += query.annotations.values()
    pending += query.order_by
    pending += query.combined_queries
    pending += _filtered_relations(query).values()


def _push(node: Any, pending: list[Any]) -> None:
    if isinstance(node, WhereNode):
        pending += node.children
        return
    if isinstance(node, (list, tuple, set, frozenset)):
        pending += node
        return
    rhs = getattr(node, "rhs", None)
    if isinstance(rhs, (list, tuple, set, frozenset)):
        pending += rhs
    sources = getattr(node, "get_source_expressions", None)
    if sources is not None:
        pending += sources()
    for name in ("condition", "resolved_condition"):
        pending.append(getattr(node, name, None))
