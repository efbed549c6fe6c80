"""The benchmark of the ORM finds stale answers where there are some, none where there are none, and runs end to end."""

from __future__ import annotations

import argparse
import io
import json
import sys
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from distcache_django.benchmark import add_arguments, cli, run
from distcache_django.benchmark.channel import WorkerFailed
from distcache_django.benchmark.orm import outcome, subjects
from distcache_django.benchmark.orm.crew import Turns, run_crew
from distcache_django.benchmark.orm.measured import MeasuredCursor, measure, statements_of_this_thread
from distcache_django.benchmark.orm.sql import read_sql
from distcache_django.benchmark.orm.truth import Commit, Dataset, Truth
from distcache_django.benchmark.orm.verdicts import ROLLED_BACK_FROM, Answer, Judge, Verdict, tally
from distcache_django.testing.postgres import LocalPostgres

pytestmark = pytest.mark.timeout(240)

# Two groups: items 2, 4 begin in group 1, items 1, 3 in group 2. All times are in nanoseconds.
SMALL = Dataset(items=4, groups=2, tags=3, hot=1)
LEDGER = [
    Commit(90, 100, [(2, 1, 1)], []),
    # The COMMIT of version 3 returns before that of version 2, to another process.
    Commit(190, 300, [(2, 2, 1)], []),
    Commit(195, 200, [(2, 3, 1)], []),
    Commit(390, 400, [(4, 1, 2)], []),
    Commit(490, 500, [], [(1, 3, 1), (1, 2, 1)]),
    Commit(590, 600, [], [(1, 3, -1)]),
    Commit(690, 800, [(1, 1, 2), (3, 1, 2)], []),
]


def verdict(shape: Any, key: int, begun: int, value: tuple[Any, ...], ended: int | None = None) -> Verdict:
    answer = Answer(shape, key, begun, begun + 1 if ended is None else ended, value)
    return Judge(Truth(SMALL, LEDGER)).judge(answer)


FRESH = Verdict("fresh")


@pytest.mark.parametrize(
    ("begun", "ver", "expected"),
    [
        (50, 0, FRESH),
        (95, 0, FRESH),
        (95, 1, FRESH),
        (100, 0, FRESH),
        (101, 0, Verdict("stale", 1)),
        (150, 0, Verdict("stale", 50)),
        (150, 1, FRESH),
        (197, 1, FRESH),
        (197, 3, FRESH),
        (210, 3, FRESH),
        (210, 1, Verdict("stale", 10)),
        (210, 2, Verdict("stale", 10)),
        (50, 1, Verdict("impossible")),
        (1000, 4, Verdict("impossible")),
        (1000, ROLLED_BACK_FROM + 3, Verdict("rolled_back")),
    ],
)
def test_a_row_is_stale_once_a_later_write_has_returned(begun: int, ver: int, expected: Verdict) -> None:
    assert verdict("item", 2, begun, (ver, 1)) == expected


def test_a_row_in_a_group_it_never_had_is_impossible() -> None:
    assert verdict("item", 2, 150, (1, 2)).kind == "impossible"


def test_a_write_that_returned_while_the_read_ran_may_be_in_the_answer_or_not() -> None:
    assert verdict("item", 2, 50, (0, 1), ended=1000) == FRESH
    assert verdict("item", 2, 50, (3, 1), ended=1000) == FRESH


@pytest.mark.parametrize(
    ("begun", "rows", "expected"),
    [
        (350, ((2, 3), (4, 0)), FRESH),
        (395, ((2, 3), (4, 0)), FRESH),
        (395, ((2, 3),), FRESH),
        (450, ((2, 3),), FRESH),
        (450, ((2, 3), (4, 0)), Verdict("stale", 50)),
        (450, ((2, 1),), Verdict("stale", 250)),
        (350, ((2, 3),), Verdict("impossible")),
        (450, ((2, ROLLED_BACK_FROM),), Verdict("rolled_back")),
    ],
)
def test_a_list_is_as_stale_as_its_stalest_row(begun: int, rows: tuple[Any, ...], expected: Verdict) -> None:
    assert verdict("group", 1, begun, rows) == expected


