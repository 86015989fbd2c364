"""Register exports in AITrace, and write traces: durable, at least once, idempotent.

`AITrace` is the declaration that goes among an application's children. Each finished export that has a manifest becomes
an artifact with an edge from each of what it was made of, in the public lineage_ir format: one file per record, or by
HTTP in batches. Registering the same export again makes the same records. Spans that a rule names become traces, each a
file with its evidence beside it.

Emitted in this process: `aitrace.artifact.created` {} (the artifact, as ADR-008 describes it) when it is handed over,
`aitrace.artifact.registered` {attempts} {artifact_id, export_id, name} when it has arrived, and
`aitrace.artifact.failed` {} {export_id, reason} when it is not going to.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

import runtime
from reporters.aitrace._files import LineageFiles, TraceFiles, TraceRecord
from reporters.aitrace._lineage import (
    SOURCE,
    ArtifactEvent,
    LineageEvent,
    Manifest,
    create_artifact,
    lineage_events,
    read_manifest,
)
from reporters.aitrace._trace import EXPORTS, TraceCollector, TraceRule
from reporters.delivery import Batching, HttpTransport, RetryPolicy, Secret
from reporters.delivery._courier import Transport
from reporters.delivery._json import clean_text, instant
from reporters.delivery._outbox import Outbox, Route
from reporters.delivery._reporter import Draft, DurableDeclaration, Made
from reporters.spool import Record, RecordClass
from reporters.spool._model import Synchronous
from runtime import Event, _native
from runtime.clock import Clock
from runtime.errors import InvalidValue, expected

__all__ = ["AITrace"]

_EXPORT = "anvil.export.generate.stop"
_LINEAGE = "lineage"
_TRACE = "trace"
_MANIFEST_LIMIT = 1 << 20
_encoder = msgspec.json.Encoder()


class AITrace(DurableDeclaration):
    """Declare the AITrace reporter, as a child of an application or supervisor.

    - `dir`: where files go: lineage records into `lineage/`, traces into `traces/`. Default "var/aitrace".
    - `url`: http(s) of an endpoint that takes the lineage records instead; `headers`, `ca_file`, `timeout_s`: see
      `HttpTransport`.
    - `traces`: rules; default: exports, with their progress. Empty: none.
    - `release_manifest_ref`, `evidence_owner_ref`: go into the evidence of each trace.
    - `spool`: directory of its own, created with mode 0700. Default "var/spool/aitrace".
    - `batching`: default 100 exports or traces, 1 MiB or 1 s.
    - `retry`, `bounds`, `synchronous`, `capacity`, `drain_s`, `clock`: see `Foundation`.

    Raises `InvalidValue` for a bad option.

    >>> AITrace(dir="var/aitrace")
    AITrace('var/aitrace/lineage')
    """

    def __init__(
        self,
        dir: str | os.PathLike[str] = "var/aitrace",
        *,
        url: str | None = None,
        headers: Mapping[str, str | Secret] | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        timeout_s: float = 10.0,
        traces: Iterable[TraceRule] = (EXPORTS,),
        release_manifest_ref: str | None = None,
        evidence_owner_ref: str | None = None,
        spool: str | os.PathLike[str] = "var/spool/aitrace",
        batching: Batching | None = None,
        retry: RetryPolicy | None = None,
        bounds: RecordClass | None = None,
        synchronous: Synchronous = "FULL",
        capacity: int = 10_000,
        drain_s: float = 1.5,
        name: str = "aitrace",
        clock: Clock | None = None,
    ) -> None:
        if not isinstance(dir, str | os.PathLike):
            raise expected("dir to be a path", dir)
        if url is None and headers:
            raise expected("headers together with a url to send them to", "no url")
        self._collector = TraceCollector(traces)
        self._collector_lock = _native.allocate_lock()
        super().__init__(
            name, dict.fromkeys((_EXPORT, *self._collector.events)), capacity=capacity, drain_s=drain_s, clock=clock
        )
        self._refs = {"release_manifest_ref": release_manifest_ref, "evidence_owner_ref": evidence_owner_ref}
        directory = Path(dir)

        def lineage() -> Transport:
            if url is None:
                return LineageFiles(directory / "lineage")
            return HttpTransport(url, headers=headers, ca_file=ca_file, timeout_s=timeout_s, clock=self.clock)

        self.endpoint = str(lineage())  # now, so that a bad URL or header is refused here
        bounds = bounds or RecordClass(_LINEAGE)
        batching = batching or Batching(max_rows=100)
        self.outbox = Outbox(
            name,
            spool,
            [
                Route(
                    record_class=msgspec.structs.replace(bounds, name=_LINEAGE),
                    transport=lineage,
                    encode=self.encode_lineage,
                    batching=batching,
                    on_delivered=_tell_registered,
                    on_buried=_tell_failed,
                ),
                Route(
                    record_class=msgspec.structs.replace(bounds, name=_TRACE),
                    transport=lambda: TraceFiles(directory / "traces"),
                    encode=lambda records, batch_id: b"[%b]" % b",".join(one.payload for one in records),
                    batching=batching,
                ),
            ],
            synchronous=synchronous,
            retry=retry,
            request_s=timeout_s,
        )

    def __repr__(self) -> str:
        return f"AITrace({self.endpoint!r})"

    def records(self, event: Event) -> Made:
        """Make the traces that an event completes, and, of an export with a manifest, its lineage."""
        ended_at = instant(self.clock.system_of(event.time_ns))
        with self._collector_lock:
            complete = self._collector.take(event)
        traces = [TraceRecord(trace=one, ended_at=ended_at, **self._refs) for one in complete]
        drafts = [Draft(_encoder.encode(one), _TRACE) for one in traces]
        if event.name != _EXPORT:
            return Made(drafts)
        try:
            manifest = _find_manifest(event.metadata)
        except (InvalidValue, OSError) as error:
            self.skip("bad_manifest")
            runtime.execute(
                "aitrace.artifact.failed",
                {},
                {"export_id": clean_text(event.metadata.get("export_id")), "reason": str(error)},
            )
            return Made(drafts, str(error))
        if manifest is None:
            self.skip("no_manifest")
            return Made(drafts, "it has no manifest")
        events = lineage_events(manifest, event.metadata, ended_at)
        drafts.append(Draft(_encoder.encode(events), _LINEAGE, str(events[0].id), create_artifact(manifest)))
        return Made(drafts)

    def emit(self, event: Event, drafts: Sequence[Draft]) -> None:
        """Emit `aitrace.artifact.created` for the artifact that is handed over."""
        for draft in drafts:
            if draft.record_class == _LINEAGE:
                runtime.execute("aitrace.artifact.created", {}, draft.about)

    def encode_lineage(self, records: Sequence[Record], batch_id: str) -> bytes:
        """Make a `LineageBatch`. A record holds the events of one export, as a JSON array."""
        head = {"batch_id": batch_id, "source": SOURCE, "sent_at": instant(self.clock.system_ns())}
        events = b",".join(one.payload[1:-1] for one in records)
        return b'%b,"events":[%b]}' % (_encoder.encode(head)[:-1], events)


def _find_manifest(metadata: Mapping[str, Any]) -> Manifest | None:
    """Find an export's manifest: in the event, beside the exported file, or spread over the event's metadata.

    None when there is none. Errors: InvalidValue, OSError.
    """
    given = metadata.get("manifest")
    if given is not None:
        return read_manifest(given)
    output = metadata.get("output_path")
    if isinstance(output, str):
        path = Path(f"{output}.manifest.json")
        if path.is_file():
            with path.open("rb") as file:
                content = file.read(_MANIFEST_LIMIT + 1)
            if len(content) > _MANIFEST_LIMIT:
                raise expected(f"{path} to be a manifest of at most {_MANIFEST_LIMIT} bytes", "a larger file")
            try:
                return read_manifest(msgspec.json.decode(content))
            except msgspec.DecodeError as error:
                raise expected(f"{path} to be JSON", str(error)) from None
    return read_manifest(metadata) if "sha256_hash" in metadata else None


def _artifacts(records: Sequence[Record]) -> Iterable[tuple[Record, ArtifactEvent]]:
    for record in records:
        for event in msgspec.json.decode(record.payload, type=list[LineageEvent]):
            if isinstance(event, ArtifactEvent):
                yield record, event


def _tell_registered(records: Sequence[Record]) -> None:
    for record, event in _artifacts(records):
        runtime.execute("aitrace.artifact.registered", {"attempts": record.attempts}, _about(event))


def _tell_failed(records: Sequence[Record], kind: str, reason: str) -> None:
    for record, event in _artifacts(records):
        about = {**_about(event), "kind": kind, "reason": reason}
        runtime.execute("aitrace.artifact.failed", {"attempts": record.attempts}, about)


def _about(event: ArtifactEvent) -> dict[str, str]:
    return {
        "artifact_id": str(event.payload.id),
        "export_id": event.source_ref,
        "name": str(event.payload.metadata.get("name")),
    }
