"""The states of a node: every step of the table, every step that is forbidden, and the pace of probes."""

from itertools import product
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distcache_django.core.membership import GOOD_PROBES, Event, Member, State, probe_delay, step

UP, SUSPECT, DOWN, RECOVERING = State.UP, State.SUSPECT, State.DOWN, State.RECOVERING
FAILED, ANSWERED, SILENT, SETTLED = Event.FAILED, Event.ANSWERED, Event.SILENT, Event.SETTLED

ALLOWED = {
    (UP, FAILED): SUSPECT,
    (SUSPECT, FAILED): SUSPECT,
    (SUSPECT, ANSWERED): RECOVERING,
    (SUSPECT, SILENT): DOWN,
    (DOWN, FAILED): DOWN,
    (DOWN, ANSWERED): RECOVERING,
    (DOWN, SILENT): DOWN,
    (RECOVERING, FAILED): RECOVERING,
    (RECOVERING, ANSWERED): RECOVERING,
    (RECOVERING, SILENT): DOWN,
    (RECOVERING, SETTLED): UP,
}
FORBIDDEN = sorted(set(product(State, Event)) - set(ALLOWED), key=str)


def member(state, **fields):
    return Member("cache-a", state, good_probes=GOOD_PROBES, **fields)


def walk(*events, start=None):
    current = start or Member("cache-a")
    for now, event in enumerate(events, 1):
        current = step(current, event, float(now), event.value)
    return current


@pytest.mark.parametrize(("pair", "target"), ALLOWED.items(), ids=str)
def test_every_allowed_step_leads_where_the_table_says(pair, target):
    state, event = pair

    after = step(member(state), event, 9.0)

    assert after.state is target
    assert after.since == (0.0 if target is state else 9.0)


@pytest.mark.parametrize(("state", "event"), FORBIDDEN, ids=str)
def test_a_forbidden_step_raises_and_changes_nothing(state, event):
    before = member(state, reason="because", since=1.0)

    with pytest.raises(ValueError, match=f"node cache-a: {event.value} cannot happen while {state.value}"):
        step(before, event, 9.0)

    assert before == member(state, reason="because", since=1.0)


def test_a_node_settles_only_after_enough_good_probes_in_a_row():
    recovering = walk(FAILED, *[ANSWERED] * (GOOD_PROBES - 1))
    with pytest.raises(ValueError, match="settled cannot happen"):
        step(recovering, SETTLED, 9.0)
    assert not recovering.may_settle

    ready = step(recovering, ANSWERED, 9.0)

    assert ready.may_settle
    assert step(ready, SETTLED, 10.0).is_up


def test_silence_between_good_probes_starts_the_count_anew():
    again = walk(FAILED, *[ANSWERED] * (GOOD_PROBES - 1), SILENT, ANSWERED)

    assert again.state is RECOVERING
    assert again.good_probes == 1
    assert not again.may_settle


def test_failures_of_requests_do_not_disturb_the_counts_of_probes():
    bad = walk(FAILED, SILENT, SILENT)
    assert step(bad, FAILED, 9.0).bad_probes == 2

    good = walk(FAILED, *[ANSWERED] * GOOD_PROBES)
    assert step(good, FAILED, 9.0).may_settle


def test_the_reason_is_the_first_failures_until_probes_say_more():
    suspect = step(Member("cache-a"), FAILED, 1.0, "no answer")
    assert step(suspect, FAILED, 2.0, "another").reason == "no answer"
    assert step(suspect, SILENT, 2.0, "refused").reason == "refused"
    assert step(suspect, SILENT, 2.0).reason == "no answer"
    assert step(suspect, ANSWERED, 2.0).reason == "no answer"


def test_a_node_that_is_up_again_has_no_reason_and_no_history():
    up = walk(FAILED, SILENT, *[ANSWERED] * GOOD_PROBES, SETTLED)

    assert (up.state, up.reason, up.good_probes, up.bad_probes) == (UP, "", 0, 0)


@given(st.lists(st.sampled_from(Event), max_size=30))
def test_any_sequence_of_events_keeps_the_members_promises(events):
    current = Member("cache-a")
    for now, event in enumerate(events):
        before = current
        try:
            current = step(current, event, float(now))
        except ValueError:
            assert current is before
        assert current.is_up is (current.state is UP)
        assert current.may_settle is (current.state is RECOVERING and current.good_probes >= GOOD_PROBES)
        assert min(current.good_probes, current.bad_probes) == 0
        assert current.since <= now


@pytest.mark.parametrize("state", State)
def test_a_node_that_was_not_silent_is_probed_at_once(state):
    assert probe_delay(Member("cache-a", state), Random(1).uniform) == 0.0


@pytest.mark.parametrize(
    ("bad_probes", "seconds"), [(1, 0.05), (2, 0.1), (3, 0.2), (4, 0.4), (5, 0.5), (6, 0.5), (1000, 0.5)]
)
def test_probes_slow_down_to_half_a_second(bad_probes, seconds):
    silent = Member("cache-a", DOWN, bad_probes=bad_probes)

    assert probe_delay(silent, lambda low, high: 1.0) == pytest.approx(seconds)
    assert probe_delay(silent, lambda low, high: low) == pytest.approx(seconds * 0.8)
    assert probe_delay(silent, lambda low, high: high) == pytest.approx(seconds * 1.2)
