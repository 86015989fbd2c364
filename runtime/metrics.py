"""Metric definitions: pure declarations of what to make of which event.

`counter`, `sum`, `last_value`, `summary` and `distribution` each answer a frozen `Metric`; nothing is recorded here.
The aggregator turns events into series by them, and every reporter reads those series, so that tags, filters, units
and sampling mean the same everywhere. Anybody may define metrics, in any thread, before or after start.

A definition that could never record, or an option that nobody reads, is an error at the definition, never a silence
at run time. This module must never look at an event, keep state, or import anything but errors and names.
"""

from __future__ import annotations

import difflib
import inspect
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeAlias, TypedDict, Unpack

from runtime._events import Name, canonical
from runtime._metric_options import (
    DEFAULT_MAX_SAMPLES,
    DEFAULT_MAX_SERIES,
    DEFAULT_PERCENTILES,
    SIZES,
    TIMES,
    Kind,
    check_reporter_options,
    check_text,
    default_buckets,
)
from runtime.errors import expected

__all__ = [
    "HIGH_CARDINALITY",
    "Filter",
    "HighCardinalityWarning",
    "Measurement",
    "Measurements",
    "Metadata",
    "Metric",
    "MetricOptions",
    "TagFunction",
    "arity",
    "bind",
    "counter",
    "distribution",
    "from_metadata",
    "last_value",
    "sum",
    "summary",
]

Metadata: TypeAlias = Mapping[str, Any]
Measurements: TypeAlias = Mapping[str, Any]
Measurement: TypeAlias = str | Callable[[Measurements], Any] | Callable[[Measurements, Metadata], Any]
Filter: TypeAlias = Callable[[Metadata], object] | Callable[[Metadata, Measurements], object]
TagFunction: TypeAlias = Callable[[Metadata], Mapping[str, Any]]

HIGH_CARDINALITY = frozenset({"labeler_id", "sample_id", "assignment_id"})
"""Tags with one value per person or item: each value would become a series of its own."""


class HighCardinalityWarning(UserWarning):
    """Tell that a tag has about as many values as there are people or items."""


