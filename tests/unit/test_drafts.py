"""Writes on their way: what each owner's answer means."""

import pytest

from distcache_django.core.drafts import Draft, judge, statuses
from distcache_django.core.record import NO_STAMP, VALUE, Record
from distcache_django.core.requests import LATE, STRANGE
from distcache_django.core.slots import slot_of
from distcache_django.exceptions import NodeTimeout, NodeUnreachable

STAMP = b"\x01" * 14


@pytest.fixture
def draft():
    return Draft("k", "abc", lambda stamp: Record(VALUE, stamp))


def test_what_is_stored_counts_once_all_others_are_noted(draft):
    for status in (b"S", b"="):
        judge(draft, "ab"[status == b"="], status, frozenset())
    assert (draft.stored, draft.missing, draft.acknowledged) == ({"a", "b"}, {"c"}, 0)

    judge(draft, "a", b"=", frozenset("c"))
    assert draft.acknowledged == 1
    judge(draft, "b", b"=", frozenset("ac"))
    assert draft.acknowledged == 2


def test_answers_of_something_newer_or_too_early_are_kept_apart(draft):
    judge(draft, "a", b"O" + STAMP, frozenset())
    assert (draft.newer, draft.is_ahead, draft.stored) == (STAMP, False, set())
    judge(draft, "b", b"P" + b"\x02" * 14, frozenset())
    assert (draft.newer, draft.is_ahead) == (b"\x02" * 14, False)
    assert draft.failed == dict.fromkeys("ab", "has something newer")
    judge(draft, "c", b"A", frozenset())
    assert draft.is_ahead
    draft.renew(STAMP)
    judge(draft, "c", b"A", frozenset())
    assert (draft.newer, draft.is_ahead) == (NO_STAMP, True)


def test_only_what_may_have_arrived_is_in_doubt(draft):
    for status in (LATE, STRANGE, NodeUnreachable("a", "refused")):
        judge(draft, "a", status, frozenset())
        assert not draft.doubt
    judge(draft, "a", NodeTimeout("a", "silent"), frozenset())
    assert (draft.doubt, draft.failed) == (True, {"a": "silent"})
    judge(draft, "a", b"S", frozenset())
    assert draft.failed == {}


def test_a_draft_that_is_made_again_forgets_answers_and_no_doubt(draft):
    judge(draft, "a", b"S", frozenset())
    judge(draft, "b", b"A", frozenset())

    draft.renew(STAMP)

    assert (draft.record.stamp, draft.stored, draft.noted, draft.failed) == (STAMP, set(), {}, {})
    assert (draft.doubt, draft.is_ahead, draft.newer, draft.slot) == (True, False, b"", slot_of("k"))
    other = Draft("k", "abc", lambda stamp: Record(VALUE, stamp))
    other.renew(STAMP)
    assert not other.doubt


def test_one_answer_may_be_to_all_records():
    assert statuses([b"S", b"O"], 2) == [b"S", b"O"]
    assert statuses(LATE, 2) == [LATE, LATE]
