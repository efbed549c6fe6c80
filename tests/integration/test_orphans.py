"""Real server processes never outlive the process that started them, however it ends, nor do their files."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from distcache_django.testing import LocalNode, LocalNodes, plugin
from distcache_django.testing.scratch import ScratchDirectory
from tests.support.processes import is_answering, is_gone, run_python
from tests.support.waiting import wait_until

pytestmark = pytest.mark.servers


ORPHANS = """
import json, sys, threading
import psycopg
from distcache_django.testing import LocalNodes, LocalPostgres
nodes, postgres = LocalNodes(4), LocalPostgres()
nodes.start(), postgres.start()
nodes["cache-c"].pause()
link = psycopg.connect(postgres.dsn)
busy = link.execute("select pg_backend_pid()").fetchone()[0]
# A backend deep in a computation does not look whether the postmaster lives.
loop = "do $$ declare i bigint := 0; begin loop i := i + 1; end loop; end $$"
threading.Thread(target=link.execute, args=[loop], daemon=True).start()
print(json.dumps([*[node.pid for node in nodes.values()], postgres.pid, busy]), flush=True)
input()
"""


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.postgres
def test_sigkilled_parent_leaves_no_process(request: pytest.FixtureRequest) -> None:
    request.getfixturevalue("distcache_postgres")  # skips where there is none
    parent = run_python(ORPHANS)
    assert parent.stdout is not None
    with parent:
        pids: list[int] = json.loads(parent.stdout.readline())
        family = [*pids, *children_of(pids[-2])]
        assert not [pid for pid in family if is_gone(pid)]

        parent.kill()
        parent.wait(10)

    wait_until(lambda: all(is_gone(pid) for pid in family), seconds=20, what="the end of all servers")


def test_sigkilled_parent_leaves_files_only_to_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "from distcache_django.testing import LocalNode\n"
        "node = LocalNode('cache-a'); node.start(); print(node.pid, flush=True); input()"
    )
    with run_python(script, TMPDIR=str(tmp_path)) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        ScratchDirectory().close()
        assert len(list(tmp_path.iterdir())) == 1, "the directory of a living process is not touched"

        parent.kill()
        parent.wait(10)

    wait_until(lambda: is_gone(pid), what="the end of the server")
    ScratchDirectory().close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ["", "raise SystemExit(3)", "os.kill(os.getpid(), signal.SIGINT)"])
def test_careless_exit_leaves_neither_process_nor_files(ending: str, tmp_path: Path) -> None:
    script = (
        "import os, signal\nfrom distcache_django.testing import LocalNodes\n"
        f"nodes = LocalNodes(2); nodes.start(); nodes['cache-a'].pause()\n"
        f"print(*[node.pid for node in nodes.values()], flush=True)\n{ending}"
    )
    with run_python(script, TMPDIR=str(tmp_path)) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        parent.wait(20)

    wait_until(lambda: all(is_gone(pid) for pid in pids), what="the end of both nodes")
    assert list(tmp_path.iterdir()) == []


def test_node_outlives_the_thread_that_started_it(distcache_nodes: plugin.NodesFactory) -> None:
    started: list[LocalNodes] = []
    thread = threading.Thread(target=lambda: started.append(distcache_nodes(1)))
    thread.start()
    thread.join()
    wait_until(lambda: not Path(f"/proc/self/task/{thread.native_id}").exists(), what="the thread's end")

    assert is_answering(started[0]["cache-a"])


FORKED = """
import os
from distcache_django.testing import LocalNode, ServerFailed
node = LocalNode("cache-a")
node.start()
if (child := os.fork()) == 0:
    assert not node.is_running()
    try:
        node.start()
    except ServerFailed as error:
        assert "fork" in str(error)
        node.close()
        with LocalNode("own") as own:
            assert own.is_running()
        raise SystemExit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
node.wait_ready(1)
assert node.is_running()
node.close()
print("whole")
"""


def test_forked_copy_leaves_its_parents_node_alone() -> None:
    with run_python(FORKED) as process:
        assert process.communicate(timeout=30)[0] == "whole\n"


def test_forgotten_node_is_ended_with_a_warning() -> None:
    local = LocalNode("cache-a")
    local.start()
    pid = local.pid

    with (
        pytest.warns(ResourceWarning, match="unclosed"),
        pytest.warns(ResourceWarning, match="was not stopped"),
    ):
        del local

    assert is_gone(pid)


def test_server_ignores_the_terminals_interrupt(distcache_nodes: plugin.NodesFactory) -> None:
    local = distcache_nodes(1)["cache-a"]

    assert os.getsid(local.pid) != os.getsid(0)