class MetricOptions(TypedDict, total=False):
    """Options that every kind of metric takes.

    - `event_name`: the event to listen to; default: the metric's name without its last segment.
    - `measurement`: key of the measurement, or a function of (measurements) or (measurements, metadata); default: the
      last segment of the metric's name. A counter never looks at it.
    - `tags`: list of metadata keys, or a function of the metadata that answers the tags as a dict. Default: none.
    - `tag_values`: function of the metadata that answers the metadata to take `tags` from.
    - `keep`, `drop`: function of (metadata) or (metadata, measurements) of the raw event; at most one of them.
    - `unit`: a name, or `(from, to)` to convert. Times: second, millisecond, microsecond, nanosecond, native (which is
      nanosecond). Sizes: byte, kilobyte, megabyte (of 1000).
    - `description`: one sentence for people.
    - `reporter_options`: a dict of these; options of other reporters carry a dot: `acme.colour`. One that means nothing
      to the kind of metric is refused.
        - `buckets`, of a distribution: inclusive upper bounds, ascending. Default: by the unit.
        - `percentiles`, of a summary: within 0…1 (0.99, not 99). Default: 0.5, 0.9, 0.95, 0.99.
        - `sampling_rate`, not of a last value: the share of raw samples of a summary or distribution that is sent, with
          its rate. What is aggregated, as counters and sums always are, stays exact whatever it says.
        - `report_as`: StatsD type of a sum (counter), a summary (gauge, timer), a distribution (timer).
        - `prometheus_type`, of a sum: counter or gauge. Default: counter, but a gauge once a measurement was negative.
        - `max_series`: tag combinations kept apart; the others share one overflow series. Default: 2,000.
        - `max_samples`, of a summary or distribution: raw samples kept between two flushes, over all its series.
          Default: 20,000.
        - `nav`: where a dashboard shows it.

    A sum that says it is a counter, to either backend, refuses negative measurements: they are skipped and counted.

    All functions run in the aggregator: keep them quick and without side effects. One that raises costs its sample,
    which is counted, and nothing else.
    """

    event_name: Name
    measurement: Measurement
    tags: list[str] | tuple[str, ...] | TagFunction
    tag_values: TagFunction
    keep: Filter
    drop: Filter
    unit: str | tuple[str, str]
    description: str
    reporter_options: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """Declare what to record of one event. Made by `counter`, `sum`, `last_value`, `summary`, `distribution`.

    `event_name` is the event that it listens to. Where `bind` found the defined event to be a span, `span_prefix` holds
    that prefix and `event_name` ends with `.stop`. `unit` is the target unit, `scale` the exact ratio that leads to it.
    """

    kind: Kind
    name: str
    event_name: str
    measurement: Measurement
    tags: tuple[str, ...] | TagFunction = ()
    tag_values: TagFunction | None = None
    keep: Filter | None = None
    drop: Filter | None = None
    unit: str = "unit"
    scale: tuple[int, int] = (1, 1)
    description: str = ""
    reporter_options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    span_prefix: str | None = None

    @property
    def report_as(self) -> str | None:
        """Answer the type that a StatsD reporter shall use instead of the kind's own."""
        name: str | None = self.reporter_options.get("report_as")
        return name

    @property
    def prometheus_type(self) -> str | None:
        """Answer the type that a sum shall have in Prometheus, whatever is measured."""
        name: str | None = self.reporter_options.get("prometheus_type")
        return name

    @property
    def is_monotonic(self) -> bool:
        """Tell whether a negative measurement is refused: a sum that says it is a counter."""
        return self.kind == "sum" and "counter" in (self.report_as, self.prometheus_type)

    @property
    def buckets(self) -> tuple[float, ...]:
        """Answer the inclusive upper bounds, ascending, without the last one (infinity)."""
        bounds: tuple[float, ...] | None = self.reporter_options.get("buckets")
        return default_buckets(self.unit) if bounds is None else bounds

    @property
    def percentiles(self) -> tuple[float, ...]:
        """Answer the quantiles to show, each within 0…1."""
        value: tuple[float, ...] = self.reporter_options.get("percentiles", DEFAULT_PERCENTILES)
        return value

    @property
    def sampling_rate(self) -> float:
        """Answer the share of raw samples that leave the process, within ]0, 1]."""
        value: float = self.reporter_options.get("sampling_rate", 1.0)
        return value

    @property
    def max_series(self) -> int:
        """Answer how many tag combinations get a series of their own; the others share the overflow series."""
        value: int = self.reporter_options.get("max_series", DEFAULT_MAX_SERIES)
        return value

    @property
    def max_samples(self) -> int:
        """Answer how many raw samples are kept between two flushes, over all series of the metric."""
        value: int = self.reporter_options.get("max_samples", DEFAULT_MAX_SAMPLES)
        return value

    def describe(self) -> dict[str, Any]:
        """Answer the definition in plain values, for listings.

        >>> (bound,) = bind([counter("shop.order.count")], ["shop.order"])
        >>> bound.describe()["listens_to"]
        'shop.order.stop (end of the span shop.order)'
        """
        end_of = f" (end of the span {self.span_prefix})" if self.span_prefix else ""
        return {
            "name": self.name,
            "kind": self.kind,
            "listens_to": self.event_name + end_of,
            "measurement": None if self.kind == "counter" else _shown(self.measurement),
            "tags": list(self.tags) if isinstance(self.tags, tuple) else _shown(self.tags),
            "filter": _shown(self.keep or self.drop) if self.keep or self.drop else None,
            "unit": self.unit,
            "description": self.description,
            "reporter_options": dict(self.reporter_options),
        }


def counter(name: Name, **options: Unpack[MetricOptions]) -> Metric:
    """Count events, whatever their measurements say.

    Raises `InvalidValue` for a definition that cannot work; options: `MetricOptions`.

    >>> counter("shop.order.count", tags=["country"]).event_name
    'shop.order'
    """
    return _define("counter", name, options)


