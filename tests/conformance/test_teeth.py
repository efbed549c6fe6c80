"""The contract suite has teeth: Django's own backend passes it, a careless one does not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.servers, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = "tests/conformance/test_contract.py"


def run_contract(subject: str, layout: str, folder: Path) -> set[str]:
    """Run the contract suite against a subject in one layout; return the names of the tests that failed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-rf", "--tb=no"]
    # One test waits for an expiry that a careless backend has lost: it would wait in vain.
    command += [f"--basetemp={folder}", "-k", f"[{layout} and not test_value_is_gone", CONTRACT]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "DISTCACHE_CONFORMANCE_SUBJECT": subject, "COLUMNS": "400"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    failed = [line for line in done.stdout.splitlines() if line.startswith(f"FAILED {CONTRACT}::")]
    return {line.split("::")[1].split("[")[0].split(" ")[0] for line in failed}


def test_djangos_own_backend_passes_the_contract(tmp_path: Path) -> None:
    assert run_contract("django", "1-sync", tmp_path) == set()


def test_careless_backend_breaks_the_contract(tmp_path: Path) -> None:
    assert run_contract("careless", "4-sync", tmp_path) >= {
        "test_cached_none_is_not_a_miss",
        "test_add_that_has_expired_already_succeeds_and_stores_nothing",
        "test_set_that_has_expired_already_removes_present_value",
        "test_delete_tells_whether_there_was_something",
        "test_incr_keeps_the_expiry",
    }
