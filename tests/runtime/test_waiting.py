"""Waiting fits whoever waits: a thread parks, a greenlet gives its hub to the others."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import gevent
import pytest

from runtime import _scheduler
from runtime._waiting import HostHubWaiter, ThreadWaiter, Waiter, waiter
from runtime.errors import BeamstalkError
from tests.runtime.meeting import PATIENCE_S, Answer, in_a_hub


def in_host_hub(work: Callable[[], Any]) -> Any:
    """Run something in a greenlet of a gevent host."""
    return in_a_hub(lambda: gevent.spawn(work).get())


class GreenCall:
    """Runs a call on a pooled greenlet of the scheduler."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.call = call
        self.result: list[Any] = []
        self.done = threading.Event()
        _scheduler.scheduler().activate(self)

    def _activate(self) -> bool:
        self.result.append(self.call())
        self.done.set()
        return False

    def _blocks_hub(self) -> None: ...

    def get(self) -> Any:
        assert self.done.wait(PATIENCE_S)
        return self.result[0]


def in_green(work: Callable[[], Any]) -> Any:
    return GreenCall(work).get()


@pytest.fixture(params=["thread", "green", "host hub"])
def inside(request: pytest.FixtureRequest) -> Callable[[Callable[[], Any]], Any]:
    """Run a call where the test is told to: in a plain thread, on our hub, on a host's hub."""
    return {"thread": lambda work: Answer(work).get(), "green": in_green, "host hub": in_host_hub}[request.param]


Inside = Callable[[Callable[[], Any]], Any]


def test_a_wake_from_another_thread_ends_the_wait(inside: Inside) -> None:
    def work() -> bool:
        waiting = waiter()
        threading.Timer(0.01, waiting.wake).start()
        return waiting.wait(PATIENCE_S)

    assert inside(work) is True


def test_a_wake_before_the_wait_ends_it_at_once(inside: Inside) -> None:
    def work() -> bool:
        waiting = waiter()
        waiting.wake()
        waiting.wake()
        return waiting.wait(PATIENCE_S)

    assert inside(work) is True


def test_a_wake_from_the_same_hub_ends_the_wait(inside: Inside) -> None:
    def work() -> bool:
        waiting = waiter()
        if isinstance(waiting, ThreadWaiter):
            waiting.wake()
        elif isinstance(waiting, HostHubWaiter):
            gevent.spawn(waiting.wake)
        else:
            _scheduler.scheduler().post(waiting.wake)
        return waiting.wait(PATIENCE_S)

    assert inside(work) is True


@pytest.mark.parametrize("timeout_s", [0, 0.001, -1.0])
def test_without_a_wake_the_wait_ends_when_its_time_is_over(inside: Inside, timeout_s: float) -> None:
    assert inside(lambda: waiter().wait(timeout_s)) is False


def test_a_wake_that_finds_no_stack_left_does_not_return_as_if_it_had_taken_place() -> None:
    waiting = ThreadWaiter()
    returned: list[bool] = []

    def dive() -> None:
        # At the bottom there is no stack for anything; from there upwards there is a little more of it at every call.
        with contextlib.suppress(RecursionError):
            dive()
        try:  # `suppress` would need more stack than the wake
            if not returned:
                waiting.wake()
                returned.append(True)
        except RecursionError:
            return

    dive()

    assert waiting.wait(0) is True


def test_a_wake_long_after_the_wait_harms_nobody(inside: Inside) -> None:
    late: list[Waiter] = []

    def work() -> None:
        waiting = waiter()
        late.append(waiting)
        waiting.wait(0.001)

    inside(work)  # a host's hub is destroyed by now
    late[0].wake()
    late[0].wake()


def test_a_wake_does_not_tear_a_greenlet_out_of_another_wait_of_its_own() -> None:
    def work() -> bool:
        waiting = waiter()
        waiting.wake()
        gevent.sleep(0.01)
        return waiting.wait(PATIENCE_S)

    assert in_host_hub(work) is True


def test_others_run_on_a_hosts_hub_meanwhile() -> None:
    ran: list[int] = []

    def work() -> list[int]:
        waiting = waiter()

        def others() -> None:
            for n in range(5):
                ran.append(n)
                gevent.sleep(0)
            waiting.wake()

        gevent.spawn(others)
        waiting.wait(PATIENCE_S)
        return list(ran)

    assert in_host_hub(work) == [0, 1, 2, 3, 4]


def test_others_run_on_our_hub_meanwhile() -> None:
    waiting: list[Waiter] = []
    ready = threading.Event()

    def wait() -> bool:
        waiting.append(waiter())
        ready.set()
        return waiting[0].wait(PATIENCE_S)

    first = GreenCall(wait)
    assert ready.wait(PATIENCE_S)
    assert in_green(lambda: "others run") == "others run"
    waiting[0].wake()

    assert first.get() is True


def test_many_threads_wake_many_waiters_and_none_is_forgotten(inside: Inside) -> None:
    def work() -> int:
        woken = 0
        for _ in range(200):
            waiting = waiter()
            wakers = [threading.Thread(target=waiting.wake) for _ in range(2)]
            for waker in wakers:
                waker.start()
            woken += waiting.wait(PATIENCE_S)
            for waker in wakers:
                waker.join()
        return woken

    assert inside(work) == 200


def test_a_callback_of_the_loop_must_not_wait() -> None:
    errors: list[BaseException] = []

    def work() -> None:
        def callback() -> None:
            try:
                waiter()
            except BeamstalkError as error:
                errors.append(error)

        gevent.get_hub().loop.run_callback(callback)
        gevent.sleep(0)

    in_host_hub(work)

    assert str(errors[0]) == "expected to wait in a greenlet or thread, got: a callback of the gevent loop"


def test_a_greenlet_that_is_killed_while_it_waits_leaves_the_wait() -> None:
    def work() -> str:
        def wait() -> None:
            waiting = waiter()
            late.append(waiting)
            waiting.wait(PATIENCE_S)

        late: list[Waiter] = []
        waiting = gevent.spawn(wait)
        gevent.sleep(0)
        waiting.kill()
        late[0].wake()
        gevent.sleep(0)
        return str(waiting.dead)

    assert in_host_hub(work) == "True"
