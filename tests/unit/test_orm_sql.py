"""SQL text is read for the tables it names, however it is written; doubt is on the safe side."""

import pytest

from distcache_django.orm import sql

READS = {
    'SELECT "a"."x" FROM "a" WHERE "a"."x" = %s': "a",
    "select x from a, b c, d as e where 1": "a b d",
    "SELECT * FROM a JOIN b ON (a.x = b.y) LEFT OUTER JOIN `c` USING (z)": "a b c",
    "SELECT * FROM (a CROSS JOIN b), c": "a b c",
    'SELECT * FROM public.a, main.[b c], "s"."d.e"': "a|b c|d.e|main",
    "SELECT 'FROM x', \"FROM y\" FROM a -- FROM z\n JOIN /* FROM v */ b": "a b",
    "SELECT $q$ FROM x $q$ FROM a": "a x",
    "SELECT 'it''s FROM x' FROM a": "a",
    "SELECT EXTRACT(YEAR FROM a.x), TRIM(BOTH FROM y), SUBSTRING(z FROM 2 FOR 3) FROM a": "a",
    "SELECT x IS DISTINCT FROM y, z IS NOT DISTINCT FROM w FROM a": "a",
    "SELECT x FROM a WHERE EXISTS(SELECT 1 FROM b WHERE b.y = a.x) AND z IN (SELECT q FROM c, d)": "a b c d",
    "SELECT x FROM a UNION ALL (SELECT y FROM b EXCEPT SELECT z FROM c)": "a b c",
    "WITH r AS (SELECT * FROM a) SELECT * FROM r JOIN b ON 1": "a b r",
    "SELECT x FROM generate_series(1, 3) g, a": "a",
    "SELECT x FROM unnest(y) WITH ORDINALITY AS u, a": "a",
    "SELECT x FROM ONLY a, LATERAL (SELECT 1 FROM b) l, c TABLESAMPLE SYSTEM (10), d": "a b c d",
    "SELECT x FROM a AS q (c1, c2), b": "a b",
    "SELECT x FROM (VALUES (1, 2), (3, 4)) v, a": "a",
    "SELECT 1 WHERE 1 IN a": "a",
    "SELECT x FROM {oj a LEFT JOIN b ON 1}": "a b",
    "SELECT x FROM a WHERE y LIKE '%%;' ESCAPE '\\' AND z = 'b'": "a",
    "TABLE a": "a",
}


@pytest.mark.parametrize(("text", "tables"), READS.items())
def test_tables_of_a_select_are_found(text, tables):
    assert sql.tables_read(text) == set(tables.split("|") if "|" in tables else tables.split())


def test_tables_are_found_whatever_a_backslash_means():
    assert {"a", "b"} <= sql.tables_read(r"SELECT 'x\' FROM a, b -- '")
    assert {"a", "b"} <= sql.tables_read("SELECT 1 # it's\n FROM a, b")
    assert {"a"} <= sql.tables_read("SELECT 5--1 FROM a")


def test_occurrences_and_subqueries_are_counted():
    found = sql.reading('SELECT 1 FROM a JOIN a T2 ON 1 WHERE EXISTS(SELECT 1 FROM "a" UNION SELECT 1 FROM b)')

    assert (found.tables, found.groups, found.operands) == ({"a": 3, "b": 1}, 2, 3)


SURE = [
    'SELECT COUNT(*) AS "__count" FROM "a"',
    'SELECT DISTINCT "a"."x" FROM "a" WHERE "a"."y" IN (%s, %s) ORDER BY 1 ASC LIMIT 3 OFFSET 2',
    'SELECT CASE WHEN ("a"."x" > %s) THEN LOWER("a"."y") ELSE %s END FROM "a" GROUP BY 1 HAVING COUNT("a"."z") > 1',
    'SELECT CAST("a"."x" AS varchar(10)), ("a"."y")::numeric(8, 2), date("a"."z") FROM "a"',
    'SELECT django_datetime_trunc(%s, "a"."x", %s, %s), EXTRACT(YEAR FROM "a"."x" AT TIME ZONE %s) FROM "a"',
    'SELECT ROW_NUMBER() OVER (PARTITION BY "a"."x" ORDER BY "a"."y") FROM "a" WHERE "a"."user" = %s',
    'SELECT ARRAY_AGG("a"."x") FILTER (WHERE "a"."x" IS NOT NULL) FROM "a" WHERE "a"."t" && (%s)::varchar(9)[]',
]
DOUBTFUL = [
    "SELECT RANDOM() FROM a",
    "SELECT x FROM a ORDER BY RAND()",
    "SELECT CURRENT_TIMESTAMP FROM a",
    "SELECT STRFTIME('%%Y', 'NOW') FROM a",
    "SELECT date(%s) FROM a",
    "SELECT (%s)::timestamp with time zone FROM a",
    "SELECT my_function(x) FROM a",
    'SELECT "s"."f"(x) FROM a',
    "SELECT x FROM f(3)",
    "SELECT x FROM a FOR UPDATE",
    "SELECT x FROM a FOR NO KEY UPDATE SKIP LOCKED",
    "SELECT x INTO b FROM a",
    "SELECT x FROM pg_stat_activity",
    "SELECT x FROM information_schema.tables",
    "SELECT x FROM a TABLESAMPLE SYSTEM (10)",
    "SELECT @x FROM a",
    "SELECT x FROM a; SELECT 1",
    "WITH d AS (DELETE FROM a RETURNING x) SELECT x FROM d",
    "PRAGMA table_info(a)",
    "SELECT 'x FROM a",
    r"SELECT 'x\' FROM a, b -- '",
    "SELECT ctid FROM a",
]


