"""`manage.py distcache` as far as it goes without a server: layout, usage and the ring."""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from django.core.management import CommandError, call_command
from django.core.management.color import no_style
from django.test import override_settings

from distcache_django.management.console.screen import (
    Cell,
    Screen,
    bar,
    count_text,
    duration_text,
    size_text,
)

BACKEND = "distcache_django.DistributedCache"
NODES = {f"cache-{letter}": f"redis://10.9.9.{i}:6379/0" for i, letter in enumerate("abcd")}
SECRET = "hunter2-of-the-cache"


def entry(location: object = NODES, **params: Any) -> dict[str, Any]:
    return {"BACKEND": BACKEND, "LOCATION": location, **params}


@pytest.fixture(autouse=True)
def site() -> Iterator[None]:
    """A site with four nodes that nobody connects to, and an alias of another backend."""
    local = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    with override_settings(CACHES={"default": entry(), "local": local, "second": entry(KEY_PREFIX="s")}):
        yield


def call(*words: str, **options: Any) -> str:
    output = io.StringIO()
    call_command("distcache", *words, stdout=output, **options)
    return output.getvalue()


def refused(*words: str) -> CommandError:
    with pytest.raises(CommandError) as caught:
        call(*words)
    return caught.value


# ---------------------------------------------------------------- layout


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "    "), (1.0, "████"), (0.5, "██  "), (0.53, "██▏ "), (0.001, "    "), (-1, "    "), (7, "████")],
)
def test_bar(share: float, text: str) -> None:
    assert bar(share, 4) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, "?"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0K"),
        (64_000_000, "61M"),
        (5 << 40, "5.0T"),
        (9 << 50, "9216T"),
    ],
)
def test_size(number: int | None, text: str) -> None:
    assert size_text(number) == text


def test_counts_and_durations() -> None:
    assert [count_text(n) for n in (None, 7, 48213)] == ["?", "7", "48 213"]
    assert [count_text(n, "node") for n in (1, 2)] == ["1 node", "2 nodes"]
    assert [duration_text(s) for s in (None, 72, 273_600)] == ["-", "0:01:12", "3d04h"]


def test_table_aligns_its_columns() -> None:
    output = io.StringIO()

    Screen(output, no_style()).table(["Node", ">Keys"], [["a", "7"], [Cell("cache-b", "ERROR"), "48 213"]])

    assert output.getvalue() == "Node       Keys\na             7\ncache-b  48 213\n"


def test_table_without_rows_has_its_headers() -> None:
    output = io.StringIO()

    Screen(output, no_style()).table(["Node", ">Keys"], [])

    assert output.getvalue() == "Node  Keys\n"


def test_signs_that_a_terminal_lacks_do_not_stop_the_command() -> None:
    buffer = io.BytesIO()
    output = io.TextIOWrapper(buffer, encoding="ascii")

    call_command("distcache", "ring", stdout=output)
    output.flush()

    assert b"cache-a" in buffer.getvalue()


# ---------------------------------------------------------------- usage


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nope"],
        ["status", "--nope"],
        ["locate"],
        ["ring", "--add", "x", "--remove", "cache-a"],
        ["ring", "--compare", "nothing"],
        ["ring", "--add", "cache-a"],
        ["ring", "--add", "cache-e=heavy"],
        ["ring", "--add", "cache-e=-1"],
        ["ring", "--remove", "cache-z"],
        ["locate", "\udc80"],
        ["benchmark", "ops", "--only", "nothing-of-that-name"],
        ["benchmark", "--nope"],
    ],
)
def test_wrong_usage_has_a_code_of_its_own(words: list[str]) -> None:
    assert refused(*words).returncode == 64


@pytest.mark.parametrize("command", [["status"], ["ring"], ["locate", "k"], ["doctor"]])
@pytest.mark.parametrize(("alias", "why"), [("local", "another backend"), ("nobody", "not in CACHES")])
def test_alias_that_will_not_do_is_answered_with_those_that_will(command: list[str], alias: str, why: str) -> None:
    error = refused(*command, "--using", alias)

    assert error.returncode == 64
    assert why in str(error)
    assert "'default', 'second'" in str(error)


