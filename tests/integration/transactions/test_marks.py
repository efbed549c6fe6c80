"""What happens when marks cannot be set, in autocommit, to COMMITs that fail, and to SQL behind Django."""

from contextlib import nullcontext

import pytest
from django.db import DatabaseError, IntegrityError, OperationalError, transaction

from distcache_django.exceptions import DistcacheError
from distcache_django.freshness import transactions
from distcache_django.freshness.commits import FreshnessUnavailable
from tests.integration.transactions.ground import COMMITTED, ROW, Database

# ---------------------------------------------------------------- marks that cannot be set


def test_raise_refuses_before_commit_and_atomic_stays_usable_mutant_commit_without_marks(
    base: Database,
) -> None:
    """Mutant: COMMIT without its marks."""
    base.recorder.configure(on_mark_failure="raise")
    base.recorder.fails = True

    with pytest.raises(FreshnessUnavailable, match="cache-a: it is down") as caught, transaction.atomic("things"):
        base.write()

    assert isinstance(caught.value, DatabaseError)
    assert isinstance(caught.value, OperationalError)
    assert isinstance(caught.value, DistcacheError)
    assert base.take() == ["mark", "unmark"]
    assert base.recorder.unmarked == [base.recorder.marked[0].token]
    assert base.connection.get_autocommit()
    assert base.number() == 0

    base.recorder.fails = False
    with transaction.atomic("things"):
        base.write()
    assert base.take() == COMMITTED
    assert base.number() == 1


def test_a_refused_manual_commit_can_be_tried_again(base: Database) -> None:
    base.recorder.configure(on_mark_failure="raise")
    base.recorder.fails = True
    transaction.set_autocommit(False, "things")
    base.write()
    with pytest.raises(FreshnessUnavailable):
        transaction.commit("things")
    base.take()

    base.recorder.fails = False
    transaction.commit("things")
    transaction.set_autocommit(True, "things")

    assert [event for event in base.take() if event != "commit"] == ["mark", "bump"]
    assert base.recorder.bumped == [(frozenset(ROW), base.recorder.marked[1].token)]
    assert base.recorder.marked[0].token != base.recorder.marked[1].token
    assert base.number() == 1


def test_proceed_commits_and_owes_the_bump(base: Database, caplog: pytest.LogCaptureFixture) -> None:
    base.recorder.fails = True

    with transaction.atomic("things"):
        base.write()

    assert base.take() == COMMITTED
    assert base.recorder.bumped == [(frozenset(ROW), base.recorder.marked[0].token)]
    assert base.number() == 1


@pytest.mark.parametrize("policy", ["raise", "proceed"])
def test_a_bug_in_marking_breaks_neither_atomic_nor_the_connection(
    base: Database, caplog: pytest.LogCaptureFixture, policy: str
) -> None:
    base.recorder.configure(on_mark_failure=policy)
    base.recorder.bug = TypeError("a bug")

    with pytest.raises(FreshnessUnavailable) if policy == "raise" else nullcontext(), transaction.atomic("things"):
        base.write()

    assert base.number() == (policy == "proceed")
    assert "a bug" in caplog.text
    base.recorder.bug = None
    base.take()
    with transaction.atomic("things"):
        base.write()
    assert base.take() == COMMITTED


@pytest.mark.parametrize("policy", ["raise", "proceed"])
def test_marks_older_than_half_their_life_do_not_count(base: Database, policy: str) -> None:
    """Mutant: expiry during COMMIT."""
    base.recorder.configure(on_mark_failure=policy, mark_timeout=5.0)
    base.recorder.age = 2.6

    if policy == "raise":
        with pytest.raises(FreshnessUnavailable, match="may expire"), transaction.atomic("things"):
            base.write()
        assert base.take() == ["mark", "unmark"]
    else:
        with transaction.atomic("things"):
            base.write()
        assert base.take() == COMMITTED
    assert base.recorder.tallies.read()["mark_failures"] == 1

    base.recorder.age = 1.5
    with transaction.atomic("things"):
        base.write()
    assert base.take() == COMMITTED


def test_bounded_only_bumps_after_commit(base: Database) -> None:
    base.recorder.configure(freshness="bounded")

    with transaction.atomic("things"):
        base.write()
    assert base.take() == ["commit", "bump"]
    base.write_alone()

    assert base.take() == ["bump"]
    assert {token for _, token in base.recorder.bumped} == {None}


def test_a_site_that_takes_no_answers_still_tells_of_writes_and_refuses_none(base: Database) -> None:
    """``ENABLED`` off is for an incident: other processes may take answers still."""
    base.recorder.configure(on_mark_failure="raise")
    base.recorder.answers = False
    base.recorder.fails = True

    with transaction.atomic("things"):
        base.write()

    assert base.take() == COMMITTED


def test_disabled_says_nothing(base: Database) -> None:
    base.recorder.enabled = base.recorder.answers = False

    with transaction.atomic("things"):
        base.write()
    base.write_alone()

    assert set(base.take()) == {"commit"}
    assert not transactions.may_use_cache("things")