@pytest.mark.parametrize("text", SURE)
def test_what_django_makes_depends_on_its_tables_alone(text):
    found = sql.reading(text)

    assert found.doubt == ""
    assert found.tables == {"a": 1}


@pytest.mark.parametrize("text", DOUBTFUL)
def test_what_may_depend_on_more_is_in_doubt(text):
    assert sql.reading(text).doubt


WRITES = {
    'INSERT INTO "a" ("x") VALUES (%s), (%s) RETURNING "a"."id"': "a",
    "INSERT OR IGNORE INTO `a` VALUES (1)": "a",
    'INSERT INTO "a" ("x") VALUES (%s) ON CONFLICT ("x") DO UPDATE SET "x" = EXCLUDED."x"': "a",
    "INSERT INTO a (x) VALUES (1) ON DUPLICATE KEY UPDATE x = 2": "a",
    "insert into a select * from b": "a",
    "REPLACE INTO a VALUES (1)": "a",
    "REPLACE a VALUES (1)": "a",
    'UPDATE "a" SET "x" = REPLACE("x", %s, %s) WHERE "a"."id" IN (SELECT U0."id" FROM "b" U0)': "a",
    "UPDATE OR REPLACE a SET x = 1": "a",
    "UPDATE ONLY public.a SET x = 1 FROM b": "a",
    "UPDATE a, b SET a.x = b.x": "a b",
    "UPDATE a JOIN b ON a.x = b.y SET a.x = 1": "a b",
    'DELETE FROM "a" WHERE "a"."id" = %s': "a",
    "DELETE FROM a USING b WHERE a.x = b.x": "a",
    "DELETE a, b FROM a JOIN b ON 1": "a b",
    "DELETE FROM a, b USING a JOIN b ON 1": "a b",
    "MERGE INTO a USING b ON a.x = b.x WHEN MATCHED THEN UPDATE SET x = 1 WHEN NOT MATCHED THEN INSERT VALUES (1)": "a",
    "TRUNCATE TABLE a, ONLY b RESTART IDENTITY": "a b",
    "TRUNCATE a": "a",
    "COPY a (x, y) FROM STDIN": "a",
    "COPY a TO STDOUT": "",
    "COPY (SELECT * FROM a) TO STDOUT": "",
    "ALTER TABLE a RENAME TO b": "a b",
    "DROP TABLE IF EXISTS a, b CASCADE": "a b",
    "CREATE TABLE a AS SELECT * FROM b": "a",
    "CREATE OR REPLACE VIEW a AS SELECT 1": "a",
    "CREATE INDEX x ON a (y)": "",
    "REFRESH MATERIALIZED VIEW CONCURRENTLY a": "a",
    "SELECT x INTO TEMP a FROM b": "a",
    "LOAD DATA INFILE 'x' INTO TABLE a": "a",
    "WITH d AS (DELETE FROM a RETURNING x) INSERT INTO b SELECT x FROM d": "a b",
    "WITH d AS (UPDATE a SET x = 1 RETURNING x) SELECT * FROM d": "a",
    'SELECT 1 FROM "c"; UPDATE "a" SET x = 1; DELETE FROM b': "a b",
    'UPDATE "a" SET x = 1; DELETE FROM b': "a b",
    "EXPLAIN ANALYZE DELETE FROM a": "a",
    "EXPLAIN DELETE FROM a": "",
    "/* hint */ DELETE FROM a": "a",
    "-- hint\nUPDATE a SET x = 'DELETE FROM b'": "a",
    "(SELECT x FROM a)": "",
    'SELECT "a"."x" FROM "a" WHERE "a"."x" = my_function(%s) FOR UPDATE': "",
    "SELECT f(x) FROM a": "",
    "SELECT pg_try_advisory_lock(%s)": "",
    "SELECT set_config(%s, %s, false), nextval('a_id_seq'), now()": "",
    "SELECT CAST(%s AS varchar(3)), (%s)::numeric(2)": "",
    "SHOW server_version": "",
    "SAVEPOINT s1": "",
    'RELEASE SAVEPOINT "s1"': "",
    "SET TIME ZONE 'UTC'": "",
    "PRAGMA foreign_keys = ON": "",
    "BEGIN": "",
    "": "",
    " -- nothing": "",
}
EVERYTHING = [
    "CALL p(1)",
    "DO $$ BEGIN DELETE FROM a; END $$",
    "EXECUTE prepared(1)",
    "SELECT refill_stock(3)",
    "SELECT * FROM refill_stock(3)",
    'SELECT "public"."refill"(1)',
    "TRUNCATE a CASCADE",
    "DROP SCHEMA s CASCADE",
    "ALTER TYPE mood RENAME VALUE 'a' TO 'b'",
    "COMMIT PREPARED 'x'",
    "ATTACH DATABASE 'x' AS y",
    "HANDLER a OPEN",
    "DELETE FROM a WHERE x = 'unfinished",
]


