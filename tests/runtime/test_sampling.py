"""Sampling: a share of the events, and the share is carried along.

"Exact in expectation" is a statement about chance, so it is shown in two ways. A sampled counter is an estimate: of N
emissions each is kept with probability r and then stands for 1/r, so the estimate is a binomial variable K divided by
r, with mean N and variance N(1-r)/r. Over seeds in a row the mean of the estimates must come near N, and their spread
near that variance. The seeds are written down, so a run repeats exactly and nothing here fails by bad luck.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import pytest

import runtime
from actors import whereis
from actors._series import SeriesStore
from actors.aggregator import Collect
from runtime import _dispatch, sampling
from runtime._mailbox import Mailbox
from runtime._table import table
from runtime.errors import InvalidValue
from runtime.metrics import counter, sum, summary
from runtime.testing import capture_events
from supervisors import Application

N = 4_000
SEEDS = range(40)
COUNT = counter("shop.order.count", event_name="shop.order.stop")
ITEMS = sum("shop.order.items", event_name="shop.order.stop")


@pytest.fixture(autouse=True)
def no_rates_afterwards() -> Iterator[None]:
    yield
    sampling.configure({})
    table.forget_snapshot()


def estimates(rate: float, seed: int) -> tuple[float, float, float]:
    """Sample N orders of 0, 1, 2, 3, 0, 1, … items: (orders counted, items added up, measurements of a summary)."""
    store = SeriesStore([COUNT, ITEMS, summary("shop.order.size", event_name="shop.order.stop", measurement="items")])
    mailbox = Mailbox(N)
    sampling.configure({"shop.order.stop": rate}, random.Random(seed))
    _dispatch.publish(sampling.sampled({"shop.order.stop": (mailbox,)}))
    try:
        for number in range(N):
            runtime.execute("shop.order.stop", {"items": number % 4})
    finally:
        _dispatch.publish({})
    cursor = store.subscribe("test")
    store.update(mailbox.load)
    count, items, sizes = cursor.collect().points
    return count.value, items.value, sizes.count


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_sampled_counters_and_sums_are_exact_in_expectation(rate: float) -> None:
    counts, items, sizes = zip(*(estimates(rate, seed) for seed in SEEDS), strict=True)

    for found, truth, squares in (
        (counts, N, N),
        (items, N * 1.5, N * (0 + 1 + 4 + 9) / 4),
        (sizes, N, N),
    ):
        deviation = math.sqrt(squares * (1 - rate) / rate)  # of one estimate
        mean = math.fsum(found) / len(found)
        assert abs(mean - truth) < 3 * deviation / math.sqrt(len(found))
        spread = math.sqrt(math.fsum((each - truth) ** 2 for each in found) / len(found))
        assert 0.6 * deviation < spread < 1.5 * deviation, "as much chance as there must be, and no more"


def test_each_sampled_event_stands_for_the_inverse_of_its_rate_exactly() -> None:
    for seed in SEEDS:
        count, _, size = estimates(0.125, seed)

        assert count == size
        assert count % 8 == 0


def test_the_same_seed_chooses_the_same_events() -> None:
    assert estimates(0.3, seed=7) == estimates(0.3, seed=7) != estimates(0.3, seed=8)


@pytest.mark.parametrize("rates", [{"shop.order": 0.1}, {"shop.order.stop": 0.1}])
def test_a_running_application_samples_spans_and_events(rates: dict[str, float]) -> None:
    with Application("sampled", metrics=[COUNT], sampling=rates).running():
        sampling._random = random.Random(7)
        for _ in range(N):
            runtime.span("shop.order", {}, lambda: (None, {}))

        (point,) = whereis("telemetry.aggregator").ask(Collect("test")).points

    (kept,) = point.parts.values()
    assert list(point.parts) == [0.1]
    assert point.value == kept / 0.1
    assert 0 < kept < N / 5


def test_starts_and_stops_of_sampled_spans_stay_paired() -> None:
    with Application("sampled", sampling={"shop.order": 0.5}).running(), capture_events("shop.*") as captured:
        sampling._random = random.Random(7)
        for number in range(200):
            with runtime.span("shop.order", {"number": number}):
                pass

    started = [event.metadata["number"] for event in captured.of("shop.order.start")]
    assert started == [event.metadata["number"] for event in captured.of("shop.order.stop")]
    assert 40 < len(started) < 160
    assert {event.rate for event in captured.events} == {0.5}


def test_of_a_sampled_span_that_fails_the_exception_is_paired_with_the_start() -> None:
    with Application("sampled", sampling={"shop.order": 0.5}).running(), capture_events("shop.*") as captured:
        sampling._random = random.Random(7)
        for number in range(200):
            with pytest.raises(ValueError), runtime.span("shop.order", {"number": number}):
                raise ValueError

    started = [event.metadata["number"] for event in captured.of("shop.order.start")]
    assert started == [event.metadata["number"] for event in captured.of("shop.order.exception")]
    assert 40 < len(started) < 160


def test_a_span_within_a_sampled_span_is_decided_by_its_own_rate() -> None:
    with Application("sampled", sampling={"shop.order": 0}).running(), capture_events("shop.*") as captured:
        with runtime.span("shop.order"), runtime.span("shop.order.line"):
            pass

    assert [(event.name, event.rate) for event in captured.events] == [
        ("shop.order.line.start", 1.0),
        ("shop.order.line.stop", 1.0),
    ]


def test_a_rate_of_one_and_a_rate_of_nought_mean_all_and_nothing() -> None:
    rates = {"shop.order": 0, "shop.cart": 1}
    with Application("sampled", sampling=rates).running(), capture_events("shop.*") as captured:
        for prefix in ("shop.order", "shop.cart"):
            with runtime.span(prefix):
                pass

    assert [event.name for event in captured.events] == ["shop.cart.start", "shop.cart.stop"]


def test_the_rates_end_with_the_application() -> None:
    with Application("sampled", sampling={"shop.order": 0}).running():
        assert sampling.rate_of("shop.order") == 0

    with capture_events("shop.*") as captured, runtime.span("shop.order"):
        pass

    assert [event.name for event in captured.events] == ["shop.order.start", "shop.order.stop"]


@pytest.mark.parametrize("rate", [-0.1, 1.1, True, "0.1", None, math.nan, math.inf])
def test_a_bad_rate_is_refused_by_name(rate: object) -> None:
    with pytest.raises(InvalidValue, match=r"the sampling rate of shop.order to be a number from 0 to 1, got"):
        Application("sampled", sampling={"shop.order": rate})  # type: ignore[dict-item]


def test_a_name_may_be_given_in_segments() -> None:
    assert sampling.check_rates({("shop", "order"): 0.5}) == {"shop.order": 0.5}  # type: ignore[dict-item]
