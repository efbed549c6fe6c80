"""What actors do: reads in several shapes and writes of several kinds, through Django's ORM as a site writes them."""

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connections, transaction
from django.db.models import F, Sum

from tests.freshness.app.models import Item
from tests.freshness.rows import Trial
from tests.freshness.subjects import Subject

# ---------------------------------------------------------------- reading


def read(subject: Subject, shape: str, using: str = "default", **trial: int) -> Any:
    """Answer one shape of read."""
    key, load = _reads(shape, using, trial)
    return subject.read(key, load)


def _reads(shape: str, using: str, trial: Trial) -> tuple[str, Callable[[], Any]]:
    items = Item.objects.using(using)
    if shape == "get":
        return f"get:{trial['at']}", lambda: _row(items.filter(pk=trial["at"]), trial["at"])
    if shape == "list":
        on_shelf = items.filter(shelf=trial["shelf"]).order_by("pk")
        return f"list:{trial['shelf']}", lambda: [[item.pk, item.price] for item in on_shelf]
    if shape == "sum":
        on_shelf = items.filter(shelf_id=trial["shelf"])
        return f"sum:{trial['shelf']}", lambda: on_shelf.aggregate(total=Sum("price"))["total"]
    rows = items.filter(batch=trial["batch"]).order_by("pk").values_list("pk", "price")
    return f"table:{trial['batch']}", lambda: [list(row) for row in rows]


def _row(items: Any, pk: int) -> list[int] | None:
    try:
        item = items.get(pk=pk)
    except Item.DoesNotExist:
        return None
    return [item.price, item.shelf_id]


def read_asynchronously(subject: Subject, shape: str, **trial: int) -> Any:
    """Answer the read through Django's asynchronous methods."""
    return asyncio.run(_aread(shape, trial))


async def _aread(shape: str, trial: Trial) -> Any:
    try:
        if shape == "get":
            item = await Item.objects.aget(pk=trial["at"])
            return [item.price, item.shelf_id]
        if shape == "list":
            items = Item.objects.filter(shelf=trial["shelf"]).order_by("pk")
            return [[item.pk, item.price] async for item in items]
        if shape == "sum":
            return (await Item.objects.filter(shelf_id=trial["shelf"]).aaggregate(total=Sum("price")))["total"]
        rows = Item.objects.filter(batch=trial["batch"]).order_by("pk").values_list("pk", "price")
        return [list(row) async for row in rows]
    except Item.DoesNotExist:
        return None
    finally:
        await sync_to_async(connections.close_all)()


# ---------------------------------------------------------------- writing


def write(subject: Subject, kind: str, *, atomic: bool = True, using: str = "default", **trial: int) -> None:
    """Write once; in a transaction of its own, or as the kind does it without one."""
    with transaction.atomic(using) if atomic else nullcontext():
        change(subject, kind, trial, using)


def change(subject: Subject, kind: str, trial: Trial, using: str = "default") -> None:
    """Make one change of a kind in whatever transaction there is."""
    CHANGES[kind](Item.objects.using(using), trial)
    if kind not in {"save", "delete", "create", "raw", "raw_rows"}:
        pks = [trial["pk"], trial["mate"], trial["new"]]
        subject.touched(pks=pks, shelves=[trial["shelf"], trial["other"]], batches=[trial["batch"]])


def _save(items: Any, trial: Trial) -> None:
    item = items.get(pk=trial["pk"])
    item.price += 10
    item.save()


def _expression(items: Any, trial: Trial) -> None:
    items.filter(shelf=trial["shelf"]).update(price=F("price") + 10)


def _bulk_update(items: Any, trial: Trial) -> None:
    found = list(items.filter(shelf=trial["shelf"]))
    for item in found:
        item.price += 10
    items.bulk_update(found, ["price"])


def _new(trial: Trial) -> dict[str, int]:
    return {"pk": trial["new"], "shelf_id": trial["shelf"], "batch": trial["batch"], "price": 5}


def _raw(items: Any, trial: Trial, condition: str = "id = %s") -> None:
    with connections[items.db].cursor() as cursor:
        cursor.execute(f'UPDATE "stock_item" SET price = price + 10 WHERE {condition}', [trial["pk"]])


def _move(items: Any, trial: Trial) -> None:
    item = items.get(pk=trial["pk"])
    item.known_shelf, item.shelf_id = item.shelf_id, trial["other"]
    item.save()


CHANGES: dict[str, Callable[[Any, Trial], object]] = {
    "save": _save,
    "update": lambda items, trial: items.filter(pk=trial["pk"]).update(price=77),
    "expression": _expression,
    "bulk_update": _bulk_update,
    "delete": lambda items, trial: items.get(pk=trial["pk"]).delete(),
    "delete_rows": lambda items, trial: items.filter(pk=trial["pk"]).delete(),
    "create": lambda items, trial: items.create(**_new(trial)),
    "bulk_create": lambda items, trial: items.bulk_create([Item(**_new(trial))]),
    "raw": _raw,
    "raw_rows": partial(_raw, condition="id IN (%s, -1)"),  # which rows these are, is not looked for
    "move": _move,
}


OPS: dict[str, Callable[..., Any]] = {
    "read": read,
    "aread": read_asynchronously,
    "write": write,
}


def operation(name: str, subject: Subject) -> Callable[..., Any]:
    """Return what an actor is asked to do."""
    from tests.freshness import load_reader, load_writer, tasks

    found = OPS.get(name)
    for module in (tasks, load_reader, load_writer):
        found = found or getattr(module, name, None)
    assert found is not None, f"actors cannot {name}"
    return partial(found, subject)
