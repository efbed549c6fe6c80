"""The processes of a run: ``python -m tests.failover.programs {client,agent} PLAN``, PLAN being a JSON file.

A client calls until it is told to stop, then reads all it knows of, and writes its calls down. An agent mends nodes,
over and over. Both do a line of standard input at a time: ``stop``, ``audit``, ``end``.
"""

import json
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Orders:
    """Read what this process is told, in a thread."""

    def __init__(self) -> None:
        self._said: dict[str, threading.Event] = {word: threading.Event() for word in ("go", "stop", "audit", "end")}
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in sys.stdin:
            self._said[line.strip()].set()
        os._exit(3)  # whoever started this process is gone

    def is_given(self, word: str) -> bool:
        return self._said[word].is_set()

    def wait(self, word: str) -> None:
        self._said[word].wait()


def say(line: str) -> None:
    """Answer with a line."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def be_client(cache: Any, plan: Mapping[str, Any], orders: Orders) -> None:
    """Call, and write it down."""
    from tests.failover.client import Client

    client = Client(cache, plan["number"], plan["seed"], plan["weights"])
    if plan["number"] == 0:
        client.begin()
    say("ready")
    orders.wait("go")
    client.work(orders, plan["rest"])
    say("stopped")
    orders.wait("audit")
    client.audit()
    client.save(Path(plan["history"]))
    say("audited")
    orders.wait("end")


def be_agent(cache: Any, plan: Mapping[str, Any], orders: Orders) -> None:
    """Mend nodes."""
    runtime = cache._runtime
    say("ready")
    while not orders.is_given("end"):
        runtime.replication.mend(runtime.cluster.run)
        time.sleep(plan["rest"])


def main(role: str, path: str) -> None:
    """Set Django up and be what was asked for; ends without clearing up, as nothing is left to be cleared."""
    logging.disable(logging.CRITICAL)
    plan = json.loads(Path(path).read_text())
    import django
    from django.conf import settings

    settings.configure(SECRET_KEY="failover", CACHES={"default": plan["cache"]}, USE_TZ=True)
    django.setup()
    from django.core.cache import cache

    if plan.get("mutant"):
        from tests.failover.mutants import MUTANTS

        MUTANTS[plan["mutant"]]()
    try:
        (be_client if role == "client" else be_agent)(cache, plan, Orders())
    except BaseException:  # noqa: BLE001 - the controller shows it; other threads must not keep the process
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
