"""How the demo judges what pages show."""

import time
from pathlib import Path

import pytest

from example_project.demo.client import shown_revisions
from example_project.demo.ledger import ITEMS, STOCK, UNDONE, Debt, Judgement, Ledger, Revisions, judge
from example_project.demo.tally import Answer, SiteCounts, Tally

PRODUCTS, COLUMNS = 10, 3
PRICE = (7, 1)


@pytest.fixture
def ledgers(tmp_path: Path) -> list[Ledger]:
    """The ledger as each of three processes has it."""
    Ledger.create(tmp_path / "ledger", PRODUCTS, COLUMNS)
    return [Ledger(str(tmp_path / "ledger"), PRODUCTS, COLUMNS, column) for column in range(COLUMNS)]


def judged(ledger: Ledger, shown: Revisions) -> Judgement:
    return judge(shown, ledger.floor(1, PRODUCTS, range(ITEMS)), ledger, time.monotonic_ns())


def test_what_was_never_written_may_show_anything(ledgers: list[Ledger]) -> None:
    assert judged(ledgers[0], {PRICE: 1, (7, STOCK): 5}) == Judgement()


def test_page_is_stale_that_lacks_a_commit_of_any_process(ledgers: list[Ledger]) -> None:
    reader = ledgers[2]
    ledgers[0].commit({PRICE: 3})
    ledgers[1].commit({PRICE: 4, (10, 8): 2})
    ledgers[0].commit({PRICE: 3})

    assert judged(reader, {PRICE: 4}) == Judgement(is_of_written=True)
    assert judged(reader, {PRICE: 9, (10, 8): 2}).stale == ""
    assert judged(reader, {PRICE: 3}).stale.startswith("price 1 of 7 at revision 3, 4 was committed ")
    assert judged(reader, {(10, 8): 1}).stale
    assert not judged(reader, {(9, 8): 1, (7, 2): 1, (7, STOCK): 1}).stale


def test_page_is_judged_by_what_was_known_when_it_was_asked_for(ledgers: list[Ledger]) -> None:
    floor, asked = ledgers[2].floor(5, 8, range(ITEMS)), time.monotonic_ns()
    ledgers[0].commit({PRICE: 2})
    assert not judge({PRICE: 1}, floor, ledgers[2], asked).stale
    floor = ledgers[2].floor(7, 7, [1])
    assert judge({PRICE: 1}, floor, ledgers[2], asked).stale


def test_commit_that_a_node_was_not_warned_of_counts_apart_until_it_is_settled(ledgers: list[Ledger]) -> None:
    writer, _, reader = ledgers
    writer.commit({PRICE: 2})
    writer.commit({PRICE: 3}, Debt(1, 2))

    assert judged(reader, {PRICE: 1}).stale
    lacking = judged(reader, {PRICE: 2})
    assert (lacking.stale, bool(lacking.suspended)) == ("", True)
    assert judged(reader, {PRICE: 3}) == Judgement(is_of_written=True)

    writer.settle(pid=2, owed=9)
    writer.settle(pid=1, owed=1)
    assert not judged(reader, {PRICE: 2}).stale
    writer.settle(pid=1, owed=2)
    assert judged(reader, {PRICE: 2}).stale


def test_later_commit_that_nodes_were_warned_of_covers_an_earlier_one(ledgers: list[Ledger]) -> None:
    ledgers[0].commit({PRICE: 2}, Debt(1, 2))
    ledgers[1].commit({PRICE: 3})
    assert judged(ledgers[2], {PRICE: 1}).stale
    ledgers[0].settle(pid=1, owed=2)
    assert judged(ledgers[2], {PRICE: 2}).stale


def test_page_is_stale_that_shows_what_was_rolled_back(ledgers: list[Ledger]) -> None:
    assert "rolled back" in judged(ledgers[0], {PRICE: UNDONE + 3}).stale


def test_age_of_a_commit_is_told(ledgers: list[Ledger]) -> None:
    before = time.monotonic_ns()
    ledgers[1].commit({PRICE: 2})
    age = ledgers[0].age(PRICE, 2, time.monotonic_ns() + 5_000_000_000)
    assert 5 <= age <= 5 + (time.monotonic_ns() - before) / 1e9
    assert ledgers[0].age(PRICE, 3, time.monotonic_ns()) == 0


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            b'data-stock-revision="6" <tr data-position="1" data-revision="4"> data-position="2" data-revision="9"',
            {(7, STOCK): 6, (7, 1): 4, (7, 2): 9},
        ),
        (
            b'data-product="3" data-position="1" data-revision="5"data-product="4" data-position="2" data-revision="2"',
            {(3, 1): 5, (4, 2): 2},
        ),
        (b'{"product": 7, "position": 2, "revision": 5}', {(7, 2): 5}),
        (b'{"product": 7, "stock": 12, "stock_revision": 3}', {(7, STOCK): 3}),
        (b'{"id": 7, "stock_revision": 2, "prices": [{"position": 1, "revision": 3}]}', {(7, STOCK): 2, (7, 1): 3}),
        (b'{"products": [{"id": 8, "prices": [{"position": 1, "revision": 6}]}]}', {(8, 1): 6}),
    ],
)
def test_revisions_are_read_from_pages(body: bytes, expected: Revisions) -> None:
    assert shown_revisions(body, (7,)) == expected


def test_hits_of_a_phase_are_what_the_processes_counted_meanwhile() -> None:
    tally = Tally(["one", "two"])
    tally.begin(0, 0.0)
    tally.site.saw({"pid": 1, "warned": True, "settled": True, "hits": 10, "misses": 4, "bypasses": 1})
    tally.begin(1, 1.0)
    tally.site.saw({"pid": 1, "warned": True, "settled": True, "hits": 25, "misses": 6, "bypasses": 1})
    tally.site.saw({"pid": 1, "warned": True, "settled": True, "hits": 12, "misses": 5, "bypasses": 1})
    tally.site.saw({"pid": 2, "warned": False, "settled": False, "hits": 1, "misses": 0, "bypasses": 2})
    tally.add(1, Answer("detail", 0.1, stale="old"))
    tally.end(2.0)
    told = tally.as_json()
    assert [(phase["hits"], phase["misses"]) for phase in told["phases"]] == [(10, 5), (16, 4)]
    assert told["site"] == {"hits": 26, "misses": 6, "bypasses": 3}
    assert told["stale_samples"] == ["two: detail: old"]
    assert [phase["stale"] for phase in told["phases"]] == [0, 1]


def test_counts_of_nobody_are_nothing() -> None:
    assert SiteCounts().totals() == {}
