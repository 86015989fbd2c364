"""AITrace's files: one per lineage record, and a pair per trace.

The courier's thread calls `send`; it blocks on the disk. Every file is written beside its name, brought to disk and
renamed, so that a name always stands for a whole file; what is there already stays as it is, so that sending twice
leaves one. Of a pair the evidence comes last: where it is, the trace is whole.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec

from reporters.aitrace._lineage import LineageBatch, LineageEvent
from reporters.aitrace._trace import Trace
from reporters.delivery import Answer, Verdict

Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
T = TypeVar("T")
Moment = Annotated[datetime.datetime, msgspec.Meta(tz=True)]


class Evidence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The receipt beside a trace: which file, how long, with which hash."""

    evidence_schema_version: Literal["aitrace.file_export_evidence.v1"]
    exporter_schema_version: Literal["aitrace.file_export.v1"]
    trace_id: str
    trace_artifact_ref: str
    evidence_receipt_ref: str
    trace_artifact_sha256: Digest
    trace_artifact_bytes: int
    hash_algorithm: Literal["sha256"]
    release_manifest_ref: str | None
    evidence_owner_ref: str | None
    exported_at_wall_time: Moment


class TraceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A trace on its way to its file; `ended_at` gives the file its name and does not change on the way."""

    trace: Trace
    ended_at: Moment
    release_manifest_ref: str | None = None
    evidence_owner_ref: str | None = None


class LineageFiles:
    """Write each lineage record of a batch to `<directory>/<id>.json`."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = Path(directory)

    def __str__(self) -> str:
        return str(self._directory)

    def send(self, body: bytes, key: str) -> Answer:
        """Write the records of a batch; never raises for the disk."""
        events = msgspec.json.decode(body, type=LineageBatch).events
        return _written(self._directory, write_lineage, events)

    def cut(self) -> None:
        """Do nothing: a write to disk cannot be hurried."""


class TraceFiles:
    """Write each trace of a batch to `<directory>/<trace_id>_<unix seconds>.json`, and its evidence beside it."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = Path(directory)

    def __str__(self) -> str:
        return str(self._directory)

    def send(self, body: bytes, key: str) -> Answer:
        """Write the traces of a batch; never raises for the disk."""
        records = msgspec.json.decode(body, type=list[TraceRecord])
        return _written(self._directory, write_pair, records)

    def cut(self) -> None:
        """Do nothing: a write to disk cannot be hurried."""


def write_lineage(directory: Path, event: LineageEvent) -> Path:
    """Write a lineage record; answer its path. Errors: OSError."""
    path = directory / f"{event.id}.json"
    _write(path, msgspec.json.format(msgspec.json.encode(event)) + b"\n")
    return path


def write_pair(directory: Path, record: TraceRecord) -> Path:
    """Write a trace and its evidence; answer the path of the trace. Errors: OSError."""
    trace = record.trace
    name = f"{trace.trace_id}_{int(record.ended_at.timestamp())}"
    path, receipt = directory / f"{name}.json", directory / f"{name}.evidence.json"
    content = msgspec.json.format(msgspec.json.encode(trace)) + b"\n"
    evidence = Evidence(
        evidence_schema_version="aitrace.file_export_evidence.v1",
        exporter_schema_version="aitrace.file_export.v1",
        trace_id=trace.trace_id,
        trace_artifact_ref=path.name,
        evidence_receipt_ref=receipt.name,
        trace_artifact_sha256=hashlib.sha256(content).hexdigest(),
        trace_artifact_bytes=len(content),
        hash_algorithm="sha256",
        release_manifest_ref=record.release_manifest_ref,
        evidence_owner_ref=record.evidence_owner_ref,
        exported_at_wall_time=record.ended_at,
    )
    _write(path, content)
    _write(receipt, msgspec.json.format(msgspec.json.encode(evidence)) + b"\n")
    return path


def check_pair(path: Path) -> Trace:
    """Read a trace and hold it against its evidence: name, hash, size.

    Errors: OSError, msgspec.ValidationError, ValueError that says what does not agree.
    """
    content = path.read_bytes()
    trace = msgspec.json.decode(content, type=Trace)
    receipt = path.with_name(f"{path.name.removesuffix('.json')}.evidence.json")
    evidence = msgspec.json.decode(receipt.read_bytes(), type=Evidence)
    found = (path.name, receipt.name, trace.trace_id, len(content), hashlib.sha256(content).hexdigest())
    told = (
        evidence.trace_artifact_ref,
        evidence.evidence_receipt_ref,
        evidence.trace_id,
        evidence.trace_artifact_bytes,
        evidence.trace_artifact_sha256,
    )
    if found != told or not path.name.startswith(f"{trace.trace_id}_"):
        raise ValueError(f"expected {path} to agree with its evidence {told}, got: {found}")
    return trace


def _write(path: Path, content: bytes) -> None:
    if path.exists():
        return
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except OSError:
        with contextlib.suppress(OSError):  # the first failure is the one to report
            temporary.unlink()
        raise


def _written(directory: Path, write: Callable[[Path, T], Path], items: Iterable[T]) -> Answer:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for item in items:
            write(directory, item)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)  # the names are as durable as the files
        finally:
            os.close(descriptor)
    except OSError as error:
        return Answer(Verdict.RETRY, f"{type(error).__name__}: {error}")
    return Answer(Verdict.DELIVERED, "written")
