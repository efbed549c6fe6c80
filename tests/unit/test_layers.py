"""The import contracts of pyproject.toml, and proof that each of them can fail."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "distcache_django"


def lint_imports(directory: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts of `directory`'s pyproject.toml against the package in `directory`."""
    program = "import sys; from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", program, "--no-cache"],
        cwd=directory,
        env={"PYTHONPATH": str(directory), "PATH": "/usr/bin:/bin", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a copy of the package and its contracts that a test may spoil."""
    pytest.importorskip("importlinter")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(PACKAGE, tmp_path / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_imports_point_down_only(checkout: Path) -> None:
    done = lint_imports(checkout)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("core/spoilt.py", "import time", "The core knows no clock"),
        ("core/spoilt.py", "import random", "The core knows no clock"),
        ("core/spoilt.py", "import threading", "The core knows no clock"),
        ("core/spoilt.py", "from django.conf import settings", "The core knows no clock"),
        ("core/spoilt.py", "from distcache_django import transport", "Imports point down only"),
        ("transport/spoilt.py", "from distcache_django import codec", "Imports point down only"),
        ("transport/spoilt.py", "from distcache_django import cluster", "Imports point down only"),
        ("transport/spoilt.py", "import django", "Django is allowed from conf upwards"),
        ("testing/spoilt.py", "import django", "Django is allowed from conf upwards"),
        ("cluster/spoilt.py", "import redis.exceptions", "Only the transport imports"),
        ("runtime/spoilt.py", "import valkey", "Only the transport imports"),
        ("runtime/spoilt.py", "import celery", "Only the tasks import Celery"),
        ("a_module_without_a_layer.py", "", "Imports point down only"),
    ],
)
def test_a_forbidden_import_breaks_its_contract(checkout: Path, module: str, line: str, contract: str) -> None:
    spoilt = checkout / PACKAGE.name / module
    spoilt.write_text(f'"""A module that breaks a rule."""\n\n{line}\n')

    done = lint_imports(checkout)

    assert done.returncode != 0
    broken = [text for text in done.stdout.splitlines() if "BROKEN" in text]
    assert any(text.startswith(contract) for text in broken), done.stdout + done.stderr


@pytest.mark.parametrize("module", ["distcache_django", "distcache_django.core.ring", "distcache_django.testing"])
def test_importing_below_conf_loads_no_django(module: str) -> None:
    program = f"import sys, {module}; sys.exit(any(name.split('.')[0] == 'django' for name in sys.modules))"

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr or f"{module} imports Django"
