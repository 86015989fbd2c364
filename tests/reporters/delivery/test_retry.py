"""How long an endpoint is left alone, and how often a record is tried."""

from __future__ import annotations

import pytest
import tenacity

from reporters.delivery import Answer, RetryPolicy, Verdict, wait_retry_after

DOWN = Answer(Verdict.RETRY, "refused")


@pytest.mark.parametrize(("failures", "longest_s"), [(1, 0.5), (2, 1.0), (3, 2.0), (8, 60.0), (1_000, 60.0)])
def test_the_default_waits_any_time_up_to_a_bound_that_doubles(failures: int, longest_s: float) -> None:
    policy = RetryPolicy()

    waits = [policy.delay_s(failures, DOWN) for _ in range(300)]

    assert 0 <= min(waits) < longest_s / 8
    assert longest_s * 7 / 8 < max(waits) <= longest_s


@pytest.mark.parametrize(("asked_s", "waits_s"), [(1.0, 1.0), (90.0, 90.0), (86_400.0, 3_600.0)])
def test_the_default_waits_as_long_as_it_is_asked_to_and_at_most_an_hour(asked_s: float, waits_s: float) -> None:
    busy = Answer(Verdict.RETRY, "429", 429, retry_after_s=asked_s)

    assert RetryPolicy().delay_s(5, busy) == waits_s


def test_who_asks_for_no_pause_is_left_alone_like_anybody_else() -> None:
    policy = RetryPolicy(wait=wait_retry_after(tenacity.wait_exponential(multiplier=1, max=60)))
    hurried = Answer(Verdict.RETRY, "503", 503, retry_after_s=0.0)

    assert [policy.delay_s(failures, hurried) for failures in (1, 2, 3)] == [1, 2, 4]


def test_by_default_no_number_of_attempts_is_too_many() -> None:
    assert not RetryPolicy().gives_up(1_000_000, DOWN)
    assert RetryPolicy(stop=tenacity.stop_after_attempt(3)).gives_up(3, DOWN)
