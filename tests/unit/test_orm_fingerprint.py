"""Two different queries never share a key; the same query always has the same one."""

from __future__ import annotations

import datetime
import decimal
import ipaddress
import subprocess
import sys
import uuid
from collections.abc import Iterator
from enum import Enum, IntEnum
from random import Random
from typing import Any

import pytest
from django.core.exceptions import EmptyResultSet, FieldError
from django.db import NotSupportedError, connection, connections, models
from django.test.utils import isolate_apps
from django.utils.safestring import mark_safe
from hypothesis import given
from hypothesis import settings as checked
from hypothesis import strategies as st
from psycopg.types.json import Jsonb
from psycopg.types.numeric import Int2, Int4
from psycopg.types.range import Range

from distcache_django.orm import fingerprint
from distcache_django.orm.fingerprint import NoKey, query_key, schema_digest, text_key
from tests.support.zoo import queries, schema
from tests.support.zoo.models import Cheap, Product


class Number(IntEnum):
    ONE = 1


class Word(str, Enum):  # noqa: UP042 - what sites have, and no StrEnum
    ONE = "1"


class Pure(Enum):
    ONE = 1
    UNO = "1"


MOMENT = datetime.datetime(2020, 1, 1)
#: All different, though many are equal, or print the same.
DIFFERENT: list[Any] = [
    1, True, 1.0, "1", b"1", decimal.Decimal(1), decimal.Decimal("1.0"), Number.ONE, Word.ONE, Pure.ONE, Pure.UNO,
    Int2(1), Int4(1), 0, False, 0.0, -0.0, None, "", "None", b"", mark_safe("1"), [1], (1,), [[1]], ["1"], [], {},
    {"a": 1},
    {1: "a"}, bytearray(b"1"), memoryview(b"1"), MOMENT, MOMENT.replace(tzinfo=datetime.UTC), MOMENT.isoformat(),
    MOMENT.replace(fold=1), MOMENT.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=1))), MOMENT.date(),
    MOMENT.time(), datetime.timedelta(1), uuid.UUID(int=1), uuid.UUID(int=1).hex, ipaddress.ip_address("::1"),
    ipaddress.ip_network("::1"), ipaddress.ip_interface("::1"), Jsonb(1), Jsonb("1"), Jsonb([1]), Range(1, 2),
    Range(1, 2, "[]"), Range(empty=True), Range(None, 2), ("builtins", "list", (1,)), float("nan"), float("inf"),
]  # fmt: skip


def test_parameters_of_different_types_make_different_keys():
    keys = [text_key("SELECT %s", [value]) for value in DIFFERENT]

    assert len(set(keys)) == len(DIFFERENT)
    assert keys == [text_key("SELECT %s", (value,)) for value in DIFFERENT]


def test_where_one_parameter_ends_and_another_starts_matters():
    pairs: list[list[Any]] = [["a", "b"], ["ab", ""], ["", "ab"], ["a", "b", ""], [["a", "b"]], [["a"], "b"]]

    assert len({text_key("", params) for params in pairs}) == len(pairs)
    assert text_key("x", ["a"], "b") != text_key("x", ["a", "b"]) != text_key("x", [], "a", "b")


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.decimals(), st.dates(),
    st.datetimes(), st.uuids(), st.timedeltas(),
)  # fmt: skip
PARAMS = st.lists(st.one_of(SCALARS, st.lists(SCALARS, max_size=3)), max_size=4)


def shape(value):
    """Return what tells values apart that Python calls equal."""
    if isinstance(value, list):
        return ("list", *map(shape, value))
    return (type(value).__name__, repr(value), getattr(value, "fold", None))


@checked(max_examples=300, deadline=None, print_blob=True, database=None)
@given(PARAMS, PARAMS, st.sampled_from(["a", "b"]), st.sampled_from(["a", "b"]))
def test_keys_are_equal_exactly_where_queries_are(params, others, sql, other_sql):
    same = sql == other_sql and shape(params) == shape(others)

    assert (text_key(sql, params) == text_key(other_sql, others)) == same
    assert text_key(sql, list(params)) == text_key(sql, tuple(params))


class Odd:
    pass


