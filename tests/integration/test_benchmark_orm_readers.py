"""Readers of the benchmark ask what the documentation says, the same from the same seed, and tell hits apart."""

import random
import time
from types import SimpleNamespace
from typing import cast

import pytest

from distcache_django.benchmark.orm.measured import asked_by_this_thread
from distcache_django.benchmark.orm.readers import MIX, Reader
from distcache_django.benchmark.orm.truth import Dataset
from distcache_django.benchmark.orm.verdicts import Shape
from distcache_django.benchmark.orm.ways import Plain


def drawn(seed: int) -> list[tuple[Shape, int]]:
    return Reader(Plain(), Dataset(), random.Random(seed)).draw(20_000)


def test_readers_draw_the_same_questions_from_the_same_seed() -> None:
    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_readers_ask_for_what_the_documentation_says() -> None:
    dataset, questions = Dataset(), drawn(1)
    for shape, hundredths in MIX.items():
        keys = [key for each, key in questions if each == shape]
        assert len(keys) / len(questions) == pytest.approx(hundredths / 100, abs=0.02)
        last = dataset.groups if shape in ("group", "total") else dataset.items
        assert set(keys) <= set(range(1, last + 1))
        assert len(set(keys)) > 0.8 * last
    items = [key for shape, key in questions if shape == "item"]
    # Half of them on purpose, and those that all items are drawn for.
    share = 0.5 + 0.5 * dataset.hot / dataset.items
    assert sum(key <= dataset.hot for key in items) / len(items) == pytest.approx(share, abs=0.02)


def test_a_reader_tells_hits_from_reads_that_asked_the_database() -> None:
    asked = asked_by_this_thread()
    ways = SimpleNamespace(read=lambda shape, key: (shape, key))
    reader = Reader(cast("Plain", ways), Dataset(), random.Random(1))
    began = time.monotonic_ns()
    first = reader.read("item", 7, asked)

    def ask(shape: Shape, key: int) -> tuple[Shape, int]:
        asked.statements += 1
        return shape, key

    ways.read = ask
    reader.read("total", 3, asked)
    ways.read = lambda shape, key: {}[key]
    reader.read("tags", 5, asked)

    one, two = reader.answers()
    assert (one.shape, one.key, one.value) == ("item", 7, ("item", 7))
    assert (two.shape, two.key, two.value) == ("total", 3, ("total", 3))
    assert began <= one.begun <= one.ended == first <= two.begun <= two.ended
    assert (reader.hits, sum(reader.failures.values())) == ({"item": 1}, 1)
