"""What the code emits is what the catalogue declares: names, measurements, metadata and their types."""

from __future__ import annotations

import http.client
from typing import Any

import pytest
import tenacity

from app.training.catalogue import CATALOGUE
from app.training.client import TrainingClient
from app.training.custom_loss import custom_loss
from app.training.loop import train
from app.training.metrics import METRICS
from app.training.regularizers import Regularizer, RegularizerError, l1
from runtime.catalogue import Catalogue
from tests.app.training.conftest import Captured
from tests.app.training.service import Service, answer, completed, hang_up, pending


@pytest.fixture
def everything(captured: Captured, service: Service) -> Captured:
    """Have every event emitted by the work that it is about, failures included."""
    train(2, batch_size=16)
    train(1, batch_size=16, parallel=True, track_grad_norms=False)

    def boom(*_: object) -> Any:
        raise OSError("boom")

    with pytest.raises(RegularizerError):
        custom_loss([], [1.0], None, [Regularizer(l1, 1.0, "l1"), Regularizer(boom, 1, "boom")])
    with pytest.raises(RegularizerError):
        train(1, regularizers=[Regularizer(boom, 1.0, "boom")], batch_size=16)

    client = TrainingClient(service.url, pause=tenacity.wait_none())
    service.answers = {
        "/forward": [answer(503), answer(content={"request_id": "r1"})],
        "/api/v1/retrieve_future": [pending("active"), pending("paused_capacity", "full"), completed(1)],
        "/none": [hang_up],
        "/missing": [answer(404)],
    }
    client.run("/forward", {})
    client.request("GET", "/missing")
    with pytest.raises(http.client.RemoteDisconnected):
        client.request("GET", "/none")
    return captured


def test_every_event_is_declared_and_every_declared_event_is_emitted(everything: Captured) -> None:
    assert set(everything.names()) == {name for declared in CATALOGUE for name in declared.names()}
    assert everything.is_balanced()


def test_events_are_as_declared(everything: Captured) -> None:
    catalogue = Catalogue(CATALOGUE)

    assert [problem for event in everything.events for problem in catalogue.check(event)] == []


def test_stops_carry_every_measurement_that_is_declared(everything: Captured) -> None:
    for declared in CATALOGUE:
        for stop in everything.of(f"{declared.name}.stop"):
            assert set(stop.measurements) == {"duration", "monotonic_time", *declared.measurements}


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_metric_measures_and_tags_what_its_event_declares(metric: Any) -> None:
    (declared,) = (each for each in CATALOGUE if metric.event_name in each.names())

    if isinstance(metric.measurement, str) and metric.kind != "counter":
        assert metric.measurement in {*declared.measurements, "duration"}
    assert set(metric.tags) <= set(declared.metadata) | set(declared.stop)
