"""The rows of a trial, and what the database itself says of them, in plain SQL: a judge that no cache can influence.

A *trial* names the rows that belong to it: ``{"pk": 3, "mate": 4, "new": 5, "shelf": 1, "other": 2, "batch": 1}``.
Items ``pk`` and ``mate`` stand on the shelf; ``new`` does not exist yet; the shelf ``other`` is empty. ``at`` is the
item that ``get`` looks at.
"""

from collections.abc import Callable, Mapping
from typing import Any

#: The shapes of reading, and the kinds of writing that change the answer of every shape.
SHAPES = ("get", "list", "sum", "table")
KINDS = (
    "save",
    "update",
    "expression",
    "bulk_update",
    "delete",
    "delete_rows",
    "create",
    "bulk_create",
    "raw",
    "raw_rows",
)
Trial = Mapping[str, int]
Ask = Callable[[str, list[Any]], list[tuple[Any, ...]]]
GET = 'SELECT price, shelf_id FROM "stock_item" WHERE id = %s'
SUM = 'SELECT sum(price) FROM "stock_item" WHERE shelf_id = %s'
LIST = 'SELECT id, price FROM "stock_item" WHERE shelf_id = %s ORDER BY id'
TABLE = 'SELECT id, price FROM "stock_item" WHERE batch = %s ORDER BY id'


def target(kind: str, trial: Trial) -> int:
    """Return the row that ``get`` looks at: the one the write concerns."""
    return trial["new"] if kind in {"create", "bulk_create"} else trial["pk"]


def truth(ask: Ask, shape: str, trial: Mapping[str, int]) -> Any:
    """Return the answer of one shape of read."""
    if shape == "get":
        rows = ask(GET, [trial["at"]])
        return list(rows[0]) if rows else None
    if shape == "sum":
        return ask(SUM, [trial["shelf"]])[0][0]
    rows = ask(LIST, [trial["shelf"]]) if shape == "list" else ask(TABLE, [trial["batch"]])
    return [list(row) for row in rows]