def sum(name: Name, **options: Unpack[MetricOptions]) -> Metric:
    """Add up a measurement.

    Raises `InvalidValue` for a definition that cannot work; options: `MetricOptions`.

    >>> sum("shop.order.paid.amount").measurement
    'amount'
    """
    return _define("sum", name, options)


def last_value(name: Name, **options: Unpack[MetricOptions]) -> Metric:
    """Keep the newest value of a measurement.

    Raises `InvalidValue` for a definition that cannot work; options: `MetricOptions`.

    >>> last_value("vm.memory.rss", unit=("byte", "megabyte")).unit
    'megabyte'
    """
    return _define("last_value", name, options)


def summary(name: Name, **options: Unpack[MetricOptions]) -> Metric:
    """Keep count, sum, smallest, largest and percentiles (1 % relative error) of a measurement.

    Raises `InvalidValue` for a definition that cannot work; options: `MetricOptions`.

    >>> summary("shop.search.duration", reporter_options={"percentiles": [0.99]}).percentiles
    (0.99,)
    """
    return _define("summary", name, options)


def distribution(name: Name, **options: Unpack[MetricOptions]) -> Metric:
    """Keep what a summary keeps, and how many values fall into each bucket.

    Raises `InvalidValue` for a definition that cannot work; options: `MetricOptions`.

    >>> distribution("shop.search.duration", reporter_options={"buckets": [10, 50]}).buckets
    (10, 50)
    """
    return _define("distribution", name, options)


def from_metadata(key: str) -> Callable[[Measurements, Metadata], Any]:
    """Answer a measurement function that takes its value from the metadata.

    >>> last_value("export.progress.pct", measurement=from_metadata("pct")).measurement({}, {"pct": 20.0})
    20.0
    """

    def measurement(measurements: Measurements, metadata: Metadata) -> Any:
        return metadata.get(key)

    measurement.__qualname__ = f"metadata[{key!r}]"
    return measurement


def bind(metrics: Iterable[Metric], span_prefixes: Iterable[str]) -> tuple[Metric, ...]:
    """Let every metric whose event is a declared span listen to that span's end.

    No event is ever emitted under a span's prefix itself, so such a metric could not record anything. Metrics that are
    bound already stay as they are.

    >>> (metric,) = bind([counter("shop.order.count")], span_prefixes=["shop.order"])
    >>> metric.event_name, metric.span_prefix
    ('shop.order.stop', 'shop.order')
    """
    prefixes = frozenset(span_prefixes)
    return tuple(
        replace(metric, event_name=f"{metric.event_name}.stop", span_prefix=metric.event_name)
        if metric.event_name in prefixes
        else metric
        for metric in metrics
    )


def arity(function: Callable[..., Any]) -> int:
    """Answer with how many positional arguments to call a function that may take one or two; 0 if it takes neither.

    One is preferred where both work: the second parameter of `lambda metadata, queue=queue: …` is not for us.

    >>> [arity(f) for f in (len, lambda a: a, lambda a, b: a, lambda a, b=1: a, lambda: 0)]
    [1, 1, 2, 1, 0]
    """
    try:
        signature = inspect.signature(function)
    except ValueError:  # some functions written in C tell nothing about themselves
        return 1
    for count in (1, 2):
        try:
            signature.bind(*range(count))
        except TypeError:
            continue
        return count
    return 0


# -- definition-time checks: one small function per option -----------------------------------------------------------


