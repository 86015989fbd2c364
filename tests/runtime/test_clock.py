"""The clocks: the machine's, and one that moves only when a test says so."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.clock import Clock, FakeClock
from runtime.errors import InvalidValue


def test_the_machines_clock_is_the_machines() -> None:
    clock = Clock()

    before, now, after = time.monotonic_ns(), clock.monotonic_ns(), time.monotonic_ns()

    assert before <= now <= after
    assert abs(clock.system_ns() - time.time_ns()) < 60 * 10**9


def test_a_monotonic_instant_has_a_calendar_time() -> None:
    clock = FakeClock(monotonic_ns=100, system_ns=1_000)

    clock.advance(1.0)

    assert clock.system_of(100) == 1_000
    assert clock.system_of(clock.monotonic_ns()) == clock.system_ns() == 1_000_001_000


def test_a_fake_clock_stands_still() -> None:
    clock = FakeClock()

    assert clock.monotonic_ns() == clock.monotonic_ns() == 0


def test_timers_fire_in_the_order_they_are_due_each_at_its_own_time() -> None:
    clock = FakeClock()
    fired: list[tuple[str, int]] = []
    for name, delay_s in [("late", 3.0), ("early", 1.0), ("middle", 2.0)]:
        clock.call_after(delay_s, lambda name=name: fired.append((name, clock.monotonic_ns())))

    clock.advance(2.5)

    assert fired == [("early", 1_000_000_000), ("middle", 2_000_000_000)]
    assert clock.monotonic_ns() == 2_500_000_000


def test_timers_of_the_same_instant_fire_in_the_order_they_were_made() -> None:
    clock = FakeClock()
    fired: list[int] = []
    for n in range(20):
        clock.call_after(1.0, lambda n=n: fired.append(n))

    clock.advance(1.0)

    assert fired == list(range(20))


def test_a_timer_made_by_a_timer_fires_in_the_same_advance_if_it_is_due() -> None:
    clock = FakeClock()
    fired: list[int] = []

    def again() -> None:
        fired.append(clock.monotonic_ns())
        if len(fired) < 10:
            clock.call_after(1.0, again)

    clock.call_after(1.0, again)
    clock.advance(4.0)

    assert fired == [n * 1_000_000_000 for n in (1, 2, 3, 4)]


def test_a_cancelled_timer_does_not_fire_and_may_be_cancelled_again() -> None:
    clock = FakeClock()
    fired: list[int] = []
    timer = clock.call_after(1.0, lambda: fired.append(1))

    timer.cancel()
    timer.cancel()
    clock.advance(2.0)

    assert fired == []


def test_a_delay_below_zero_is_due_at_once_but_only_by_advancing() -> None:
    clock = FakeClock()
    fired: list[int] = []
    clock.call_after(-5.0, lambda: fired.append(clock.monotonic_ns()))

    assert fired == []
    clock.advance(0)

    assert fired == [0]


def test_time_does_not_go_back() -> None:
    with pytest.raises(InvalidValue, match="expected seconds to be zero or more, got: -1"):
        FakeClock().advance(-1)


@given(st.lists(st.floats(0, 100), max_size=20), st.lists(st.floats(0, 30), min_size=1, max_size=10))
def test_advancing_in_steps_fires_what_advancing_at_once_fires(delays: list[float], steps: list[float]) -> None:
    def fire(advances: list[float]) -> list[int]:
        clock = FakeClock()
        fired: list[int] = []
        for n, delay_s in enumerate(delays):
            clock.call_after(delay_s, lambda n=n: fired.append(n))
        for step in advances:
            clock.advance(step)
        return fired

    stepwise = fire(steps)
    whole_ns = sum(round(step * 1e9) for step in steps)

    assert stepwise == fire([whole_ns / 1e9])
