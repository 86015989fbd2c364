import csv
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.labeling import policies
from app.labeling.export import ExportFailed, Manifest, export, read_manifest
from app.labeling.labels import submit
from app.labeling.queues import Queue, Refused
from app.labeling.records import QueueSettings, Sample
from app.labeling.schema import Field, Schema
from app.labeling.storage import Storage
from runtime.clock import FakeClock
from runtime.errors import InvalidValue
from runtime.testing import Capture

NewQueue = Callable[..., Queue]

SCHEMA = Schema(
    "v7",
    (
        Field(name="valence", type="range", min=-4, max=4),
        Field(name="notes", type="text", required=False),
        Field(name="tags", type="multiselect", options=("x", "y"), required=False),
        Field(name="sure", type="boolean", required=False),
    ),
)


@pytest.fixture
def queue(storage: Storage, clock: FakeClock) -> Queue:
    """A queue of three samples with awkward texts, labelled by ada and bob."""
    queue = Queue.create(
        storage,
        QueueSettings(queue_id="q1", tenant_id="t1", policy_type="round_robin", labels_per_sample=2),
        SCHEMA,
        policies.build("round_robin"),
        clock=clock,
    )
    queue.add_labelers("ada", "bob")
    queue.add_samples([Sample("s1", 'say "hi", all'), Sample("s2", "two\nlines"), Sample("s3", "ünï|čödé")])
    for labeler, notes in (("bob", None), ("ada", "fine, really")):
        while not isinstance(assignment := queue.dispatch(labeler), Refused):
            queue.start(assignment.id)
            values: dict[str, Any] = {"valence": -3, "notes": notes, "tags": ["x", "y"], "sure": True}
            clock.advance(1.5)
            submit(queue, assignment.id, labeler, values)
    return queue


def test_a_csv_holds_every_label_in_a_fixed_order(queue: Queue, tmp_path: Path) -> None:
    export(queue, tmp_path / "labels.csv", "csv")

    with (tmp_path / "labels.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == [
        "sample_id",
        "text",
        "labeler_id",
        "valence",
        "notes",
        "tags",
        "sure",
        "labeling_time_seconds",
        "submitted_at",
    ]
    assert [(row[0], row[2]) for row in rows] == [
        (sample, labeler) for sample in ("s1", "s2", "s3") for labeler in ("ada", "bob")
    ]
    assert rows[0][1:8] == ['say "hi", all', "ada", "-3", "fine, really", '["x","y"]', "true", "1.500000"]
    assert rows[3][1:5] == ["two\nlines", "bob", "-3", ""]
    assert rows[0][8] == "2023-11-14T22:13:26+00:00"


def test_json_lines_hold_the_values_as_they_are(queue: Queue, tmp_path: Path) -> None:
    export(queue, tmp_path / "labels.jsonl", "jsonl")

    rows = [msgspec.json.decode(line) for line in (tmp_path / "labels.jsonl").read_bytes().splitlines()]
    assert len(rows) == 6
    assert rows[4] == {
        "sample_id": "s3",
        "text": "ünï|čödé",
        "labeler_id": "ada",
        "values": {"valence": -3, "notes": "fine, really", "tags": ["x", "y"], "sure": True},
        "labeling_time_seconds": 1.5,
        "submitted_at": "2023-11-14T22:13:29Z",
    }


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_the_manifest_proves_what_was_written(queue: Queue, tmp_path: Path, format: Any) -> None:
    output = tmp_path / f"labels.{format}"

    manifest = export(queue, output, format, sample_version="tokens 1.0", limit=4, filter={"labeler_id": "ada"})

    written = output.read_bytes()
    on_disk = msgspec.json.decode((tmp_path / f"labels.{format}.manifest.json").read_bytes())
    assert on_disk == {
        "export_id": manifest.export_id,
        "queue_id": "q1",
        "schema_version_id": "v7",
        "sample_version": "tokens 1.0",
        "format": format,
        "output_path": str(output),
        "row_count": 3,
        "sha256_hash": hashlib.sha256(written).hexdigest(),
        "exported_at": "2023-11-14T22:13:29Z",
        "parameters": {"limit": 4, "offset": 0, "filter": {"labeler_id": "ada"}},
        "schema_definition_hash": SCHEMA.definition_hash(),
    }
    assert read_manifest(f"{output}.manifest.json") == manifest
    written_files = sorted(path.name for path in tmp_path.glob(f"{output.name}*"))
    assert written_files == [output.name, f"{output.name}.manifest.json"]


def test_the_same_labels_give_the_same_bytes(queue: Queue, tmp_path: Path) -> None:
    hashes = {export(queue, tmp_path / name, "csv").sha256_hash for name in ("one.csv", "two.csv")}

    assert len(hashes) == 1


def test_an_empty_queue_gives_a_header_alone(new_queue: NewQueue, tmp_path: Path, emitted: Capture) -> None:
    manifest = export(new_queue(samples=0), tmp_path / "labels.csv", "csv")

    assert manifest.row_count == 0
    header = "sample_id,text,labeler_id,valence,labeling_time_seconds,submitted_at\n"
    assert (tmp_path / "labels.csv").read_text() == header
    assert emitted.of("anvil.export.progress") == []


