"""Break the protocol one line at a time and see the test that names the mutant fail.

``python -m tests.freshness.mutants [NAME ...]``; without names, all, some seconds each. First all of the tests
have to pass without any. Each mutant is made in a copy of the project, which is removed again. Exits 1 if one
survived, or if its patch no longer fits the code.

Mutants of PROTOCOLS §8 that need more than one replica, or a database replica, are not here; nor is *newest wins*,
which needs versions that clients make: here the nodes make them.
"""

import dataclasses
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("distcache_django", "example_project", "tests", "pyproject.toml", "manage.py")
LUA = "transport/lua/"
ORDER = "test_interleavings.py::test_nothing_stale_is_read"


@dataclasses.dataclass(frozen=True, slots=True)
class Mutant:
    """A name, a patch (file below ``distcache_django``, old text, new text), and the tests one of which must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        "SQL that names a row ends that row only",
        "orm/rawsql.py",
        "dependencies.value_epoch(table), table}",
        "table}",
        (f"{ORDER}[late_store-raw]", f"{ORDER}[before_invalidation-raw]"),
    ),
    Mutant(
        "a write of unknown rows leaves values alone",
        "freshness/dependencies.py",
        "        yield value_epoch(each)\n",
        "",
        (f"{ORDER}[late_store-raw_rows]", f"{ORDER}[before_invalidation-raw_rows]"),
    ),
    Mutant(
        "no mark",
        "freshness/commits.py",
        "if not service.is_strong:",
        "if True:",
        (f"{ORDER}[before_invalidation-save]", f"{ORDER}[filled_before_autocommit-update]"),
    ),
    Mutant(
        "COMMIT without W marks",
        "freshness/service.py",
        'if failures:\n            self.tallies.add("mark_failures")',
        'if False:\n            self.tallies.add("mark_failures")',
        ("test_nodes.py::test_write_is_refused_that_cannot_be_marked",),
    ),
    Mutant(
        "clear without bump",
        LUA + "bump.lua",
        "if ARGV[3] == '1' then",
        "if false then",
        (f"{ORDER}[before_invalidation-save]", f"{ORDER}[late_store-save]"),
    ),
    Mutant(
        "unknown outcome clears",
        "freshness/commits.py",
        "if outcome in {Outcome.COMMITTED, Outcome.ENDED}:",
        "if outcome is not Outcome.ROLLED_BACK:",
        ("test_crashes.py::test_connection_lost_in_commit_that_happens",),
    ),
    Mutant(
        "a bump clears all marks",
        LUA + "bump.lua",
        "without(marks, ARGV[2])",
        "{}",
        ("test_marks.py::test_other_writer_commits_meanwhile",),
    ),
    Mutant(
        "one mark slot or a reused token",
        "freshness/service.py",
        "Attempt(secrets.token_bytes(8)",
        'Attempt(b"onetoken"',
        ("test_marks.py::test_other_writer_is_rolled_back_by_its_commit_meanwhile",),
    ),
    Mutant(
        "silent expiry",
        LUA + "records.lua",
        "if expired then",
        "if false then",
        ("test_crashes.py::test_killed_between_commit_and_invalidation",),
    ),
    Mutant(
        "expiry during COMMIT",
        "freshness/commits.py",
        "renewals.hold(service, marks.attempt)",
        "pass",
        ("test_marks.py::test_commit_that_takes_longer_than_marks_live",),
    ),
    Mutant(
        "age of the mark unchecked",
        "freshness/commits.py",
        "if age >= service.settings.mark_timeout / 2:",
        "if False:",
        ("test_marks.py::test_writer_sleeps_between_marking_and_commit",),
    ),
    Mutant(
        "marked record evicted",
        LUA + "records.lua",
        "redis.call('SET', key, table.concat(parts))",
        "redis.call('SET', key, table.concat(parts), 'PX', ttl)",
        ("test_marks.py::test_everything_evictable_is_evicted_while_marked",),
    ),
    Mutant(
        "marked record evicted, by the server itself",
        LUA + "records.lua",
        "redis.call('SET', key, table.concat(parts))",
        "redis.call('SET', key, table.concat(parts), 'PX', ttl)",
        ("test_nodes.py::test_record_is_evicted_by_a_full_node",),
    ),
    Mutant(
        "fixed mint value",
        LUA + "mint.lua",
        "write(key, fresh(), 'k', {}, ARGV[2])",
        "write(key, incarnation .. string.rep('0', 8), 'k', {}, ARGV[2])",
        ("test_marks.py::test_version_records_are_evicted",),
    ),
    Mutant(
        "missing counts as a vote",
        "core/freshness.py",
        "entry, found = yield from self._read(look)",
        "entry, found = yield from self._read(look)\n"
        "            found = [\n"
        "                record or ((life := self._lives.get(node)) and life.incarnation + bytes(8))\n"
        "                for node, record in zip(look.nodes, found)\n"
        "            ]",
        ("test_marks.py::test_version_records_are_evicted", f"{ORDER}[late_store-save]"),
    ),
    Mutant(
        "incarnation ignored",
        LUA + "register.lua",
        "string.sub(fence, 10, 49) ~= run_id",
        "false",
        (
            "test_nodes.py::test_nodes_that_restart_from_a_snapshot_older_than_the_write",
            "test_nodes.py::test_write_while_a_node_is_down_that_comes_back_with_its_old_data",
        ),
    ),
    Mutant(
        "quarantine without voiding",
        LUA + "register.lua",
        "incarnation = ARGV[1]\n",
        "incarnation = incarnation or ARGV[1]\n",
        ("test_nodes.py::test_nodes_that_restart_from_a_snapshot_older_than_the_write",),
    ),
    Mutant(
        "voiding without quarantine",
        LUA + "register.lua",
        "struct.pack('>I8', now + quarantine)",
        "struct.pack('>I8', now)",
        ("test_marks.py::test_nodes_lose_their_memory_between_mark_and_commit",),
    ),
    Mutant(
        "checker ignores marks",
        "core/freshness.py",
        "entry, found = yield from self._read(look)",
        "entry, found = yield from self._read(look)\n"
        "            found = [record and record[:_SIZE] for record in found]",
        (f"{ORDER}[before_invalidation-save]",),
    ),
    Mutant(
        "load before versions",
        "freshness/service.py",
        "value = yield Load(wanted.load)\n        payload",
        "value = yield Load(wanted.load)\n"
        '        versions = b"".join((yield from self._versions.votes(wanted.look.records)) or ())\n'
        "        payload",
        (f"{ORDER}[late_store-save]", f"{ORDER}[late_store_in_autocommit-update]"),
    ),
    Mutant(
        # From an instance that does not know where the row is, or from nowhere: the list the row leaves is not told.
        "old value taken from the instance",
        "orm/capture.py",
        'columns += [f"old.{quote(column)}" for column in target.columns[1:]]',
        "columns += _columns(connection, target, target.columns[1:])",
        ("test_groups.py::test_moved_by_stale_instance",),
    ),
    Mutant(
        "old value read without a lock",
        "orm/capture.py",
        '_POSTGRES = Abilities(returns=True, wraps=True, lock=" FOR NO KEY UPDATE")',
        '_POSTGRES = Abilities(returns=True, wraps=True, lock="")',
        ("test_groups.py::test_moved_while_another_move_is_committing",),
    ),
    Mutant(
        "old snapshot is stored",
        "freshness/isolation.py",
        "return self._level in _STATEMENT_LEVEL_NAMES",
        "return True",
        (f"{ORDER}[old_snapshot_by_statement-save]",),
    ),
    Mutant(
        "old snapshot of a level in the settings is stored",
        "freshness/isolation.py",
        "return raw.isolation_level in _STATEMENT_LEVELS",
        "return True",
        (f"{ORDER}[old_snapshot-save]",),
    ),
    Mutant(
        "transaction that has written uses the cache",
        "freshness/transactions.py",
        "return not self._pending and ",
        "return ",
        (f"{ORDER}[rolled_back-save]", f"{ORDER}[rolled_back_savepoint-save]", f"{ORDER}[own_write-save]"),
    ),
    Mutant(
        "lease ignored",
        LUA + "mint.lua",
        "if ARGV[3] ~= '' and redis.call('SET', KEYS[#KEYS - 1], ARGV[3], 'NX', 'PX', ARGV[4]) then",
        "if ARGV[3] ~= '' then",
        ("test_stampede.py::test_two_hundred_readers_load_once",),
    ),
    Mutant(
        "only the first record of an epoch is bumped",
        "freshness/placing.py",
        "for record in place.records)",
        "for record in place.records[:1])",
        (
            "test_stripes.py::test_a_coarse_write_ends_answers_at_every_node",
            "test_stripes.py::test_every_record_of_the_epoch_is_marked_before_commit",
        ),
    ),
    Mutant(
        "records beside a learned answer",
        "freshness/service.py",
        "self._versions.look(place, self._placing.first(dependencies))",
        "self._versions.look(place, self._placing.beside(place, dependencies))",
        ("test_stripes.py::test_an_answer_whose_dependencies_are_found_ends_with_a_coarse_write",),
    ),
)


def copy_project(folder: Path) -> None:
    """Copy what the tests need."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)