def _define(kind: Kind, name: Name, options: MetricOptions) -> Metric:
    for option in options:
        if option not in MetricOptions.__annotations__:
            raise expected(f"an option of {kind} ({', '.join(MetricOptions.__annotations__)})", option, _meant(option))
    segments = _segments(name)
    event_name = options.get("event_name")
    if event_name is None:
        if len(segments) < 2:
            fix = "Or give event_name="
            raise expected("a metric name of at least two segments, as in 'event.measurement'", name, fix)
        event_name = segments[:-1]
    if options.get("keep") is not None and options.get("drop") is not None:
        raise expected("keep or drop, not both", name, "Put both conditions into one function")
    unit, scale = _unit(options.get("unit", "unit"))
    metric = Metric(
        kind=kind,
        name=".".join(segments),
        event_name=canonical(event_name),
        measurement=_measurement(options.get("measurement", segments[-1])),
        tags=_tags(options.get("tags", ())),
        tag_values=_function("tag_values", options.get("tag_values"), "(metadata)", 1),
        keep=_function("keep", options.get("keep"), "(metadata) or (metadata, measurements)", 2),
        drop=_function("drop", options.get("drop"), "(metadata) or (metadata, measurements)", 2),
        unit=unit,
        scale=scale,
        description=check_text("description", options.get("description", "")),
        reporter_options=check_reporter_options(kind, options.get("reporter_options", {})),
    )
    risky = sorted(HIGH_CARDINALITY.intersection(metric.tags)) if isinstance(metric.tags, tuple) else []
    if risky:
        warnings.warn(
            f"metric {metric.name!r} has the tags {', '.join(risky)}: one series per person or item, of which only the "
            f"first {metric.max_series} are kept apart. Tag with something coarser",
            HighCardinalityWarning,
            stacklevel=3,
        )
    return metric


def _meant(option: str) -> str:
    close = difflib.get_close_matches(option, MetricOptions.__annotations__, n=1)
    return f"Did you mean {close[0]}?" if close else ""


def _segments(name: object) -> tuple[str, ...]:
    if isinstance(name, str):
        segments = tuple(name.split("."))
    elif isinstance(name, tuple | list) and all(isinstance(s, str) and "." not in s for s in name):
        segments = tuple(name)
    else:
        raise expected("a metric name as a dotted string or a tuple of strings", name)
    if not segments or not all(segments):
        raise expected("a metric name without empty segments (no leading, trailing or double dots)", name)
    return segments


def _measurement(measurement: object) -> Measurement:
    if isinstance(measurement, str):
        if not measurement:
            raise expected("a measurement key or function", measurement)
        return measurement
    if not callable(measurement):
        raise expected("a measurement key or function", measurement)
    return _function("measurement", measurement, "(measurements) or (measurements, metadata)", 2) or ""


def _tags(tags: object) -> tuple[str, ...] | TagFunction:
    if callable(tags):
        return _function("tags", tags, "(metadata)", 1) or ()
    if not isinstance(tags, list | tuple) or not all(isinstance(tag, str) and tag for tag in tags):
        raise expected("tags to be a list of metadata keys or a function of the metadata", tags)
    if len(set(tags)) < len(tags):
        raise expected("tags without repetition", tags)
    return tuple(tags)


def _function(option: str, function: object, parameters: str, most: int) -> Callable[..., Any] | None:
    if function is None:
        return None
    if not callable(function):
        raise expected(f"{option} to be a function of {parameters}", function)
    if inspect.iscoroutinefunction(function):
        raise expected(f"{option} to be a plain function, not a coroutine function", function)
    if not 1 <= arity(function) <= most:
        raise expected(f"{option} to be a function of {parameters}", f"{_shown(function)}{inspect.signature(function)}")
    return function


def _unit(unit: object) -> tuple[str, tuple[int, int]]:
    if isinstance(unit, str) and unit:
        return unit, (1, 1)
    if not isinstance(unit, tuple | list) or len(unit) != 2:
        raise expected("unit to be a name, or a pair (from, to)", unit)
    source, target = unit
    if not isinstance(source, str) or not isinstance(target, str):
        raise expected("unit to be a name, or a pair (from, to)", unit)
    for table in (TIMES, SIZES):
        if source in table and target in table:
            ratio = math.gcd(table[source], table[target])
            return target, (table[source] // ratio, table[target] // ratio)
    known = f"two units of time ({', '.join(TIMES)}) or of size ({', '.join(SIZES)})"
    raise expected(f"unit to convert between {known}", unit)


def _shown(function: object) -> str:
    return function if isinstance(function, str) else getattr(function, "__qualname__", None) or repr(function)
