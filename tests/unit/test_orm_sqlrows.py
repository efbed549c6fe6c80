"""A text names one row only where nobody could read it otherwise."""

import pytest

from distcache_django.orm.sqlrows import OneRow, one_row


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("UPDATE t SET a = a + 1 WHERE id = %s", OneRow("t", "id", 0)),
        ("update t set a=%s, b='x;y' where t.id = %s", OneRow("t", "id", 1)),
        ("UPDATE t SET a = '%%s' WHERE id=%s", OneRow("t", "id", 0)),
        ("UPDATE t SET a = %(a)s WHERE id = %(id)s", OneRow("t", "id", "id")),
        ('UPDATE "s"."t" SET a = f(%s, %s) WHERE "id" = %s', OneRow("t", "id", 2)),
        ('DELETE FROM "t" WHERE "t"."id" = %s', OneRow("t", "id", 0)),
        ("DELETE FROM t WHERE id = %s RETURNING a, b;", OneRow("t", "id", 0)),
    ],
)
def test_a_text_that_names_one_row(sql, expected):
    assert one_row(sql) == expected


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE t SET id = %s WHERE id = %s",
        "UPDATE t SET (id, a) = (%s, 1) WHERE id = %s",
        'UPDATE t SET "ID" = 7 WHERE id = %s',
        "UPDATE t SET a = 1 WHERE id = %s OR 1 = 1",
        "UPDATE t SET a = 1 WHERE id = %s AND a = 2 OR a = 3",
        "UPDATE t SET a = 1 WHERE NOT id = %s",
        "UPDATE t SET a = 1 WHERE id <> %s",
        "UPDATE t SET a = 1 WHERE id = %s + 1",
        "UPDATE t SET a = 1 WHERE id = %s::text",
        "UPDATE t SET a = 1 WHERE id = %s COLLATE x",
        "UPDATE t SET a = 1 WHERE id = ANY(%s)",
        "UPDATE t SET a = 1 WHERE id IN (%s)",
        "UPDATE t SET a = 1 WHERE u.id = %s",
        "UPDATE t SET a = 1 WHERE s.t.id = %s",
        "UPDATE t SET a = 1 WHERE id = 3",
        "UPDATE t SET a = 1",
        "UPDATE t SET a = 1 FROM u WHERE id = %s",
        "UPDATE t, u SET a = 1 WHERE id = %s",
        "UPDATE t AS x SET a = 1 WHERE x.id = %s",
        "UPDATE t JOIN u ON u.a = t.a SET t.b = 1 WHERE id = %s",
        "UPDATE t SET a = (SELECT max(a) FROM u WHERE id = %s) WHERE id = %s",
        "UPDATE t SET a = 1 WHERE id = %s; DELETE FROM u",
        "UPDATE t SET a = %b WHERE id = %s",
        "UPDATE t SET a = b[1:2] WHERE id = %s",
        "WITH x AS (UPDATE t SET a = 1 WHERE id = %s RETURNING 1) SELECT 1",
        "UPDATE t SET a = 'x\\' WHERE id = %s --' WHERE id = %s",
        "DELETE FROM t USING u WHERE id = %s",
        "DELETE FROM t",
        "INSERT INTO t (id) VALUES (%s)",
        "SELECT * FROM t WHERE id = %s",
        "UPDATE t SET a = 1 WHERE id =",
        "UPDATE",
        "DELETE FROM",
        "",
    ],
)
def test_a_text_that_may_write_other_rows(sql):
    assert one_row(sql) is None
