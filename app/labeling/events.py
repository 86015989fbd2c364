"""The event catalogue: every event of the platform, with what it measures and what it tells.

Events are an API: whoever attaches a handler reads this page. A span `p` emits `p.start`, then `p.stop` or
`p.exception`; its stop and exception carry the metadata of the start, and what was added until then. A metadata field
whose type admits None may be absent.
"""

from __future__ import annotations

from typing import Any

from runtime.catalogue import Declared


def _event(name: str, description: str, measurements: dict[str, str] | None = None, /, **metadata: Any) -> Declared:
    return Declared(name=f"anvil.{name}", description=description, measurements=measurements or {}, metadata=metadata)


def _span(name: str, description: str, start: dict[str, Any], /, **stop: Any) -> Declared:
    return Declared(name=f"anvil.{name}", description=description, metadata=start, is_span=True, stop=stop)


CATALOGUE: tuple[Declared, ...] = (
    # -- queue -------------------------------------------------------------------------------------------------------
    _event(
        "queue.created",
        "A queue was created.",
        queue_id=str,
        tenant_id=str,
        policy_type=str,
        labels_per_sample=int,
    ),
    _event(
        "queue.status_changed",
        "A queue was paused, resumed or archived.",
        queue_id=str,
        from_status=str,
        to_status=str,
    ),
    _event(
        "queue.active_labelers",
        "Measured from time to time: labelers with work in progress or seen lately.",
        {"count": "labelers"},
        queue_id=str,
    ),
    # -- assignment --------------------------------------------------------------------------------------------------
    _span(
        "assignment.dispatch",
        "A labeler asked for work. `refusal` says why there was none; `retry_count` counts earlier attempts.",
        {"queue_id": str, "labeler_id": str},
        policy_type=str,
        retry_count=int | None,
        sample_id=str | None,
        eligible_samples=int | None,
        refusal=str | None,
    ),
    _event(
        "assignment.created",
        "A sample was given to a labeler.",
        assignment_id=str,
        queue_id=str,
        sample_id=str,
        labeler_id=str,
    ),
    _event(
        "assignment.completed",
        "An assignment ended with a label.",
        {"labeling_time_seconds": "s"},
        assignment_id=str,
        queue_id=str,
        sample_id=str,
        labeler_id=str,
    ),
    _event(
        "assignment.expired",
        "An attempt passed its deadline.",
        assignment_id=str,
        queue_id=str,
        sample_id=str,
        labeler_id=str,
        attempt=int,
    ),
    _event(
        "assignment.timed_out",
        "A sweep found overdue assignments: all of them in one event.",
        {"count": "assignments"},
        queue_id=str,
        requeued=int,
        escalated=int,
    ),
    # -- label -------------------------------------------------------------------------------------------------------
    _span(
        "label.submit",
        "A labeler submitted values. Values that do not fit stop with `validation_errors` > 0.",
        {"assignment_id": str, "labeler_id": str, "queue_id": str},
        schema_version_id=str,
        validation_errors=int,
    ),
    _event(
        "label.validation_failed",
        "Submitted values did not fit the schema.",
        {"error_count": "errors"},
        assignment_id=str,
        queue_id=str,
        schema_version_id=str,
        errors=list[dict[str, str]],
    ),
    # -- agreement ---------------------------------------------------------------------------------------------------
    _span(
        "agreement.compute",
        "A sample was scored on each of its dimensions.",
        {"sample_id": str, "queue_id": str},
        metric=str,
        n_raters=int,
        dimensions=int,
    ),
    _event(
        "agreement.low_score",
        "A sample's agreement on a dimension is below the threshold.",
        {"value": "score"},
        sample_id=str,
        queue_id=str,
        dimension=str,
        threshold=float,
        metric=str,
    ),
    _span(
        "agreement.batch_recompute",
        "All samples of a queue were scored again.",
        {"queue_id": str},
        samples_processed=int,
    ),
    # -- export ------------------------------------------------------------------------------------------------------
    _span(
        "export.generate",
        "Labels were written to a file.",
        {"queue_id": str, "format": str, "export_id": str},
        row_count=int,
        file_size_bytes=int,
        sha256_hash=str,
        schema_version_id=str,
        output_path=str,
    ),
    _event(
        "export.progress",
        "A batch of rows was written.",
        {"rows_processed": "rows"},
        export_id=str,
        queue_id=str,
        format=str,
        total_rows=int,
        progress_pct=float,
    ),
    _event(
        "export.completed",
        "A file and its manifest are on disk.",
        {"row_count": "rows", "file_size_bytes": "bytes"},
        export_id=str,
        queue_id=str,
        format=str,
        sha256_hash=str,
    ),
    _event(
        "export.failed",
        "A file could not be written; nothing is left of it.",
        export_id=str,
        queue_id=str,
        format=str,
        reason=str,
    ),
    _event(
        "export.pii_detected",
        "Rows of a finished export hold what looks like personal data.",
        {"rows": "rows"},
        export_id=str,
        queue_id=str,
        field=str,
        pattern=str,
    ),
    # -- auth --------------------------------------------------------------------------------------------------------
    _event("auth.login_success", "A token was accepted.", labeler_id=str, provider=str, tenant_id=str),
    _event("auth.login_failed", "A token was refused.", reason=str, provider=str),
    _event("auth.access_granted", "A request was allowed.", labeler_id=str, action=str, resource_id=str),
    _event("auth.access_denied", "A request was refused.", labeler_id=str, action=str, resource_id=str, reason=str),
    # -- policy ------------------------------------------------------------------------------------------------------
    _span(
        "policy.select_assignment",
        "A policy chose a sample for a labeler, or said why not.",
        {"policy_type": str, "queue_id": str, "labeler_id": str},
        eligible_samples=int,
        sample_id=str | None,
        selected_sample_difficulty=float | None,
        refusal=str | None,
    ),
    _event(
        "policy.requeue",
        "An assignment that timed out gets another attempt, or one that was skipped is open to others.",
        assignment_id=str,
        queue_id=str,
        reason=str,
        attempt=int,
    ),
    # -- storage and schema ------------------------------------------------------------------------------------------
    _span("storage.query", "The database was asked something.", {"operation": str}),
    _event(
        "schema.validation",
        "Values were checked against a schema; valid is 1 or 0.",
        {"valid": "1 or 0", "error_count": "errors"},
        queue_id=str,
        schema_version_id=str,
    ),
    _event(
        "schema.migration",
        "A queue and its labels went over to another schema version.",
        {"labels_migrated": "labels"},
        queue_id=str,
        from_version=str,
        to_version=str,
    ),
)
