"""The demo: its requests, its report, and that nothing of it outlives it."""

import itertools
import json
import lzma
import os
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from example_project.demo import layout, report, traffic
from example_project.demo.cluster import Lookups
from example_project.demo.ledger import PriceLedger, is_older, shown_revisions
from example_project.demo.pages import BY_TYPE, KINDS, PathFinder, Visit
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

    options = ["--requests", "400", "--seconds", "8", "--json", str(written), "--trace", str(trace)]
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
    assert outcome["total"]["writes"] > 0
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
    ]
    assert outcome["kinds"].keys() == {"detail", "change"}
    asserted = {check["name"] for check in outcome["checks"] if check["asserted"]}
    assert len(asserted) == 4


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
    # Four nodes, the WSGI master with two workers and the generator; with uvicorn an ASGI server too.
    return any("example_project.demo.load" in line for line in lines) and sum(map(bool, lines)) >= 8


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
    assert paths.products(Visit("compare", 300)) == (300, 1, 2, 3)
    assert paths.path(Visit("compare", 300)) == "/api/compare/?ids=300,1,2,3"
    for kind in {*BY_TYPE.values(), *KINDS}:
        assert paths.path(Visit(kind.name, 12_345)).startswith("/")


def test_ledger_tells_older_prices_from_those_a_node_was_not_told_of() -> None:
    ledger = PriceLedger()
    assert ledger.promise([7]) is None

    ledger.acknowledge(7, 1, 2, is_invalidated=True, before=None)
    ledger.acknowledge(7, 1, 3, is_invalidated=False, before=ledger.promise([7]))
    promise = ledger.promise([6, 7])

    assert promise is not None
    old, waiting, new = ({(7, 1): revision} for revision in (1, 2, 3))
    assert is_older(old, promise.invalidated)
    assert not is_older(waiting, promise.invalidated)
    assert is_older(waiting, promise.committed)
    assert not is_older(new, promise.committed)


def test_later_invalidation_covers_what_was_committed_before_it() -> None:
    ledger = PriceLedger()
    ledger.acknowledge(7, 1, 2, is_invalidated=False, before=None)
    ledger.acknowledge(7, 2, 5, is_invalidated=True, before=ledger.promise([7]))
    promise = ledger.promise([7])
    assert promise is not None
    assert promise.invalidated == {(7, 1): 2, (7, 2): 5}


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        (
            "detail",
            b'<tr data-position="1" data-revision="4"><tr data-position="2" data-revision="9">',
            {(7, 1): 4, (7, 2): 9},
        ),
        ("price", b'{"product": 7, "position": 2, "revision": 5}', {(7, 2): 5}),
        ("card", b'{"id": 7, "prices": [{"position": 1, "revision": 3}]}', {(7, 1): 3}),
        ("compare", b'{"products": [{"id": 8, "prices": [{"position": 1, "revision": 6}]}]}', {(8, 1): 6}),
    ],
)
def test_revisions_are_read_from_pages(kind: str, body: bytes, expected: dict[tuple[int, int], int]) -> None:
    assert shown_revisions(kind, 7, body) == expected


@pytest.mark.parametrize(
    ("last_phase", "is_ok"),
    [
        ({}, True),
        ({"errors": 1}, False),
        ({"stale": 1}, False),
        ({"hits": 10, "misses": 90}, False),
        ({"waiting": 3}, True),
    ],
)
def test_report_fails_on_errors_stale_prices_and_lost_hits(last_phase: dict[str, int], is_ok: bool) -> None:
    names = ["warm-up", "steady", "node paused", "node back", "node killed", "node empty"]
    phases = [_phase(name) for name in names]
    phases[-1].update(last_phase)
    overall = {"p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 3.0, "slowest_ms": 4.0}
    outcome = report.build(
        {"phases": phases, "overall": overall, "kinds": {"detail": 600}, "error_samples": ["one"]},
        [{"cache-b": Lookups(8, 2), "cache-c": Lookups(24, 6)}] * len(names),
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
    assert outcome["ok"] is is_ok
    text = layout.render(outcome)
    assert text.startswith("OK: 600" if is_ok else "FAILED: 600")
    assert "MISS     killed node serves again after" in text
    assert "cache-c owned 25.0% of the keys" in text


def _phase(name: str) -> dict[str, object]:
    counts = dict.fromkeys(("errors", "writes", "uninvalidated", "price_reads", "stale", "waiting"), 0)
    times = {"p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 3.0, "slowest_ms": 4.0, "slowest_kind": "detail"}
    rates = {"name": name, "seconds": 1.0, "requests": 100, "requests_per_second": 100.0}
    return {**rates, **counts, **times, "hits": 80, "misses": 20}
