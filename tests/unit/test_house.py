"""The house keeps its own rules: sizes, what is shipped, and files that name each other."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
SOURCES = sorted(
    path
    for part in ("distcache_django", "example_project", "tests")
    for path in (ROOT / part).rglob("*.py")
    if "__pycache__" not in path.parts
)
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 30
NODES = {"cache-a", "cache-b", "cache-c", "cache-d"}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count a function's lines without its signature and docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


# ---------------------------------------------------------------- sizes


def test_no_file_is_longer_than_a_story() -> None:
    lengths = {relative(path): len(path.read_text().splitlines()) for path in SOURCES}

    assert {name: lines for name, lines in lengths.items() if lines > MAX_FILE_LINES} == {}


def test_functions_fit_on_a_screen() -> None:
    lengths = {
        f"{relative(path)}:{function.lineno} {function.name}": body_lines(function)
        for path in SOURCES
        if "tests" not in path.parts
        for function in functions(path)
    }

    assert {name: lines for name, lines in lengths.items() if lines > MAX_FUNCTION_LINES} == {}


# ---------------------------------------------------------------- packaging


def test_requirements_are_bounded_ranges() -> None:
    """Without a bound a site breaks on a day nobody chose; with == nothing can be installed beside us."""
    runtime = PROJECT["dependencies"]

    assert [requirement for requirement in runtime if not re.search(r">=.*,<", requirement)] == []
    assert [requirement for requirement in runtime if "==" in requirement] == []


def test_promised_extras_exist() -> None:
    assert {"celery", "demo", "test", "bench", "cli", "docs"} <= set(EXTRAS)


def test_supported_pythons_are_the_classified_ones() -> None:
    prefix = "Programming Language :: Python :: 3."
    classified = [entry.removeprefix(prefix) for entry in PROJECT["classifiers"] if entry.startswith(prefix)]

    assert classified == ["11", "12", "13", "14"]
    assert PROJECT["requires-python"] == f">=3.{classified[0]}"


def test_constraints_hold_names_and_versions_only() -> None:
    lines = (ROOT / "constraints" / "tested.txt").read_text().splitlines()
    entry = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+( ; python_version (<|>=) '3\.\d+')?")

    assert [line for line in lines if not line.startswith("#") and not entry.fullmatch(line)] == []


def test_package_is_marked_as_typed() -> None:
    assert (ROOT / "distcache_django" / "py.typed").exists()


# ---------------------------------------------------------------- compose


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


def test_compose_file_follows_the_compose_schema() -> None:
    pytest.importorskip("check_jsonschema")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]

    done = subprocess.run(
        [*command, "docker-compose.yml"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_starts_four_nodes_a_database_and_three_of_the_shop(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == NODES | {"postgres", "web", "worker", "beat"}


def test_every_service_says_when_it_is_healthy(compose: dict[str, Any]) -> None:
    assert [name for name, service in compose["services"].items() if "healthcheck" not in service] == []


def test_compose_nodes_keep_nothing_on_disk_and_evict_only_what_expires(compose: dict[str, Any]) -> None:
    for name in NODES:
        words = compose["services"][name]["command"][1:]
        flags = dict(zip(words[::2], words[1::2], strict=True))

        assert flags["--save"] == ""
        assert flags["--appendonly"] == "no"
        assert flags["--maxmemory-policy"] == "volatile-lfu"


@pytest.mark.parametrize("service", ["web", "worker", "beat"])
def test_compose_gives_the_shop_variables_that_it_reads(compose: dict[str, Any], service: str) -> None:
    environment = compose["services"][service]["environment"]
    settings = (ROOT / "example_project" / "settings.py").read_text()

    unknown = [name for name in environment if name != "DJANGO_SETTINGS_MODULE" and f'"{name}"' not in settings]

    assert unknown == []
    assert {entry.partition("=")[0] for entry in environment["DISTCACHE_REDIS_URLS"].split()} == NODES
    assert environment["DATABASE_URL"].startswith("postgresql://")


def test_compose_broker_does_not_share_a_database_with_the_cache(compose: dict[str, Any]) -> None:
    environment = compose["services"]["web"]["environment"]
    urls = {entry.partition("=")[2] for entry in environment["DISTCACHE_REDIS_URLS"].split()}

    assert environment["CELERY_BROKER_URL"] not in urls


# ---------------------------------------------------------------- documents


def test_readme_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)", (ROOT / "README.md").read_text())

    assert targets
    assert [target for target in targets if "://" not in target and not (ROOT / target).exists()] == []


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"[`$] ?make ([a-z]+)", (ROOT / "README.md").read_text()))

    assert named
    assert [target for target in named if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []


def test_changelog_has_an_entry_for_the_version() -> None:
    assert f"\n## {PROJECT['version']} " in (ROOT / "CHANGELOG.md").read_text()
