"""What a transaction's writes tell the nodes, and when: every way in which Django begins and ends one.

The names of the mutants of the protocol that belong to the writer stand in the tests that catch them.
"""

from typing import Any

import pytest
from django.db import transaction
from django.db.utils import ProgrammingError
from pytest_django import DjangoDbBlocker

from distcache_django.freshness import transactions
from tests.integration.transactions.ground import (
    COMMITTED,
    ROW,
    Database,
    Recorder,
    database,
    rolled_back,
)


def hook(base: Database, name: str = "hook") -> Any:
    return lambda: base.recorder.events.append(name)


# ---------------------------------------------------------------- COMMIT


def test_commit_is_marked_before_and_bumped_after_mutant_no_mark(base: Database) -> None:
    """Mutants: no mark; bump before COMMIT."""
    with transaction.atomic("things"):
        base.write()
        assert base.take() == []

    assert base.take() == COMMITTED
    assert base.number() == 1


def test_what_was_marked_is_bumped_and_its_own_mark_taken_off_mutant_clear_without_bump(base: Database) -> None:
    """Mutant: clear without bump."""
    with transaction.atomic("things"):
        base.write(("thing:1", "thing"))
        base.write(("thing:2", "thing"))

    [marked] = base.recorder.marked
    assert set(marked.dependencies) == {"thing:1", "thing:2", "thing"}
    assert base.recorder.bumped == [(frozenset(marked.dependencies), marked.token)]
    assert base.recorder.unmarked == []


def test_every_commit_has_a_token_of_its_own_mutant_reused_token(base: Database) -> None:
    """Mutant: one mark slot or a reused token."""
    for _ in range(3):
        with transaction.atomic("things"):
            base.write()

    tokens = [attempt.token for attempt in base.recorder.marked]
    assert len(set(tokens)) == 3
    assert [token for _, token in base.recorder.bumped] == tokens


def test_a_transaction_without_writes_says_nothing(base: Database) -> None:
    with transaction.atomic("things"):
        base.number()

    assert "mark" not in base.take()


def test_writes_of_a_transaction_that_is_over_are_not_told_again(base: Database) -> None:
    with transaction.atomic("things"):
        base.write()
    base.take()

    with transaction.atomic("things"):
        base.number()

    assert set(base.take()) <= {"commit"}


@pytest.mark.parametrize("robust", [False, True])
def test_on_commit_hooks_run_after_the_bump_mutant_bump_after_hooks(base: Database, robust: bool) -> None:
    """Mutant: bump after on_commit hooks; hooks registered before and after the write, and in a nested block."""
    with transaction.atomic("things"):
        transaction.on_commit(hook(base, "first"), using="things", robust=robust)
        base.write()
        with transaction.atomic("things"):
            base.write()
            transaction.on_commit(hook(base, "nested"), using="things", robust=robust)
        transaction.on_commit(hook(base, "last"), using="things", robust=robust)

    assert base.take() == [*COMMITTED, "first", "nested", "last"]


