"""When a write is reported: before anybody can see it, whatever transaction it is in, and however it ends."""

import contextlib
import threading
import unittest
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import DataError, IntegrityError, connection, connections, transaction
from django.test import TestCase

from distcache_django.freshness import service as services
from distcache_django.freshness.dependencies import coarse
from distcache_django.orm import capture
from tests.integration.transactions.ground import POSTGRES, Recorder, in_thread
from tests.support.deeds import Entry, told
from tests.support.zoo.models import Brand, Product, Tag

pytestmark = pytest.mark.parametrize("database", ["sqlite", POSTGRES], indirect=True)


@pytest.fixture
def seen(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, list[str]]]]:
    """What another connection sees whenever the nodes are told something: the names of products and brands."""
    events: list[tuple[str, list[str]]] = []
    with ThreadPoolExecutor(1) as other:

        def note(name: str) -> Callable[..., Any]:
            original = getattr(recorder, name)

            def noted(*args: Any) -> Any:
                events.append((name, other.submit(names).result()))
                return original(*args)

            return noted

        for name in ("mark", "bump"):
            monkeypatch.setattr(recorder, name, note(name))
        yield events
        other.submit(connections.close_all).result()


def names() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM zoo_product UNION SELECT name FROM zoo_brand UNION SELECT code FROM zoo_tag")
        return [row[0] for row in cursor.fetchall()]


@pytest.mark.parametrize(
    "write",
    [
        lambda: Brand.objects.create(name="new"),
        lambda: Product.objects.create(name="new", category_id=1),
        lambda: Tag.objects.create(code="new"),
        lambda: Brand.objects.filter(pk=1).update(name="new"),
        lambda: Product.objects.filter(pk=1).update(name="new"),
        lambda: Product.objects.filter(pk=1).update(name="new", category=2),
        lambda: Product.objects.filter(category=2).update(name="new", category=1),
        lambda: Brand.objects.update(name="new"),
        lambda: Product.objects.bulk_create([Product(name="new", category_id=1)]),
    ],
    ids="create declared key update other moves group all bulk".split(),
)
def test_a_write_in_autocommit_is_marked_before_others_see_it(
    seen: list[tuple[str, list[str]]], database: str, write: Callable[[], Any]
) -> None:
    write()

    assert [(name, "new" in found) for name, found in seen] == [("mark", False), ("bump", True)]


def test_a_transaction_is_marked_once_before_others_see_it(seen: list[tuple[str, list[str]]], database: str) -> None:
    with transaction.atomic():
        Brand.objects.create(name="new")
        with transaction.atomic():
            Product.objects.filter(pk=1).update(category=3)
        assert seen == []

    assert [(name, "new" in found) for name, found in seen] == [("mark", False), ("bump", True)]


def test_a_savepoint_that_is_rolled_back_may_be_reported_and_the_rest_is(recorder: Recorder, database: str) -> None:
    with transaction.atomic():
        Brand.objects.filter(pk=1).update(name="x")
        with pytest.raises(IntegrityError), transaction.atomic():
            Entry.objects.create(code="e1")
        Tag.objects.filter(pk="a").update(label="x")

    assert {"zoo_brand:1", "zoo_tag:a"} <= told(recorder)


def test_manual_transactions_are_reported_at_commit(recorder: Recorder, database: str) -> None:
    transaction.set_autocommit(False)
    try:
        Product.objects.filter(category=1).update(category=2)
        assert recorder.take() == []
        transaction.commit()
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)

    assert {"zoo_product:1", "zoo_product:category_id=1", "zoo_product:category_id=2"} <= told(recorder)


def test_async_writes_are_reported(recorder: Recorder, database: str) -> None:
    async def write() -> None:
        product = await Product.objects.aget(pk=1)
        product.category_id = 3
        await product.asave()
        await Brand.objects.filter(pk=1).aupdate(name="x")

    async_to_sync(write)()

    assert {"zoo_product:1", "zoo_product:category_id=1", "zoo_product:category_id=3", "zoo_brand:1"} <= told(recorder)