def test_a_parameter_that_is_not_known_has_no_key():
    for value in (Odd(), [Odd()], {1: Odd()}, object, Range(Odd(), None)):
        with pytest.raises(NoKey):
            text_key("SELECT %s", [value])


def compiler():
    return Product.objects.filter(pk=1).query.get_compiler(connection=connection)


def test_keys_tell_databases_time_zones_and_schemas_apart(settings, monkeypatch):
    asked = compiler()
    keys = [query_key(asked, "SELECT", [])]
    keys.append(query_key(asked, "SELECT", [], "SINGLE"))
    monkeypatch.setattr(asked, "using", "replica")
    keys.append(query_key(asked, "SELECT", []))
    monkeypatch.setitem(vars(connections["default"]), "timezone_name", "Asia/Tokyo")
    keys.append(query_key(asked, "SELECT", []))
    monkeypatch.setattr(connections["default"], "schema_name", "tenant", raising=False)
    keys.append(query_key(asked, "SELECT", []))
    settings.USE_TZ = False
    keys.append(query_key(asked, "SELECT", []))
    monkeypatch.setattr(fingerprint, "project_digest", lambda: "another")
    keys.append(query_key(asked, "SELECT", []))

    assert len(set(keys)) == len(keys)


def test_keys_are_the_same_in_another_process():
    program = (
        "from datetime import date\nfrom distcache_django.orm.fingerprint import text_key\n"
        "print(text_key('SELECT %s', [1, 'a', None, date(2020, 1, 1), [True]], 'x'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.strip() == text_key("SELECT %s", [1, "".join("a"), None, datetime.date(2020, 1, 1), [True]], "x")


@pytest.fixture(scope="module")
def zoo() -> Iterator[None]:
    with schema.installed():
        yield


def test_different_queries_of_the_zoo_have_different_keys(zoo):
    seed = Random().randrange(2**32)
    print("seed", seed)  # noqa: T201 - what a failure is repeated with
    seen: dict[str, tuple[object, ...]] = {}
    for number in range(seed, seed + 400):
        made = [queries.queryset(Random(number)).query.get_compiler(connection=connection) for _ in range(2)]
        try:
            (sql, params), again = made[0].as_sql(), made[1].as_sql()
        except (EmptyResultSet, FieldError, NotSupportedError, NotImplementedError):
            continue
        key = query_key(made[0], sql, params)

        assert key == query_key(made[1], *again)
        assert seen.setdefault(key, (sql, *map(shape, params))) == (sql, *map(shape, params))

    assert len(seen) > 200


# ---------------------------------------------------------------- schema


def make(**fields: models.Field) -> type[models.Model]:
    meta = type("Meta", (), {"app_label": "zoo"})
    return type("Thing", (models.Model,), {"__module__": __name__, "Meta": meta, **fields})


@isolate_apps()
def test_a_model_whose_columns_change_has_another_digest():
    def digest(**fields):
        with isolate_apps():
            return schema_digest(make(**fields))

    versions = [
        digest(),
        digest(a=models.IntegerField()),
        digest(b=models.IntegerField()),
        digest(a=models.BigIntegerField()),
        digest(a=models.IntegerField(null=True)),
        digest(a=models.IntegerField(db_column="c")),
        digest(a=models.CharField(max_length=3)),
        digest(a=models.CharField(max_length=4)),
        digest(a=models.IntegerField(), b=models.IntegerField()),
        digest(b=models.IntegerField(), a=models.IntegerField()),
        digest(a=models.ForeignKey(Product, models.CASCADE)),
    ]

    assert len(set(versions)) == len(versions)
    assert digest(a=models.IntegerField(default=1, help_text="x")) == digest(a=models.IntegerField())


def test_a_proxy_and_its_model_are_told_apart():
    assert schema_digest(Cheap) != schema_digest(Product)
    assert schema_digest(Product) == schema_digest(Product)


def test_the_project_has_another_digest_with_another_model():
    before = fingerprint.project_digest()
    with isolate_apps("django.contrib.auth"):
        assert fingerprint.project_digest() == before
    from django.test import override_settings

    with override_settings(INSTALLED_APPS=["django.contrib.contenttypes"]):
        assert fingerprint.project_digest() != before
    assert fingerprint.project_digest() == before
