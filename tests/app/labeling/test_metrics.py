from collections.abc import Mapping
from typing import Any

import pytest

from app.labeling.events import CATALOGUE
from app.labeling.metrics import METRICS
from runtime.catalogue import Catalogue
from runtime.metrics import Metric, bind

ADR_008 = {
    "anvil.queue.created.count": "counter",
    "anvil.label.submit.count": "counter",
    "anvil.assignment.timed_out.count": "sum",
    "anvil.assignment.dispatch.duration": "distribution",
    "anvil.label.submit.duration": "distribution",
    "anvil.agreement.compute.duration": "distribution",
    "anvil.export.generate.duration": "distribution",
    "anvil.agreement.low_score.value": "summary",
    "anvil.export.progress.progress_pct": "last_value",
    "anvil.queue.active_labelers.count": "last_value",
}


BOUND = bind(METRICS, Catalogue(CATALOGUE).span_prefixes)


def metric(name: str) -> Metric:
    return next(metric for metric in BOUND if metric.name == name)


def test_all_ten_published_metrics_are_there_and_the_one_that_the_alert_needs() -> None:
    assert {metric.name: metric.kind for metric in METRICS} == ADR_008 | {
        "anvil.export.generate.exception.count": "counter"
    }


@pytest.mark.parametrize("name", [metric.name for metric in METRICS])
def test_every_metric_listens_to_an_event_that_is_emitted_and_tags_with_what_that_tells(name: str) -> None:
    event_name = metric(name).event_name
    declared = Catalogue(CATALOGUE).get(event_name)
    assert declared is not None

    tags = metric(name).tags
    assert isinstance(tags, tuple)
    assert set(tags) <= set(declared.shape(event_name)[1])


@pytest.mark.parametrize(
    ("name", "unit", "scale"),
    [
        ("anvil.assignment.dispatch.duration", "millisecond", (1, 1_000_000)),
        ("anvil.export.generate.duration", "second", (1, 1_000_000_000)),
    ],
)
def test_durations_are_converted_from_nanoseconds(name: str, unit: str, scale: tuple[int, int]) -> None:
    assert (metric(name).unit, metric(name).scale) == (unit, scale)


@pytest.mark.parametrize(("metadata", "kept"), [({"validation_errors": 0}, True), ({"validation_errors": 2}, False)])
def test_only_accepted_labels_are_counted_as_submitted(metadata: Mapping[str, Any], kept: bool) -> None:
    keep = metric("anvil.label.submit.count").keep

    assert keep is not None
    assert keep(metadata) is kept  # type: ignore[call-arg]
