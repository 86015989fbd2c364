"""Aggregating and sending metrics, beside prometheus_client, OpenTelemetry, datadog and statsd."""

from __future__ import annotations

import socket
import time
from typing import Any

import prometheus_client
import statsd
from datadog.dogstatsd.base import DogStatsd
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import runtime
from actors import whereis
from actors._series import SeriesStore
from actors.aggregator import NAME, Collect, Commit
from benchmarks._measure import Row, Settings, compare, pinned, rows
from reporters.statsd._packets import pack
from reporters.statsd.reporter import Statsd
from runtime import Event
from runtime.metrics import Metric, counter, distribution, last_value, summary
from runtime.metrics import sum as sum_
from supervisors import Application

EVENT = "anvil.label.submit.stop"
QUEUES = [f"q{n}" for n in range(20)]


def tagged_counter(settings: Settings) -> list[Row]:
    """A tagged counter: all CPU of the process until the number is there."""
    registry = prometheus_client.CollectorRegistry()
    prometheus = prometheus_client.Counter("submit", "Labels.", ["queue_id"], registry=registry)
    reader = InMemoryMetricReader()
    otel = MeterProvider(metric_readers=[reader]).get_meter("bench").create_counter("submit")
    sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sink.bind(("127.0.0.1", 0))
    port = sink.getsockname()[1]
    datadog = DogStatsd(
        host="127.0.0.1", port=port, disable_aggregation=False, flush_interval=3600, disable_telemetry=True
    )
    datadog_tags = [[f"queue_id:{queue}"] for queue in QUEUES]
    metadata = [{"queue_id": queue} for queue in QUEUES]

    def ours(count: int) -> float:
        begun = time.process_time()
        for _ in range(count // len(QUEUES)):
            for told in metadata:
                runtime.execute(EVENT, {}, told)
        aggregator = whereis(NAME)
        aggregator.ask(Commit("bench", aggregator.ask(Collect("bench"))))
        return time.process_time() - begun

    def prometheus_inc(count: int) -> float:
        begun = time.process_time()
        for _ in range(count // len(QUEUES)):
            for queue in QUEUES:
                prometheus.labels(queue_id=queue).inc()
        return time.process_time() - begun

    def otel_add(count: int) -> float:
        begun = time.process_time()
        for _ in range(count // len(QUEUES)):
            for told in metadata:
                otel.add(1, told)
        reader.get_metrics_data()
        return time.process_time() - begun

    def datadog_increment(count: int) -> float:
        begun = time.process_time()
        for _ in range(count // len(QUEUES)):
            for tags in datadog_tags:
                datadog.increment("submit", tags=tags)
        datadog.flush_aggregated_metrics()
        return time.process_time() - begun

    with (
        pinned(),
        Application("bench", metrics=[counter("submit.count", event_name=EVENT, tags=["queue_id"])]).running(),
    ):
        figures = compare(
            {
                "execute + aggregator": ours,
                "prometheus labels().inc()": prometheus_inc,
                "OTel counter.add": otel_add,
                "datadog aggregated": datadog_increment,
            },
            10_000,
            settings,
            bursts=10,
        )
    datadog.stop()
    sink.close()
    goals = {"prometheus labels().inc()": 0.5}
    return rows("tagged counter, all CPU until aggregated", "execute + aggregator", figures, goals)


def _six() -> list[Metric]:
    tags = ["queue_id"]
    return [
        counter("submit.count", event_name=EVENT, tags=tags),
        sum_("submit.errors", event_name=EVENT, tags=tags),
        last_value("submit.size", event_name=EVENT, tags=tags),
        counter("submit.by_schema", event_name=EVENT, tags=["schema_version_id"]),
        distribution("submit.duration", event_name=EVENT, tags=tags, reporter_options={"buckets": [10, 100, 1000]}),
        summary("submit.wait", event_name=EVENT, tags=tags),
    ]


def six_metrics(settings: Settings) -> list[Row]:
    """Six metrics on one event: what the aggregator takes for an event."""
    store = SeriesStore(_six())
    cursor = store.subscribe("bench")
    events = [
        Event(
            EVENT,
            {"duration": 45 + n % 100, "errors": n % 3, "size": n, "wait": n % 7},
            {"queue_id": QUEUES[n % 20], "schema_version_id": f"v{n % 3}"},
            n,
        )
        for n in range(256)
    ]
    registry = prometheus_client.CollectorRegistry()
    label = ["queue_id"]
    counts = prometheus_client.Counter("submit_count", ".", label, registry=registry)
    errors = prometheus_client.Counter("submit_errors", ".", label, registry=registry)
    size = prometheus_client.Gauge("submit_size", ".", label, registry=registry)
    schema = prometheus_client.Counter("submit_schema", ".", ["schema_version_id"], registry=registry)
    took = prometheus_client.Histogram("submit_duration", ".", label, buckets=[10, 100, 1000], registry=registry)
    wait = prometheus_client.Summary("submit_wait", ".", label, registry=registry)
    meter = MeterProvider(metric_readers=[InMemoryMetricReader()]).get_meter("bench")
    otel_counters = [meter.create_counter(name) for name in ("count", "errors", "schema")]
    otel_gauge = meter.create_gauge("size")
    otel_histograms = [meter.create_histogram(name) for name in ("duration", "wait")]

    def ours(count: int) -> float:
        begun = time.perf_counter()
        for _ in range(count // 256):
            store.update(events)
        took_s = time.perf_counter() - begun
        cursor.commit(cursor.collect())
        return took_s

    def prometheus(count: int) -> float:
        begun = time.perf_counter()
        for _ in range(count // 256):
            for event in events:
                queue, measured = event.metadata["queue_id"], event.measurements
                counts.labels(queue_id=queue).inc()
                errors.labels(queue_id=queue).inc(measured["errors"])
                size.labels(queue_id=queue).set(measured["size"])
                schema.labels(schema_version_id=event.metadata["schema_version_id"]).inc()
                took.labels(queue_id=queue).observe(measured["duration"])
                wait.labels(queue_id=queue).observe(measured["wait"])
        return time.perf_counter() - begun

    def otel(count: int) -> float:
        begun = time.perf_counter()
        for _ in range(count // 256):
            for event in events:
                tags: dict[str, Any] = {"queue_id": event.metadata["queue_id"]}
                measured = event.measurements
                otel_counters[0].add(1, tags)
                otel_counters[1].add(measured["errors"], tags)
                otel_counters[2].add(1, {"schema_version_id": event.metadata["schema_version_id"]})
                otel_gauge.set(measured["size"], tags)
                otel_histograms[0].record(measured["duration"], tags)
                otel_histograms[1].record(measured["wait"], tags)
        return time.perf_counter() - begun

    with pinned():
        # At least one batch, also in a quick round.
        count = 256 * 50 * 50 if settings.quick else 256 * 40
        figures = compare({"aggregator": ours, "prometheus × 6": prometheus, "OTel × 6": otel}, count, settings)
    own = figures["aggregator"].median_ns
    # The goal is told for a core that runs an empty call in 40 ns.
    per_second = 1e9 / (40 * figures["aggregator"].over(figures["yardstick"]))
    return [
        *rows("six metrics on one event", "aggregator", figures, {"prometheus × 6": 0.25}),
        Row(
            "six metrics on one event",
            f"{1e9 / own:,.0f} events/s",
            f"{per_second:,.0f} events/s on a core of 40 ns",
            None,
            None,
            "> 470,000 events/s",
            per_second > 470_000,
        ),
    ]


def timings(settings: Settings) -> list[Row]:
    """1,000 tagged timings: format, pack and send over UDP."""
    sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    sink.bind(("127.0.0.1", 0))
    port = sink.getsockname()[1]
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    out.connect(("127.0.0.1", port))
    store = SeriesStore([distribution("submit.duration", event_name=EVENT, tags=["queue_id"])])
    cursor = store.subscribe("bench")
    events = [Event(EVENT, {"duration": 45.5 + n}, {"queue_id": QUEUES[n % 20]}, n) for n in range(1_000)]
    declared = Statsd(host="127.0.0.1", port=port)
    datadog = DogStatsd(host="127.0.0.1", port=port, disable_telemetry=True, flush_interval=3600, max_buffer_len=10_000)
    client = statsd.StatsClient("127.0.0.1", port, maxudpsize=1432)

    def empty_sink() -> None:
        sink.setblocking(False)
        try:
            while sink.recv(65_536):
                pass
        except BlockingIOError:
            return

    def ours(count: int) -> float:
        took = 0.0
        for _ in range(max(1, count // 1_000)):
            store.update(events)
            delta = cursor.collect()
            begun = time.perf_counter()
            text = "\n".join(declared.formatter.text(point) for point in delta.points)
            for datagram in pack(text, 1432)[0]:
                out.send(datagram.payload)
            took += time.perf_counter() - begun
            cursor.commit(delta)
            empty_sink()
        return took

    def datadog_batch(count: int) -> float:
        took = 0.0
        for _ in range(max(1, count // 1_000)):
            begun = time.perf_counter()
            for event in events:
                datadog.timing(
                    "submit.duration", event.measurements["duration"], tags=[f"queue_id:{event.metadata['queue_id']}"]
                )
            datadog.flush()
            took += time.perf_counter() - begun
            empty_sink()
        return took

    def statsd_pipeline(count: int) -> float:
        took = 0.0
        for _ in range(max(1, count // 1_000)):
            begun = time.perf_counter()
            with client.pipeline() as pipe:
                for event in events:
                    pipe.timing(f"submit.duration.{event.metadata['queue_id']}", event.measurements["duration"])
            took += time.perf_counter() - begun
            empty_sink()
        return took

    with pinned():
        figures = compare(
            {"StatsD reporter": ours, "datadog batch": datadog_batch, "statsd pipeline": statsd_pipeline},
            50_000 if settings.quick else 5_000,
            settings,
        )
    datadog.stop()
    client.close()
    out.close()
    sink.close()
    return rows("a tagged timing: format and send", "StatsD reporter", figures, {"datadog batch": 0.4})
