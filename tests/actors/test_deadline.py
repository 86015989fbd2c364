"""Handlers that never return, and green ones that hold the hub."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

import runtime
from actors import Actor, processes
from actors._handler import HandlerActor
from runtime import Event, _scheduler
from runtime.clock import FakeClock
from runtime.testing import Capture, capture_events
from supervisors import Application
from tests.runtime.meeting import PATIENCE_S, Hold, until

EVENT = "shop.order.placed"


@pytest.fixture
def hold() -> Iterator[Hold]:
    """What hung handlers wait for; released at the end, so that no thread outlives the test."""
    hold = Hold()
    yield hold
    hold.release()


@pytest.fixture
def captured() -> Iterator[Capture]:
    with capture_events("telemetry.*", "runtime.scheduler.*") as captured, Application("deadlines").running():
        yield captured
        for info in runtime.list_handlers():
            runtime.detach(info.id)


def info(handler_id: str) -> Any:
    (found,) = [info for info in runtime.list_handlers() if info.id == handler_id]
    return found


def blocked_by_handler(captured: Capture) -> list[Event]:
    """What was told of a handler that holds the hub; on a busy machine the hub may stand still for other reasons."""
    told = captured.of("runtime.scheduler.blocked")
    return [event for event in told if "HandlerActor" in event.metadata["activity"]]


def hold_the_hub_again() -> None:
    """Emit once more when the last event is handled; one stand-still of the hub is told once, whatever it was."""
    if info("hog").mailbox.pending == 0:
        runtime.execute(EVENT)


def test_a_hung_handler_is_fenced_counted_reported_and_replaced(
    clock: FakeClock, captured: Capture, hold: Hold
) -> None:
    # By a clock of the test's own: on a busy machine, an event that does not hang might take as long as well.
    seen: list[int] = []
    hangs, done = threading.Event(), threading.Event()

    def hang_once(event: str, measurements: dict[str, Any], metadata: dict[str, Any], config: Any) -> None:
        if metadata["n"] == 0:
            hangs.set()
            hold.wait()
        seen.append(metadata["n"])
        if metadata["n"] == 2:
            done.set()

    clock.advance(1)
    runtime.attach("hung", EVENT, hang_once, deadline_s=60)
    for n in range(3):
        runtime.execute(EVENT, {}, {"n": n})
    assert hangs.wait(PATIENCE_S)
    clock.advance(59)
    assert captured.failures == []
    clock.advance(1)
    clock.advance(1)  # the pause before the restart

    assert done.wait(PATIENCE_S)
    (failure,) = captured.failures
    assert "to return within 60 s" in str(failure.metadata["reason"])
    assert seen == [1, 2]
    assert info("hung").restarts == 1
    assert [letter.event.metadata["n"] for letter in runtime.dead_letters("hung")] == [0]

    hold.release()  # the late result is ignored
    runtime.execute(EVENT, {}, {"n": 3})
    until(lambda: info("hung").mailbox.pending == 0)
    box = info("hung").mailbox
    assert (box.offered, box.handled, box.failed) == (4, 3, 1)


def test_a_handler_that_abandons_too_many_threads_is_parked(captured: Capture, hold: Hold) -> None:
    runtime.attach("hung", EVENT, lambda *event: hold.wait(), deadline_s=0.02, max_abandoned=2, max_restarts=100)
    for _ in range(5):
        runtime.execute(EVENT)

    captured.wait_for("telemetry.handler.gave_up", timeout_s=PATIENCE_S)

    assert info("hung").state == "gave_up"
    assert info("hung").mailbox.failed == 2
    assert info("hung").mailbox.pending == 3


def test_a_green_handler_that_holds_the_hub_is_reported_with_its_stack(captured: Capture, hold: Hold) -> None:
    runtime.attach("hog", EVENT, lambda *event: hold.wait(1.0), carrier="green")

    until(lambda: hold_the_hub_again() or blocked_by_handler(captured))
    hold.release()

    blocked = blocked_by_handler(captured)[0]

    assert blocked.measurements["duration"] >= 100_000_000
    assert "hold.wait" in blocked.metadata["stacktrace"]
    assert info("hog").carrier == "green"


def test_a_green_handler_that_holds_the_hub_moves_to_a_thread_when_it_says_so(captured: Capture, hold: Hold) -> None:
    threads: list[int] = []
    done = threading.Event()

    def hog(event: str, measurements: dict[str, Any], metadata: dict[str, Any], config: Any) -> None:
        threads.append(threading.get_ident())
        hold.wait(1.0)
        if "last" in metadata:
            done.set()

    runtime.attach("hog", EVENT, hog, carrier="green", fallback="thread")
    (green,) = [ref for ref in processes() if ref.actor_class is HandlerActor]
    until(lambda: hold_the_hub_again() or not green.is_alive())
    hold.release()
    runtime.execute(EVENT, {}, {"last": True})

    assert done.wait(PATIENCE_S)
    assert len(set(threads)) == 2
    assert info("hog").carrier == "thread"
    assert captured.failures == []


def test_a_thread_that_comes_back_after_everything_has_ended_starts_nothing_again(hold: Hold) -> None:
    seen: list[str] = []

    class Late(Actor):
        carrier = "thread"

        def on_receive(self, message: Any) -> None:
            seen.append("inside")
            hold.wait()
            self.send_after(0, "more").cancel()
            self.clock.monotonic_ns()
            seen.append("over")

    with Application("ends").running():
        ref = Late.start()
        ref.tell("work")
        until(lambda: seen == ["inside"])
        ref.kill()
        ref.wait(60)
    assert _scheduler._scheduler is None

    hold.release()

    until(lambda: seen == ["inside", "over"])
    assert _scheduler._scheduler is None