def test_a_list_without_a_row_that_has_moved_in_is_stale_since_the_move() -> None:
    assert verdict("group", 2, 450, ((1, 0), (3, 0))) == Verdict("stale", 50)
    assert verdict("group", 2, 450, ((1, 0), (3, 0), (4, 1))) == FRESH


@pytest.mark.parametrize(
    ("begun", "total", "rows", "expected"),
    [
        (50, 0, 2, FRESH),
        (150, 1, 2, FRESH),
        (150, 0, 2, Verdict("stale", 50)),
        # Versions 2 and 3 are in flight: none, either or both.
        (197, 1, 2, FRESH),
        (197, 3, 2, FRESH),
        (450, 3, 1, FRESH),
        (450, 3, 2, Verdict("stale", 50)),
        (450, 0, 2, Verdict("stale", 350)),
        (450, 7, 1, Verdict("impossible")),
        (450, ROLLED_BACK_FROM + 3, 1, Verdict("rolled_back")),
    ],
)
def test_a_sum_is_one_of_the_settled_changes_and_some_in_flight(
    begun: int, total: int, rows: int, expected: Verdict
) -> None:
    assert verdict("total", 1, begun, (total, rows)) == expected


def test_both_rows_of_one_commit_are_in_a_sum_or_neither() -> None:
    assert verdict("total", 2, 750, (1, 3)) == FRESH
    assert verdict("total", 2, 750, (3, 3)) == FRESH
    assert verdict("total", 2, 750, (2, 3)).kind == "impossible"
    assert verdict("total", 2, 900, (1, 3)) == Verdict("stale", 100)


@pytest.mark.parametrize(
    ("begun", "tags", "expected"),
    [
        (450, (), FRESH),
        (495, (2, 3), FRESH),
        (550, (2, 3), FRESH),
        (550, (), Verdict("stale", 50)),
        (650, (2, 3), Verdict("stale", 50)),
        (650, (2,), FRESH),
        (650, (3,), Verdict("impossible")),
    ],
)
def test_tags_are_judged_as_one_set(begun: int, tags: tuple[int, ...], expected: Verdict) -> None:
    assert verdict("tags", 1, begun, tags) == expected


@pytest.mark.parametrize("versions", [(1, 3), (1, 1)])
def test_a_ledger_that_lacks_a_version_or_has_it_twice_is_refused(versions: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="item 2: version"):
        Truth(SMALL, [Commit(10, 20, [(2, version, 1)], []) for version in versions])


@pytest.mark.parametrize(("shape", "end"), [("item", (4, 1)), ("item", (3, 2)), ("tags", (2,))])
def test_a_ledger_that_ends_elsewhere_than_the_database_is_refused(shape: str, end: tuple[int, ...]) -> None:
    found: dict[tuple[str, int], tuple[int, ...]] = {("item", 1): (1, 2), ("item", 2): (3, 1)}
    found |= {("item", 3): (1, 2), ("item", 4): (1, 2), ("tags", 1): (2,)}
    found |= {("tags", item): () for item in (2, 3, 4)}
    truth = Truth(SMALL, LEDGER)
    truth.check_end(found)
    with pytest.raises(ValueError, match="item 2: the database"):
        truth.check_end(found | {(shape, 2): end})


def test_verdicts_are_counted_with_the_ages_of_the_stale() -> None:
    counted = tally([FRESH, Verdict("stale", 3_000_000), Verdict("stale", 1_000_000), Verdict("rolled_back")])
    assert counted == {"fresh": 1, "stale": 2, "rolled_back": 1, "impossible": 0, "ages_ms": [1.0, 3.0]}


