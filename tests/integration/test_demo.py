"""The demo: its requests, its writers, its report, and that nothing of it outlives it."""

import itertools
import json
import lzma
import os
import signal
import sqlite3
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from distcache_django.testing.servers import LocalNodes
from example_project.demo import layout, report, traffic
from example_project.demo.ledger import ITEMS, STOCK, Ledger
from example_project.demo.pages import BY_TYPE, KINDS, PathFinder, Visit
from example_project.demo.processes import Child
from example_project.demo.site import load_data, site_environment
from example_project.shop import plan

PROJECT = Path(__file__).resolve().parents[2]
DEADLINE = 60.0


@pytest.fixture
def environment() -> dict[str, str]:
    outside = {"DISTCACHE_REDIS_URLS", "DATABASE_URL", "SECRET_KEY", "DEBUG"}
    return {name: value for name, value in os.environ.items() if name not in outside} | {"CI": "true"}


def _command(*options: str) -> list[str]:
    return [sys.executable, "-m", "example_project.demo", "--products", "300", *options]


@pytest.mark.servers
def test_demo_keeps_its_promises_and_reports_them(environment: dict[str, str], tmp_path: Path) -> None:
    written = tmp_path / "report.json"
    trace = tmp_path / "short.trace.xz"
    trace.write_bytes(lzma.compress(_packed((17, 1 + n * n % 90, 0) for n in range(500))))

    # Long enough for the node that was killed to have a vote again in the last phase.
    options = ["--requests", "400", "--seconds", "16", "--json", str(written), "--trace", str(trace)]
    done = subprocess.run(
        _command(*options),
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("OK: 400 requests in")
    assert done.stderr == ""
    outcome = json.loads(written.read_text())
    assert outcome["ok"]
    assert outcome["total"]["requests"] == 400
    assert outcome["total"]["errors"] == 0
    assert outcome["total"]["stale"] == 0
    assert outcome["total"]["checked"] >= 380
    assert outcome["total"]["of_written"] > 0
    assert outcome["total"]["hits"] > 0
    assert outcome["total"]["http_writes"] > 0
    assert outcome["written"]["kinds"].keys() >= {"price", "stock", "sql", "category"}
    assert outcome["written"]["failed"] == 0
    assert outcome["written"]["undone"] > 0
    assert outcome["written"]["unwarned"] > 0, "no commit went ahead without the node that was away"
    assert outcome["written"]["bumps"] > outcome["written"]["rows"]
    assert outcome["keys_looked_at"] > 0
    assert outcome["keys_moved"] == 0
    assert outcome["setting"]["source"] == "short.trace.xz"
    assert [phase["name"] for phase in outcome["phases"]] == [
        "warm-up",
        "steady",
        "node paused",
        "node back",
        "node killed",
        "node empty",
        "recovered",
    ]
    assert outcome["kinds"].keys() == {"detail", "change"}
    asserted = {check["name"] for check in outcome["checks"] if check["asserted"]}
    assert asserted == {
        "failed requests",
        "failed writes",
        "stale answers",
        "hit ratio at the end, of steady",
        "keys moved to another node",
    }


@pytest.mark.servers
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_nothing_outlives_the_demo(environment: dict[str, str], number: signal.Signals) -> None:
    demo = subprocess.Popen(
        _command("--seconds", "60", "--database", "sqlite"),
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    family: set[Process] = set()
    try:
        _wait_until(lambda: _is_under_load(demo, family), "the demo is under load")
        demo.send_signal(number)
        _, errors = demo.communicate(timeout=DEADLINE)
        _wait_until(lambda: not family & set(_processes()), "all have ended")
    finally:
        demo.kill()
        for process in family & set(_processes()):
            os.kill(process.pid, signal.SIGKILL)
    if number != signal.SIGKILL:
        assert demo.returncode == 130
        assert "Interrupted" in errors


class Process(NamedTuple):
    """A process, told from a later one with the same id by its start."""

    pid: int
    started: int


def _processes() -> dict[Process, int]:
    """Give the parents of all processes that are not zombies."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent, *rest = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if state != "Z":
            found[Process(int(path.parent.name), int(rest[17]))] = int(parent)
    return found


def _is_under_load(demo: subprocess.Popen[str], family: set[Process]) -> bool:
    assert demo.poll() is None, f"the demo ended by itself: {demo.stderr and demo.stderr.read()}"
    parents = _processes()
    descendants: set[Process] = set()
    known = {demo.pid}
    while found := {process for process, parent in parents.items() if parent in known} - descendants:
        descendants |= found
        known |= {process.pid for process in found}
    family |= descendants
    lines = [_command_line(process) for process in descendants]
    # Four nodes, the WSGI master with two workers, two writers and the generator; with uvicorn an ASGI server too.
    wanted = ("example_project.demo.load", "example_project.demo.writers")
    return all(any(name in line for line in lines) for name in wanted) and sum(map(bool, lines)) >= 10


def _command_line(process: Process) -> str:
    try:
        return Path(f"/proc/{process.pid}/cmdline").read_text()
    except OSError:
        return ""


def _wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.05)


def _packed(accesses: Iterator[tuple[int, int, int]]) -> bytes:
    return b"".join(struct.pack(">I", kind << 27 | number << 9 | index) for kind, number, index in accesses)


@pytest.mark.parametrize("suffix", ["", ".xz"])
def test_trace_is_replayed_in_order_and_from_the_start_again(tmp_path: Path, suffix: str) -> None:
    content = _packed(iter([(17, 900, 0), (20, 77, 0), (25, 900, 3), (7, 900, 0), (31, 5, 0)]))
    path = tmp_path / f"small.trace{suffix}"
    path.write_bytes(lzma.compress(content) if suffix else content)

    assert list(itertools.islice(traffic.from_trace(path), 6)) == [
        Visit("detail", 1),
        Visit("stock", 2),
        Visit("price", 1, 3),
        Visit("category", 1),
        Visit("home", 1),
        Visit("detail", 1),
    ]


def test_empty_trace_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(ValueError, match="holds no access"):
        next(traffic.from_trace(tmp_path / "empty"))


def test_drawn_stream_has_the_shape_of_the_trace() -> None:
    drawn = list(itertools.islice(traffic.drawn(seed=1), 200_000))
    kinds = Counter(visit.kind for visit in drawn)
    for kind in KINDS:
        assert kinds[kind.name] / len(drawn) == pytest.approx(kind.share, abs=0.005)
    counts = sorted(Counter(drawn).values(), reverse=True)
    # The trace: the top 100 objects take 10.7 % of the requests, the top 1,000 37 %, the top 10,000 80 %.
    assert sum(counts[:100]) / len(drawn) == pytest.approx(0.107, abs=0.03)
    assert sum(counts[:1000]) / len(drawn) == pytest.approx(0.37, abs=0.04)
    assert sum(counts[:10_000]) / len(drawn) == pytest.approx(0.80, abs=0.05)


def test_drawn_stream_repeats_for_the_same_seed() -> None:
    one, same, other = (list(itertools.islice(traffic.drawn(seed), 500)) for seed in (3, 3, 4))
    assert one == same
    assert one != other


def test_every_kind_has_a_page_of_what_the_shop_has() -> None:
    paths = PathFinder(products=300)
    assert sum(kind.share for kind in KINDS) == pytest.approx(1, abs=0.001)
    assert paths.path(Visit("detail", 301)) == "/products/1/"
    assert paths.path(Visit("price", 2, 99)).startswith("/api/products/2/prices/")
    assert 1 <= paths.position(Visit("price", 2, 99)) <= plan.price_count(2)
    assert paths.product(Visit("search", 301)) == 1
    assert paths.products(Visit("stock", 7)) == (7,)
    assert paths.products(Visit("category", 7)) == ()
    assert paths.products(Visit("compare", 300)) == (300, 1, 2, 3)
    assert paths.path(Visit("compare", 300)) == "/api/compare/?ids=300,1,2,3"
    for kind in {*BY_TYPE.values(), *KINDS}:
        assert paths.path(Visit(kind.name, 12_345)).startswith("/")


@pytest.mark.parametrize(
    ("last_phase", "is_ok"),
    [
        ({}, True),
        ({"errors": 1}, False),
        ({"stale": 1}, False),
        ({"checked": 0}, True),
        ({"hits": 10, "misses": 90}, False),
        ({"suspended": 3}, True),
    ],
)
def test_report_fails_on_errors_stale_answers_and_lost_hits(last_phase: dict[str, int], is_ok: bool) -> None:
    outcome = _report(last_phase)
    assert outcome["ok"] is is_ok
    text = layout.render(outcome)
    assert text.startswith("OK: 700" if is_ok else "FAILED: 700")
    assert "MISS     killed node serves again after" in text
    assert "cache-c owned 25.0% of the keys" in text
    assert "30 price, 5 sql" in text
    assert "40 rows committed, 3 undone, 500 version bumps" in text
    assert f"{last_phase.get('suspended', 0)} reads lacked them" in text


def test_report_fails_where_nothing_was_checked_or_a_write_failed() -> None:
    assert not _report({}, everywhere={"checked": 0})["ok"]
    failed = _report({}, failed=1)
    assert not failed["ok"]
    assert "price: Refused" in layout.render(failed)


def _report(last_phase: dict[str, int], *, everywhere: dict[str, int] | None = None, failed: int = 0) -> dict[str, Any]:
    names = ["warm-up", "steady", "node paused", "node back", "node killed", "node empty", "recovered"]
    phases = [{**_phase(name), **(everywhere or {})} for name in names]
    phases[-1].update(last_phase)
    return report.build(
        {
            "phases": phases,
            "overall": {"p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 3.0, "slowest_ms": 4.0},
            "kinds": {"detail": 600},
            "site": {"bumps": 200},
            **{f"{name}_samples": [] for name in ("error", "stale", "suspended")},
        },
        [
            {
                "counts": {"price": 30, "sql": 5, "rows": 40, "undone": 3, "failed": failed},
                "cache": {"bumps": 300},
                "error_samples": ["price: Refused"] * failed,
            }
        ],
        returns={"paused": 0.5, "killed": None},
        lost_share=0.25,
        misplaced=0,
        keys_looked_at=10,
        setting={
            "nodes": 4,
            "database": "PostgreSQL",
            "servers": "2 WSGI workers",
            "products": 300,
            "source": "a stream",
            "clients": 6,
            "seed": 1,
            "paused": "cache-b",
            "killed": "cache-c",
        },
    )


def _phase(name: str) -> dict[str, object]:
    counts = dict.fromkeys(("errors", "http_writes", "stale", "suspended"), 0)
    times = {"p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 3.0, "slowest_ms": 4.0, "slowest_kind": "detail"}
    rates = {"name": name, "seconds": 1.0, "requests": 100, "requests_per_second": 100.0}
    return {**rates, **counts, **times, "hits": 80, "misses": 20, "free": 70, "checked": 90, "of_written": 40}


@pytest.mark.servers
def test_ledger_holds_just_what_the_writers_have_committed(
    environment: dict[str, str], tmp_path: Path, distcache_shared_nodes: LocalNodes
) -> None:
    """Two writers at once, all kinds of writes; SQLite, so that the file can be read here."""
    products, columns, database = 100, 2, tmp_path / "shop.sqlite3"
    site = site_environment(f"sqlite:///{database}", distcache_shared_nodes.urls, "token", mark_timeout=2.0)
    load_data(site, tmp_path / "data.log", products=products, seed=1)
    Ledger.create(tmp_path / "ledger", products, columns)
    orders = {"ledger": str(tmp_path / "ledger"), "columns": columns, "products": products, "seed": 1}
    writers = []
    try:
        for column in range(columns):
            command = ["-m", "example_project.demo.writers"]
            writer = Child(command, environment=site, log=tmp_path / f"{column}.log", is_piped=True)
            writers.append(writer)
            writer.order({**orders, "column": column, "per_second": 60})
        ledger = Ledger(str(tmp_path / "ledger"), products, columns, 0)
        _wait_until(lambda: len(_revisions(ledger, products)) > products, "much is written")
        results = [list(writer.answers(is_last=True)) for writer in writers]
        for writer in writers:
            writer.finish()
    finally:
        for writer in writers:
            writer.stop()

    assert [counted["error_samples"] for (counted,) in results] == [[], []]
    assert sum(counted["counts"]["undone"] for (counted,) in results) > 0
    floor = ledger.floor(1, products, range(ITEMS))
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(
            f"SELECT product_id, position, revision FROM shop_price UNION SELECT product_id, {STOCK}, revision"
            " FROM shop_inventory"
        ).fetchall()
    written = {(product, item): revision for product, item, revision in rows if revision > 1}
    assert _revisions(ledger, products) == written
    assert {slot: floor.least(slot) for slot in written} == written


def _revisions(ledger: Ledger, products: int) -> dict[tuple[int, int], int]:
    floor = ledger.floor(1, products, range(ITEMS))
    slots = itertools.product(range(1, products + 1), range(ITEMS))
    return {slot: floor.newest(slot) for slot in slots if floor.newest(slot)}
