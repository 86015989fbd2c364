"""What is sent to Foundation, as types: whoever receives it validates with the same.

A batch is one JSON object; a line is one JSON object per metric, the format of the public crucible_telemetry reader.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Literal

import msgspec

Severity = Literal["debug", "info", "warning", "error", "critical"]
Text = Annotated[str, msgspec.Meta(min_length=1)]
Moment = Annotated[datetime.datetime, msgspec.Meta(tz=True)]


class Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The measurements of `foundation.metric`."""

    value: float


class MetricMetadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The metadata of `foundation.metric`; `timestamp` is in milliseconds since the epoch."""

    metric_name: Text
    tags: dict[str, str]
    timestamp: int


class MetricData(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was measured."""

    measurements: Value
    metadata: MetricMetadata


class MetricEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One event of a batch. `metadata` says where it comes from: the event's own name, and its sample rate if not 1."""

    id: Text
    timestamp: Moment
    name: Literal["foundation.metric"]
    severity: Severity
    data: MetricData
    metadata: dict[str, str]


class MetricBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request."""

    batch_id: Text
    source: Text
    sent_at: Moment
    events: Annotated[list[MetricEvent], msgspec.Meta(min_length=1)]


class MetricLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of a file. The reader asks for all six; what has no step says null."""

    run_id: Text
    metric: Text
    value: float
    step: int | None
    timestamp: Moment
    metadata: dict[str, str | dict[str, str]]
