"""What every pushing reporter does: flush, account, and lose nothing when sending fails."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import pytest
from loguru import logger

import runtime
from actors import ActorRef, whereis
from actors._series_points import Point
from reporters import Statsd
from reporters._reporter import Flush, Kept, Reporter
from runtime.metrics import counter
from supervisors import Application
from supervisors.child_spec import ChildSpec
from tests.runtime.meeting import PATIENCE_S


class Faulty(Reporter):
    """Does with the points what the test's plan says: takes them, leaves some, or raises."""

    def __init__(self, plan: list[Any], kept: Kept) -> None:
        super().__init__("faulty", 3600.0, kept)
        self.plan = plan
        self.taken: list[float] = []

    def send(self, points: Sequence[Point]) -> Sequence[Point]:
        step = self.plan.pop(0)
        if isinstance(step, BaseException):
            raise step
        if step == "leave":
            self.trouble("the endpoint is tired")
            return points
        self.taken += [point.value for point in points]
        return ()

    def get_state(self) -> list[float]:  # type: ignore[override]
        return self.taken


class Shop:
    """A running application with a faulty reporter."""

    def __init__(self, *plan: Any) -> None:
        self.kept = Kept()
        child = ChildSpec("faulty", (Faulty.options(name="faulty").start_link, (list(plan), self.kept)))
        self.application = Application("shop", metrics=[counter("shop.order.count")], children=[child])

    def __enter__(self) -> Shop:
        self.application.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.application.stop()

    @property
    def reporter(self) -> ActorRef[Any]:
        ref = whereis("faulty")
        assert ref is not None
        return ref

    def flush(self) -> bool:
        sent: bool = self.reporter.ask(Flush())
        return sent


def test_what_a_failed_flush_left_is_sent_with_what_came_since() -> None:
    with Shop("leave", "take", "take") as shop:
        runtime.execute("shop.order")
        assert not shop.flush()
        assert (shop.kept.waiting_points, shop.kept.last_error) == (1, "the endpoint is tired")
        runtime.execute("shop.order")
        assert shop.flush()

        assert shop.reporter.get_state() == [2]
        assert (shop.kept.flushes, shop.kept.failed, shop.kept.waiting_points, shop.kept.last_error) == (2, 1, 0, "")


def test_a_flush_that_raises_is_told_and_ends_neither_the_reporter_nor_its_points() -> None:
    with Shop(ValueError("a defect"), "take", "take") as shop:
        runtime.execute("shop.order")
        before = shop.reporter
        assert not shop.flush()
        assert shop.kept.last_error == "ValueError('a defect')"
        runtime.execute("shop.order")
        assert shop.flush()

        assert shop.reporter is before
        assert shop.reporter.get_state() == [2]


def test_trouble_is_told_when_it_begins_and_when_it_is_over() -> None:
    told: list[str] = []
    logger.enable("reporters")
    sink = logger.add(lambda message: told.append(message.record["message"]), level="INFO")

    try:
        with Shop("leave", "leave", "take", "take") as shop:
            runtime.execute("shop.order")
            for _ in range(3):
                shop.flush()
    finally:
        logger.remove(sink)
        logger.disable("reporters")

    assert told == ["reporter faulty cannot send: the endpoint is tired", "reporter faulty works again"]


def test_nothing_to_send_is_not_sent() -> None:
    with Shop() as shop:
        assert shop.flush()
        assert shop.flush()


def test_a_killed_aggregator_costs_no_reporter_anything() -> None:
    with Shop("take", "take") as shop:
        runtime.execute("shop.order")
        aggregator = whereis("telemetry.aggregator")
        aggregator.kill()
        aggregator.wait(PATIENCE_S)
        runtime.execute("shop.order")

    assert shop.kept.waiting_points == 0
    assert shop.kept.failed == 0


def test_other_messages_are_not_taken_for_a_flush() -> None:
    with Shop() as shop:
        shop.reporter.tell("hello")
        assert shop.flush()

        assert shop.kept.flushes == 1


def test_one_declaration_may_serve_one_application_after_the_other() -> None:
    statsd = Statsd(port=1, interval_s=3600)

    for flushes in (1, 2):
        with Application("shop", metrics=[counter("shop.order.count")], children=[statsd]).running():
            runtime.execute("shop.order")

        assert statsd.statistics().flush.flushes == flushes


def test_what_a_fork_inherits_is_the_parents_to_send() -> None:
    statsd = Statsd(port=1, interval_s=3600)
    with Application("shop", metrics=[counter("shop.order.count")], children=[statsd]).running():
        runtime.execute("shop.order")
    kept = statsd.kept
    kept.progress = "in the middle of something"
    kept.pid = os.getppid()

    with Application("shop", metrics=[counter("shop.order.count")], children=[statsd]).running():
        assert kept.pid == os.getpid()
        assert kept.progress is None


@pytest.mark.parametrize("value", [0, -1, True, "1", None, float("inf"), float("nan")])
def test_an_interval_is_a_positive_number_of_seconds(value: Any) -> None:
    with pytest.raises(ValueError, match="expected interval_s to be a positive number of seconds, got: "):
        Statsd(interval_s=value)
