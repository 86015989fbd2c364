"""The public lineage_ir records, as types, and how they are made of an export's manifest.

Whoever receives them validates with the same types. Artifacts and edges have UUIDs made from the original ids (version
5, one namespace), which are kept in the metadata; an event that brings one has a UUID made of all that it says. Times
come from the manifest, so that registering the same export again makes the same records, byte for byte; and where the
manifest has none, a later event about the same artifact, never another content under the same id. Pure functions:
nothing is read, nothing is sent.
"""

from __future__ import annotations

import datetime
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from reporters.delivery._json import clean
from runtime.errors import expected

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://github.com/North-Shore-AI/lineage_ir")
SOURCE = "anvil"
_MIME_TYPES = {"csv": "text/csv", "jsonl": "application/x-ndjson"}

Text = Annotated[str, msgspec.Meta(min_length=1)]
Moment = Annotated[datetime.datetime, msgspec.Meta(tz=True)]
Checksum = Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}$")]
Count = Annotated[int, msgspec.Meta(ge=0)]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What AITrace asks of an export's manifest; it may say more."""

    export_id: Text
    queue_id: Text
    schema_version_id: Text
    row_count: Count
    sha256_hash: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
    format: Text
    output_path: str | None = None
    exported_at: Moment | None = None


class Artifact(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """lineage_ir's Artifact."""

    id: uuid.UUID
    trace_id: uuid.UUID
    span_id: uuid.UUID
    type: Text
    uri: str | None
    checksum: Checksum
    size_bytes: Count | None
    mime_type: str
    metadata: dict[str, Any]
    created_at: Moment


class Edge(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """lineage_ir's ProvenanceEdge: the target is derived from the source."""

    id: uuid.UUID
    trace_id: uuid.UUID
    source_type: Text
    source_id: uuid.UUID
    target_type: Text
    target_id: uuid.UUID
    relationship: Literal["derived_from"]
    metadata: dict[str, Any]


class _Envelope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: uuid.UUID
    trace_id: uuid.UUID
    span_id: uuid.UUID
    occurred_at: Moment
    source: Text
    source_ref: Text


class ArtifactEvent(_Envelope, frozen=True, kw_only=True, tag_field="type", tag="artifact"):
    """lineage_ir's Event that brings an artifact."""

    payload: Artifact


class EdgeEvent(_Envelope, frozen=True, kw_only=True, tag_field="type", tag="edge"):
    """lineage_ir's Event that brings an edge."""

    payload: Edge


LineageEvent = ArtifactEvent | EdgeEvent


class LineageBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request."""

    batch_id: Text
    source: Text
    sent_at: Moment
    events: Annotated[list[LineageEvent], msgspec.Meta(min_length=1)]


def read_manifest(values: Any) -> Manifest:
    """Check a manifest: a mapping, or any object msgspec can read. Errors: InvalidValue, naming the field."""
    try:
        return msgspec.convert(values, Manifest, from_attributes=True, str_keys=True)
    except msgspec.ValidationError as error:
        raise expected(
            "an export manifest", clean(values) if isinstance(values, Mapping) else values, str(error)
        ) from None


def create_artifact(manifest: Manifest) -> dict[str, Any]:
    """Describe an export as an artifact, in the words of ADR-008.

    >>> made = create_artifact(
    ...     Manifest(
    ...         export_id="e1", queue_id="q1", schema_version_id="v2", row_count=3, sha256_hash="0" * 64, format="csv"
    ...     )
    ... )
    >>> made["type"], made["name"], made["version"], made["lineage"]["upstream"][1]
    ('dataset', 'anvil_export_e1', 'v2', {'type': 'schema_version', 'id': 'v2'})
    """
    return {
        "type": "dataset",
        "name": f"anvil_export_{manifest.export_id}",
        "version": manifest.schema_version_id,
        "metadata": {
            "queue_id": manifest.queue_id,
            "row_count": manifest.row_count,
            "sha256": manifest.sha256_hash,
            "format": manifest.format,
        },
        "lineage": {
            "upstream": [
                {"type": "queue", "id": manifest.queue_id},
                {"type": "schema_version", "id": manifest.schema_version_id},
            ]
        },
    }


def lineage_events(
    manifest: Manifest, metadata: Mapping[str, Any], occurred_at: datetime.datetime
) -> list[LineageEvent]:
    """Make the records of an export: its artifact, and an edge from each of what it was made of.

    `metadata`: of the event; `trace_id`, `span_id` and `file_size_bytes` are taken from it where they are there.
    `occurred_at`: when the manifest does not say.
    """
    when = manifest.exported_at or occurred_at
    described = create_artifact(manifest)
    export_id = manifest.export_id
    trace_id = as_uuid("trace", metadata.get("trace_id"), export_id)
    span_id = as_uuid("span", metadata.get("span_id"), export_id)
    size = metadata.get("file_size_bytes")
    originals = {key: clean(metadata[key]) for key in ("trace_id", "span_id") if metadata.get(key) is not None}
    artifact = Artifact(
        id=_made_of("artifact", export_id),
        trace_id=trace_id,
        span_id=span_id,
        type=described["type"],
        uri=None if manifest.output_path is None else Path(manifest.output_path).absolute().as_uri(),
        checksum=f"sha256:{manifest.sha256_hash}",
        size_bytes=size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else None,
        mime_type=_MIME_TYPES.get(manifest.format, "application/octet-stream"),
        metadata={
            "name": described["name"],
            "version": described["version"],
            **described["metadata"],
            "original_id": export_id,
            **{f"original_{key}": value for key, value in originals.items()},
        },
        created_at=when,
    )
    common = {"trace_id": trace_id, "span_id": span_id, "occurred_at": when, "source": SOURCE, "source_ref": export_id}

    def event_id(payload: Artifact | Edge) -> uuid.UUID:
        return _made_of("event", msgspec.json.encode((common, payload)).decode())

    events: list[LineageEvent] = [ArtifactEvent(id=event_id(artifact), payload=artifact, **common)]  # type: ignore[arg-type]
    for upstream in described["lineage"]["upstream"]:
        kind, original = upstream["type"], upstream["id"]
        edge = Edge(
            id=_made_of("edge", kind, original, export_id),
            trace_id=trace_id,
            source_type=kind,
            source_id=_made_of(kind, original),
            target_type="artifact",
            target_id=artifact.id,
            relationship="derived_from",
            metadata={"source_original_id": original, "target_original_id": export_id},
        )
        events.append(EdgeEvent(id=event_id(edge), payload=edge, **common))  # type: ignore[arg-type]
    return events


def as_uuid(kind: str, original: object, otherwise: str) -> uuid.UUID:
    """Return an id as a UUID: itself if it is one (also as 32 hex digits), else one made of it, or of `otherwise`."""
    if isinstance(original, uuid.UUID):
        return original
    if isinstance(original, str) and original:
        if re.fullmatch(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", original):
            return uuid.UUID(original)
        return _made_of(kind, original)
    return _made_of(kind, otherwise)


def _made_of(*parts: str) -> uuid.UUID:
    # Lengths keep ("a:b", "c") and ("a", "b:c") apart.
    return uuid.uuid5(NAMESPACE, "".join(f"{len(part)}:{part};" for part in parts).encode("utf-8", "replace").decode())
