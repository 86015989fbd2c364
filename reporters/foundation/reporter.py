"""Forward metrics to Foundation: durable, at least once, with stable ids.

`Foundation` is the declaration that goes among an application's children. Each forwarded event becomes the event
`foundation.metric`, emitted in this process and sent: by HTTP as a gzipped JSON batch, or with `file:` as lines. Once
committed to the spool, it survives outages of the endpoint, restarts and kill -9.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

import runtime
from reporters.delivery import Batching, FileTransport, HttpTransport, RetryPolicy, Secret
from reporters.delivery._courier import Transport
from reporters.delivery._json import instant
from reporters.delivery._outbox import Outbox, Route
from reporters.delivery._reporter import Draft, DurableDeclaration, Made
from reporters.foundation._forward import DEFAULT_METRICS, NAME, Forwarding
from reporters.foundation._model import MetricData, MetricEvent, MetricLine, MetricMetadata, Value
from reporters.spool import IdSource, Record, RecordClass
from reporters.spool._model import Synchronous
from runtime import Event
from runtime.clock import Clock
from runtime.errors import expected
from runtime.metrics import Metric

__all__ = ["Foundation"]

_CLASS = "metric"
_encoder = msgspec.json.Encoder()


class Foundation(DurableDeclaration):
    """Declare the Foundation reporter, as a child of an application or supervisor.

    - `url`: http(s) of the endpoint, or `file:path` for lines that the crucible_telemetry reader loads.
    - `headers`: of each request; secrets print masked. None for a file. `ca_file`, `timeout_s`: see `HttpTransport`.
    - `spool`: directory of its own, created with mode 0700. Default "var/spool/foundation".
    - `metrics`: definitions of which those marked `"foundation.forward": True` are forwarded as well.
    - `forward`: definitions that are forwarded in any case; default: submissions, low scores, exports (ADR-008).
    - `span_prefixes`: declared spans, for definitions that listen to a span by its prefix.
    - `source`: who sends. `run_id`: of the lines of a file, default the source.
    - `batching`: default 500 events, 1 MiB or 1 s. `retry`: see `RetryPolicy`.
    - `bounds`: what the spool may hold; default 100,000 events, 256 MiB, 7 days, refuse when full.
    - `synchronous`: "FULL" or "NORMAL". `capacity`: events that may wait to be read. `drain_s`: time to stop in, 1.5 s.
    - `clock`: default that of the application.

    Raises `InvalidValue` for a bad option. An endpoint that is away is no error: it is tried again and again.

    >>> Foundation("https://foundation.example/ingest", headers={"Authorization": "Bearer 0123456789"})
    Foundation('https://foundation.example/ingest')
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str | Secret] | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        timeout_s: float = 10.0,
        spool: str | os.PathLike[str] = "var/spool/foundation",
        metrics: Iterable[Metric] = (),
        forward: Iterable[Metric] = DEFAULT_METRICS,
        span_prefixes: Iterable[str] = (),
        source: str = "anvil",
        run_id: str | None = None,
        batching: Batching | None = None,
        retry: RetryPolicy | None = None,
        bounds: RecordClass | None = None,
        synchronous: Synchronous = "FULL",
        capacity: int = 10_000,
        drain_s: float = 1.5,
        name: str = "foundation",
        clock: Clock | None = None,
    ) -> None:
        if not isinstance(source, str) or not source:
            raise expected("source to be a non-empty string", source)
        self._forwarding = Forwarding(forward, metrics, span_prefixes)
        super().__init__(name, self._forwarding.events, capacity=capacity, drain_s=drain_s, clock=clock)
        self._ids = IdSource(lambda: self.clock.system_ns())
        self._source = source
        self._run_id = run_id or source
        path = _path(url)
        if path is not None and headers:
            raise expected("headers for an http or https URL", url, "A file takes none.")

        def transport() -> Transport:
            if path is not None:
                return FileTransport(path)
            return HttpTransport(url, headers=headers, ca_file=ca_file, timeout_s=timeout_s, clock=self.clock)

        self.endpoint = str(transport())  # now, so that a bad URL or header is refused here
        self.outbox = Outbox(
            name,
            spool,
            [
                Route(
                    record_class=msgspec.structs.replace(bounds or RecordClass(_CLASS), name=_CLASS),
                    transport=transport,
                    encode=self.encode_batch if path is None else self.encode_lines,
                    batching=batching or Batching(),
                )
            ],
            synchronous=synchronous,
            retry=retry,
            request_s=timeout_s,
        )

    def __repr__(self) -> str:
        return f"Foundation({self.endpoint!r})"

    def records(self, event: Event) -> Made:
        """Make one record per metric of an event."""
        system_ns = self.clock.system_of(event.time_ns)
        drafts = []
        for point in self._forwarding.points(event):
            about = {"event": event.name} if event.rate == 1 else {"event": event.name, "rate": f"{event.rate:g}"}
            metadata = MetricMetadata(point.metric, point.tags, system_ns // 1_000_000)
            metric = MetricEvent(
                id=self._ids.next(),
                timestamp=instant(system_ns),
                name="foundation.metric",
                severity=point.severity,
                data=MetricData(Value(point.value), metadata),
                metadata=about,
            )
            drafts.append(Draft(_encoder.encode(metric), _CLASS, metric.id, metric.data))
        if not drafts:
            self.skip("no_value")  # filtered out, or nothing that is a number
        return Made(drafts)

    def emit(self, event: Event, drafts: Sequence[Draft]) -> None:
        """Emit `foundation.metric` for each metric of an event."""
        for draft in drafts:
            data: MetricData = draft.about
            runtime.execute(NAME, msgspec.structs.asdict(data.measurements), msgspec.structs.asdict(data.metadata))

    def encode_batch(self, records: Sequence[Record], batch_id: str) -> bytes:
        """Make the body of a request: a `MetricBatch`. The records are JSON already, and go in as they are."""
        head = {"batch_id": batch_id, "source": self._source, "sent_at": instant(self.clock.system_ns())}
        return b'%b,"events":[%b]}' % (_encoder.encode(head)[:-1], b",".join(one.payload for one in records))

    def encode_lines(self, records: Sequence[Record], batch_id: str) -> bytes:
        """Make lines of a file: `MetricLine`s."""
        return _encoder.encode_lines([self._line(one) for one in records])

    def _line(self, record: Record) -> MetricLine:
        event = msgspec.json.decode(record.payload, type=MetricEvent)
        metadata = event.data.metadata
        return MetricLine(
            run_id=self._run_id,
            metric=metadata.metric_name,
            value=event.data.measurements.value,
            step=None,
            timestamp=event.timestamp,
            metadata={"id": event.id, "severity": event.severity, "tags": metadata.tags, **event.metadata},
        )


def _path(url: str) -> Path | None:
    """Return the path of a `file:` URL, absolute or not; None for other URLs."""
    if not isinstance(url, str):
        raise expected("url to be a string", url)
    if not url.startswith("file:"):
        return None
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or not path.strip("/"):
        raise expected("a file: URL with a path on this machine", url)
    return Path(path)
