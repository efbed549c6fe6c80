"""What psycopg does besides executing: COPY, composed statements, streams; and what only PostgreSQL runs."""

from typing import Any

import psycopg
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from distcache_django.freshness.dependencies import coarse
from distcache_django.orm.changes import all_tables
from tests.integration.transactions.ground import POSTGRES, Recorder
from tests.support.deeds import told
from tests.support.zoo.models import Brand

pytestmark = pytest.mark.parametrize("database", [POSTGRES], indirect=True)

BRANDS = coarse({"zoo_brand"})


def execute(sql: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def test_copy_is_reported_when_it_ends(recorder: Recorder, database: str) -> None:
    with connection.cursor() as cursor, cursor.copy("COPY zoo_brand (id, name) FROM STDIN") as copy:
        copy.write_row((60, "x"))
        assert recorder.take() == ["mark"]

    assert recorder.take() == ["bump"]
    assert told(recorder) == BRANDS
    assert Brand.objects.filter(pk=60).exists()


def test_copy_is_reported_where_queries_are_logged_too(recorder: Recorder, database: str) -> None:
    copying = "COPY zoo_brand (id, name) FROM STDIN"

    with CaptureQueriesContext(connection) as queries, connection.cursor() as cursor, cursor.copy(copying) as copy:
        copy.write_row((61, "x"))

    assert told(recorder) == BRANDS
    assert [query["sql"][:4] for query in queries] == ["COPY"]


def test_copy_out_says_nothing(recorder: Recorder, database: str) -> None:
    with connection.cursor() as cursor, cursor.copy("COPY zoo_brand TO STDOUT") as copy:
        assert len(list(copy.rows())) == 3

    assert told(recorder) == set()


def test_composed_statements_and_streams_are_reported(recorder: Recorder, database: str) -> None:
    composed = psycopg.sql.SQL("UPDATE {} SET name = 'x'").format(psycopg.sql.Identifier("zoo_brand"))
    execute(composed)
    assert told(recorder) == BRANDS
    execute(b"UPDATE zoo_category SET name = 'x'")
    assert told(recorder) == BRANDS | coarse({"zoo_category"})
    with connection.cursor() as cursor:
        assert len(list(cursor.stream("UPDATE zoo_tag SET label = 'x' RETURNING code"))) == 3
    assert told(recorder) == BRANDS | coarse({"zoo_category", "zoo_tag"})


def test_procedures_count_as_writing_everything(recorder: Recorder, database: str) -> None:
    with connection.cursor() as cursor:
        cursor.callproc("lower", ["X"])
        assert cursor.fetchall() == [("x",)]

    assert told(recorder) == coarse(all_tables())


def test_a_text_that_may_write_anything_counts_as_writing_everything(recorder: Recorder, database: str) -> None:
    execute("DO $$ BEGIN UPDATE zoo_brand SET name = 'x'; END $$")

    assert told(recorder) == coarse(all_tables())
