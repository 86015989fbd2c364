"""What leaves the aggregation: series, points, deltas and views.

A `Series` is one tag combination of one metric. A `Point` says what happened in one series during some time; points of
the same series combine into one, which is how a flush that failed is sent again together with what came since. A
`MetricView` shows totals since the start. All of it is read-only once it has been handed out, in any thread.

Raw samples live in points as {rate: values}: each value stands for 1/rate measurements. Where there are too many, every
other value is dropped and the rest moves to half the rate, so that the number of measurements they stand for is exact.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import msgspec
from ddsketch.ddsketch import BaseDDSketch
from ddsketch.mapping import LogarithmicMapping
from ddsketch.store import DenseStore

from runtime.metrics import Metric

Number: TypeAlias = int | float
Key: TypeAlias = Any
"""Identifies a series within its metric: the tag's text, a tuple of texts, or () without tags."""
Tags: TypeAlias = tuple[tuple[str, str | None], ...]
Samples: TypeAlias = dict[float, list[Number]]

MAPPING = LogarithmicMapping(0.01)
"""Relates values to the bins of a sketch, with a relative error of 1 %."""
BIN_FACTOR = 1 / math.log2(MAPPING.gamma)
"""A value's bin is `ceil(log2(value) * BIN_FACTOR)`: `MAPPING.key`, written so that it runs over a column in C."""


class Series:
    """Identify one series: a metric, and its tags in declared order (None: a tag without value, "": a missing tag).

    `memo` is for reporters: what they make of a series once, under a key of their own, lives as long as the series.
    """

    __slots__ = ("memo", "metric", "tags")

    def __init__(self, metric: Metric, tags: Tags) -> None:
        self.metric = metric
        self.tags = tags
        self.memo: dict[object, Any] = {}

    def __repr__(self) -> str:
        return f"Series({self.metric.name}, {dict(self.tags)})"


class Point(msgspec.Struct, frozen=True, gc=False):
    """Say what happened in a series since the last successful flush.

    - `value`: counter: events; sum, summary, distribution: sum of the measurements; last_value: the newest. Sampled
      events are scaled by their rate.
    - `parts`: the same by sample rate, not scaled: {rate: value}; summary, distribution: raw samples, {rate: values}.
    - `total`: the value since the start, this point included; `before`: of a counter or sum, the total without it (to
      take the one from the other would round).
    - `count`, `low`, `high`, `newest`: of a summary or distribution: how many measurements; the smallest, largest and
      newest of them.
    """

    series: Series
    value: Number
    parts: dict[float, Any]
    total: Number = 0
    count: Number = 0
    low: Number = 0
    high: Number = 0
    newest: Number = 0
    before: Number = 0


class Delta(msgspec.Struct, frozen=True):
    """Hold what a reporter has to send: everything since what it committed last. `serial` tells its deltas apart."""

    reporter: str
    serial: int
    points: tuple[Point, ...]


class Distribution(msgspec.Struct, frozen=True):
    """Show a summary or distribution since the start.

    `buckets` are (inclusive upper bound, measurements up to it), ascending; a summary has none.
    """

    count: Number
    sum: Number
    low: Number
    high: Number
    buckets: tuple[tuple[float, Number], ...]
    bins: Mapping[int, Number]
    negative_bins: Mapping[int, Number]
    zeros: Number

    def percentile(self, quantile: float) -> float:
        """Answer the value below which this share (0…1) of the measurements lies, within 1 %."""
        sketch = BaseDDSketch(MAPPING, _store(self.bins), _store(self.negative_bins), self.zeros)
        value = sketch.get_quantile_value(quantile)
        return float(min(max(self.low if value is None else value, self.low), self.high))


class SeriesView(msgspec.Struct, frozen=True):
    """Show one series since the start: counter, sum, last_value: a number; summary, distribution: a `Distribution`."""

    tags: Tags
    value: Number | Distribution


