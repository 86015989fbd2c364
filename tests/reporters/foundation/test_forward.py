"""Which events become metrics, with which value and tags."""

from __future__ import annotations

from typing import Any

import pytest

from reporters.foundation import DEFAULT_METRICS
from reporters.foundation._forward import Forwarding, Point
from runtime import Event
from runtime.errors import InvalidValue
from runtime.metrics import Metric, counter, last_value, sum


def points(event: Event, *metrics: Metric, span_prefixes: tuple[str, ...] = ()) -> list[Point]:
    return Forwarding(metrics, (), span_prefixes).points(event)


def event(name: str, measurements: dict[str, Any], metadata: dict[str, Any], rate: float = 1.0) -> Event:
    return Event(name, measurements, metadata, 0, None, rate)


def test_a_submission_becomes_its_duration_in_milliseconds_with_the_tags_of_the_decision_record() -> None:
    submitted = event(
        "anvil.label.submit.stop",
        {"duration": 12_500_000, "monotonic_time": 1},
        {"queue_id": 7, "schema_version_id": "v2", "labeler_id": "l1", "assignment_id": "a1"},
    )

    found = Forwarding(DEFAULT_METRICS, (), ()).points(submitted)

    tags = {"queue_id": "7", "schema_version_id": "v2"}
    assert found == [Point("anvil.label.submit.duration", 12.5, tags, "info")]


def test_a_low_score_becomes_its_value_as_a_warning() -> None:
    low = event("anvil.agreement.low_score", {"value": 0.38}, {"sample_id": "s", "dimension": "novelty"})

    found = Forwarding(DEFAULT_METRICS, (), ()).points(low)

    assert found == [Point("anvil.agreement.low_score.value", 0.38, {"dimension": "novelty"}, "warning")]


def test_an_export_becomes_its_duration_in_seconds() -> None:
    exported = event("anvil.export.generate.stop", {"duration": 2_500_000_000}, {"queue_id": "q", "format": "csv"})

    found = Forwarding(DEFAULT_METRICS, (), ()).points(exported)

    assert [(one.metric, one.value) for one in found] == [("anvil.export.generate.duration", 2.5)]


def test_marked_metrics_join_the_default_ones_and_others_do_not() -> None:
    marked = counter("shop.order.count", reporter_options={"foundation.forward": True})
    other = counter("shop.order.other")

    forwarding = Forwarding(DEFAULT_METRICS, [marked, other], ())

    assert set(forwarding.events) == {
        "anvil.label.submit.stop",
        "anvil.agreement.low_score",
        "anvil.export.generate.stop",
        "shop.order",
    }
    assert [one.metric for one in forwarding.points(event("shop.order", {}, {}))] == ["shop.order.count"]


def test_a_marked_metric_of_a_span_listens_to_its_end() -> None:
    marked = counter("shop.order.count", reporter_options={"foundation.forward": True})

    assert Forwarding((), [marked], ["shop.order"]).events == ("shop.order.stop",)


def test_a_counter_counts_what_its_event_stands_for() -> None:
    assert points(event("shop.order", {}, {}, rate=0.25), counter("shop.order.count"))[0].value == 4.0


@pytest.mark.parametrize("value", ["text", None, float("nan"), float("inf"), [1], {}])
def test_what_is_no_finite_number_is_left_out(value: object) -> None:
    assert points(event("shop.order", {"amount": value}, {}), sum("shop.order.amount")) == []


def test_filters_tags_and_units_mean_what_they_mean_elsewhere() -> None:
    metric = last_value(
        "shop.order.weight",
        unit=("byte", "kilobyte"),
        tags=["country", "missing"],
        keep=lambda metadata: metadata["country"] != "xx",
    )

    kept = points(event("shop.order", {"weight": 1500}, {"country": "nl"}), metric)
    dropped = points(event("shop.order", {"weight": 1500}, {"country": "xx"}), metric)

    assert (kept, dropped) == ([Point("shop.order.weight", 1.5, {"country": "nl"}, "info")], [])


def test_one_tag_no_tag_and_hostile_tags() -> None:
    order = event("shop.order", {"n": 1}, {"one": "half \ud83d", "two": b"\xff"})

    found = points(order, sum("shop.order.n", tags=["one"]), sum("shop.order.m", measurement="n", tags=["two"]))

    assert [one.tags for one in found] == [{"one": "half ?"}, {}]


def test_misuse_is_an_error_at_the_call() -> None:
    with pytest.raises(InvalidValue, match="expected at least one metric to forward"):
        Forwarding((), [counter("shop.order.count")], ())
    with pytest.raises(InvalidValue, match=r"expected a metric of another event than foundation\.metric"):
        points(event("a", {}, {}), sum("foundation.metric.value"))
    with pytest.raises(InvalidValue, match=r"expected foundation\.severity to be one of"):
        points(event("a", {}, {}), sum("a.b.c", reporter_options={"foundation.severity": "loud"}))
