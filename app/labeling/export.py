"""Labels into files: CSV or JSON lines, whole or not at all, with a manifest that proves what was written.

Rows come in a fixed order (sample, labeler, time) as of one moment, so the same labels give the same bytes. The file
is written as `<output>.tmp`, flushed to disk and renamed; its SHA-256 is taken from the bytes on their way out.
Personal data is not removed but reported, once per field and kind. A failed export leaves no file behind and raises
ExportFailed.
"""

from __future__ import annotations

import csv
import datetime
import hashlib
import io
import os
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec

import runtime
from app.labeling import pii
from app.labeling.queues import Queue
from app.labeling.records import Label
from runtime.errors import BeamstalkError, expected

Format = Literal["csv", "jsonl"]
FORMATS: tuple[Format, ...] = ("csv", "jsonl")


class ExportFailed(BeamstalkError):
    """Say which file could not be written, and why."""


class Parameters(msgspec.Struct, frozen=True):
    """Which of the labels an export was asked for."""

    limit: int | None
    offset: int
    filter: dict[str, str]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Where a file comes from and what it holds; kept beside it as `<output>.manifest.json`."""

    export_id: str
    queue_id: str
    schema_version_id: str
    sample_version: str | None
    format: Format
    output_path: str
    row_count: int
    sha256_hash: str
    exported_at: datetime.datetime
    parameters: Parameters
    schema_definition_hash: str


def export(
    queue: Queue,
    output: str | Path,
    format: Format,
    *,
    sample_version: str | None = None,
    limit: int | None = None,
    offset: int = 0,
    filter: Mapping[str, str] | None = None,
) -> Manifest:
    """Write a queue's labels to `output` and its manifest beside it; return the manifest.

    Blocks until both are on disk. Options: `sample_version` names the data set; `limit` and `offset` cut a window out
    of the rows; `filter` keeps rows of one sample_id or labeler_id. Raises InvalidValue for a bad option,
    ExportFailed if a file cannot be written. In the span `anvil.export.generate`; emits `anvil.export.progress` per
    batch, `anvil.export.pii_detected`, and `anvil.export.completed` or `anvil.export.failed`.
    """
    if format not in FORMATS:
        raise expected(f"a format out of {', '.join(FORMATS)}", format)
    if offset < 0 or (limit is not None and limit < 0):
        raise expected("limit and offset to be 0 or more", (limit, offset))
    output = Path(output).absolute()
    export_id = uuid.uuid4().hex
    about = {"export_id": export_id, "queue_id": queue.id, "format": format}
    parameters = Parameters(limit, offset, dict(filter or {}))
    with runtime.span("anvil.export.generate", about) as span:
        try:
            manifest, size_bytes = _write(queue, output, about, parameters, sample_version)
        except OSError as fault:
            runtime.execute("anvil.export.failed", {}, {**about, "reason": str(fault)})
            raise ExportFailed(
                f"expected to write {output}, got: {fault.strerror or fault}. Choose a directory that can be written"
            ) from fault
        span.metadata.update(
            row_count=manifest.row_count,
            file_size_bytes=size_bytes,
            sha256_hash=manifest.sha256_hash,
            schema_version_id=manifest.schema_version_id,
            output_path=manifest.output_path,
        )
    runtime.execute(
        "anvil.export.completed",
        {"row_count": manifest.row_count, "file_size_bytes": size_bytes},
        {**about, "sha256_hash": manifest.sha256_hash},
    )
    return manifest


def read_manifest(path: str | Path) -> Manifest:
    """Read a manifest file. msgspec.ValidationError if it is none."""
    return msgspec.json.decode(Path(path).read_bytes(), type=Manifest)


def _write(
    queue: Queue, output: Path, about: Mapping[str, str], parameters: Parameters, sample_version: str | None
) -> tuple[Manifest, int]:
    schema = queue.schema
    dimensions = [field.name for field in schema.fields]
    rows_written = 0
    found: Counter[tuple[str, str]] = Counter()
    with (
        _replacing(output) as file,
        queue.storage.export(queue.id, limit=parameters.limit, offset=parameters.offset, filter=parameters.filter) as (
            total,
            batches,
        ),
    ):
        encode = _csv_rows if about["format"] == "csv" else _json_rows
        file.write(_csv_header(dimensions) if about["format"] == "csv" else b"")
        for batch in batches:
            file.write(encode(batch, dimensions))
            found.update(_personal_data(batch))
            rows_written += len(batch)
            runtime.execute(
                "anvil.export.progress",
                {"rows_processed": rows_written},
                {**about, "total_rows": total, "progress_pct": round(100 * rows_written / total, 1)},
            )
    manifest = Manifest(
        export_id=about["export_id"],
        queue_id=queue.id,
        schema_version_id=schema.version_id,
        sample_version=sample_version,
        format="csv" if about["format"] == "csv" else "jsonl",
        output_path=str(output),
        row_count=rows_written,
        sha256_hash=file.sha256.hexdigest(),
        exported_at=_instant(queue.clock.system_ns()),
        parameters=parameters,
        schema_definition_hash=schema.definition_hash(),
    )
    with _replacing(Path(f"{output}.manifest.json")) as manifest_file:
        manifest_file.write(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
    for (field, pattern), rows in found.items():
        runtime.execute(
            "anvil.export.pii_detected",
            {"rows": rows},
            {"export_id": about["export_id"], "queue_id": queue.id, "field": field, "pattern": pattern},
        )
    return manifest, file.size_bytes


class _File:
    """A file that knows the size and the hash of what was written to it."""

    def __init__(self, raw: io.BufferedIOBase) -> None:
        self._raw = raw
        self.sha256 = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytes) -> None:
        self._raw.write(data)
        self.sha256.update(data)
        self.size_bytes += len(data)


@contextmanager
def _replacing(output: Path) -> Iterator[_File]:
    """Write beside `output` and rename at the end; on any failure leave nothing."""
    temporary = Path(f"{output}.tmp")
    try:
        with temporary.open("wb") as raw:
            yield _File(raw)
            raw.flush()
            os.fsync(raw.fileno())
        temporary.replace(output)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _csv_header(dimensions: list[str]) -> bytes:
    return _csv([["sample_id", "text", "labeler_id", *dimensions, "labeling_time_seconds", "submitted_at"]])


def _csv_rows(batch: list[tuple[Label, str]], dimensions: list[str]) -> bytes:
    return _csv(
        [
            label.sample_id,
            text,
            label.labeler_id,
            *(_cell(label.values.get(name)) for name in dimensions),
            f"{label.labeling_time_seconds:.6f}",
            _instant(label.submitted_at_ns).isoformat(),
        ]
        for label, text in batch
    )


def _csv(rows: Any) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    """Lists as JSON and booleans as JSON, the rest as it is; None is an empty cell."""
    return msgspec.json.encode(value).decode() if isinstance(value, list | bool) else value


def _json_rows(batch: list[tuple[Label, str]], dimensions: list[str]) -> bytes:
    return msgspec.json.Encoder().encode_lines(
        [
            {
                "sample_id": label.sample_id,
                "text": text,
                "labeler_id": label.labeler_id,
                "values": {name: label.values.get(name) for name in dimensions},
                "labeling_time_seconds": label.labeling_time_seconds,
                "submitted_at": _instant(label.submitted_at_ns),
            }
            for label, text in batch
        ]
    )


def _personal_data(batch: list[tuple[Label, str]]) -> Iterator[tuple[str, str]]:
    """Yield (field, pattern) for every row and field in which a pattern is found."""
    for label, text in batch:
        for field, value in (("text", text), *label.values.items()):
            if isinstance(value, str):
                for pattern in pii.detect(value):
                    yield field, pattern


def _instant(time_ns: int) -> datetime.datetime:
    # Whole microseconds by integer arithmetic: a float of ns since the epoch has lost them already.
    return datetime.datetime.fromtimestamp(0, datetime.UTC) + datetime.timedelta(microseconds=time_ns // 1000)