def test_site_without_the_backend_is_told_so() -> None:
    with override_settings(CACHES={"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}):
        assert "none uses distcache_django.DistributedCache" in str(refused("status"))


@pytest.mark.parametrize("command", [["status"], ["ring"], ["locate", "k"]])
def test_settings_that_cannot_work_are_critical_and_all_named(command: list[str]) -> None:
    wrong = entry([f"htp://:{SECRET}@h"], OPTIONS={"DEADLIN": 1, "PASSWORD": [SECRET], "ACCEPT_UNSIGNED": True})
    with override_settings(CACHES={"default": wrong}):
        error = refused(*command)

    assert error.returncode == 2
    assert [f"distcache.E00{n}" in str(error) for n in (3, 5, 6)] == [True] * 3
    assert "W002" not in str(error)
    assert SECRET not in str(error)


def test_demo_that_is_not_installed_says_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "example_project.demo", None)

    assert "run it in a checkout" in str(refused("demo"))


def test_help_of_a_delegated_command_shows_its_own_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        call("demo", "--help")

    assert ended.value.code == 0
    assert "--trace" in capsys.readouterr().out


# ---------------------------------------------------------------- ring


def test_ring_shows_each_nodes_share() -> None:
    with override_settings(
        CACHES={"default": entry({"a": "redis://h1", "b": {"url": "redis://h2", "weight": 3, "zone": "eu-1"}})}
    ):
        lines = call("ring").splitlines()

    assert "2 nodes · 16384 slots" in lines[0]
    assert lines[2].split()[:5] == ["a", "1", "-", "4", "096"]
    assert lines[3].split()[:6] == ["b", "3", "eu-1", "12", "288", "75.0%"]


def test_ring_compared_with_modulo_is_the_classic_example() -> None:
    movement = json.loads(call("ring", "--compare", "modulo", "--json"))["movement"]

    assert (movement["nodes_before"], movement["nodes_after"]) == (4, 3)
    assert movement["slots_moved"] == 4096
    assert movement["ring_moved"] == pytest.approx(0.25, abs=0.01)
    assert movement["modulo_moved"] == pytest.approx(0.75, abs=0.01)


def test_comparison_stands_side_by_side() -> None:
    lines = call("ring", "--compare", "modulo", "--remove", "cache-b").splitlines()

    assert "4 → 3 nodes (without cache-b): 4 096 slots move" in lines[-4]
    assert [line.split()[0] for line in lines[-2:]] == ["ring", "modulo"]


def test_added_node_takes_its_share_by_weight() -> None:
    movement = json.loads(call("ring", "--add", "cache-e=2", "--json"))["movement"]

    assert movement["slots_moved"] == pytest.approx(16384 / 3, abs=1)
    assert movement["change"] == "with cache-e"
    assert "modulo_moved" not in movement


def test_last_node_cannot_go() -> None:
    with override_settings(CACHES={"default": entry("redis://h")}):
        assert refused("ring", "--compare", "modulo").returncode == 64


def test_ring_as_json() -> None:
    with override_settings(CACHES={"default": entry(OPTIONS={"RANGES": {"user:": [(1, 9, "cache-b")]}})}):
        ring = json.loads(call("ring", json=True))

    assert ring["schema"] == "distcache-ring/1"
    assert ring["alias"] == "default"
    assert sum(node["slots"] for node in ring["nodes"]) == 16384
    assert ring["balance"] == 1.0
    assert ring["ranges"] == [{"prefix": "user:", "first": 1, "last": 9, "node": "cache-b"}]
    assert "movement" not in ring


def test_ring_names_its_ranges() -> None:
    with override_settings(CACHES={"default": entry(OPTIONS={"RANGES": {"user:": [(1, 9, "cache-b")]}})}):
        assert "range user:1 to 9: cache-b" in call("ring")


@pytest.mark.parametrize("location", [NODES, "redis://h", {f"n{i}": f"redis://h{i}" for i in range(12)}])
def test_ring_is_drawn(location: object, tmp_path: Path) -> None:
    target = tmp_path / "ring.svg"
    with override_settings(CACHES={"default": entry(location)}):
        call("ring", "--svg", str(target))
        nodes = json.loads(call("ring", "--json"))["nodes"]

    picture = ElementTree.parse(target).getroot()
    segments = [path[0].text for path in picture.iter("{http://www.w3.org/2000/svg}path")]
    assert segments == sorted(node["name"] for node in nodes)
    assert "style" not in target.read_text()


def test_picture_that_cannot_be_written_is_wrong_usage(tmp_path: Path) -> None:
    assert refused("ring", "--svg", str(tmp_path / "none" / "ring.svg")).returncode == 64


class Terminal(io.StringIO):
    """An output that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("output", "options", "is_coloured"),
    [
        (io.StringIO, {}, False),
        (io.StringIO, {"force_color": True}, True),
        (Terminal, {"no_color": True}, False),
    ],
)
def test_colours_only_where_they_are_wanted(
    output: type[io.StringIO], options: dict[str, bool], is_coloured: bool
) -> None:
    stream = output()
    with override_settings(CACHES={"default": entry([])}), pytest.raises(CommandError):
        call_command("distcache", "doctor", stdout=stream, **options)

    assert ("\x1b[" in stream.getvalue()) is is_coloured
