"""What actors do beyond one read or one write: transactions in every shape."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connections, transaction

from tests.freshness.ops import change, read
from tests.freshness.rows import truth
from tests.freshness.site import create_tables as create_tables_of_site
from tests.freshness.subjects import Subject


def _reach(subject: Subject, point: str) -> None:
    subject.gates.reach(point)


def create_tables(_: Subject) -> None:
    """Make the application's tables where they are missing."""
    create_tables_of_site()


class RollBack(Exception):
    """Leave an atomic block without committing."""


def read_in_snapshot(subject: Subject, *, shape: str, level: str = "", **trial: int) -> Any:
    """Take the transaction's snapshot, be held, and read."""
    with transaction.atomic(), connections["default"].cursor() as cursor:
        if level:
            cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        cursor.execute("SELECT 1")
        _reach(subject, "snapshot")
        return read(subject, shape, "default", **trial)


def _both(subject: Subject, shape: str, trial: dict[str, int]) -> list[Any]:
    """Return what a read answers here and what the database says in this very transaction."""

    def ask(statement: str, values: list[Any]) -> list[tuple[Any, ...]]:
        with connections["default"].cursor() as cursor:
            cursor.execute(statement, values)
            return list(cursor.fetchall())

    return [read(subject, shape, "default", **trial), truth(ask, shape, trial)]


def change_and_read(subject: Subject, *, kind: str, shape: str, **trial: int) -> list[Any]:
    """Read one's own change before it is committed."""
    with transaction.atomic():
        change(subject, kind, trial)
        return _both(subject, shape, trial)


def change_read_and_roll_back(subject: Subject, *, kind: str, shape: str, **trial: int) -> list[Any]:
    """Read one's own change, which never happens."""
    seen: list[Any] = []
    with suppress(RollBack), transaction.atomic():
        change(subject, kind, trial)
        seen = _both(subject, shape, trial)
        raise RollBack
    return seen


def change_in_savepoint(subject: Subject, *, kind: str, shape: str, **trial: int) -> list[Any]:
    """Read one's own change in a savepoint that is rolled back, and read again in the transaction."""
    inside: list[Any] = []
    with transaction.atomic():
        with suppress(RollBack), transaction.atomic():
            change(subject, kind, trial)
            inside = _both(subject, shape, trial)
            raise RollBack
        return [inside, _both(subject, shape, trial)]


def write_with_hook(subject: Subject, *, kind: str, is_first: bool, is_robust: bool, **trial: int) -> None:
    """Write with a hook that is held while it runs."""

    def register() -> None:
        if is_robust:
            transaction.on_commit(_fail, robust=True)
        transaction.on_commit(partial(_reach, subject, "hook"), robust=is_robust)

    with transaction.atomic():
        if is_first:
            register()
        change(subject, kind, trial)
        if not is_first:
            register()


def _fail() -> None:
    raise ValueError("a robust hook's own trouble")


def counts(_: Subject) -> dict[str, int]:
    """Return what the product has counted in this process, if it is there."""
    from distcache_django.freshness.service import freshness

    return freshness().counts() if hasattr(settings, "DISTCACHE") else {}


def write_and_break_commit(subject: Subject, *, kind: str, **trial: int) -> None:
    """Write something whose COMMIT the database refuses: a foreign key that is checked then points nowhere."""
    from tests.freshness.app.models import Item

    with transaction.atomic():
        change(subject, kind, trial)
        Item.objects.create(pk=trial["new"], shelf_id=-1, batch=trial["batch"], price=99)


def write_with_slow_commit(subject: Subject, *, kind: str, seconds: float, **trial: Any) -> None:
    """Write something whose COMMIT takes the database a while (see ``SLOW_COMMIT``)."""
    with transaction.atomic():
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT set_config('stock.commit_takes', %s, true)", [str(seconds)])
        change(subject, kind, trial)


def load_stale_instance(subject: Subject, **trial: int) -> None:
    """Keep an instance that will be older than its row, as a form that is open for long does."""
    from tests.freshness.app.models import Item

    subject.kept = Item.objects.get(pk=trial["pk"])


def move_stale_instance(subject: Subject, *, how: str, atomic: bool, **trial: int) -> None:
    """Move the row of the kept instance to another shelf, believing that it is where it was."""
    from tests.freshness.app.models import Item

    item = subject.kept
    shelf, item.shelf_id = item.shelf_id, trial["third"]
    subject.touched(pks=[item.pk], shelves=[shelf, item.shelf_id], batches=[item.batch])
    with transaction.atomic() if atomic else nullcontext():
        if how == "save":
            item.save()
        elif how == "save_fields":
            item.save(update_fields=["shelf"])
        elif how == "bulk_update":
            Item.objects.bulk_update([item], ["shelf"])
        elif how == "update":
            Item.objects.filter(pk=item.pk).update(shelf=item.shelf_id)
        elif how == "delete":
            item.delete()
        else:
            Item.objects.filter(batch=item.batch).update(shelf=item.shelf_id)


