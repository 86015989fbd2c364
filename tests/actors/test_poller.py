"""The poller: measures on time, for ever, whatever the measurement does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from greenlet import GreenletExit

import runtime
from actors import processes
from actors.poller import FAILURE, Measurement, Poller, PollerStatistics
from runtime._mailbox import Mailbox
from runtime.clock import FakeClock
from runtime.errors import InvalidValue
from tests.runtime.meeting import PATIENCE_S, Gate, until

Routed = Callable[..., Mailbox]


def test_it_measures_at_once_and_then_once_a_period(clock: FakeClock) -> None:
    times: list[int] = []

    ref = Poller.start(Measurement(lambda: times.append(clock.monotonic_ns() // 10**9), period_s=10))
    until(lambda: times == [0])
    for n in (1, 2, 3):
        until(lambda n=n: ref.get_state().measured == n)
        clock.advance(9)
        assert len(times) == n
        clock.advance(1)
        until(lambda n=n: len(times) == n + 1)

    assert times == [0, 10, 20, 30]


def test_a_measurement_runs_in_a_thread_of_its_own_and_may_block() -> None:
    gate = Gate()
    threads: list[int] = []

    def measure() -> None:
        threads.append(threading.get_native_id())
        gate.pass_through()

    refs = [Poller.start(Measurement(measure, period_s=3600)) for _ in range(3)]
    until(lambda: len(threads) == 3)

    assert len(set(threads)) == 3
    gate.open()
    assert all(ref.is_alive() for ref in refs)


@pytest.mark.parametrize(
    "error", [ValueError("bad"), SystemExit(3), KeyboardInterrupt(), GreenletExit()], ids=lambda e: type(e).__name__
)
def test_a_failing_measurement_is_told_and_tried_again_after_a_pause_that_doubles_up_to_ten_periods(
    clock: FakeClock, routed: Routed, error: BaseException, capfd: pytest.CaptureFixture[str]
) -> None:
    mail = routed(FAILURE)
    times: list[int] = []

    def measure() -> None:
        times.append(clock.monotonic_ns() // 10**9)
        if len(times) <= 6:
            raise error

    def after(n: int) -> None:
        until(lambda: (state := ref.get_state()).measured + state.failed == n)

    ref = Poller.start(Measurement(measure, period_s=1, name="disk"))
    for n, pause in enumerate([2, 4, 8, 10, 10, 10, 1, 1], start=1):
        after(n)
        clock.advance(pause - 0.001)
        assert len(times) == n
        clock.advance(0.001)
    after(9)

    assert ref.get_state() == PollerStatistics("disk", measured=3, failed=6, failing=0)
    assert [event.measurements["failing"] for event in mail.load] == [1, 2, 3, 4, 5, 6]
    assert all(event.metadata["measurement"] == "disk" for event in mail.load)
    assert all(event.metadata["reason"] is error for event in mail.load)
    assert capfd.readouterr().err == ""


def test_what_it_measures_it_emits_itself(routed: Routed) -> None:
    mail = routed("disk.free")

    Poller.start(Measurement(lambda: runtime.execute("disk.free", {"bytes": 7}), period_s=3600))

    until(lambda: [event.measurements for event in mail.load] == [{"bytes": 7}])


def test_a_stopped_poller_measures_no_more(clock: FakeClock) -> None:
    times: list[int] = []
    ref = Poller.start(Measurement(lambda: times.append(1), period_s=1))
    until(lambda: ref.get_state().measured == 1)

    ref.stop()
    clock.advance(10)

    assert times == [1]


def test_a_measurement_that_hangs_can_be_killed() -> None:
    gate = Gate()
    ref = Poller.start(Measurement(gate.pass_through, period_s=1))
    gate.wait_reached()

    ref.kill()

    assert ref.wait(PATIENCE_S) == "killed"
    gate.open()
    assert processes() == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((7,), "expected measure to be a plain function to be called without arguments, got: 7"),
        (
            (len,),
            "expected measure to be a plain function to be called without arguments, got: <built-in function len>",
        ),
        ((print, 1.0, 7), "expected name to be a string, got: 7"),
        ((print, 0), "expected period_s to be a positive number of seconds, got: 0"),
        ((print, True), "expected period_s to be a positive number of seconds, got: True"),
        ((print, "often"), "expected period_s to be a positive number of seconds, got: 'often'"),
        ((print, float("nan")), "expected period_s to be a positive number of seconds, got: nan"),
    ],
)
def test_a_bad_measurement_is_refused_in_one_sentence(arguments: Any, sentence: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        Measurement(*arguments)

    assert str(caught.value) == sentence


def test_a_coroutine_function_is_no_measurement() -> None:
    async def measure() -> None: ...

    with pytest.raises(InvalidValue, match="expected measure to be a plain function to be called without arguments"):
        Measurement(measure)


def test_a_measurement_is_called_after_its_function_unless_it_has_a_name() -> None:
    assert Measurement(print).name == "print"
    assert Measurement(print, name="mine").name == "mine"
