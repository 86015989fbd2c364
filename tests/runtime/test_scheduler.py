"""The scheduler: everything that is ready runs, nothing that goes wrong stops it, and it ends when told to."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from loguru import logger

from runtime import _dispatch, _native, _scheduler
from runtime._mailbox import Mailbox
from runtime._scheduler import Scheduler
from runtime._waiting import waiter
from runtime._watchdog import BLOCKED, BLOCKED_NS
from runtime.clock import FakeClock
from runtime.errors import BeamstalkError
from tests.runtime.meeting import PATIENCE_S, Gate, Hold, in_threads, until


class Task:
    """Something to activate: runs a call on a pooled greenlet, again for as long as that returns True."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.call = call
        self.done = threading.Event()

    def _activate(self) -> bool:
        again = self.call() is True
        if not again:
            self.done.set()
        return again

    def _blocks_hub(self) -> None: ...


def run(scheduler: Scheduler, call: Callable[[], Any]) -> Task:
    task = Task(call)
    scheduler.activate(task)
    return task


def native_threads() -> int:
    return len(os.listdir("/proc/self/task"))


def test_the_scheduler_of_the_process_starts_on_demand_and_stops() -> None:
    scheduler = _scheduler.scheduler()

    assert _scheduler.scheduler() is scheduler
    assert scheduler.statistics().running
    assert _scheduler.stop()
    assert not scheduler.statistics().running
    assert _scheduler.stop()
    assert _scheduler.scheduler() is not scheduler


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs /proc")
def test_a_stopped_scheduler_leaves_no_thread_and_no_file_behind() -> None:
    _scheduler.start()
    _scheduler.stop()
    until(lambda: not _scheduler._scheduler)
    threads, files = native_threads(), len(os.listdir("/proc/self/fd"))

    for _ in range(20):
        _scheduler.start()
        assert _scheduler.stop()

    until(lambda: native_threads() <= threads)
    gc.collect()
    until(lambda: len(os.listdir("/proc/self/fd")) <= files)


def test_many_threads_that_ask_at_once_get_the_same_scheduler() -> None:
    found: list[Scheduler] = []

    in_threads(8, lambda number: found.append(_scheduler.scheduler()))

    assert len(set(map(id, found))) == 1


def test_a_clock_or_a_seed_for_a_running_scheduler_is_refused() -> None:
    _scheduler.start()

    with pytest.raises(BeamstalkError, match="expected the scheduler to be stopped, got: a running one"):
        _scheduler.start(clock=FakeClock())


def test_what_is_posted_from_many_threads_runs_on_the_hub_each_once_and_in_order() -> None:
    scheduler = _scheduler.scheduler()
    ran: list[tuple[int, int, bool]] = []
    each, threads = 2_000, 4

    in_threads(
        threads,
        lambda number: [
            scheduler.post(lambda n=n: ran.append((number, n, scheduler.on_hub_thread()))) for n in range(each)
        ],
    )
    assert scheduler.wait_quiet(PATIENCE_S)

    assert len(ran) == each * threads
    assert all(on_hub for _, _, on_hub in ran)
    for number in range(threads):
        assert [n for who, n, _ in ran if who == number] == list(range(each))
    assert not scheduler.on_hub_thread()


def test_wake_ups_are_not_lost_when_the_hub_goes_to_sleep_between_them() -> None:
    scheduler = _scheduler.scheduler()

    for _ in range(2_000):
        ran = threading.Event()
        scheduler.post(ran.set)
        assert ran.wait(PATIENCE_S)


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(3), KeyboardInterrupt(), gevent.GreenletExit()])
def test_a_call_or_an_activity_that_fails_is_logged_and_nothing_else_happens(
    error: BaseException, capfd: pytest.CaptureFixture[str]
) -> None:
    scheduler = _scheduler.scheduler()
    logged: list[str] = []

    def fail() -> None:
        raise error

    logger.enable("runtime")
    sink = logger.add(lambda message: logged.append(str(message)), format="{message}", level="ERROR")
    try:
        scheduler.post(fail)
        run(scheduler, fail)
        scheduler.call_after(0, fail)
        assert run(scheduler, lambda: None).done.wait(PATIENCE_S)
        until(lambda: len(logged) == 3)
    finally:
        logger.remove(sink)
        logger.disable("runtime")

    assert all("unexpected failure in the scheduler" in line for line in logged)
    assert run(scheduler, lambda: None).done.wait(PATIENCE_S)


def test_an_activity_that_waits_leaves_the_hub_to_the_others() -> None:
    scheduler = _scheduler.scheduler()
    gate = Gate()

    waiting = [run(scheduler, gate.pass_through) for _ in range(200)]
    until(lambda: scheduler.statistics().greenlets >= 200)
    others = run(scheduler, lambda: None)

    assert others.done.wait(PATIENCE_S)
    assert not any(task.done.is_set() for task in waiting)
    gate.open()
    assert all(task.done.wait(PATIENCE_S) for task in waiting)


