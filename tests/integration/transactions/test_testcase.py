"""Inside ``TestCase``, where nothing commits, its own atomic blocks count as autocommit."""

import unittest
from collections.abc import Callable
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.test import TestCase

from distcache_django.freshness import transactions
from tests.integration.transactions.ground import ROW, Database, rolled_back

Body = Callable[[Database], object]


@pytest.fixture
def run(base: Database) -> Callable[..., None]:
    """Run functions as the tests of one TestCase, in order, the first as ``setUpTestData`` if it is named so."""

    def run(*bodies: Body, data: Body | None = None) -> None:
        case = type("Case", (TestCase,), {"databases": {"things"}})
        if data is not None:
            case.setUpTestData = classmethod(lambda cls: data(base))  # type: ignore[attr-defined]
        for number, body in enumerate(bodies):
            setattr(case, f"test_{number}", lambda self, body=body: body(base))
        result = unittest.TestResult()
        unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
        assert not result.errors + result.failures, result.errors + result.failures
        base.watch()

    return run


def said(base: Database) -> list[str]:
    return [event for event in base.take() if event != "commit"]


def test_a_write_is_told_at_once_and_the_cache_may_be_used(run: Any, base: Database) -> None:
    def body(base: Database) -> None:
        assert transactions.in_autocommit("things")
        assert transactions.may_use_cache("things")
        base.write_alone()
        assert said(base) == ["mark", "bump"]
        assert transactions.may_use_cache("things")
        assert said(base) == []

    run(body)


def test_an_atomic_block_of_the_test_is_a_transaction(run: Any, base: Database) -> None:
    def body(base: Database) -> None:
        for savepoint in (True, False):
            with transaction.atomic("things", savepoint=savepoint):
                assert not transactions.in_autocommit("things")
                base.write()
                assert not transactions.may_use_cache("things")
            base.take()
            assert transactions.may_use_cache("things")
            assert said(base) == ["bump"]
            assert base.recorder.bumped[-1] == (frozenset(ROW), None)

    run(body)


def test_what_an_atomic_block_writes_is_told_to_those_who_do_not_look(run: Any, base: Database) -> None:
    def body(base: Database) -> None:
        with transaction.atomic("things", savepoint=False):
            base.write()
        assert said(base) == ["bump"]

    run(body)


def test_a_rolled_back_block_of_the_test_is_told(run: Any, base: Database) -> None:
    def body(base: Database) -> None:
        with rolled_back():
            base.write()
        base.take()
        assert transactions.may_use_cache("things")
        assert ROW[0] in base.recorder.bumped[-1][0]

    run(body)


def test_a_savepoint_of_the_test_that_is_rolled_back_is_told(run: Any, base: Database) -> None:
    """What was stored of rows written after the savepoint is not true any more."""

    def body(base: Database) -> None:
        sid = base.connection.savepoint()
        base.write_alone()
        base.take()
        transaction.savepoint_rollback(sid, "things")
        assert said(base) == ["bump"]
        assert base.recorder.bumped[-1][0] == set(ROW)

    run(body)


def test_the_end_of_a_test_is_told_so_that_no_row_survives_into_the_next(run: Any, base: Database) -> None:
    def first(base: Database) -> None:
        base.write_alone()
        with transaction.atomic("things"):
            base.write(("thing:2",))
        base.recorder.bumped.clear()

    def second(base: Database) -> None:
        assert {*ROW, "thing:2"} in [names for names, _ in base.recorder.bumped]
        base.recorder.bumped.clear()

    run(first, second)

    assert base.recorder.bumped == []


def test_data_of_the_class_is_told_again_at_its_end_only(run: Any, base: Database) -> None:
    def data(base: Database) -> None:
        with transactions.writing("things", ("thing:3",)):
            base.execute("INSERT INTO thing VALUES (3, 3)")

    def body(base: Database) -> None:
        assert base.number(3) == 3
        base.write_alone()
        base.recorder.bumped.clear()

    def check(base: Database) -> None:
        assert [names for names, _ in base.recorder.bumped] == [set(ROW)]
        assert transactions.may_use_cache("things")
        base.recorder.bumped.clear()

    run(body, check, data=data)

    assert base.recorder.bumped[-1][0] == {"thing:3"}
    assert base.number(3) is None


def test_a_failed_statement_of_the_test_ends(run: Any, base: Database) -> None:
    def body(base: Database) -> None:
        sid = base.connection.savepoint()
        with pytest.raises(IntegrityError):
            base.write_alone("INSERT INTO thing VALUES (1, 1)")
        assert said(base) == ["mark", "bump"]
        transaction.savepoint_rollback(sid, "things")

    run(body)


def test_hooks_that_the_test_runs_come_after(run: Any, base: Database) -> None:
    def body(base: Database) -> None:
        with TestCase.captureOnCommitCallbacks(using="things", execute=True), transaction.atomic("things"):
            base.write()
            transaction.on_commit(lambda: base.recorder.events.append("hook"), using="things")
        assert said(base) == ["bump", "hook"]

    run(body)


def test_closing_the_connection_of_a_test_is_told(base: Database) -> None:
    """A file of SQLite and a server roll back what the block's end will not."""
    block = transaction.atomic("things")
    block._from_testcase = True  # type: ignore[attr-defined]
    with block:
        base.write_alone()
        base.take()
        base.connection.close()
        assert said(base) == ["bump"]
