"""The demo's course: start everything, send the load, break and mend nodes, report, stop everything."""

import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from distcache_django.testing.processes import MissingServer, ServerFailed
from distcache_django.testing.scratch import ScratchDirectory
from distcache_django.testing.servers import LocalNodes, urls_from_environment
from example_project.demo import DEFAULT_SECONDS, layout, report
from example_project.demo.cluster import Faults, count_misplaced, owned_share
from example_project.demo.ledger import Ledger
from example_project.demo.processes import Child, ProcessFailed
from example_project.demo.progress import Progress, make_progress
from example_project.demo.site import Site, load_data, open_database, site_environment

# Of the requests; the writers write beside them.
WRITE_SHARE = 0.01
WRITERS = 2
# What is sent after the warm-up, of the rate reached at its end.
CALM_SHARE = 0.7
SECONDS_OF_COUNTED_RUN = 20.0
# A node that was started again proves nothing for so long; the phase after its start is longer, in a counted run too.
MARK_TIMEOUT = 2.0
NODE_CONFIG = {"maxmemory": "256mb", "maxmemory-policy": "volatile-lfu"}
# Phase, share of the run, and the fault that begins it.
COURSE: tuple[tuple[str, float, str], ...] = (
    ("warm-up", 0.24, ""),
    ("steady", 0.19, ""),
    ("node paused", 0.12, "pause"),
    ("node back", 0.12, "resume"),
    ("node killed", 0.08, "kill"),
    ("node empty", 0.13, "restart"),
    ("recovered", 0.12, ""),
)
CALM_COURSE: tuple[tuple[str, float, str], ...] = (("warm-up", 0.3, ""), ("steady", 0.7, ""))


@dataclass(frozen=True, slots=True)
class Stage:
    """What the demo runs on."""

    urls: dict[str, str]
    nodes: LocalNodes | None
    site: Site
    token: str
    database: str
    environment: dict[str, str]
    directory: Path

    @property
    def ledger(self) -> Path:
        """Give the file that the writers and the load generator share."""
        return self.directory / "ledger"


def run(options: Any, stdout: TextIO, stderr: TextIO) -> int:
    """Run the demo and return its exit code; see `example_project.demo.run`."""
    progress = make_progress(stderr)
    try:
        with _terminated_like_interrupted(), ExitStack() as stack:
            stack.callback(progress.close)
            stage = _set_up(stack, options, progress)
            outcome = _perform(stack, stage, options, progress)
            progress.close()
            layout.deliver(outcome, options.json, stdout)
            if options.serve:
                _serve(stage, stdout)
            return 0 if outcome["ok"] else 1
    except KeyboardInterrupt:
        stderr.write("Interrupted; all that the demo started is stopped.\n")
        return 130
    except (MissingServer, ServerFailed, ProcessFailed) as error:
        stderr.write(f"The demo cannot go on: {error}\n")
        return 2


def _set_up(stack: ExitStack, options: Any, progress: Progress) -> Stage:
    scratch = ScratchDirectory()
    stack.callback(scratch.close)
    progress.say("starting the cache nodes")
    nodes, urls = _open_nodes(stack, options.nodes)
    progress.say("starting the database")
    database_url, database = os.environ.get("DATABASE_URL", ""), "the database of DATABASE_URL"
    if not database_url:
        database_url, database = open_database(stack, options.database, scratch.path)
    token = secrets.token_urlsafe(16)
    environment = site_environment(database_url, urls, token, mark_timeout=MARK_TIMEOUT)
    progress.say(f"{database}: loading {options.products:,} products")
    load_data(environment, scratch.path / "data.log", products=options.products, seed=options.seed)
    progress.say("starting the site")
    site = Site(environment, scratch.path, workers=options.workers)
    stack.callback(site.stop)
    site.start()
    stage = Stage(urls, nodes, site, token, database, environment, scratch.path)
    Ledger.create(stage.ledger, options.products, WRITERS + 1)
    return stage


def _open_nodes(stack: ExitStack, count: int) -> tuple[LocalNodes | None, dict[str, str]]:
    named = urls_from_environment()
    if named:
        return None, named
    nodes = stack.enter_context(LocalNodes(count, config=NODE_CONFIG))
    return nodes, nodes.urls


