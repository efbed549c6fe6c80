"""The protocol's rules in the servers' own scripts: every story is fresh, and stale as soon as its rule is broken.

A broken rule is a change of one place in a Lua file (or in what runs the scripts); the stories are those of
``tests/simulation/stories.py``. Each change must make its story fail: else nothing would notice the rule's loss.
"""

import importlib.util
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest

from distcache_django.testing import LocalNodes
from distcache_django.testing.node import LocalNode
from distcache_django.transport import commands
from distcache_django.transport.commands import Wire, pack
from distcache_django.transport.endpoint import Endpoint
from tests.simulation.mutants import MUTANTS
from tests.simulation.stories import NODE, STORIES, Save, Stage

pytestmark = pytest.mark.servers
MARK_MS = 150


class Broken(NamedTuple):
    """Say which rule is broken where, and which story notices."""

    rule: str
    file: str
    old: str
    new: str
    story: str


BROKEN_SCRIPTS = {
    "clear-without-bump": Broken(
        "after COMMIT: new version", "bump", "if ARGV[3] == '1' then", "if false then", "after_the_bump"
    ),
    "bump-clears-all-marks": Broken("own mark off", "bump", "without(marks, ARGV[2])", "{}", "two_writers_one_bumps"),
    "one-mark-slot": Broken(
        "a record holds a set of marks",
        "mark",
        "marks = without(marks, ARGV[2])",
        "marks = {}",
        "two_writers_one_rolls_back",
    ),
    "silent-expiry": Broken(
        "a mark expires into a new version", "records", "if expired then", "if false then", "writer_dies_after_commit"
    ),
    "silent-sweep": Broken(
        "a mark that is swept leaves a new version",
        "records",
        "if expired then",
        "if false then",
        "writer_dies_before_commit_and_another_sweeps",
    ),
    "expiring-mark": Broken(
        "a marked record has no TTL",
        "records",
        "redis.call('SET', key, table.concat(parts))",
        "redis.call('SET', key, table.concat(parts), 'PX', 1)",
        "read_while_a_writer_is_slow",
    ),
    "fixed-mint-value": Broken(
        "a missing record is never version zero",
        "mint",
        "write(key, fresh(), 'k', {}, ARGV[2])",
        "write(key, incarnation .. string.rep('\\0', 8), 'k', {}, ARGV[2])",
        "record_evicted_and_bumped",
    ),
    "count-restarts": Broken(
        "a version is never used twice",
        "records",
        "redis.call('EXISTS', 'dc:count') == 1",
        "true",
        "count_lost",
    ),
    "incarnation-ignored": Broken(
        "a changed run_id starts a new incarnation",
        "register",
        "or string.sub(fence, 10, 49) ~= run_id",
        "",
        "old_data_comes_back",
    ),
    "quarantine-without-voiding": Broken(
        "after a restart older records are void",
        "register",
        "incarnation = ARGV[1]",
        "incarnation = incarnation or ARGV[1]",
        "old_data_comes_back_and_time_passes",
    ),
    "voiding-without-quarantine": Broken(
        "for MARK_TIMEOUT the node has no vote", "register", "now + quarantine", "now", "mark_lost_in_a_flush"
    ),
    "void-record-survives": Broken(
        "a bump ends an answer for those too who trust the old incarnation",
        "bump",
        "redis.call('DEL', key)",
        "",
        "fence_lost_and_a_bump_without_a_mark",
    ),
}
#: Broken rules of what runs the scripts, and the story that notices.
BROKEN_OPS = {
    "no_mark": "between_commit_and_bump",
    "clear_without_bump": "after_the_bump",
    "token_used_again": "two_writers_one_rolls_back",
    "checker_ignores_marks": "between_commit_and_bump",
    "missing_counts_as_a_vote": "record_gone_before_and_after",
}


def save_wire() -> Wire:
    return Wire(lambda _: pack((b"SAVE",)))


@pytest.fixture(scope="module", params=["valkey", "redis"])
def node(request: pytest.FixtureRequest) -> Iterator[LocalNode]:
    """One node, of either kind, that keeps its data when it is killed as far as it was saved."""
    if request.param == "redis" and shutil.which("redis-server") is None:
        pytest.skip("there is no redis-server")
    with LocalNodes([NODE], server=request.param) as nodes:
        yield nodes[NODE]


def told(node: LocalNode, wires: Any, story: str, broken: AbstractContextManager[Any] | None = None) -> tuple[int, int]:
    """Tell a story and return what was read last and what was right."""
    node.start()
    node.flush()
    stage = Stage(node, {**wires, Save: save_wire()}, MARK_MS)
    try:
        with broken or nullcontext():
            return STORIES[story](stage), stage.value
    finally:
        stage.close()


@pytest.mark.parametrize("story", STORIES)
def test_a_story_ends_with_what_the_database_says(node, story):
    read, right = told(node, commands.WIRES, story)

    assert read == right


@pytest.mark.parametrize("name", BROKEN_SCRIPTS)
def test_a_broken_script_is_noticed(node, tmp_path, name):
    broken = BROKEN_SCRIPTS[name]

    read, right = told(node, wires_with(broken, tmp_path), broken.story)

    assert read < right, f"nothing has noticed that this does not hold: {broken.rule}"


@pytest.mark.parametrize("name", BROKEN_OPS)
def test_a_broken_op_is_noticed(node, name):
    read, right = told(node, commands.WIRES, BROKEN_OPS[name], MUTANTS[name]())

    assert read < right


def test_a_run_that_is_not_noticed_is_noticed_here(node):
    """What was learned of a server holds for one run of it."""
    unheard = mock.patch.object(Endpoint, "_note_run")

    read, right = told(node, commands.WIRES, "old_data_comes_back", unheard)

    assert read < right


def wires_with(broken: Broken, directory: Path) -> dict[Any, Wire]:
    """Return how requests travel with one script changed."""
    lua = directory / "lua"
    shutil.copytree(Path(commands.__file__).parent / "lua", lua)
    script = lua / f"{broken.file}.lua"
    text = script.read_text()
    assert text.count(broken.old) >= 1, f"{script.name} has no {broken.old!r} any more"
    script.write_text(text.replace(broken.old, broken.new))
    spec = importlib.util.find_spec(commands.__name__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with mock.patch.object(resources, "files", return_value=directory):
        spec.loader.exec_module(module)
    changed: dict[Any, Wire] = dict(module.WIRES)
    return changed