@pytest.fixture
def measured(distcache_postgres: LocalPostgres) -> Iterator[tuple[psycopg.Connection[Any], list[Commit]]]:
    """Give a connection under measurement to a fresh database, and the list of what it commits."""
    name = f"orm_{time.monotonic_ns()}"
    distcache_postgres.create_database(name)
    dsn = distcache_postgres.dsn.rpartition("/")[0] + "/" + name
    commits: list[Commit] = []
    with psycopg.connect(dsn, cursor_factory=MeasuredCursor) as connection:
        connection.execute(read_sql("schema"))
        connection.execute(read_sql("reset"), {"items": 4, "groups": 2, "tags": 3})
        connection.commit()
        measure(commits, 0.0)(connection=SimpleNamespace(connection=connection))
        yield connection, commits


@pytest.mark.postgres
def test_the_ledger_says_what_was_committed_and_nothing_else(measured: Any) -> None:
    connection, commits = measured
    connection.execute(read_sql("bump"), [2])
    connection.rollback()
    connection.execute("UPDATE stock_item SET ver = ver + 1, group_id = 2 WHERE id = 4")
    connection.execute('SAVEPOINT "a"')
    connection.execute(read_sql("bump"), [2])
    connection.execute('ROLLBACK TO SAVEPOINT "a"')
    connection.execute("INSERT INTO stock_item_tags (item_id, tag_id) VALUES (1, 3)")
    assert commits == []
    connection.commit()
    (commit,) = commits
    assert (commit.items, commit.tags) == (((4, 1, 2),), ((1, 3, 1),))
    assert Truth(SMALL, commits).row_writes == 1


@pytest.mark.postgres
def test_a_statement_in_autocommit_is_a_commit_of_its_own(measured: Any) -> None:
    connection, commits = measured
    connection.autocommit = True
    asked = statements_of_this_thread()
    connection.execute("UPDATE stock_item SET ver = ver + 1 WHERE group_id = 1")
    with pytest.raises(psycopg.errors.DivisionByZero):
        connection.execute("UPDATE stock_item SET ver = ver / 0")
    connection.execute("SELECT ver FROM stock_item")
    assert [sorted(commit.items) for commit in commits] == [[(2, 1, 1), (4, 1, 1)]]
    assert statements_of_this_thread() == asked + 3


@pytest.mark.postgres
def test_the_times_of_a_slow_commit_enclose_it(measured: Any) -> None:
    connection, commits = measured
    connection.execute(read_sql("bump"), [2])
    connection.execute(read_sql("pause"), [0.05])
    before = time.monotonic_ns()
    connection.commit()
    assert before <= commits[0].begun
    assert commits[0].returned <= time.monotonic_ns()
    assert commits[0].returned - commits[0].begun >= 50_000_000


@pytest.mark.postgres
def test_a_commit_that_fails_has_written_nothing(measured: Any) -> None:
    connection, commits = measured
    connection.execute("UPDATE stock_item SET ver = ver + 1, group_id = 99 WHERE id = 2")
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        connection.commit()
    connection.execute(read_sql("bump"), [4])
    connection.commit()
    assert [commit.items for commit in commits] == [((4, 1, 1),)]


def test_turns_come_in_order_one_at_a_time_and_only_when_all_are_there() -> None:
    turns, taken, running = Turns([1, 0, 0, 1]), [], []

    def play(worker: int) -> None:
        while turns.serve(worker, "turn", {}):
            running.append(worker)
            taken.append(worker)
            assert running == [worker]
            running.remove(worker)

    players = [threading.Thread(target=play, args=(worker,)) for worker in (0, 1)]
    for player in players:
        player.start()
    for player in players:
        player.join(10)
    assert taken == [1, 0, 0, 1]


def test_a_process_that_fails_ends_the_load_for_all() -> None:
    class Nobody:
        def __init__(self) -> None:
            self.was_abandoned = False

        def serve(self, worker: int, action: str, arguments: dict[str, Any]) -> Any:
            raise AssertionError(action)

        def abandon(self) -> None:
            self.was_abandoned = True

    host = Nobody()
    with pytest.raises(WorkerFailed, match="nobody's: a process of the load"):
        run_crew([{"subject": "nobody's"}], io.StringIO(), host)
    assert host.was_abandoned


