"""From events to Foundation's metrics: which events, what value, which tags.

What is forwarded is said with metric definitions, so that units, tags, filters and odd values mean the same here as for
every other reporter. Three are forwarded by default (ADR-008); any other joins them with
`reporter_options={"foundation.forward": True}`, and `"foundation.severity"` says how severe its events are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import msgspec

from actors._series_extract import Selection, text
from actors._series_points import Key
from reporters.delivery._json import clean_text
from reporters.foundation._model import Severity
from runtime import Event
from runtime.errors import expected
from runtime.metrics import Metric, bind, distribution, last_value

FORWARD = "foundation.forward"
SEVERITY = "foundation.severity"
NAME = "foundation.metric"
TAGS = ("queue_id", "schema_version_id", "policy_type", "format", "dimension", "metric")
"""The metadata that becomes tags of the default three: what ADR-008's extract_metadata takes."""


def _known_tags(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    return {tag: metadata[tag] for tag in TAGS if tag in metadata}


DEFAULT_METRICS = (
    distribution(
        "anvil.label.submit.duration",
        event_name="anvil.label.submit.stop",
        unit=("native", "millisecond"),
        tags=_known_tags,
    ),
    last_value(
        "anvil.agreement.low_score.value",
        event_name="anvil.agreement.low_score",
        tags=_known_tags,
        reporter_options={SEVERITY: "warning"},
    ),
    distribution(
        "anvil.export.generate.duration",
        event_name="anvil.export.generate.stop",
        unit=("native", "second"),
        tags=_known_tags,
    ),
)


class Point(msgspec.Struct, frozen=True):
    """One metric value of one event."""

    metric: str
    value: float
    tags: dict[str, str]
    severity: Severity


class Forwarding:
    """Read the forwarded metrics out of events; pure, for any thread."""

    def __init__(self, metrics: Iterable[Metric], marked_of: Iterable[Metric], span_prefixes: Iterable[str]) -> None:
        marked = (metric for metric in marked_of if metric.reporter_options.get(FORWARD) is True)
        chosen = {metric.name: metric for metric in (*metrics, *marked)}.values()
        self._by_event: dict[str, list[tuple[Metric, Severity, Selection]]] = {}
        for metric in bind(chosen, span_prefixes):
            if metric.event_name == NAME:
                raise expected(
                    f"a metric of another event than {NAME}", metric.name, "It would forward itself for ever."
                )
            severity = metric.reporter_options.get(SEVERITY, "info")
            if severity not in get_args(Severity):
                raise expected(f"{SEVERITY} to be one of {', '.join(get_args(Severity))}", severity)
            self._by_event.setdefault(metric.event_name, []).append((metric, severity, Selection(metric)))
        if not self._by_event:
            raise expected("at least one metric to forward", [], f"Mark some with {{{FORWARD!r}: True}}.")

    @property
    def events(self) -> tuple[str, ...]:
        """The names of the events that are forwarded."""
        return tuple(self._by_event)

    def points(self, event: Event) -> list[Point]:
        """Read an event's values; what a definition filters out, or cannot use, is left out."""
        found = []
        for metric, severity, selection in self._by_event.get(event.name, ()):
            keys, values, *_ = selection.read([event])
            if keys:
                # An event that stands for several counts as several; a measurement stays what was measured.
                value = 1 / event.rate if values is None else values[0]
                found.append(Point(metric.name, float(value), _tags(metric, keys[0]), severity))
        return found


def _tags(metric: Metric, key: Key) -> dict[str, str]:
    pairs: Sequence[tuple[Any, Any]]
    if callable(metric.tags):
        pairs = key
    elif len(metric.tags) == 1:
        pairs = [(metric.tags[0], key)]
    else:
        pairs = list(zip(metric.tags, key or (), strict=True))
    return {clean_text(name): clean_text(value) for name, value in pairs if text(value)}