def run_tests(folder: Path, tests: Sequence[str]) -> tuple[int, str]:
    """Run tests of the copy until one fails; return pytest's exit code and what it printed."""
    named = [f"tests/freshness/{test}" for test in tests]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:randomly", "--tb=short"]
    done = subprocess.run(
        [*command, "--timeout=120", *named], cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )
    return done.returncode, done.stdout + done.stderr


def try_mutant(folder: Path, mutant: Mutant) -> str:
    """Apply a mutant, run its tests, put the code back; return what became of it."""
    path = folder / "distcache_django" / mutant.file
    original = path.read_text()
    if original.count(mutant.old) != 1:
        return f"SURVIVED: its text occurs {original.count(mutant.old)} times in {mutant.file}"
    path.write_text(original.replace(mutant.old, mutant.new))
    try:
        code, output = run_tests(folder, mutant.tests)
    finally:
        path.write_text(original)
    failed = [line for line in output.splitlines() if line.startswith("FAILED")]
    if code == 1 and failed:
        reason = next((line[1:].strip() for line in output.splitlines() if line.startswith("E ")), "")
        return f"caught: {failed[0].removeprefix('FAILED tests/freshness/').split(' - ')[0]}\n{'':64}{reason[:160]}"
    return f"SURVIVED (pytest {code})\n{output[-1500:]}"


def main(names: Sequence[str]) -> int:
    """Try the mutants of these names, or all."""
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    survived = 0
    with tempfile.TemporaryDirectory(prefix="distcache-mutants-") as temporary:
        folder = Path(temporary)
        copy_project(folder)
        code, output = run_tests(folder, sorted({test for mutant in chosen for test in mutant.tests}))
        if code:
            sys.stdout.write(f"without any mutant (pytest {code}):\n{output[-3000:]}\n")
            return 1
        for mutant in chosen:
            began = time.monotonic()
            outcome = try_mutant(folder, mutant)
            survived += not outcome.startswith("caught")
            sys.stdout.write(f"{mutant.name:55} {time.monotonic() - began:5.1f} s  {outcome}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(chosen) - survived} of {len(chosen)} caught\n")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