def _perform(stack: ExitStack, stage: Stage, options: Any, progress: Progress) -> dict[str, Any]:
    # Nodes that were named, rather than started here, are not ours to break.
    faults = Faults(stage.nodes) if stage.nodes and not options.no_faults else None
    course = COURSE if faults else CALM_COURSE

    def begin(index: int) -> None:
        progress.phase(course[index][0])
        if faults and course[index][2]:
            getattr(faults, course[index][2])()

    writers = _start_writers(stack, stage, options)
    result = _send(stack, stage, options, course, begin, progress)
    written = [_stop_writer(writer) for writer in writers]
    misplaced, looked_at = count_misplaced(stage.urls)
    return report.build(
        result,
        written,
        returns=faults.seconds_until_used() if faults else {},
        lost_share=owned_share(stage.urls, faults.killed) if faults else 0.0,
        misplaced=misplaced,
        keys_looked_at=looked_at,
        setting=_setting(stage, options, faults),
    )


def _setting(stage: Stage, options: Any, faults: Faults | None) -> dict[str, Any]:
    return {
        "nodes": len(stage.urls),
        "database": stage.database,
        "servers": stage.site.processes,
        "products": options.products,
        "source": options.trace.name if options.trace else "a stream fitted to the trace",
        "clients": options.clients,
        "seed": options.seed,
        "paused": faults.paused if faults else None,
        "killed": faults.killed if faults else None,
    }


def _start_writers(stack: ExitStack, stage: Stage, options: Any) -> list[Child]:
    writers = []
    for column in range(WRITERS if options.writes else 0):
        log = stage.directory / f"writer-{column}.log"
        writer = Child(["-m", "example_project.demo.writers"], environment=stage.environment, log=log, is_piped=True)
        stack.callback(writer.stop)
        orders = {
            **_ledger_orders(stage, options),
            "column": column,
            "seed": options.seed,
            "per_second": options.writes / WRITERS,
        }
        writer.order(orders)
        writers.append(writer)
    return writers


def _ledger_orders(stage: Stage, options: Any) -> dict[str, Any]:
    return {"ledger": str(stage.ledger), "columns": WRITERS + 1, "products": options.products}


def _stop_writer(writer: Child) -> dict[str, Any]:
    """Have a writer end, and give its report."""
    results = list(writer.answers(is_last=True))
    writer.finish()
    if not results:
        raise ProcessFailed(f"a writer gave no result:\n{writer.log_tail()}")
    return results[-1]


def _send(
    stack: ExitStack,
    stage: Stage,
    options: Any,
    course: tuple[tuple[str, float, str], ...],
    begin: Callable[[int], None],
    progress: Progress,
) -> dict[str, Any]:
    """Run the load generator, call `begin` at the start of each phase, and return its result."""
    orders = _orders(stage, options, course)
    log = stage.directory / "load.log"
    generator = Child(["-m", "example_project.demo.load"], environment={}, log=log, is_piped=True)
    stack.callback(generator.stop)
    progress.start(orders["seconds"])
    result: dict[str, Any] | None = None
    generator.order(orders)
    for event in generator.answers():
        match event.pop("event"):
            case "phase":
                begin(event["index"])
            case "progress":
                progress.sent(event["count"])
            case "result":
                result = event
    generator.finish()
    if result is None:
        raise ProcessFailed(f"the load generator gave no result:\n{generator.log_tail()}")
    return result


def _orders(stage: Stage, options: Any, course: tuple[tuple[str, float, str], ...]) -> dict[str, Any]:
    """Say what the load generator is to do; see `load.Orders`."""
    return {
        "sync_port": stage.site.sync_port,
        "async_port": stage.site.async_port,
        "token": stage.token,
        **_ledger_orders(stage, options),
        "seed": options.seed,
        "clients": options.clients,
        "seconds": options.seconds or (SECONDS_OF_COUNTED_RUN if options.requests else DEFAULT_SECONDS),
        "requests": options.requests,
        "write_share": WRITE_SHARE,
        "calm_share": 0.0 if options.full_speed else CALM_SHARE,
        "phases": [(name, share) for name, share, _ in course],
        "trace": str(options.trace.resolve()) if options.trace else None,
    }


def _serve(stage: Stage, stdout: TextIO) -> None:
    stdout.write(f"\nThe site stays up at {stage.site.address} until Ctrl-C.\n")
    stdout.flush()
    try:
        while stage.site.is_running():
            time.sleep(0.5)
    except KeyboardInterrupt:
        return
    raise ProcessFailed("a server process has ended")


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM unwind like Ctrl-C does, so that what was started is stopped in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
