"""Emitting: one handler, the full application, spans; beside event libraries and metric clients."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import time
from contextvars import copy_context
from pathlib import Path
from typing import Any

import blinker
import msgspec
import pyee
import pykka
from datadog.dogstatsd.base import DogStatsd
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

import runtime
from actors import whereis
from actors.aggregator import NAME, Statistics
from app.application import Anvil
from app.labeling.auth import Gate
from app.labeling.service import Platform
from app.labeling.storage import Storage
from benchmarks._measure import Row, Settings, compare, pinned, rows
from runtime import Event
from runtime._events import PlainEvent
from runtime.clock import Clock
from supervisors import Application

EVENT = "anvil.label.submit.stop"
MEASUREMENTS = {"duration": 1_234_567, "monotonic_time": 1}
METADATA = {"queue_id": "q1", "labeler_id": "l1", "schema_version_id": "v1"}
# A burst is emitted, and handled before the next: the backlog of a service whose handlers keep up.
BURST = 1_000
BURSTS = 50


def handle(*event: object, **rest: object) -> None:
    """What every candidate's handler does."""


def one_handler(settings: Settings) -> list[Row]:
    """`execute` with one asynchronous handler."""
    signal = blinker.signal("submit")
    signal.connect(handle)
    emitter = pyee.EventEmitter()
    emitter.on("submit", handle)
    counter = MeterProvider().get_meter("bench").create_counter("submit")

    class Receiver(pykka.ThreadingActor):
        use_daemon_thread = True

        def on_receive(self, message: Any) -> None:
            handle(message)

    receiver = Receiver.start()
    application = Application("bench")

    def ours(count: int) -> float:
        begun = time.perf_counter()
        for _ in range(count):
            runtime.execute(EVENT, MEASUREMENTS, METADATA)
        took = time.perf_counter() - begun
        application.drain(30)
        return took

    mail: list[Event] = []

    def bare_steps(name: str, measurements: dict[str, Any], metadata: dict[str, Any]) -> None:
        if not copy_context():
            mail.append(PlainEvent(name, {**measurements}, {**metadata}, time.monotonic_ns()))

    def bare(count: int) -> float:
        begun = time.perf_counter()
        for _ in range(count):
            bare_steps(EVENT, MEASUREMENTS, METADATA)
        took = time.perf_counter() - begun
        mail.clear()
        return took

    def bound(count: int) -> float:
        submitted = runtime.event(EVENT)
        begun = time.perf_counter()
        for _ in range(count):
            submitted.execute(MEASUREMENTS, METADATA)
        took = time.perf_counter() - begun
        application.drain(30)
        return took

    def blinker_send(count: int) -> float:
        begun = time.perf_counter()
        for _ in range(count):
            signal.send("bench", measurements=MEASUREMENTS, metadata=METADATA)
        return time.perf_counter() - begun

    def pyee_emit(count: int) -> float:
        begun = time.perf_counter()
        for _ in range(count):
            emitter.emit("submit", MEASUREMENTS, METADATA)
        return time.perf_counter() - begun

    def pykka_tell(count: int) -> float:
        begun = time.perf_counter()
        for _ in range(count):
            receiver.tell((EVENT, MEASUREMENTS, METADATA))
        took = time.perf_counter() - begun
        receiver.ask("wait")
        return took

    def otel_add(count: int) -> float:
        begun = time.perf_counter()
        for _ in range(count):
            counter.add(1, METADATA)
        return time.perf_counter() - begun

    with pinned(), application.running():
        runtime.attach("bench", EVENT, handle, carrier="green", capacity=1_000_000)
        figures = compare(
            {
                "execute": ours,
                "its copies, clock reading and object alone": bare,
                "bound": bound,
                "blinker": blinker_send,
                "pyee": pyee_emit,
                "pykka tell": pykka_tell,
                "OTel counter.add": otel_add,
            },
            BURST,
            settings,
            bursts=BURSTS,
        )
        runtime.detach("bench")
    receiver.stop()
    what = "emit, one asynchronous handler"
    found = rows(what, "execute", figures, {"blinker": 0.33})
    met = figures["execute"].over(figures["yardstick"]) <= 12
    alone = {"peer": "an empty call", "ratio": None, "ratio_of_minima": None, "goal": "≤ 12 yardsticks", "met": met}
    return [*found, msgspec.structs.replace(found[0], **alone)]


def full_application(settings: Settings) -> list[Row]:
    """`execute` inside the reference application's tree."""
    sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sink.bind(("127.0.0.1", 0))
    port = sink.getsockname()[1]
    plain = DogStatsd(host="127.0.0.1", port=port, disable_buffering=True, disable_telemetry=True)
    aggregated = DogStatsd(
        host="127.0.0.1", port=port, disable_aggregation=False, flush_interval=60, disable_telemetry=True
    )
    tags = [f"{key}:{value}" for key, value in METADATA.items()]

    with (
        tempfile.TemporaryDirectory() as directory,
        contextlib.closing(Storage(Path(directory) / "bench.db")) as storage,
    ):
        application = Anvil(Platform(storage, Gate(b"k" * 32, "bench", Clock())), statsd=("127.0.0.1", port))

        def ours(count: int) -> float:
            begun = time.perf_counter()
            for _ in range(count):
                runtime.execute(EVENT, MEASUREMENTS, METADATA)
            took = time.perf_counter() - begun
            whereis(NAME).ask(Statistics())  # answered when the aggregator has taken the burst
            return took

        def datadog_default(count: int) -> float:
            begun = time.perf_counter()
            for _ in range(count):
                plain.increment("anvil.label.submit.count", tags=tags)
            return time.perf_counter() - begun

        def datadog_aggregated(count: int) -> float:
            begun = time.perf_counter()
            for _ in range(count):
                aggregated.increment("anvil.label.submit.count", tags=tags)
            return time.perf_counter() - begun

        with pinned(), application.running():
            figures = compare(
                {"execute": ours, "datadog default": datadog_default, "datadog aggregated": datadog_aggregated},
                BURST,
                settings,
                bursts=BURSTS,
            )
    aggregated.stop()
    sink.close()
    return rows("emit inside the full application", "execute", figures, {"datadog default": 0.15})


class _Nowhere(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def spans(settings: Settings) -> list[Row]:
    """A span with a handler on both of its ends."""
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(_Nowhere(), max_queue_size=1_000_000))
    tracer = provider.get_tracer("bench")
    application = Application("bench")

    def ours(count: int) -> float:
        begun = time.perf_counter()
        for _ in range(count):
            with runtime.span("anvil.label.submit", METADATA):
                pass
        took = time.perf_counter() - begun
        application.drain(30)
        return took

    def otel(count: int) -> float:
        begun = time.perf_counter()
        for _ in range(count):
            with tracer.start_as_current_span("anvil.label.submit", attributes=METADATA):
                pass
        took = time.perf_counter() - begun
        provider.force_flush()
        return took

    with pinned(), application.running():
        names = ["anvil.label.submit.start", "anvil.label.submit.stop"]
        runtime.attach_many("bench", names, handle, carrier="green", capacity=1_000_000)
        figures = compare({"span": ours, "OTel span": otel}, BURST, settings, bursts=BURSTS // 10)
        runtime.detach("bench")
    provider.shutdown()
    return rows("span, both ends handled", "span", figures, {"OTel span": 0.15})