# ---------------------------------------------------------------- autocommit


def test_a_statement_in_autocommit_is_marked_before_and_bumped_after(base: Database) -> None:
    """Mutants: no mark; bump before the statement."""
    with transactions.writing("things", ROW):
        base.recorder.events.append("statement")
        base.execute("UPDATE thing SET n = 5 WHERE id = 1")

    assert base.take() == ["mark", "statement", "bump"]
    assert base.recorder.bumped == [(frozenset(ROW), base.recorder.marked[0].token)]


def test_writing_in_a_transaction_only_records(base: Database) -> None:
    with transaction.atomic("things"):
        base.write_alone()
        assert base.take() == []

    assert base.take() == COMMITTED


def test_a_write_of_nothing_says_nothing(base: Database) -> None:
    with transactions.writing("things", ()):
        base.execute("UPDATE thing SET n = 5 WHERE id = 1")

    assert base.take() == []


def test_a_refused_statement_is_not_sent(base: Database) -> None:
    base.recorder.configure(on_mark_failure="raise")
    base.recorder.fails = True

    with pytest.raises(FreshnessUnavailable):
        base.write_alone()

    assert base.number() == 0
    assert base.take() == ["mark", "unmark"]


def test_a_failed_statement_ends_with_new_versions_for_a_part_may_be_committed(base: Database) -> None:
    """Not "unmark": on SQLite executemany commits row by row, and a procedure may commit before it fails."""
    with pytest.raises(IntegrityError), transactions.writing("things", ROW):
        base.executemany("INSERT INTO thing VALUES (%s, 1)", [[5], [6], [5]])

    assert base.take() == ["mark", "bump"]
    assert base.recorder.bumped[0][1] == base.recorder.marked[0].token
    if base.vendor == "sqlite":
        assert base.number(5) == 1  # that is why


def test_an_interrupted_statement_leaves_its_marks(base: Database) -> None:
    with pytest.raises(KeyboardInterrupt), transactions.writing("things", ROW):
        raise KeyboardInterrupt

    assert base.take() == ["mark"]


def test_record_write_in_autocommit_bumps_at_once(base: Database) -> None:
    transactions.record_write("things", ROW)

    assert base.take() == ["bump"]


# ---------------------------------------------------------------- SQL text that Django does not know of


def test_a_transaction_begun_by_text_is_one(base: Database) -> None:
    base.execute("BEGIN")
    assert not transactions.in_autocommit("things")
    base.write_alone()
    assert base.take() == []
    assert not transactions.may_use_cache("things")

    with transactions.committing("things"):
        base.execute("COMMIT")

    assert [event for event in base.take() if event != "commit"] == ["mark", "bump"]
    assert transactions.may_use_cache("things")


def test_a_commit_that_nobody_saw_is_told_at_the_next_look(base: Database) -> None:
    base.execute("BEGIN")
    base.write_alone()
    base.execute("COMMIT")
    base.take()

    assert transactions.may_use_cache("things")

    assert base.take() == ["bump"]


# ---------------------------------------------------------------- failed COMMITs


def make_commit_fail(base: Database) -> str:
    """Return a statement after which COMMIT is refused: a deferred foreign key."""
    base.execute("DROP TABLE IF EXISTS part")
    base.execute(
        "CREATE TABLE part (id integer PRIMARY KEY, thing integer REFERENCES thing (id) DEFERRABLE INITIALLY DEFERRED)"
    )
    base.take()
    return "INSERT INTO part VALUES (1, 99)"


def test_a_commit_that_the_server_refuses_is_unmarked(base: Database) -> None:
    statement = make_commit_fail(base)

    @transaction.atomic("things")
    def write() -> None:
        base.write()
        base.execute(statement)

    with pytest.raises(IntegrityError):
        write()

    assert base.take() == ["mark", "commit", "unmark"]
    assert base.recorder.unmarked == [base.recorder.marked[0].token]
    base.execute("DROP TABLE part")
    with transaction.atomic("things"):
        base.write(("thing:2",))
    assert base.recorder.bumped[-1][0] == {"thing:2"}


def test_a_refused_commit_that_is_tried_again_has_a_token_of_its_own_mutant_reused_token(base: Database) -> None:
    """Mutant: a reused token. SQLite keeps the transaction open; PostgreSQL has rolled it back."""
    statement = make_commit_fail(base)
    transaction.set_autocommit(False, "things")
    base.write()
    base.execute(statement)
    with pytest.raises(IntegrityError):
        transaction.commit("things")
    assert base.take() == ["mark", "commit", "unmark"]

    if base.vendor == "postgresql":
        transaction.commit("things")
        assert base.take() == []
    else:
        base.execute("INSERT INTO thing VALUES (99, 0)")
        transaction.commit("things")
        assert base.take() == COMMITTED
        assert base.recorder.marked[0].token != base.recorder.marked[1].token
        assert base.recorder.bumped == [(frozenset(ROW), base.recorder.marked[1].token)]
    transaction.set_autocommit(True, "things")
    base.execute("DROP TABLE part")
