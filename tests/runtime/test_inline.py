"""The inline carrier: in the emitter, and off as soon as it misbehaves."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from greenlet import GreenletExit

import runtime
from runtime._table import table
from runtime.testing import Capture, capture_events
from supervisors import Application
from tests.runtime.meeting import PATIENCE_S, Answer, Gate, in_threads

EVENT = "shop.order.placed"


@pytest.fixture
def captured() -> Iterator[Capture]:
    with capture_events("telemetry.*") as captured, Application("inline").running():
        yield captured
        for info in runtime.list_handlers():
            runtime.detach(info.id)


def accounts(handler_id: str) -> tuple[str, str, int, int, int, dict[str, int]]:
    (info,) = [info for info in runtime.list_handlers() if info.id == handler_id]
    box = info.mailbox
    assert box.accepted == box.handled + box.failed + box.discarded + box.pending
    return info.state, info.carrier, box.offered, box.handled, box.failed, box.dropped


def test_an_inline_handler_runs_in_the_emitters_thread_and_context(captured: Capture) -> None:
    current = contextvars.ContextVar("current", default="none")
    seen: list[Any] = []
    runtime.attach(
        "bridge", EVENT, lambda *event: seen.append((threading.get_ident(), current.get())), carrier="inline"
    )

    current.set("mine")
    runtime.execute(EVENT)

    assert seen == [(threading.get_ident(), "mine")]
    assert accounts("bridge") == ("running", "inline", 1, 1, 0, {})


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), MemoryError()])
def test_what_it_raises_stays_with_it_and_it_is_parked(captured: Capture, error: BaseException) -> None:
    def fail(*event: object) -> None:
        raise error

    runtime.attach("bridge", EVENT, fail, carrier="inline")

    runtime.execute(EVENT, {}, {"n": 1})
    runtime.execute(EVENT, {}, {"n": 2})

    assert accounts("bridge")[:1] + accounts("bridge")[3:5] == ("gave_up", 0, 1)
    assert [event.metadata["reason"] for event in captured.failures] == [error]
    assert captured.count("telemetry.handler.gave_up") == 1
    assert [letter.event.metadata for letter in runtime.dead_letters("bridge")] == [{"n": 1}]


@pytest.mark.parametrize("error", [KeyboardInterrupt, GreenletExit, asyncio.CancelledError])
def test_what_belongs_to_the_emitter_reaches_it_and_parks_nobody(captured: Capture, error: type[BaseException]) -> None:
    def interrupted(*event: object) -> None:
        raise error

    runtime.attach("bridge", EVENT, interrupted, carrier="inline")

    with pytest.raises(error):
        runtime.execute(EVENT)

    assert accounts("bridge") == ("running", "inline", 1, 0, 1, {})


def test_a_parked_one_may_be_reattached(captured: Capture) -> None:
    faults = [ValueError("once")]
    seen: list[str] = []

    def handle(event: str, *rest: object) -> None:
        if faults:
            raise faults.pop()
        seen.append(event)

    runtime.attach("bridge", EVENT, handle, carrier="inline")
    runtime.execute(EVENT)

    runtime.reattach("bridge")
    runtime.execute(EVENT)

    assert seen == [EVENT]
    assert accounts("bridge")[0] == "running"


def test_three_overruns_in_a_row_move_it_to_a_thread_when_it_says_so(captured: Capture) -> None:
    where: list[int] = []
    handled = threading.Event()

    def slow(event: str, measurements: dict[str, Any], metadata: dict[str, Any], config: Any) -> None:
        begun = time.perf_counter()
        while time.perf_counter() - begun < 0.002:
            pass
        where.append(threading.get_ident())
        if metadata["n"] == 4:
            handled.set()

    runtime.attach("bridge", EVENT, slow, carrier="inline", budget_s=0.001, fallback="thread")

    for n in range(5):
        runtime.execute(EVENT, {}, {"n": n})

    assert handled.wait(30)
    assert where[:3] == [threading.get_ident()] * 3
    assert set(where[3:]).isdisjoint(where[:3])
    (failure,) = captured.failures
    assert "3 times in a row" in str(failure.metadata["reason"])
    assert accounts("bridge")[:3] == ("running", "thread", 5)


def test_an_inline_handler_that_feeds_itself_ends_instead_of_the_emitter(captured: Capture) -> None:
    runtime.attach("bridge", EVENT, lambda *event: runtime.execute(EVENT), carrier="inline")

    runtime.execute(EVENT)

    assert accounts("bridge")[0] == "gave_up"
    assert isinstance(captured.failures[0].metadata["reason"], RecursionError)


def test_no_event_reaches_it_after_it_was_detached(captured: Capture) -> None:
    gate = Gate()
    seen: list[str] = []
    runtime.attach("first", EVENT, lambda *event: gate.pass_through(), carrier="inline", budget_s=PATIENCE_S)
    runtime.attach("second", EVENT, lambda event, *rest: seen.append(event), carrier="inline")
    second = table.find("second")
    emitter = Answer(lambda: runtime.execute(EVENT))
    gate.wait_reached()

    runtime.detach("second")
    gate.open()
    emitter.get()

    assert seen == []
    assert second.mailbox.statistics().dropped == {"closed": 1}


@pytest.mark.parametrize("fallback", ["none", "thread"])
def test_what_was_detached_and_fails_later_takes_nothing_from_who_has_its_id_now(
    captured: Capture, fallback: str
) -> None:
    gate = Gate()
    seen = threading.Event()

    def fail(*event: object) -> None:
        gate.pass_through()
        raise ValueError("late")

    runtime.attach("bridge", EVENT, fail, carrier="inline", fallback=fallback)
    emitter = Answer(lambda: runtime.execute(EVENT))
    gate.wait_reached()
    runtime.detach("bridge")
    runtime.attach("bridge", EVENT, lambda *event: seen.set())

    gate.open()
    emitter.get()
    runtime.attach("another", EVENT, lambda *event: None)  # now the routes are made anew, whoever spoiled them
    runtime.execute(EVENT)

    assert seen.wait(PATIENCE_S)
    assert accounts("bridge")[0] == "running"


def test_of_many_that_fail_at_once_each_is_reported_and_it_is_parked_once(captured: Capture) -> None:
    together = threading.Barrier(8)

    def fail(*event: object) -> None:
        together.wait(PATIENCE_S)
        raise ValueError("all")

    runtime.attach("bridge", EVENT, fail, carrier="inline", budget_s=PATIENCE_S)

    in_threads(8, lambda number: runtime.execute(EVENT))

    assert len(captured.failures) == 8
    assert captured.count("telemetry.handler.gave_up") == 1


class Hostile(Exception):
    """Does not want to be looked at."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


def test_an_exception_that_cannot_be_looked_at_is_reported_like_any_other(captured: Capture) -> None:
    error = Hostile()

    def fail(*event: object) -> None:
        raise error

    runtime.attach("bridge", EVENT, fail, carrier="inline")

    runtime.execute(EVENT)

    assert [event.metadata["reason"] for event in captured.failures] == [error]
    assert [letter.traceback for letter in runtime.dead_letters("bridge")] == [
        "Hostile, of which nothing can be told: RuntimeError"
    ]