@pytest.mark.parametrize(("text", "tables"), WRITES.items())
def test_tables_that_a_statement_may_write_are_found(text, tables):
    assert sql.written(text) == sql.Written(frozenset(tables.split()))


@pytest.mark.parametrize("text", EVERYTHING)
def test_what_cannot_be_known_may_write_everything(text):
    assert sql.written(text).everything


def test_tables_written_are_named_as_they_stand_and_in_lower_case():
    assert sql.written("DELETE FROM Shop_Product").tables == {"Shop_Product", "shop_product"}
    assert sql.written('DELETE FROM "Shop_Product"').tables == {"Shop_Product", "shop_product"}


def test_a_write_hidden_by_a_dialect_is_found():
    assert "b" in sql.written(r"SELECT 'x\'; DELETE FROM b -- '").tables
    assert "b" in sql.written("SELECT 1 /*! ; DELETE FROM b */").tables
    assert "b" in sql.written("SELECT 1 /* /* */ ; DELETE FROM b /* */ */").tables


def test_lists_of_any_length_are_one_text():
    first = sql.reading("SELECT x FROM a WHERE y IN (%s, %s)")

    assert sql.reading("SELECT x FROM a WHERE y IN (%s, %s, %s, %s)") is first
    assert sql.reading("SELECT x FROM a WHERE y IN (%s)") is first
    assert sql.written("SELECT '%s, %s'; DELETE FROM a").tables == {"a"}


def test_long_texts_are_read_but_not_remembered():
    text = "DELETE FROM a WHERE x IN (" + ", ".join(["x + 1"] * 10_000) + ")"

    assert sql.written(text).tables == {"a"}


ISOLATION = [
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "set session transaction isolation level read committed",
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET LOCAL default_transaction_isolation TO 'serializable'",
    "SET @@session.transaction_isolation = 'READ-COMMITTED'",
    "SET tx_isolation = 'x'",
    "BEGIN ISOLATION LEVEL REPEATABLE READ",
    "START TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "START TRANSACTION WITH CONSISTENT SNAPSHOT",
    "SELECT 1; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SELECT set_config('transaction_isolation', %s, true)",
    "/* x */ SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "RESET ALL",
    "PRAGMA read_uncommitted = 1",
]


@pytest.mark.parametrize("text", ISOLATION)
def test_changes_of_isolation_are_seen(text):
    assert sql.changes_isolation(text)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 'isolation'",
        "SET TIME ZONE 'UTC'",
        "BEGIN",
        "SHOW transaction_isolation",
        "SELECT set_config('x', 'y', true)",
    ],
)
def test_other_statements_change_no_isolation(text):
    assert not sql.changes_isolation(text)


@pytest.mark.parametrize(
    "text",
    [
        "COMMIT", "commit work", "ROLLBACK", "ROLLBACK AND CHAIN", "BEGIN", "BEGIN IMMEDIATE", "START TRANSACTION",
        "END", "ABORT", "PREPARE TRANSACTION 'x'", "COMMIT PREPARED 'x'", "SELECT 1; COMMIT", "/* x */ COMMIT",
        "XA END 'x'",
    ],
)  # fmt: skip
def test_transactions_ended_by_hand_are_seen(text):
    assert sql.ends_transaction(text)


@pytest.mark.parametrize(
    "text",
    ["ROLLBACK TO SAVEPOINT x", "ROLLBACK TO x", "SAVEPOINT x", "SELECT 'COMMIT'", "PREPARE x AS SELECT 1",
     "SELECT CASE WHEN 1 THEN 2 END", "UPDATE a SET begin = 1",
     "CREATE TRIGGER x AFTER UPDATE ON a BEGIN DELETE FROM b; END"],
)  # fmt: skip
def test_other_statements_end_no_transaction(text):
    assert not sql.ends_transaction(text)
