"""Names of dependencies, and the bounded number of records in which they have their versions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distcache_django.core.freshness import RECORD_PREFIX
from distcache_django.core.slots import slot_of
from distcache_django.freshness import dependencies as names

BUCKETS = 2**20
TEXTS = st.text(min_size=1, max_size=20)
TABLES = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)


def test_each_kind_of_dependency_has_a_name_of_its_own():
    of_shop = [
        names.row("shop", "3"),
        names.field("shop", "brand_id", "3"),
        names.field("shop", "brand_id", None),
        names.field("shop", "brand_id", ""),
        names.field("shop", "brand_id", "None"),
        names.table("shop"),
        names.epoch("shop"),
        names.value_epoch("shop"),
        names.tag("shop"),
    ]

    assert len(set(of_shop)) == len(of_shop)


def test_a_coarse_write_ends_what_depends_on_the_table_or_on_its_epoch():
    assert names.coarse(["shop", "brand"]) == {"shop", "shop:*", "shop:=:*", "brand", "brand:*", "brand:=:*"}
    assert names.coarse([]) == set()


@pytest.mark.parametrize("name", ["shop", "shop:*", "shop:=:*", "über"])
def test_tables_and_epochs_have_records_of_their_own(name):
    assert names.record_tag(name, BUCKETS) is None
    assert names.record_key("site", name, BUCKETS) == f"{RECORD_PREFIX}site:{{{name}}}"


@given(name=st.one_of(TEXTS, TEXTS.map("shop:{}".format), TABLES.map(names.epoch), TEXTS.map(names.tag)))
def test_only_an_epoch_has_several_records_and_no_other_name_has_one_of_them(name):
    stripes = names.record_keys("site", names.epoch("shop"), BUCKETS)
    found = names.record_keys("site", name, BUCKETS)

    assert len(set(stripes)) == len(stripes) == names.STRIPES
    assert found[0] == names.record_key("site", name, BUCKETS)
    assert len(set(found)) == (names.STRIPES if names.is_epoch(name) else 1)
    assert not set(found) & set(stripes) or name == names.epoch("shop")


@pytest.mark.parametrize("name", ["#shop:*", "shop:*1", "shop:\\*", "shop*", "*", "shop:a:*", "shop:=b:*", "shop:c=:*"])
def test_what_looks_like_an_epoch_is_none(name):
    assert not names.is_epoch(name)
    assert len(names.record_keys("site", name, BUCKETS)) == 1


@given(table=TABLES, text=TEXTS, buckets=st.integers(1024, 2**32))
def test_rows_fields_and_tags_share_a_bounded_number_of_records(table, text, buckets):
    for name in (names.row(table, text), names.field(table, "c", text), names.tag(text)):
        found = names.record_tag(name, buckets)
        if name in names.epochs([table]):  # a row whose key is an asterisk: its records are those of the epoch
            continue
        assert found is not None
        assert int(found, 16) < buckets


def test_records_are_used_evenly():
    found = [names.record_tag(names.row("shop", str(pk)), 1024) for pk in range(100_000)]

    counts = [found.count(tag) for tag in set(found)]
    assert len(counts) == 1024
    assert max(counts) < 160


def test_a_name_has_the_same_record_in_every_process_and_release():
    """The hash is not Python's, which differs between processes."""
    assert names.record_key("site", "shop:42", BUCKETS) == "dc:v:site:{26d3a}"
    assert names.record_key("site", "shop:brand=\0", BUCKETS) == "dc:v:site:{18d4a}"


def test_any_text_can_be_a_value():
    for text in ("\ud800", "é", "", "x" * 10_000, "{a}", "a\nb"):
        assert names.record_tag(names.tag(text), BUCKETS)


@given(pk=st.integers(0, 10**9))
def test_an_answer_can_be_put_beside_the_record_of_a_row(pk):
    """The name in braces decides the slot, of the record and of whatever else has it in braces."""
    name = names.row("shop", str(pk))
    tag = names.record_tag(name, BUCKETS)

    assert slot_of(names.record_key("site", name, BUCKETS)) == slot_of(f"site:1:q:{{{tag}}}:digest")
