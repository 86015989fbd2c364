"""The platform's metrics: those of ADR-008, under the names it published, and one more that its alert rule needs.

Names that end in what a span measures (`anvil.label.submit.count`) listen to the span's stop, once an application
knows the catalogue.
Where the record's own sample output differs from a kind's usual StatsD type, `report_as` says so. Durations leave in
the unit of the definition.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runtime.metrics import Metric, counter, distribution, from_metadata, last_value, sum, summary


def _was_accepted(metadata: Mapping[str, Any]) -> bool:
    # A payload that fails validation stops the span as well, but it is no label.
    return bool(metadata["validation_errors"] == 0)


METRICS: tuple[Metric, ...] = (
    counter("anvil.queue.created.count", description="Queues created."),
    counter(
        "anvil.label.submit.count",
        tags=["queue_id", "schema_version_id"],
        keep=_was_accepted,
        description="Labels accepted.",
    ),
    sum(
        "anvil.assignment.timed_out.count",
        tags=["queue_id"],
        reporter_options={"report_as": "counter"},
        description="Attempts past their deadline. A sum: one event tells of a whole sweep.",
    ),
    distribution(
        "anvil.assignment.dispatch.duration",
        unit=("native", "millisecond"),
        tags=["policy_type"],
        reporter_options={"buckets": [10, 50, 100, 250, 500, 1000], "report_as": "timer"},
        description="Time to hand out an assignment.",
    ),
    distribution(
        "anvil.label.submit.duration",
        unit=("native", "millisecond"),
        tags=["queue_id"],
        reporter_options={"buckets": [25, 50, 100, 250, 500], "report_as": "timer"},
        description="Time to take a submission.",
    ),
    distribution(
        "anvil.agreement.compute.duration",
        unit=("native", "millisecond"),
        tags=["metric"],
        reporter_options={"buckets": [10, 25, 50, 100, 250, 500], "report_as": "timer"},
        description="Time to score a sample.",
    ),
    distribution(
        "anvil.export.generate.duration",
        unit=("native", "second"),
        tags=["format"],
        reporter_options={"buckets": [1, 5, 10, 30, 60, 300]},
        description="Time to write an export.",
    ),
    summary(
        "anvil.agreement.low_score.value",
        tags=["dimension"],
        reporter_options={"percentiles": [0.5, 0.9, 0.95, 0.99], "report_as": "gauge"},
        description="Agreement of samples below the threshold.",
    ),
    last_value(
        "anvil.export.progress.progress_pct",
        measurement=from_metadata("progress_pct"),
        tags=["export_id"],
        description="How far an export is.",
    ),
    last_value("anvil.queue.active_labelers.count", tags=["queue_id"], description="Labelers at work, from a poller."),
    counter("anvil.export.generate.exception.count", tags=["format"], description="Exports that failed; alerted on."),
)
"""For `Application(metrics=METRICS)`."""
