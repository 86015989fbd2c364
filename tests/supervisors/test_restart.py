"""Restart intensity, back-off and the history of restarts, as plain data."""

from __future__ import annotations

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st

from supervisors._restart import Backoff, RestartHistory, RestartRecord, RestartWindow

S = 1_000_000_000


def test_max_restarts_are_granted_and_one_more_is_not() -> None:
    window = RestartWindow(max_restarts=3, max_seconds=5)

    assert [window.grant(0) for _ in range(4)] == [True, True, True, False]


def test_no_restart_is_granted_when_max_restarts_is_zero() -> None:
    assert not RestartWindow(max_restarts=0, max_seconds=5).grant(0)


def test_an_attempt_exactly_max_seconds_old_still_counts() -> None:
    window = RestartWindow(max_restarts=1, max_seconds=5)
    window.grant(0)

    assert not window.grant(5 * S)


def test_an_attempt_older_than_max_seconds_is_forgotten() -> None:
    window = RestartWindow(max_restarts=1, max_seconds=5)
    window.grant(0)

    assert window.grant(5 * S + 1)
    assert window.used(5 * S + 1) == 1


@given(st.integers(0, 4), st.lists(st.integers(0, 3 * S), max_size=30))
def test_an_attempt_is_granted_exactly_when_the_last_max_seconds_hold_no_more_than_max_restarts(
    max_restarts: int, gaps: list[int]
) -> None:
    window = RestartWindow(max_restarts, max_seconds=2.5)
    now, stamps = 0, []
    for gap in gaps:
        now += gap
        stamps.append(now)

        granted = window.grant(now)

        assert granted == (sum(stamp >= now - 2.5 * S for stamp in stamps) <= max_restarts)


def test_backoff_asks_the_policy_with_the_number_of_attempts_in_a_row() -> None:
    backoff = Backoff(tenacity.wait_incrementing(start=1, increment=2), reset_after_s=10)

    assert [backoff.next_delay_s(0, "boom") for _ in range(3)] == [1, 3, 5]


def test_backoff_starts_anew_after_a_quiet_time_longer_than_the_delay_and_the_reset_time() -> None:
    backoff = Backoff(tenacity.wait_incrementing(start=1, increment=2), reset_after_s=10)
    backoff.next_delay_s(0, "boom")

    assert backoff.next_delay_s(11 * S, "boom") == 3
    assert backoff.next_delay_s((11 + 3 + 10) * S + 1, "boom") == 1


def test_backoff_is_never_negative() -> None:
    assert Backoff(tenacity.wait_fixed(-1), reset_after_s=10).next_delay_s(0, "boom") == 0


@pytest.mark.parametrize(("reason", "delay"), [(ValueError("boom"), 7.0), ("boom", 2.0)])
def test_a_policy_may_look_at_what_the_child_died_of(reason: object, delay: float) -> None:
    policy = tenacity.wait_exception(lambda error: 7 if isinstance(error, ValueError) else 2)

    assert Backoff(policy, reset_after_s=10).next_delay_s(0, reason) == delay


def test_history_keeps_the_last_fifty_and_counts_all() -> None:
    history = RestartHistory()

    for number in range(60):
        history.add(RestartRecord("a", f"reason {number}", number))

    assert history.total == 60
    assert [record.time_ns for record in history.last()] == list(range(10, 60))


def test_history_of_a_supervisor_that_restarted_nothing_is_empty() -> None:
    assert RestartHistory().last() == ()