class MetricView(msgspec.Struct, frozen=True):
    """Show a metric and its series. `has_fallen`: a sum took a negative measurement, so it is no counter."""

    metric: Metric
    series: tuple[SeriesView, ...]
    has_fallen: bool = False


class MetricStatistics(msgspec.Struct, frozen=True):
    """Account for a metric's events: offered = recorded + filtered + Σ skipped, at every moment.

    `tags_left_out` counts missing or unusable tags, `negative` the negative measurements that a sum took, `overflowed`
    the samples that went to the overflow series, and the points that went there because they waited for too long,
    `expired` the idle series that were forgotten.
    """

    name: str
    kind: str
    listens_to: str
    series: int
    offered: int
    recorded: int
    filtered: int
    skipped: dict[str, int]
    tags_left_out: int
    negative: int
    overflowed: int
    expired: int


class CursorStatistics(msgspec.Struct, frozen=True):
    """Tell how far a reporter is behind: flushes it has committed, and points that wait for it."""

    reporter: str
    commits: int
    waiting_points: int


class StoreStatistics(msgspec.Struct, frozen=True):
    """Account for the whole aggregation. `unrouted` events had a name that no metric listens to."""

    events: int
    unrouted: int
    metrics: tuple[MetricStatistics, ...]
    reporters: tuple[CursorStatistics, ...]


def merge(points: dict[Series, Point], newer: Iterable[Point]) -> None:
    """Add newer points to older ones of the same series, in place; the points themselves are never changed."""
    for point in newer:
        older = points.get(point.series)
        points[point.series] = point if older is None else _combine(older, point)


def fold(points: dict[Series, Point], older: Iterable[Point], into: Series) -> None:
    """Add older points of several series to one series of the same metric, in place; of a last_value the newest."""
    for point in older:
        one, other = msgspec.structs.replace(point, series=into), points.pop(into, None)
        points[into] = one if other is None else _combine(one, other)


def bound_samples(samples: list[Samples], limit: int, rng: random.Random) -> int:
    """Halve the samples of series that hold more than their share until all hold `limit`; answer how many are left.

    In place. A series keeps at least one sample per rate, whatever the limit.
    """
    held = sum(len(values) for parts in samples for values in parts.values())
    share = max(1, limit // max(1, len(samples)))
    while held > limit:
        dropped = sum(_halve(parts, rng) for parts in samples if sum(map(len, parts.values())) > share)
        if not dropped:
            break
        held -= dropped
    return held


def _halve(parts: Samples, rng: random.Random) -> int:
    """Drop every other value of the highest rate, move the rest to half that rate; answer how many were dropped.

    An odd one out stays where it is, so that the number of measurements that all of them stand for does not change.
    """
    rate = max((rate for rate, values in parts.items() if len(values) > 1), default=0.0)
    if not rate:
        return 0
    values = parts.pop(rate)
    pairs = len(values) // 2
    parts.setdefault(rate / 2, []).extend(values[rng.getrandbits(1) : 2 * pairs : 2])
    if len(values) % 2:
        parts[rate] = values[-1:]
    return pairs


def _combine(older: Point, newer: Point) -> Point:
    kind = newer.series.metric.kind
    if kind == "last_value":
        return newer
    parts = dict(older.parts)
    for rate, part in newer.parts.items():
        parts[rate] = parts[rate] + part if rate in parts else part
    before, total = older.before, newer.total
    if kind in ("counter", "sum") and newer.before != older.total:  # of series that were folded into one
        before, total = older.before + newer.before, older.total + newer.total
    return Point(
        newer.series,
        older.value + newer.value,
        parts,
        total,
        older.count + newer.count,
        min(older.low, newer.low),
        max(older.high, newer.high),
        newer.newest,
        before,
    )


def _store(bins: Mapping[int, Number]) -> DenseStore:
    store = DenseStore()
    for key in sorted(bins):
        store.add(key, bins[key])
    return store
