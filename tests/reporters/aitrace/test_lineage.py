"""Lineage records validate against the public format and are the same whenever they are made."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.sink import Sink
from reporters.aitrace import ArtifactEvent, EdgeEvent, LineageEvent, create_artifact
from reporters.aitrace._lineage import lineage_events, read_manifest
from runtime.errors import InvalidValue

MANIFEST: dict[str, Any] = {
    "export_id": "3f0c",
    "queue_id": "queue-1",
    "schema_version_id": "v2",
    "sample_version": None,
    "format": "csv",
    "output_path": "/data/export 1.csv",
    "row_count": 5000,
    "sha256_hash": "ab" * 32,
    "exported_at": "2026-01-02T03:04:05.678901Z",
    "parameters": {"limit": None, "offset": 0, "filter": {}},
    "schema_definition_hash": "cd" * 32,
}
NOON = datetime.datetime(2026, 6, 1, 12, tzinfo=datetime.UTC)
ARTIFACT_FIELDS = [
    "id",
    "trace_id",
    "span_id",
    "type",
    "uri",
    "checksum",
    "size_bytes",
    "mime_type",
    "metadata",
    "created_at",
]
EDGE_FIELDS = ["id", "trace_id", "source_type", "source_id", "target_type", "target_id", "relationship", "metadata"]
EVENT_FIELDS = ["id", "type", "trace_id", "span_id", "occurred_at", "source", "source_ref", "payload"]


def made(metadata: dict[str, Any] | None = None, **changes: Any) -> list[LineageEvent]:
    return lineage_events(read_manifest({**MANIFEST, **changes}), metadata or {}, NOON)


def batch(events: list[LineageEvent]) -> bytes:
    return msgspec.json.encode({"batch_id": "b", "source": "anvil", "sent_at": NOON, "events": events})


def test_an_export_is_described_in_the_words_of_the_decision_record() -> None:
    assert create_artifact(read_manifest(MANIFEST)) == {
        "type": "dataset",
        "name": "anvil_export_3f0c",
        "version": "v2",
        "metadata": {"queue_id": "queue-1", "row_count": 5000, "sha256": "ab" * 32, "format": "csv"},
        "lineage": {"upstream": [{"type": "queue", "id": "queue-1"}, {"type": "schema_version", "id": "v2"}]},
    }


def test_records_have_the_public_fields_and_survive_json() -> None:
    events = made({"file_size_bytes": 1_200_000})

    raw = msgspec.json.decode(msgspec.json.encode(events))

    assert [sorted(one) for one in raw] == [sorted(EVENT_FIELDS)] * 3
    assert [one["type"] for one in raw] == ["artifact", "edge", "edge"]
    assert sorted(raw[0]["payload"]) == sorted(ARTIFACT_FIELDS)
    assert [sorted(one["payload"]) for one in raw[1:]] == [sorted(EDGE_FIELDS)] * 2
    assert msgspec.json.decode(msgspec.json.encode(events), type=list[LineageEvent]) == events
    artifact = raw[0]["payload"]
    assert (artifact["type"], artifact["checksum"]) == ("dataset", "sha256:" + "ab" * 32)
    assert (artifact["uri"], artifact["mime_type"]) == ("file:///data/export%201.csv", "text/csv")
    assert (artifact["size_bytes"], artifact["created_at"]) == (1_200_000, "2026-01-02T03:04:05.678901Z")
    assert raw[0]["source"] == "anvil"
    assert raw[0]["source_ref"] == artifact["metadata"]["original_id"] == "3f0c"


def test_every_upstream_has_an_edge_from_it_to_the_artifact() -> None:
    artifact, *edges = made()

    assert isinstance(artifact, ArtifactEvent)
    assert all(isinstance(edge, EdgeEvent) for edge in edges)
    assert {edge.payload.target_id for edge in edges if isinstance(edge, EdgeEvent)} == {artifact.payload.id}
    assert [
        (edge.payload.source_type, edge.payload.relationship, edge.payload.metadata["source_original_id"])
        for edge in edges
        if isinstance(edge, EdgeEvent)
    ] == [("queue", "derived_from", "queue-1"), ("schema_version", "derived_from", "v2")]


def test_registering_again_makes_the_same_records_byte_for_byte() -> None:
    earlier, later = NOON, NOON + datetime.timedelta(days=1)
    manifest = read_manifest(MANIFEST)

    first, second = (msgspec.json.encode(lineage_events(manifest, {}, when)) for when in (earlier, later))

    assert first == second


@pytest.mark.parametrize(
    ("manifest", "metadata", "told"),
    [
        ({}, {}, {"duplicates": 3}),
        ({"exported_at": None}, {}, {"events": 3}),
        ({}, {"trace_id": "another trace"}, {"events": 3}),
        ({"row_count": 5001}, {}, {"events": 1, "duplicates": 2}),
    ],
)
def test_registering_again_is_never_a_conflict_for_whoever_receives_it(
    manifest: dict[str, Any], metadata: dict[str, Any], told: dict[str, int]
) -> None:
    sink = Sink()
    first = made(**manifest if "exported_at" in manifest else {})
    later = NOON + datetime.timedelta(days=1)
    again = lineage_events(read_manifest({**MANIFEST, **manifest}), metadata, later)
    sink.receive(batch(first))

    assert sink.receive(batch(again)) == told
    assert [event.payload.id for event in again] == [event.payload.id for event in first]


def test_exports_of_one_queue_share_their_upstream_and_nothing_else() -> None:
    one, other = made(), made(export_id="4a1d")

    assert one[1].payload.source_id == other[1].payload.source_id  # type: ignore[union-attr]
    assert {event.id for event in one} & {event.id for event in other} == set()


def test_ids_that_are_uuids_stay_and_others_are_kept_in_the_metadata() -> None:
    plain = uuid.uuid4()

    events = made({"trace_id": plain.hex, "span_id": "00f067aa0ba902b7"})

    artifact = events[0].payload
    assert {event.trace_id for event in events} == {plain}
    assert events[0].span_id.version == 5
    assert artifact.metadata["original_span_id"] == "00f067aa0ba902b7"
    assert artifact.metadata["original_trace_id"] == plain.hex


@given(st.text(min_size=1), st.text(min_size=1), st.text(min_size=1))
def test_any_ids_make_valid_records(export_id: str, queue_id: str, version: str) -> None:
    events = made(export_id=export_id, queue_id=queue_id, schema_version_id=version)

    assert msgspec.json.decode(msgspec.json.encode(events), type=list[LineageEvent]) == events
    assert len({event.id for event in events}) == 3


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"sha256_hash": "short"}, "sha256_hash"),
        ({"row_count": -1}, "row_count"),
        ({"row_count": "many"}, "row_count"),
        ({"export_id": ""}, "export_id"),
        ({"exported_at": "yesterday"}, "exported_at"),
    ],
)
def test_a_bad_manifest_is_refused_and_the_field_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidValue, match=field):
        read_manifest({**MANIFEST, **change})


def test_a_manifest_may_be_an_object() -> None:
    class Theirs(msgspec.Struct):
        export_id: str = "3f0c"
        queue_id: str = "queue-1"
        schema_version_id: str = "v2"
        row_count: int = 1
        sha256_hash: str = "ab" * 32
        format: str = "csv"

    assert read_manifest(Theirs()).queue_id == "queue-1"
