"""Submitting a label: check the values against the queue's schema, keep them, end the assignment.

A payload that does not fit the schema is an expected "no": the span `anvil.label.submit` *stops* (validation_errors >
0), the labeler reads what is wrong and may submit again until the deadline. A submission that comes too late, or
twice, or to nobody's assignment is misuse: an exception, also to the span.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import msgspec

import runtime
from app.labeling.queues import Queue
from app.labeling.records import Label
from app.labeling.schema import FieldError, Schema
from runtime.errors import expected


class Rejected(msgspec.Struct, frozen=True):
    """What is wrong with the values of a submission."""

    errors: list[FieldError]


class Accepted(msgspec.Struct, frozen=True):
    """The label that was kept, and whether its sample now has all its labels."""

    label: Label
    sample_is_complete: bool


def submit(queue: Queue, assignment_id: str, labeler_id: str, values: Mapping[str, Any]) -> Accepted | Rejected:
    """Submit a labeler's values for their assignment.

    Blocks for one transaction. Raises NotFound for an assignment that is finished or nobody's, InvalidTransition for
    one that is not started or overdue, InvalidValue for somebody else's or in an archived queue. Emits
    `anvil.schema.validation`, and then `anvil.label.validation_failed` or `anvil.assignment.completed`.
    """
    with (
        runtime.span(
            "anvil.label.submit", {"assignment_id": assignment_id, "labeler_id": labeler_id, "queue_id": queue.id}
        ) as span,
        queue.lock,
    ):
        schema = queue.schema
        span.metadata["schema_version_id"] = schema.version_id
        if queue.status == "archived":
            raise expected("a queue that is not archived", queue.id)
        assignment = queue.unfinished(assignment_id)
        if assignment.labeler_id != labeler_id:
            raise expected(f"assignment {assignment_id} to be submitted by its labeler", labeler_id)
        completed = assignment.complete(queue.clock.system_ns())
        errors = _validate(queue, schema, values)
        span.metadata["validation_errors"] = len(errors)
        if errors:
            queue.emit(
                "anvil.label.validation_failed",
                {"error_count": len(errors)},
                {
                    "assignment_id": assignment_id,
                    "queue_id": queue.id,
                    "schema_version_id": schema.version_id,
                    "errors": [{"field": error.field, "message": error.message} for error in errors],
                },
            )
            return Rejected(errors)
        label = Label(
            id=uuid.uuid4().hex,
            assignment_id=assignment_id,
            queue_id=queue.id,
            sample_id=assignment.sample_id,
            labeler_id=labeler_id,
            schema_version_id=schema.version_id,
            values=dict(values),
            labeling_time_seconds=completed.labeling_time_seconds() or 0.0,
            submitted_at_ns=completed.ended_at_ns or 0,
        )
        return Accepted(label, queue.complete(completed, label))


def _validate(queue: Queue, schema: Schema, values: Mapping[str, Any]) -> list[FieldError]:
    errors = schema.validate(values)
    queue.emit(
        "anvil.schema.validation",
        {"valid": 0 if errors else 1, "error_count": len(errors)},
        {"queue_id": queue.id, "schema_version_id": schema.version_id},
    )
    return errors
