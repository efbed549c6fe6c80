"""The backend inside the servers people run: forked, threaded, asynchronous. No socket shared, leaked or mixed up."""

import itertools
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import subjects
from tests.support.nodes import Nodes
from tests.support.sites import Site, children_of, serving, sockets_to
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.servers,
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc"),
]

NODES = 4
# What a process may hold, of eight clients at a time: a connection per node for each thread or loop at work, one per
# node for whatever looks after the nodes, and one per node from before the server began.
CONNECTIONS = NODES * (8 + 2)


@pytest.fixture
def setting(nodes: Nodes) -> dict[str, Any]:
    return subjects.alias(subjects.chosen(), nodes.at(NODES))


@pytest.fixture
def replicated(nodes: Nodes) -> dict[str, Any]:
    if not subjects.SUBJECTS[subjects.chosen()].is_replicated:
        pytest.skip(f"{subjects.chosen()} does not replicate")
    return subjects.alias(subjects.chosen(), nodes.at(NODES), replicas=3)


def asked(site: Site, count: int, name: str) -> list[dict[str, Any]]:
    """Send requests, each with a token of its own, and check that each was answered with its own."""
    answers = site.ask([f"{name}-{number}" for number in range(count)])
    foreign = [answer for answer in answers if answer["token"] != answer["asked"] or not answer["is_own"]]
    assert foreign == []
    assert len(answers) == count
    return answers


@pytest.mark.parametrize("kind", ["setting", "replicated"])
def test_forked_workers_share_no_socket(
    nodes: Nodes, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    setting = request.getfixturevalue(kind)
    before = nodes.connections()
    rounds = itertools.count()
    pids: set[int] = set()
    with serving("preload", setting, log=tmp_path / "log") as site:

        def all_have_answered() -> bool:
            answers = asked(site, 100, f"round-{next(rounds)}")
            assert all(answer["warm"] for answer in answers)
            pids.update(answer["pid"] for answer in answers)
            return len(pids) == 3

        wait_until(all_have_answered, seconds=60, what="an answer from each of three workers")
        asked(site, 1000, "load")

        assert pids == set(children_of(site.pid))
        held = {pid: sockets_to(nodes.ports(), pid) for pid in (*pids, site.pid)}
        assert all(held[pid] for pid in pids)
        for one, other in itertools.combinations(held, 2):
            assert held[one] & held[other] == set()
    wait_until(lambda: nodes.connections() <= before, what="the end of the workers' connections")


@pytest.mark.parametrize(
    ("server", "path", "requests"),
    [
        ("gthread", "echo", 10_000),
        ("threads", "echo", 10_000),
        ("uvicorn", "aecho", 10_000),
        # A view of the other kind costs a loop or a thread for each request.
        ("gthread", "aecho", 2000),
        ("uvicorn", "echo", 2000),
    ],
)
def test_no_answer_is_mixed_up_and_no_socket_left_behind(
    nodes: Nodes, setting: dict[str, Any], tmp_path: Path, server: str, path: str, requests: int
) -> None:
    before = nodes.connections()
    with serving(server, setting, log=tmp_path / "log", path=path) as site:
        bound = before + CONNECTIONS
        assert all(answer["warm"] for answer in asked(site, 200, "first"))
        wait_until(lambda: nodes.connections() <= bound, what=f"at most {bound} connections at the beginning")

        asked(site, requests, "load")

        wait_until(lambda: nodes.connections() <= bound, what=f"at most {bound} connections after the load")
    wait_until(lambda: nodes.connections() <= before, what="the end of the server's connections")