def test_a_robust_hook_that_fails_changes_nothing(base: Database, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError("not today")

    with transaction.atomic("things"):
        base.write()
        transaction.on_commit(fail, using="things", robust=True)
        transaction.on_commit(hook(base), using="things")

    assert base.take() == [*COMMITTED, "hook"]


def test_a_hook_that_fails_leaves_no_private_state(base: Database) -> None:
    def fail() -> None:
        raise ValueError("not today")

    @transaction.atomic("things")
    def write() -> None:
        base.write()
        transaction.on_commit(fail, using="things")

    with pytest.raises(ValueError, match="not today"):
        write()
    assert base.take() == COMMITTED

    with transaction.atomic("things"):
        base.write()
    assert base.take() == COMMITTED


def test_a_hook_that_writes_again_is_told_again(base: Database) -> None:
    def again() -> None:
        with transaction.atomic("things"):
            base.write()
        base.write_alone()

    with transaction.atomic("things"):
        base.write()
        transaction.on_commit(again, using="things")

    events = base.take()
    assert [event for event in events if event != "commit"] == ["mark", "bump"] * 3
    assert base.number() == 3


def test_a_transaction_of_many_rows_is_told_table_by_table(base: Database) -> None:
    with transaction.atomic("things"):
        for number in range(1500):
            transactions.record_write("things", (f"thing:{number}", "thing"))
        transactions.record_write("things", ("#tag",))

    [(bumped, _)] = base.recorder.bumped
    assert {"thing", "thing:*", "#tag"} <= bumped
    assert len(bumped) <= 1003


# ---------------------------------------------------------------- ROLLBACK and savepoints


def test_rollback_says_nothing(base: Database) -> None:
    with rolled_back():
        base.write()

    assert base.take() == []
    assert base.number() == 0


@pytest.mark.parametrize("base", ["sqlite"], indirect=True)
def test_rollback_is_told_where_it_may_not_undo_everything(base: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """MySQL: MyISAM tables keep their rows, and a change of the schema has committed what was before it."""
    monkeypatch.setattr(type(base.connection), "vendor", "mysql")

    with rolled_back():
        base.write()

    assert base.take() == ["bump"]
    assert base.recorder.bumped == [(frozenset(ROW), None)]


def test_set_rollback_says_nothing(base: Database) -> None:
    with transaction.atomic("things"):
        base.write()
        transaction.set_rollback(True, using="things")

    assert base.take() == []
    with transaction.atomic("things"):
        base.number()
    assert "mark" not in base.take()


def test_dependencies_of_a_rolled_back_savepoint_are_kept(base: Database) -> None:
    with transaction.atomic("things"):
        with rolled_back():
            base.write(("thing:1", "thing"))
        sid = base.connection.savepoint()
        base.write(("thing:2",))
        transaction.savepoint_rollback(sid, "things")
        assert not transactions.may_use_cache("things")

    assert base.recorder.bumped[0][0] == {"thing:1", "thing:2", "thing"}


def test_nested_and_durable_blocks_are_one_commit(base: Database) -> None:
    with transaction.atomic("things", durable=True):
        base.write(("thing:1",))
        with transaction.atomic("things"), transaction.atomic("things", savepoint=False):
            base.write(("thing:2",))
        assert base.take() == []

    assert base.take() == COMMITTED
    assert base.recorder.bumped[0][0] == {"thing:1", "thing:2"}


# ---------------------------------------------------------------- manual transactions


def test_manual_commit_and_rollback(base: Database) -> None:
    transaction.set_autocommit(False, "things")
    try:
        base.write()
        transaction.rollback("things")
        assert base.take() == []
        base.write()
        transaction.commit("things")
        assert base.take() == COMMITTED
        base.write()
        transaction.commit("things")
        assert base.take() == COMMITTED
    finally:
        transaction.rollback("things")
        transaction.set_autocommit(True, "things")
    assert base.number() == 2


def test_atomic_blocks_in_manual_mode_commit_nothing(base: Database) -> None:
    transaction.set_autocommit(False, "things")
    try:
        base.write(("thing:2",))
        with transaction.atomic("things"):
            base.write()
        assert base.take() == []
        transaction.commit("things")
        assert base.take() == COMMITTED
        assert base.recorder.bumped[0][0] == {"thing:2", *ROW}
    finally:
        transaction.rollback("things")
        transaction.set_autocommit(True, "things")


def test_the_first_atomic_block_of_a_manual_transaction_on_sqlite_commits(base: Database) -> None:
    """It begins with SAVEPOINT and no BEGIN, so that its end is a COMMIT: what is rolled back later is not this."""
    transaction.set_autocommit(False, "things")
    with transaction.atomic("things"):
        base.write()
    committed = base.take()
    transaction.rollback("things")
    transaction.set_autocommit(True, "things")

    assert committed == (["mark", "bump"] if base.vendor == "sqlite" else [])
    assert base.take() == []
    assert base.number() == (1 if base.vendor == "sqlite" else 0)


def test_hooks_of_a_manual_transaction_run_after_the_bump(base: Database) -> None:
    transaction.set_autocommit(False, "things")
    base.write()
    with transaction.atomic("things"):
        base.write()
        transaction.on_commit(hook(base), using="things")
    transaction.commit("things")
    transaction.set_autocommit(True, "things")

    assert base.take() == [*COMMITTED, "hook"]


def test_switching_autocommit_on_in_a_transaction(base: Database) -> None:
    """SQLite commits by that; psycopg refuses, and the transaction goes on."""
    transaction.set_autocommit(False, "things")
    base.write()
    if base.vendor == "sqlite":
        transaction.set_autocommit(True, "things")
        assert base.take() == COMMITTED
        return
    with pytest.raises(ProgrammingError, match="autocommit"):
        transaction.set_autocommit(True, "things")
    assert base.take() == ["mark", "unmark"]

    transaction.commit("things")
    transaction.set_autocommit(True, "things")
    assert base.take() == COMMITTED


@pytest.mark.parametrize("in_block", [False, True])
def test_closing_in_a_transaction_rolls_back_and_forgets(base: Database, in_block: bool) -> None:
    if in_block:
        with transaction.atomic("things"):
            base.write()
            base.connection.close()
    else:
        transaction.set_autocommit(False, "things")
        base.write()
        base.connection.close()
    assert base.take() == []

    base.watch()
    with transaction.atomic("things"):
        base.write(("thing:2",))
    assert base.recorder.bumped[-1][0] == {"thing:2"}
    assert base.number() == 1


def test_sqlite_in_memory_ignores_close_and_so_do_its_writes(
    recorder: Recorder, django_db_blocker: DjangoDbBlocker
) -> None:
    entry: dict[str, object] = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    with django_db_blocker.unblock(), database("things", entry, recorder) as base:
        with transaction.atomic("things"):
            base.write()
            base.connection.close()

        assert [event for event in base.take() if event != "commit"] == ["mark", "bump"]
        assert base.number() == 1
        base.connection.connection.close()