def test_an_export_tells_its_progress_and_its_result(
    new_queue: NewQueue, tmp_path: Path, emitted: Capture, storage: Storage
) -> None:
    queue = new_queue(samples=1250, labels_per_sample=2)
    for labeler in ("ada", "bob"):
        while not isinstance(assignment := queue.dispatch(labeler), Refused):
            submit(queue, queue.start(assignment.id).id, labeler, {"valence": 0})

    manifest = export(queue, tmp_path / "labels.csv", "csv")

    about = {"export_id": manifest.export_id, "queue_id": "q1", "format": "csv"}
    assert [(event.measurements, event.metadata) for event in emitted.of("anvil.export.progress")] == [
        ({"rows_processed": rows}, {**about, "total_rows": 2500, "progress_pct": percent})
        for rows, percent in ((1000, 40.0), (2000, 80.0), (2500, 100.0))
    ]
    size_bytes = (tmp_path / "labels.csv").stat().st_size
    (stop,) = emitted.of("anvil.export.generate.stop")
    assert stop.metadata == {
        **about,
        "row_count": 2500,
        "file_size_bytes": size_bytes,
        "sha256_hash": manifest.sha256_hash,
        "schema_version_id": "v1",
        "output_path": str(tmp_path / "labels.csv"),
        "telemetry_span_context": stop.metadata["telemetry_span_context"],
    }
    (completed,) = emitted.of("anvil.export.completed")
    assert completed.measurements == {"row_count": 2500, "file_size_bytes": size_bytes}
    assert completed.metadata == {**about, "sha256_hash": manifest.sha256_hash}


def test_personal_data_are_reported_once_per_field_and_kind(storage: Storage, tmp_path: Path, emitted: Capture) -> None:
    queue = Queue.create(
        storage,
        QueueSettings(queue_id="q1", tenant_id="t1", policy_type="round_robin"),
        SCHEMA,
        policies.build("round_robin"),
    )
    queue.add_labelers("ada")
    queue.add_samples([Sample("s1", "ask bob@example.org"), Sample("s2", "555-123-4567"), Sample("s3", "fine")])
    while not isinstance(assignment := queue.dispatch("ada"), Refused):
        values = {"valence": 0, "notes": "cyd@example.org or 555-123-4567"}
        submit(queue, queue.start(assignment.id).id, "ada", values)

    manifest = export(queue, tmp_path / "labels.csv", "csv")

    found = emitted.of("anvil.export.pii_detected")
    rows = {(event.metadata["field"], event.metadata["pattern"]): event.measurements["rows"] for event in found}
    assert rows == {("notes", "email"): 3, ("notes", "phone"): 3, ("text", "email"): 1, ("text", "phone"): 1}
    assert len(found) == 4
    assert {event.metadata["export_id"] for event in found} == {manifest.export_id}
    assert "example.org" not in repr([event.metadata for event in found])


def test_an_export_that_cannot_be_written_fails_in_one_sentence_and_leaves_nothing(
    queue: Queue, tmp_path: Path, emitted: Capture
) -> None:
    with pytest.raises(ExportFailed, match=r"expected to write .*/nowhere/labels.csv, got: No such file or directory"):
        export(queue, tmp_path / "nowhere" / "labels.csv", "csv")

    (failed,) = emitted.of("anvil.export.failed")
    assert failed.metadata["queue_id"] == "q1"
    assert "No such file" in failed.metadata["reason"]
    (exception,) = emitted.of("anvil.export.generate.exception")
    assert (exception.metadata["format"], exception.metadata["kind"]) == ("csv", "error")
    assert emitted.of("anvil.export.completed") == []
    assert not (tmp_path / "nowhere").exists()


def test_an_export_that_breaks_off_keeps_the_file_that_was_there(queue: Queue, tmp_path: Path) -> None:
    output = tmp_path / "labels.csv"
    export(queue, output, "csv")
    before = output.read_bytes()
    manifest_path = tmp_path / "labels.csv.manifest.json"
    manifest_path.unlink()
    (tmp_path / "labels.csv.tmp").mkdir()  # where the new file would have to be

    with pytest.raises(ExportFailed):
        export(queue, output, "csv")

    assert output.read_bytes() == before
    assert not manifest_path.exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"format": "parquet"}, "a format out of csv, jsonl, got: 'parquet'"),
        ({"limit": -1}, r"limit and offset to be 0 or more, got: \(-1, 0\)"),
        ({"filter": {"colour": "red"}}, "an export filter by sample_id or labeler_id"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(
    queue: Queue, tmp_path: Path, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidValue, match=f"expected {sentence}"):
        export(queue, tmp_path / "labels.csv", **{"format": "csv"} | options)

    assert not (tmp_path / "labels.csv").exists()


def test_what_is_no_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text('{"export_id": 1}')

    with pytest.raises(msgspec.ValidationError):
        read_manifest(tmp_path / "m.json")
    assert "export_id" in Manifest.__struct_fields__
