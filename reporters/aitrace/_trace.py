"""Traces of spans: what happened between a span's start and its end, kept until the end and then written as one trace.

`TraceCollector` is fed by one thread with the events of the rules it was given; it holds a bounded number of open
traces and never raises for what is in an event. Times are microseconds of the monotonic clock, as AITrace has them.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec

from reporters.delivery._json import clean, clean_text
from runtime import Event
from runtime._events import canonical
from runtime.errors import expected

_MAX_EVENTS = 1_000
_MAX_OPEN = 1_000

Text = Annotated[str, msgspec.Meta(min_length=1)]
_FILE_NAME = r"[0-9A-Za-z_-]{1,128}"
TraceId = Annotated[str, msgspec.Meta(pattern=f"^{_FILE_NAME}$")]


class TraceEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something that happened within a span; `timestamp` in microseconds."""

    name: Text
    timestamp: int
    attributes: dict[str, Any]


class TraceSpan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A piece of work; times in microseconds of one monotonic clock."""

    span_id: Text
    parent_span_id: str | None
    name: Text
    start_time: int
    end_time: int
    attributes: dict[str, Any]
    events: list[TraceEvent]
    status: Literal["ok", "error"]


class Trace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """AITrace's own file: a trace and its spans; `created_at` in microseconds of the monotonic clock."""

    trace_id: TraceId
    metadata: dict[str, Any]
    created_at: int
    spans: list[TraceSpan]


class TraceRule(msgspec.Struct, frozen=True):
    """Say which span makes a trace, and which events belong to it: those with the same value under the key `by`."""

    span: str
    by: str
    events: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (self.span, *self.events):
            canonical(name)
        if not isinstance(self.by, str) or not self.by:
            raise expected("by to be a key of the metadata", self.by)


EXPORTS = TraceRule(
    "anvil.export.generate", "export_id", ("anvil.export.progress", "anvil.export.pii_detected", "anvil.export.failed")
)


class _Open:
    __slots__ = ("events", "left_out", "start_us")

    def __init__(self, start_us: int) -> None:
        self.start_us = start_us
        self.events: list[TraceEvent] = []
        self.left_out = 0


class TraceCollector:
    """Put events together to traces.

    >>> collector = TraceCollector([TraceRule("shop.order", "order_id")])
    >>> collector.events
    ('shop.order.start', 'shop.order.stop', 'shop.order.exception')
    """

    def __init__(self, rules: Iterable[TraceRule]) -> None:
        self._roles: dict[str, list[tuple[TraceRule, str]]] = {}
        for rule in rules:
            for end in ("start", "stop", "exception"):
                self._roles.setdefault(f"{rule.span}.{end}", []).append((rule, end))
            for name in rule.events:
                self._roles.setdefault(name, []).append((rule, "event"))
        self._open: dict[tuple[str, str], _Open] = {}
        self.forgotten = 0

    @property
    def events(self) -> tuple[str, ...]:
        """The names of the events that this wants to see."""
        return tuple(self._roles)

    def take(self, event: Event) -> list[Trace]:
        """Take note of an event; answer the traces that it completes."""
        complete = []
        for rule, role in self._roles.get(event.name, ()):
            value = event.metadata.get(rule.by)
            if value is None:
                continue
            key = rule.span, clean_text(value)
            if role == "start":
                self._begin(key, event)
            elif role == "event":
                self._note(key, event)
            else:
                complete.append(self._end(key, event, role))
        return complete

    def _begin(self, key: tuple[str, str], event: Event) -> None:
        if len(self._open) >= _MAX_OPEN:  # spans whose end was lost must not pile up
            del self._open[next(iter(self._open))]
            self.forgotten += 1
        self._open[key] = _Open(event.time_ns // 1000)

    def _note(self, key: tuple[str, str], event: Event) -> None:
        found = self._open.get(key)
        if found is None:
            return
        if len(found.events) >= _MAX_EVENTS:
            found.left_out += 1
        else:
            attributes = {**_attributes(event.measurements), **_attributes(event.metadata)}
            found.events.append(TraceEvent(event.name, event.time_ns // 1000, attributes))

    def _end(self, key: tuple[str, str], event: Event, role: str) -> Trace:
        end_us = event.time_ns // 1000
        duration = event.measurements.get("duration")
        started_us = end_us - duration // 1000 if isinstance(duration, int) else end_us
        found = self._open.pop(key, None) or _Open(started_us)
        metadata = event.metadata
        attributes = _attributes(metadata)
        if found.left_out:
            attributes["events_left_out"] = found.left_out
        span = TraceSpan(
            span_id=clean_text(metadata.get("span_id") or uuid.uuid5(uuid.NAMESPACE_OID, "/".join(key)).hex[:16]),
            parent_span_id=None if metadata.get("parent_span_id") is None else clean_text(metadata["parent_span_id"]),
            name=key[0],
            start_time=found.start_us,
            end_time=end_us,
            attributes=attributes,
            events=found.events,
            status="ok" if role == "stop" else "error",
        )
        return Trace(trace_id=_trace_id(metadata, key), metadata={}, created_at=found.start_us, spans=[span])


def _trace_id(metadata: Mapping[str, Any], key: tuple[str, str]) -> str:
    """Take the trace's id if there is one that a file's name can hold, else make one of the span and its key."""
    given = metadata.get("trace_id")
    if isinstance(given, str) and re.fullmatch(_FILE_NAME, given):
        return given
    return uuid.uuid5(uuid.NAMESPACE_OID, "/".join((*key, clean_text(given)))).hex


def _attributes(values: Mapping[str, Any]) -> dict[str, Any]:
    cleaned: dict[str, Any] = clean(values)
    return cleaned