def close_connections(_: Subject) -> None:
    """Close the database connections, as the end of a request may do."""
    connections.close_all()


def write_with_gate_at_mark(subject: Subject, **trial: int) -> None:
    """Write; the process can be held when its marks are acknowledged and COMMIT has not been decided on."""
    from distcache_django.freshness.service import Freshness

    mark = Freshness.mark
    subject.gates.wrap(Freshness, "mark", "mark", "marked")
    try:
        with transaction.atomic():
            change(subject, "update", trial)
    finally:
        Freshness.mark = mark  # type: ignore[method-assign]


def write_with_manual_commit(subject: Subject, *, kind: str, **trial: int) -> None:
    """Write with autocommit switched off."""
    transaction.set_autocommit(False)
    try:
        change(subject, kind, trial)
        transaction.commit()
    finally:
        transaction.set_autocommit(True)


def write_with_commit_by_text(subject: Subject, *, kind: str, **trial: int) -> None:
    """Write in a transaction that Django does not know of."""
    with connections["default"].cursor() as cursor:
        cursor.execute("BEGIN")
        change(subject, kind, trial)
        cursor.execute("COMMIT")


def write_in_nested_blocks(subject: Subject, *, kind: str, **trial: int) -> None:
    """Write two savepoints deep; a third one is rolled back."""
    with transaction.atomic(), transaction.atomic():
        with transaction.atomic():
            change(subject, kind, trial)
        with suppress(RollBack), transaction.atomic():
            change(subject, "expression", trial)
            raise RollBack


def read_together(
    subject: Subject, *, shape: str, threads: int, slow: float, seconds: float = 0, **trial: int
) -> dict[str, Any]:
    """Read in many threads that start at one moment, once each or for some seconds; a load takes ``slow`` seconds."""
    barrier = threading.Barrier(threads, action=partial(_reach, subject, "together"))
    lengths: list[float] = []

    def one(_: int) -> Any:
        barrier.wait(30)
        ends = time.monotonic() + seconds
        while True:
            began = time.monotonic()
            value = _read_brief(trial) if shape == "brief" else read(subject, shape, "default", **trial)
            lengths.append(time.monotonic() - began)
            if time.monotonic() >= ends:
                connections.close_all()
                return value
            time.sleep(0.02)

    subject.gates.delays["loaded"] = slow
    try:
        with ThreadPoolExecutor(threads) as pool:
            values = list(pool.map(one, range(threads)))
    finally:
        subject.gates.delays.clear()
    return {"values": values, "slowest": max(lengths)}


def _read_brief(trial: dict[str, int]) -> Any:
    from tests.freshness.app.models import Item

    items: Any = Item.objects.filter(shelf=trial["shelf"]).order_by("pk")
    return [[item.pk, item.price] for item in items.cache(timeout=1)]


def write_in_two_databases(subject: Subject, *, fails: str, **trial: int) -> None:
    """Write in both databases in nested transactions, of which one is rolled back."""
    works = {"default": "second", "second": "default"}[fails]
    with transaction.atomic(works):
        change(subject, "update", trial, works)
        with suppress(RollBack), transaction.atomic(fails):
            change(subject, "update", trial, fails)
            raise RollBack


def write_in_request(subject: Subject, *, kind: str, **trial: int) -> None:
    """Write in a view, in the transaction that ``ATOMIC_REQUESTS`` puts around it."""
    from django.core.handlers.base import BaseHandler
    from django.http import HttpRequest, HttpResponse

    def view(_: HttpRequest) -> HttpResponse:
        change(subject, kind, trial)
        return HttpResponse()

    connections.settings["default"]["ATOMIC_REQUESTS"] = True
    try:
        BaseHandler().make_view_atomic(view)(HttpRequest())
    finally:
        connections.settings["default"]["ATOMIC_REQUESTS"] = False


def write_asynchronously(_: Subject, *, kind: str, **trial: int) -> None:
    """Write through Django's asynchronous methods."""
    asyncio.run(_awrite(kind, trial))


async def _awrite(kind: str, trial: dict[str, int]) -> None:
    from tests.freshness.app.models import Item

    if kind == "save":
        item = await Item.objects.aget(pk=trial["pk"])
        item.price += 10
        await item.asave()
    elif kind == "update":
        await Item.objects.filter(pk=trial["pk"]).aupdate(price=77)
    elif kind == "delete":
        await Item.objects.filter(pk=trial["pk"]).adelete()
    else:
        await Item.objects.acreate(pk=trial["new"], shelf_id=trial["shelf"], batch=trial["batch"], price=5)
    await sync_to_async(connections.close_all)()
