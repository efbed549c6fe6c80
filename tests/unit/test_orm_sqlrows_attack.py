"""What a driver counts as a parameter, and what a database calls a key, is not always what the text shows."""

import pytest

from distcache_django.orm.sqlrows import OneRow, one_row


@pytest.mark.parametrize(
    "sql",
    [
        # Drivers that fill in parameters themselves do not look for quotes and comments.
        "UPDATE t SET a = '%s' WHERE id = %s",
        "UPDATE t SET a = '%%%s' WHERE id = %s",
        "UPDATE t SET a = '%t' WHERE id = %s",
        "UPDATE t SET a = 1 /* %s */ WHERE id = %s",
        "UPDATE t SET a = 1, -- %s\n b = 2 WHERE id = %s",
        'UPDATE t SET "a%s" = 1 WHERE id = %s',
        # The key by another name.
        "UPDATE t SET rowid = 7 WHERE id = %s",
        'UPDATE t SET "_rowid_" = 7 WHERE id = %s',
        "UPDATE t SET Oid = 7 WHERE id = %s",
        "UPDATE t SET U&\"!0069d\" UESCAPE '!' = 7 WHERE id = %s",
    ],
)
def test_a_text_whose_row_may_be_another(sql: str) -> None:
    assert one_row(sql) is None


def test_signs_that_no_driver_counts() -> None:
    assert one_row("UPDATE t SET a = a %% 3, b = '%%s' /* 100%% */ WHERE id = %s") == OneRow("t", "id", 0)