class Interrupted(BaseException):
    """What a task's time limit raises, at any moment."""


@contextmanager
def interrupted(verb: str) -> Iterator[None]:
    """Interrupt just after a statement was executed, as a signal's handler would."""

    def wrapper(execute: Callable[..., Any], sql: str, *args: Any) -> Any:
        result = execute(sql, *args)
        if verb in sql:
            raise Interrupted
        return result

    with connection.execute_wrapper(wrapper):
        yield


def test_an_interrupted_write_that_is_committed_all_the_same_is_reported(recorder: Recorder, database: str) -> None:
    with transaction.atomic():
        try:
            with interrupted("UPDATE"):
                Product.objects.filter(category=1).update(category=2)
        except Interrupted:
            pass

    assert Product.objects.get(pk=1).category_id == 2
    assert told(recorder) == coarse({"zoo_product"})


def test_a_write_whose_result_cannot_be_read_is_reported(
    recorder: Recorder, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: Any) -> None:
        raise DataError

    monkeypatch.setattr(capture.Statement, "_fetch", unreadable)

    queryset: Any = Product.objects.filter(category=1)
    with transaction.atomic(), contextlib.suppress(DataError):  # update() itself would have Django roll back
        queryset._update([(Product._meta.get_field("price"), None, 2)])

    assert told(recorder) == coarse({"zoo_product"})


def test_an_interrupted_write_in_autocommit_is_rolled_back(recorder: Recorder, database: str) -> None:
    with pytest.raises(Interrupted), interrupted("UPDATE"):
        Product.objects.filter(category=1).update(category=2)

    assert Product.objects.get(pk=1).category_id == 1
    assert not connection.in_atomic_block


def test_a_refused_write_that_is_caught_leaves_nothing_behind(recorder: Recorder, database: str) -> None:
    with pytest.raises(IntegrityError):
        Entry.objects.bulk_create([Entry(code="e1")])
    Tag.objects.filter(pk="a").update(label="x")

    assert not connection.in_atomic_block
    assert told(recorder) == {"zoo_tag", "zoo_tag:a"}


# ---------------------------------------------------------------- TestCase


def run_in_testcase(act: Callable[[], None]) -> None:
    """Run an act as a test of Django's."""

    class Case(TestCase):
        def test(self) -> None:
            act()

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Case).run(result)
    assert not result.errors + result.failures, result.errors + result.failures


def test_in_a_testcase_a_write_is_reported_at_once(recorder: Recorder, database: str) -> None:
    reported: list[set[str]] = []

    def act() -> None:
        Product.objects.filter(pk=1).update(category=3)
        reported.append(set().union(*(names for names, _ in recorder.bumped)))
        recorder.bumped.clear()
        Brand.objects.create(id=77, name="x")
        reported.append(set().union(*(names for names, _ in recorder.bumped)))

    run_in_testcase(act)

    assert {"zoo_product:1", "zoo_product:category_id=1", "zoo_product:category_id=3"} <= reported[0]
    assert reported[1] == {"zoo_brand", "zoo_brand:77"}


def test_in_a_testcase_a_refused_write_leaves_the_connection_as_django_does(
    database: str, rows: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_rollback = []

    def act() -> None:
        manager: Any = Entry.objects
        with pytest.raises(IntegrityError):
            manager._insert([Entry(code="e1", group=1)], [Entry._meta.get_field("code")], using="default")
        needs_rollback.append(connection.needs_rollback)

    run_in_testcase(act)
    monkeypatch.setattr(services, "_service", Recorder())
    run_in_testcase(act)

    assert needs_rollback == [False, False]


def test_threads_report_their_own_writes(recorder: Recorder, database: str) -> None:
    begun = threading.Event()

    def other() -> None:
        begun.wait(10)
        Brand.objects.filter(pk=2).update(name="x")

    with in_thread(other) as done, interrupted("nothing"):
        Product.objects.filter(pk=1).update(price=1)
        begun.set()
        done.result(20)

    assert {"zoo_product:1", "zoo_brand:2"} <= told(recorder)
