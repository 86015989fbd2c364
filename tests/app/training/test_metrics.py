"""The metrics of a real run, as every reporter sees them."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import tenacity
from prometheus_client.parser import text_string_to_metric_families

from actors import whereis
from actors.aggregator import Snapshot
from app.training.client import TrainingClient
from app.training.custom_loss import custom_loss
from app.training.loop import train
from app.training.metrics import METRICS
from app.training.regularizers import Regularizer, RegularizerError
from reporters import Prometheus, Statsd
from supervisors import Application
from tests.app.training.service import Service, answer, completed, pending

LOSS = "tinkex.custom_loss"
TERM = "tinkex.regularizer"
NAMES = ("l1", "l2", "entropy")


@pytest.fixture
def application() -> Iterator[Application]:
    application = Application("training", metrics=METRICS)
    with application.running():
        yield application


def series(name: str) -> dict[tuple[str | None, ...], Any]:
    """Read what the aggregator has recorded of a metric, by its tags' values."""
    views = whereis("telemetry.aggregator").ask(Snapshot())
    (view,) = (view for view in views if view.metric.name == name)
    return {tuple(value for _, value in each.tags): each.value for each in view.series}


def test_loss_contributions_and_norms_of_the_last_step_are_recorded(application: Application) -> None:
    last = train(3, batch_size=32, model_id="m1").last

    assert series(f"{LOSS}.loss_total") == {("m1",): last.loss_total}
    assert series(f"{LOSS}.regularizer_total") == {("m1",): last.regularizer_total}
    assert series(f"{LOSS}.total_grad_norm") == {("m1",): last.total_grad_norm}
    terms = {(name,): each for name, each in last.regularizers.items()}
    assert series(f"{TERM}.contribution") == {name: each.contribution for name, each in terms.items()}
    assert series(f"{TERM}.grad_norm") == {name: each.grad_norm for name, each in terms.items()}


def test_every_step_loss_and_regularizer_is_timed(application: Application) -> None:
    train(3, batch_size=32, model_id="m1")

    assert series("tinkex.training.step.duration")[("m1",)].count == 3
    assert series(f"{LOSS}.duration")[("m1",)].count == 3
    assert {name: each.count for name, each in series(f"{TERM}.duration").items()} == {(name,): 3 for name in NAMES}
    assert series(f"{LOSS}.duration")[("m1",)].sum <= series("tinkex.training.step.duration")[("m1",)].sum


def test_untracked_norms_record_nothing(application: Application) -> None:
    train(1, batch_size=32, track_grad_norms=False)

    assert series(f"{LOSS}.total_grad_norm") == series(f"{TERM}.grad_norm") == {}
    assert len(series(f"{TERM}.contribution")) == 3


def test_failures_are_counted(application: Application) -> None:
    def boom(data: object, x: Any) -> Any:
        raise OSError("boom")

    for _ in range(2):
        with pytest.raises(RegularizerError):
            custom_loss([], [1.0], None, [Regularizer(boom, 1.0, "boom")], model_id="m1")

    assert series(f"{LOSS}.exceptions") == {("m1",): 2}
    assert series(f"{TERM}.exceptions") == {("boom",): 2}


def test_requests_retries_and_queue_states_are_recorded(application: Application, service: Service) -> None:
    service.answers = {
        "/forward": [answer(503), answer(503), answer(content={"request_id": "r1"})],
        "/api/v1/retrieve_future": [pending("active"), pending("active"), pending("paused_capacity"), completed(1)],
    }

    TrainingClient(service.url, pause=tenacity.wait_none()).run("/forward", {})

    ok = ("POST", "default", "ok")
    assert series("tinkex.http.request.duration")[ok].count == 5
    assert series("tinkex.http.request.retries") == {ok: 2}
    assert series("tinkex.queue.state_changes") == {("active",): 1, ("paused_capacity",): 1}


def test_metrics_of_a_run_arrive_at_a_statsd_server() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(30)
        reporter = Statsd(port=server.getsockname()[1], interval_s=3600)
        with Application("training", metrics=METRICS, children=[reporter]).running():
            last = train(2, batch_size=32, model_id="m1").last
        # Stopping has flushed: what was sent waits in the socket.
        lines: list[str] = []
        while len(lines) < reporter.statistics().lines:
            lines += server.recv(65_535).decode().split("\n")

    gauges = {head.partition(":")[0] + tags for head, kind, tags in map(parts, lines) if kind == "g"}
    assert gauges == {
        f"{LOSS}.loss_total#model_id:m1",
        f"{LOSS}.regularizer_total#model_id:m1",
        f"{LOSS}.total_grad_norm#model_id:m1",
        *(f"{TERM}.{each}#regularizer_name:{name}" for each in ("contribution", "grad_norm") for name in NAMES),
    }
    values = {head.partition(":")[0] + tags: head.partition(":")[2] for head, kind, tags in map(parts, lines)}
    assert float(values[f"{LOSS}.loss_total#model_id:m1"]) == last.loss_total
    assert float(values[f"{TERM}.grad_norm#regularizer_name:l1"]) == last.regularizers["l1"].grad_norm
    timed = [head.partition(":")[0] for head, kind, tags in map(parts, lines) if kind == "d"]
    assert timed.count("tinkex.training.step.duration") == timed.count(f"{LOSS}.duration") == 2
    assert timed.count(f"{TERM}.duration") == 6


def parts(line: str) -> tuple[str, str, str]:
    """Split `name:value|kind|#tags`."""
    head, kind, tags = line.split("|")
    return head, kind, tags


def test_metrics_of_a_run_can_be_scraped_by_prometheus() -> None:
    reporter = Prometheus(port=0)
    with Application("training", metrics=METRICS, children=[reporter]).running():
        last = train(2, batch_size=32, model_id="m1").last
        with urllib.request.urlopen(reporter.statistics().endpoint, timeout=30) as answered:
            text = answered.read().decode()

    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    # Prometheus keeps the ending _total for counters, so the reporter leaves it off a gauge.
    assert samples["tinkex_custom_loss_loss", "m1"] == last.loss_total
    assert samples["tinkex_custom_loss_total_grad_norm", "m1"] == last.total_grad_norm
    for name, each in last.regularizers.items():
        assert samples["tinkex_regularizer_contribution", name] == each.contribution
        assert samples["tinkex_regularizer_grad_norm", name] == each.grad_norm
        assert samples["tinkex_regularizer_duration_count", name] == 2
    assert samples["tinkex_training_step_duration_count", "m1"] == 2