def test_greenlets_are_pooled_and_the_pool_is_bounded() -> None:
    scheduler = _scheduler.scheduler()
    gate = Gate()
    for task in [run(scheduler, lambda: None) for _ in range(1_000)]:
        assert task.done.wait(PATIENCE_S)
    assert scheduler.statistics().greenlets == 1

    waiting = [run(scheduler, gate.pass_through) for _ in range(300)]
    until(lambda: len(gate._waiting) == 300)
    gate.open()

    assert all(task.done.wait(PATIENCE_S) for task in waiting)
    assert scheduler.wait_quiet(PATIENCE_S)
    statistics = scheduler.statistics()
    assert statistics.greenlets == statistics.pooled == _scheduler._POOL


def test_an_activity_with_ever_more_to_do_starves_neither_timers_nor_others() -> None:
    scheduler = _scheduler.scheduler()
    over = threading.Event()

    busy = run(scheduler, lambda: not over.is_set())
    timer_fired = threading.Event()
    scheduler.call_after(0.001, timer_fired.set)
    gevent_slept = run(scheduler, lambda: gevent.sleep(0.001))

    assert timer_fired.wait(PATIENCE_S)
    assert gevent_slept.done.wait(PATIENCE_S)
    assert not busy.done.is_set()
    over.set()
    assert busy.done.wait(PATIENCE_S)


def test_who_blocks_the_hub_is_reported_with_its_stack() -> None:
    mail = Mailbox()
    _dispatch.publish({BLOCKED: (mail,)})
    scheduler = _scheduler.scheduler()
    told: list[str] = []

    class Hog(Task):
        def __str__(self) -> str:
            return "the hog"

        def _blocks_hub(self) -> None:
            told.append("told")

    def hold_the_hub() -> bool:
        # Again, if need be: on a busy machine the hub may have stood still, and that been told of, before it came here.
        until_s = time.monotonic() + 1
        while not told and time.monotonic() < until_s:
            pass
        return not told

    hog = Hog(hold_the_hub)
    scheduler.activate(hog)

    assert hog.done.wait(PATIENCE_S)
    assert told == ["told"]
    (event,) = [event for event in mail.load if event.metadata["activity"] != "None"]
    assert event.measurements["duration"] >= BLOCKED_NS
    assert event.metadata["activity"] == "the hog"
    assert "hold_the_hub" in event.metadata["stacktrace"]


def test_a_waiting_activity_does_not_count_as_blocking() -> None:
    scheduler = _scheduler.scheduler()
    gate = Gate()

    tasks = [run(scheduler, gate.pass_through), run(scheduler, lambda: gevent.sleep(PATIENCE_S))]
    gate.wait_reached()

    until(lambda: scheduler.statistics().blocked_ns == 0 and scheduler.statistics().greenlets == 2)
    assert not any(task.done.is_set() for task in tasks)
    gate.open()


# -- timers ------------------------------------------------------------------------------------------------------------


def test_timers_fire_on_the_hub_in_the_order_they_are_due() -> None:
    scheduler = _scheduler.scheduler()
    fired: list[tuple[int, bool]] = []
    begun = time.monotonic()

    hold = Hold()
    scheduler.post(hold.wait)  # so that none is due before the last one is made
    timers: dict[int, Any] = {}
    for n in (30, 10, 20, 0):
        timers[n] = scheduler.call_after(n / 1000, lambda n=n: fired.append((n, scheduler.on_hub_thread())))
    hold.release()
    until(lambda: len(fired) == 4)

    assert fired == [(n, True) for n in sorted(timers, key=lambda n: timers[n].due_ns)]
    assert time.monotonic() - begun >= 0.030


def test_timers_made_on_the_hub_fire_as_well() -> None:
    scheduler = _scheduler.scheduler()
    fired = threading.Event()

    scheduler.post(lambda: scheduler.call_after(0.001, lambda: scheduler.call_after(0, fired.set)))

    assert fired.wait(PATIENCE_S)


def test_a_cancelled_timer_does_not_fire() -> None:
    scheduler = _scheduler.scheduler()
    fired: list[str] = []
    after = threading.Event()

    hold = Hold()
    scheduler.post(hold.wait)  # so that it is not due before it is cancelled
    cancelled = scheduler.call_after(0.005, lambda: fired.append("cancelled"))
    scheduler.call_after(0.010, after.set)
    cancelled.cancel()
    cancelled.cancel()
    hold.release()

    assert after.wait(PATIENCE_S)
    assert fired == []


def test_time_limits_that_are_never_reached_pile_up_nowhere() -> None:
    scheduler = _scheduler.scheduler()

    for _ in range(5):
        for timer in [scheduler.call_after(3600, lambda: None) for _ in range(1_000)]:
            timer.cancel()
        assert scheduler.wait_quiet(PATIENCE_S)
    last = scheduler.call_after(3600, lambda: None)
    assert scheduler.wait_quiet(PATIENCE_S)

    assert len(scheduler._timers) < 2_500
    last.cancel()


