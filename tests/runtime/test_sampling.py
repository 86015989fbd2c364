"""Sampling: a share of the events, and the share is carried along."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

import runtime
from actors import whereis
from actors.aggregator import Collect
from runtime import sampling
from runtime._table import table
from runtime.errors import InvalidValue
from runtime.metrics import counter
from runtime.testing import capture_events
from supervisors import Application

N = 4_000
METRIC = counter("shop.order.count", event_name="shop.order.stop")


@pytest.fixture
def seeded() -> Iterator[None]:
    """Make the choices repeatable once the application has configured its rates."""
    yield
    sampling.configure({})
    table.forget_snapshot()


def counted() -> float:
    (point,) = whereis("telemetry.aggregator").ask(Collect("test")).points
    return float(point.value)


@pytest.mark.parametrize("rates", [{"shop.order": 0.1}, {"shop.order.stop": 0.1}])
def test_sampled_counters_are_exact_in_expectation(rates: dict[str, float], seeded: None) -> None:
    with Application("sampled", metrics=[METRIC], sampling=rates).running():
        sampling._random = random.Random(7)
        for _ in range(N):
            runtime.span("shop.order", {}, lambda: (None, {}))

        total = counted()

    # 400 of 4,000 kept, each standing for 10: the deviation of the estimate is 190.
    assert total % 10 == pytest.approx(0)
    assert abs(total - N) < 4 * 190
    assert total != N


def test_starts_and_stops_of_sampled_spans_stay_paired(seeded: None) -> None:
    with Application("sampled", sampling={"shop.order": 0.5}).running(), capture_events("shop.*") as captured:
        for number in range(200):
            with runtime.span("shop.order", {"number": number}):
                pass

    started = [event.metadata["number"] for event in captured.of("shop.order.start")]
    assert started == [event.metadata["number"] for event in captured.of("shop.order.stop")]
    assert 40 < len(started) < 160
    assert {event.rate for event in captured.events} == {0.5}


def test_a_rate_of_one_and_a_rate_of_nought_mean_all_and_nothing(seeded: None) -> None:
    rates = {"shop.order": 0, "shop.cart": 1}
    with Application("sampled", sampling=rates).running(), capture_events("shop.*") as captured:
        for prefix in ("shop.order", "shop.cart"):
            with runtime.span(prefix):
                pass

    assert [event.name for event in captured.events] == ["shop.cart.start", "shop.cart.stop"]


@pytest.mark.parametrize("rate", [-0.1, 1.1, True, "0.1", None])
def test_a_bad_rate_is_refused_by_name(rate: object) -> None:
    with pytest.raises(InvalidValue, match=r"the sampling rate of shop.order to be a number from 0 to 1, got"):
        Application("sampled", sampling={"shop.order": rate})  # type: ignore[dict-item]


def test_a_name_may_be_given_in_segments() -> None:
    assert sampling.check_rates({("shop", "order"): 0.5}) == {"shop.order": 0.5}  # type: ignore[dict-item]