@pytest.mark.servers
@pytest.mark.postgres
def test_a_peer_for_another_python_is_reported_and_not_an_error() -> None:
    if sys.version_info >= (3, 14):
        pytest.skip("it can be installed here")
    status, report, _ = measure_orm("--peers", "--only", "cachex")
    assert status == cli.OK
    assert report is not None
    (cachex,) = report["contenders"]
    assert "not installed" in cachex["status"]
    assert "Python 3.14" in cachex["status"]
    assert report["loads"] == {}


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--writes", "0"], "--writes"),
        (["--db-ms", "-1"], "--db-ms"),
        (["--threads", "0"], "--threads"),
        (["--pin", "same"], "--pin"),
        (["--only", "x"], "x"),
    ],
)
def test_bad_usage_is_named_before_anything_starts(arguments: list[str], word: str) -> None:
    err = io.StringIO()
    assert run(parse(*arguments), io.StringIO(), err) == cli.USAGE
    assert word in err.getvalue()


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """Give the report of one short run without the libraries."""
    status, report, progress = measure_orm(*"--only none,strong,now --seconds 2.5 --seed 3 --threads 3".split())
    assert status == cli.OK, progress
    assert report is not None
    return report


@pytest.mark.servers
@pytest.mark.postgres
@pytest.mark.slow
def test_without_a_cache_nothing_is_stale(report: dict[str, Any]) -> None:
    row = report["loads"][subjects.NONE]
    assert row["reads"] == row["fresh"] > 20
    assert (row["stale"], row["impossible"], row["rolled_back"], row["wrong"], row["failed"]) == (0, 0, 0, 0, 0)
    assert row["hits"] == 0
    assert row["row_writes"] > 10


@pytest.mark.servers
@pytest.mark.postgres
@pytest.mark.slow
def test_deleting_keys_inside_the_transaction_is_found_out(report: dict[str, Any]) -> None:
    row = report["loads"]["delete in post_save"]
    # The last is the surest: what a writer reads before it rolls back stays in this cache until the next write.
    assert row["stale"] + row["rolled_back"] + row["wrong"] > 0
    assert row["hits"] > 0


@pytest.mark.servers
@pytest.mark.postgres
@pytest.mark.slow
def test_this_package_is_measured_and_right(report: dict[str, Any]) -> None:
    row = report["loads"][subjects.STRONG]
    assert (row["stale"], row["impossible"], row["rolled_back"], row["wrong"], row["failed"]) == (0, 0, 0, 0, 0)
    # How many hits there are in so short a time is a matter of the machine, but there are some, and both counts agree.
    assert row["hits"] > 0
    assert row["counted_hit_ratio"] == pytest.approx(row["hit_ratio"], abs=0.05)
    assert row["bumps"] > row["row_writes"]
    assert report["hits"][subjects.STRONG]["asked"] == 0


@pytest.mark.servers
@pytest.mark.postgres
@pytest.mark.slow
def test_the_report_says_what_repeats_it_and_how_it_compares(report: dict[str, Any]) -> None:
    assert report["command"].endswith("--seed 3 --writes 80.0 --db-ms 5.0 --threads 3")
    assert report["load"]["reader_threads"] == 3
    assert "2 readers of 3 threads" in outcome.render(report)
    assert set(report["hits"]) == set(report["loads"])
    assert report["server"].split()[-2] == "postgresql"
    figures = {(row["ours"], row["figure"]) for row in report["comparisons"]}
    assert {(subjects.NONE, "stale reads"), (subjects.STRONG, "stale reads"), (subjects.STRONG, "reads/s")} <= figures
    assert all(name in outcome.render(report) for name in report["loads"])


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(["orm", "--quick", *arguments])


def measure_orm(*arguments: str) -> tuple[int, dict[str, Any] | None, str]:
    out, err = io.StringIO(), io.StringIO()
    status = run(parse(*arguments, "--json", "-"), out, err)
    return status, json.loads(out.getvalue()) if out.getvalue() else None, err.getvalue()