def test_a_fake_clock_holds_the_timers_until_it_is_advanced_and_waits_for_what_they_start() -> None:
    clock = FakeClock()
    scheduler = _scheduler.start(clock=clock)
    happened: list[str] = []

    def wake_up() -> None:
        happened.append("timer")
        run(scheduler, lambda: happened.append("what it started"))

    scheduler.call_after(60, wake_up)
    scheduler.call_after(120, lambda: happened.append("later"))
    assert scheduler.wait_quiet(PATIENCE_S)
    assert happened == []

    clock.advance(60)

    assert happened == ["timer", "what it started"]


class Preempted(Scheduler):
    """One whose thread has to wait for the processor just before it says that nothing is ready, and just after."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = Hold(), Hold()

    def _tell_quiet(self) -> None:
        self.before.wait()
        has_told = len(self._quiet_waiters) > 0
        super()._tell_quiet()
        if has_told:
            self.after.wait()


def test_who_waits_for_quiet_is_not_told_by_a_hub_that_looked_before_there_was_work() -> None:
    scheduler = Preempted()
    scheduler.start()
    until(lambda: scheduler._parked)
    ran: list[str] = []

    scheduler.post(lambda: ran.append("work"))
    quiet: list[tuple[bool, list[str]]] = []
    # A thread of the system's, also in a host where threading makes greenlets: it waits as only such a one may.
    _native.start_new_thread(lambda: quiet.append((scheduler.wait_quiet(PATIENCE_S), list(ran))), ())
    until(lambda: len(scheduler._ready) == 2)
    scheduler.before.release()
    until(lambda: quiet)
    scheduler.after.release()

    assert quiet == [(True, ["work"])]
    assert scheduler.stop(PATIENCE_S)


def test_a_green_wait_has_its_time_by_the_fake_clock() -> None:
    clock = FakeClock()
    scheduler = _scheduler.start(clock=clock)
    answers: list[bool] = []

    run(scheduler, lambda: answers.append(waiter().wait(3600)))
    clock.advance(3599)
    assert answers == []
    clock.advance(1)

    assert answers == [False]


# -- repeatable disorder -----------------------------------------------------------------------------------------------


def _order(seed: int | None) -> list[int]:
    scheduler = _scheduler.start(seed=seed)
    ran: list[int] = []
    hold, held = Hold(), threading.Event()
    scheduler.post(lambda: (held.set(), hold.wait()))  # so that all of them are ready together
    assert held.wait(PATIENCE_S)
    tasks = [run(scheduler, lambda n=n: ran.append(n)) for n in range(100)]
    hold.release()
    for task in tasks:
        assert task.done.wait(PATIENCE_S)
    assert _scheduler.stop()
    return ran


def test_without_a_seed_what_is_ready_first_runs_first() -> None:
    assert _order(None) == list(range(100))


def test_a_seed_gives_another_order_and_the_same_seed_the_same() -> None:
    first, again, other = _order(7), _order(7), _order(8)

    assert first == again
    assert sorted(first) == list(range(100))
    assert first != list(range(100))
    assert first != other


# -- the end -----------------------------------------------------------------------------------------------------------


def test_stop_interrupts_who_holds_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_scheduler, "_INTERRUPT_S", PATIENCE_S)
    scheduler = _scheduler.scheduler()
    began, ended_by = threading.Event(), []

    def hold_the_hub() -> None:
        began.set()
        try:
            while True:
                pass
        except BaseException as error:
            ended_by.append(type(error))
            raise

    run(scheduler, hold_the_hub)
    assert began.wait(PATIENCE_S)

    assert _scheduler.stop(0.01) is True
    assert ended_by == [_scheduler.Interrupted]


def test_stop_says_so_when_even_that_does_not_help_and_the_next_scheduler_works() -> None:
    hold = Hold()
    began, over = threading.Event(), threading.Event()
    scheduler = _scheduler.scheduler()

    def stubborn() -> None:
        while not over.is_set():
            # No Python code runs in the wait that could be interrupted; on the way there some does.
            with contextlib.suppress(_scheduler.Interrupted):
                began.set()
                hold.wait()

    run(scheduler, stubborn)
    assert began.wait(PATIENCE_S)

    assert _scheduler.stop(0.01) is False

    assert run(_scheduler.scheduler(), lambda: None).done.wait(PATIENCE_S)
    over.set()
    hold.release()
    until(lambda: not scheduler.statistics().running)


def test_what_is_posted_while_it_stops_harms_nobody() -> None:
    for _ in range(30):
        scheduler = Scheduler()
        scheduler.start()

        def post(number: int, scheduler: Scheduler = scheduler) -> None:
            if number == 0:
                assert scheduler.stop(PATIENCE_S)
            for _ in range(200):
                scheduler.post(lambda: None)

        in_threads(3, post)
