"""Put a site under load for a while and count the stale answers: ``python -m tests.freshness.soak --seconds 600``.

Several processes write in every way while others read in every shape; each answer is judged by what had been
committed before it was asked for (``ledger``). When the writers have stopped, every answer is compared with the
database once more. Exits 1 if anything was stale. Prints its seed; the interleaving is the machine's, though.
"""

import argparse
import dataclasses
import json
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from distcache_django.testing import LocalNodes, LocalPostgres
from tests.freshness.ledger import Ledger, word
from tests.freshness.rows import SHAPES
from tests.freshness.stage import Look, Nursery, Stage
from tests.freshness.world import World


@dataclasses.dataclass(frozen=True, slots=True)
class Load:
    """How much of what, and for how long (s). ``delay``: s before every SELECT, as if the database were far."""

    seconds: float
    seed: str
    writers: int = 2
    readers: int = 2
    threads: int = 2
    writes_per_second: float = 40.0
    delay: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """What was seen. ``wrong``: answers that differed from the database after the writers had stopped."""

    reads: int
    loads: int
    stale: int
    dirty_or_stale: tuple[str, ...]
    oldest_ms: float
    wrong: tuple[Look, ...]
    writes: dict[str, int]
    bumps: int
    seconds: float

    @property
    def hit_ratio(self) -> float:
        """Return the share of reads that asked the database nothing."""
        return 1 - self.loads / max(1, self.reads)


def furnish(stage: Stage, world: World, ledger: Ledger) -> None:
    """Make the rows and say so in the ledger."""
    stage.sql('TRUNCATE "stock_item", "stock_shelf", "stock_label", "stock_label_items"')
    for shelf in range(1, world.shelves + 1):
        stage.sql('INSERT INTO "stock_shelf" (id, name) VALUES (%s, %s)', shelf, f"shelf {shelf}")
    for item in range(1, world.items + 1):
        row = 'INSERT INTO "stock_item" (id, shelf_id, price, batch) VALUES (%s, %s, 1, %s)'
        stage.sql(row, item, world.shelf_of(item), item % 10)
        ledger.begin(item, word(1, world.shelf_of(item)))
    for label in range(1, world.labels + 1):
        stage.sql('INSERT INTO "stock_label" (id, text) VALUES (%s, %s)', label, f"label {label}")
    ledger.commit()


def soak(stage: Stage, load: Load) -> Report:
    """Run a load on a stage whose database is nobody else's."""
    world = World(load.writers)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger"
        Ledger.create(path, world.slots, world.writers)
        furnish(stage, world, Ledger(str(path), world.slots, world.writers, 0))
        began = time.monotonic()
        reads, writes, bumps = _run(stage, load, world, str(path))
        seconds = time.monotonic() - began
    time.sleep(1)  # what is wrong for good is what is wrong now
    return Report(
        reads["reads"],
        reads["loads"],
        reads["stale"],
        tuple(reads["examples"]),
        max(reads["ages"]) * 1000,
        tuple(look for look in _final_looks(stage, world) if look.is_stale),
        dict(writes),
        bumps,
        seconds,
    )


def _run(stage: Stage, load: Load, world: World, path: str) -> tuple[dict[str, Any], Counter[str], int]:
    common: dict[str, Any] = {"path": path, "world": dataclasses.asdict(world)}
    readers = [stage.fresh(f"reader {number}") for number in range(load.readers)]
    writers = [stage.fresh(f"writer {number}") for number in range(load.writers)]
    for number, actor in enumerate(readers):
        seed = f"{load.seed}:reader:{number}"
        own: dict[str, Any] = {"seed": seed, "threads": load.threads, "seconds": load.seconds, "delay": load.delay}
        actor.begin("read_under_load", **common, **own)
    for number, actor in enumerate(writers):
        own = {"number": number, "seed": f"{load.seed}:writer:{number}", "seconds": load.seconds}
        actor.begin("write_under_load", pause=1 / load.writes_per_second, **common, **own)
    for actor in (*readers, *writers):
        actor.patience(load.seconds + 60)
    writes: Counter[str] = Counter()
    for actor in writers:
        writes.update(actor.result().value)
    total: dict[str, Any] = {"reads": 0, "loads": 0, "stale": 0, "examples": [], "ages": []}
    for actor in readers:
        answer = actor.result()
        total["reads"] += answer.value["reads"]
        total["loads"] += answer.loads
        total["stale"] += answer.value.get("stale", 0)
        total["examples"] += answer.value["examples"]
        total["ages"].append(answer.value["oldest"])
    bumps = sum(actor.call("counts").value.get("bumps", 0) for actor in writers)
    return total, writes, bumps


def _final_looks(stage: Stage, world: World) -> list[Look]:
    """Compare every answer with the database, in a process of the run."""
    looks = []
    for shape in SHAPES:
        count = world.items if shape == "get" else world.shelves if shape in ("list", "sum") else 9
        name = {"get": "at", "table": "batch"}.get(shape, "shelf")
        for number in range(1, count + 1):
            looks += [stage.look("at the end", shape, "", {name: number}, actor="reader 0")]
    return looks


def show(report: Report) -> str:
    """Return the report as text."""
    shown = dataclasses.asdict(report) | {"hit_ratio": round(report.hit_ratio, 4), "wrong": len(report.wrong)}
    shown["reads_per_second"] = round(report.reads / report.seconds)
    return json.dumps(shown, indent=2)


def main() -> int:
    """Run a load on servers of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", default=str(random.randrange(10**9)))
    parser.add_argument("--subject", default="distcache", help="distcache, none, careless, cacheops or cachalot")
    parser.add_argument("--freshness", default="strong", choices=["strong", "bounded"])
    for name, default in (("writers", 2), ("readers", 2), ("threads", 2), ("nodes", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--writes-per-second", type=float, default=40.0, help="of each writer")
    parser.add_argument("--delay", type=float, default=0.0, help="s before every SELECT")
    options = parser.parse_args()
    load = Load(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Load)})
    sys.stderr.write(f"seed {load.seed}\n")
    with LocalPostgres() as postgres, LocalNodes(options.nodes) as nodes, closing(Nursery()) as nursery:
        stage = Stage(nursery, postgres, nodes, subject=options.subject, distcache={"FRESHNESS": options.freshness})
        with closing(stage):
            stage.actor("setup").call("create_tables")
            if options.subject == "distcache":
                stage.await_cache()
            report = soak(stage, load)
    sys.stdout.write(show(report) + "\n")
    return 1 if report.stale or report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
