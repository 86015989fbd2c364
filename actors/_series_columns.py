"""The state of one metric: its series, what is open since the last close, and the totals since the start.

One class a kind behind the same four verbs: `record` a batch, `close` what is open into points, `view` the totals,
`expire` idle series. Only the store calls them, one at a time. Memory is bounded whether anybody reads or not: series
by `max_series` and one overflow series, raw samples by `max_samples`, bins of a sketch by `MAX_BINS`.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import islice, repeat
from operator import mul
from typing import Any

from actors._series_extract import NEGATIVE, Batch, clipped
from actors._series_points import (
    BIN_FACTOR,
    MAPPING,
    Distribution,
    Key,
    MetricStatistics,
    MetricView,
    Number,
    Point,
    Samples,
    Series,
    SeriesView,
    Tags,
    bound_samples,
)
from runtime._native import sleep
from runtime.metrics import Metric

OVERFLOW = "__overflow__"
MAX_BINS = 2048
FOLD_AT = 256
"""So many measurements of a series are folded into its totals at once: enough to make it cheap, too few to be felt."""
MAX_WAITING = 10_000
"""So many measurements of one metric may wait to be folded; beyond, the series that wait longest are folded."""
SOME_SERIES = 64
"""So many series are worked on between two offers of the GIL to other threads: some 0.3 ms."""


class Column(ABC):
    """Keep one metric's series."""

    def __init__(self, metric: Metric, rng: random.Random) -> None:
        self.metric = metric
        self.series: dict[Key, Series] = {}
        self.skipped: Counter[str] = Counter()
        self.is_crowding_told = False
        self.offered = self.recorded = self.filtered = self.tags_left_out = self.overflowed = self.expired = 0
        self.negative = 0
        self._rng = rng
        self._totals: dict[Key, Any] = {}
        self._touched_ns: dict[Key, int] = {}
        self._overflow_key: Key = _overflow_key(metric)
        self.overflow = Series(metric, _tags(metric, self._overflow_key))

    def record(self, batch: Batch, rate: float) -> None:
        """Add a batch of samples, each of which stands for 1/rate measurements."""
        if not batch.counts.keys() <= self.series.keys():
            batch = self._admit(batch)
        self.recorded += len(batch.keys)
        self._add(batch, rate)

    def close(self, now_ns: int) -> list[Point]:
        """Turn what is open into points, add it to the totals, and start anew."""
        points = self._close()
        self._touched_ns.update(dict.fromkeys(points, now_ns))
        return list(points.values())

    def view(self) -> MetricView:
        """Show the totals; complete only right after a close."""
        series = self.series
        views = tuple(SeriesView(series[key].tags, self._shown(total)) for key, total in self._totals.items())
        return MetricView(self.metric, views, has_fallen=self.negative > 0)

    def expire(self, before_ns: int) -> None:
        """Forget series that nothing was recorded in since then."""
        for key in [key for key, touched_ns in self._touched_ns.items() if touched_ns < before_ns]:
            del self._touched_ns[key], self._totals[key], self.series[key]
            self.expired += 1

    def statistics(self) -> MetricStatistics:
        """Account for every event that the metric was offered."""
        return MetricStatistics(
            name=self.metric.name,
            kind=self.metric.kind,
            listens_to=self.metric.describe()["listens_to"],
            series=len(self.series),
            offered=self.offered,
            recorded=self.recorded,
            filtered=self.filtered,
            skipped=dict(self.skipped),
            tags_left_out=self.tags_left_out,
            negative=self.negative,
            overflowed=self.overflowed,
            expired=self.expired,
        )

    @abstractmethod
    def _add(self, batch: Batch, rate: float) -> None: ...

    @abstractmethod
    def _close(self) -> dict[Key, Point]: ...

    def _shown(self, total: Any) -> Number | Distribution:
        shown: Number = total
        return shown

    def _admit(self, batch: Batch) -> Batch:
        """Give new keys a series, or the overflow series when there are too many."""
        renamed: dict[Key, Key] = {}
        for key in batch.counts:
            if key not in self.series:
                admitted = self._admitted(clipped(key))
                if admitted is not key:
                    renamed[key] = admitted
        if not renamed:
            return batch
        renamed_batch = Batch.of([renamed.get(key, key) for key in batch.keys], batch.values)
        self.overflowed += renamed_batch.counts.get(self._overflow_key, 0)
        return renamed_batch

    def _admitted(self, key: Key) -> Key:
        if key in self.series:
            return key
        if len(self.series) - (self._overflow_key in self.series) >= self.metric.max_series:
            key = self._overflow_key
        if key not in self.series:
            is_overflow = key == self._overflow_key
            self.series[key] = self.overflow if is_overflow else Series(self.metric, _tags(self.metric, key))
        return key


class _ScaledColumn(Column):
    """Add up numbers by sample rate."""

    def __init__(self, metric: Metric, rng: random.Random) -> None:
        super().__init__(metric, rng)
        self._open: dict[float, defaultdict[Key, Number]] = {}

    def _cells(self, rate: float) -> defaultdict[Key, Number]:
        cells = self._open.get(rate)
        if cells is None:
            cells = self._open[rate] = defaultdict(int)
        return cells

    def _close(self) -> dict[Key, Point]:
        parts: defaultdict[Key, dict[float, Number]] = defaultdict(dict)
        for rate, cells in self._open.items():
            for key, part in cells.items():
                parts[key][rate] = part
        self._open = {}
        points = {}
        for key, by_rate in parts.items():
            value = sum(_scaled(part, rate) for rate, part in by_rate.items())
            before = self._totals.get(key, 0)
            total = self._totals[key] = before + value
            points[key] = Point(self.series[key], value, by_rate, total, before=before)
        return points


class CounterColumn(_ScaledColumn):
    """Count events."""

    def _add(self, batch: Batch, rate: float) -> None:
        cells = self._cells(rate)
        for key, count in batch.counts.items():
            cells[key] += count


class SumColumn(_ScaledColumn):
    """Add up measurements; a sum that says it is a counter refuses negative ones."""

    def record(self, batch: Batch, rate: float) -> None:
        if batch.values and min(batch.values) < 0:
            kept = [(key, value) for key, value in zip(batch.keys, batch.values, strict=True) if value >= 0]
            negative = len(batch.keys) - len(kept)
            if self.metric.is_monotonic:
                self.skipped[NEGATIVE] += negative
                batch = Batch.of([key for key, _ in kept], [value for _, value in kept])
            else:
                self.negative += negative
        super().record(batch, rate)

    def _add(self, batch: Batch, rate: float) -> None:
        cells = self._cells(rate)
        for key, values in batch.by_key().items():
            cells[key] += sum(values)


class LastValueColumn(Column):
    """Keep the newest measurement."""

    def __init__(self, metric: Metric, rng: random.Random) -> None:
        super().__init__(metric, rng)
        self._open: dict[Key, Number] = {}

    def _add(self, batch: Batch, rate: float) -> None:
        self._open.update(zip(batch.keys, batch.values or (), strict=True))

    def _close(self) -> dict[Key, Point]:
        self._totals.update(self._open)
        points = {key: Point(self.series[key], value, {1.0: value}, value) for key, value in self._open.items()}
        self._open = {}
        return points


class _Total:
    """Sum up the measurements of one series since the start; `buckets` count those up to each bound."""

    __slots__ = ("bins", "bounds", "buckets", "count", "high", "low", "negative_bins", "sum", "zeros")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.count: Number = 0
        self.sum: Number = 0
        self.low = math.inf
        self.high = -math.inf
        self.zeros: Number = 0
        self.bins: Counter[int] = Counter()
        self.negative_bins: Counter[int] = Counter()
        self.bounds = bounds
        self.buckets: list[Number] = [0] * len(bounds)

    def fill(self, ordered: list[Number], rate: float) -> None:
        """Put measurements, in ascending order, into buckets and bins."""
        for bucket, bound in enumerate(self.bounds):
            self.buckets[bucket] += _scaled(bisect_right(ordered, bound), rate)
        smallest = MAPPING.min_possible
        if ordered[0] <= smallest:
            negative = bisect_left(ordered, -smallest)
            positive = bisect_right(ordered, smallest)
            self.zeros += _scaled(positive - negative, rate)
            _add_bins(self.negative_bins, [-value for value in ordered[:negative]], rate)
            ordered = ordered[positive:]
        _add_bins(self.bins, ordered, rate)


class _Cell:
    """Sum up the measurements of one series since the last close, and keep the raw samples by rate."""

    __slots__ = ("count", "high", "low", "newest", "samples", "sum")

    def __init__(self) -> None:
        self.count: Number = 0
        self.sum: Number = 0
        self.low = math.inf
        self.high = -math.inf
        self.newest: Number = 0
        self.samples: Samples = {}


class DistributionColumn(Column):
    """Keep summaries and distributions.

    Measurements wait by series, until there are enough to fold them into totals, sketch and buckets column-wise.
    """

    def __init__(self, metric: Metric, rng: random.Random) -> None:
        super().__init__(metric, rng)
        self._bounds = metric.buckets if metric.kind == "distribution" else ()
        self._waiting: dict[float, dict[Key, list[Number]]] = {}
        self._waiting_count = 0
        self._open: dict[Key, _Cell] = {}
        self._held = 0

    def _add(self, batch: Batch, rate: float) -> None:
        waiting = self._waiting.get(rate)
        if waiting is None:
            waiting = self._waiting[rate] = {}
        self._waiting_count += len(batch.keys)
        for key, values in batch.by_key().items():
            waits = waiting.get(key)
            if waits is None:
                waits = waiting[key] = values[:]
            else:
                waits += values
            if len(waits) >= FOLD_AT:
                self._fold(key, waiting.pop(key), rate)
        if self._waiting_count > MAX_WAITING:
            self._fold_longest_waiting()

    def _fold_longest_waiting(self) -> None:
        for rate, waiting in self._waiting.items():
            for key in list(islice(waiting, SOME_SERIES)):
                self._fold(key, waiting.pop(key), rate)

    def _fold_all(self) -> None:
        while any(self._waiting.values()):
            self._fold_longest_waiting()
            sleep(0)
        self._waiting = {}

    def _fold(self, key: Key, values: list[Number], rate: float) -> None:
        self._waiting_count -= len(values)
        cell = self._open.get(key)
        if cell is None:
            cell = self._open[key] = _Cell()
        total = self._totals.get(key)
        if total is None:
            total = self._totals[key] = _Total(self._bounds)
        ordered = sorted(values)  # in C, and once for all: the ends, the buckets, and soon the signs
        count, added, low, high = _scaled(len(values), rate), _scaled(sum(values), rate), ordered[0], ordered[-1]
        for each in (cell, total):
            each.count += count
            each.sum += added
            if low < each.low:
                each.low = low
            if high > each.high:
                each.high = high
        cell.newest = values[-1]
        total.fill(ordered, rate)
        share = self.metric.sampling_rate
        if share < 1:
            values = [value for value in values if self._rng.random() < share]
        cell.samples.setdefault(rate * share, []).extend(values)
        self._held += len(values)
        if self._held > self.metric.max_samples:
            samples = [cell.samples for cell in self._open.values()]
            self._held = bound_samples(samples, self.metric.max_samples, self._rng)

    def _close(self) -> dict[Key, Point]:
        self._fold_all()
        points = {
            key: Point(
                self.series[key],
                cell.sum,
                cell.samples,
                self._totals[key].sum,
                cell.count,
                cell.low,
                cell.high,
                cell.newest,
            )
            for key, cell in self._open.items()
        }
        self._open = {}
        self._held = 0
        return points

    def _shown(self, total: _Total) -> Distribution:
        return Distribution(
            total.count,
            total.sum,
            total.low,
            total.high,
            tuple(zip(total.bounds, total.buckets, strict=True)),
            dict(total.bins),
            dict(total.negative_bins),
            total.zeros,
        )


def column_of(metric: Metric, rng: random.Random) -> Column:
    """Make the state of a metric."""
    classes: Mapping[str, type[Column]] = {
        "counter": CounterColumn,
        "sum": SumColumn,
        "last_value": LastValueColumn,
        "summary": DistributionColumn,
        "distribution": DistributionColumn,
    }
    return classes[metric.kind](metric, rng)


def _scaled(part: Number, rate: float) -> Number:
    return part if rate == 1.0 else part / rate


def _add_bins(bins: Counter[int], values: Sequence[Number], rate: float) -> None:
    found = map(math.ceil, map(mul, map(math.log2, values), repeat(BIN_FACTOR)))
    if rate == 1.0:
        bins.update(found)
    else:
        for key, count in Counter(found).items():
            bins[key] += count / rate  # type: ignore[assignment]  # a sampled measurement stands for more than one
    if len(bins) > MAX_BINS:
        _collapse(bins)


def _collapse(bins: Counter[int]) -> None:
    """Join the lowest bins, as the collapsing stores of ddsketch do: the high percentiles keep their accuracy."""
    keys = sorted(bins)
    lowest_kept = keys[-MAX_BINS]
    for key in keys[:-MAX_BINS]:
        bins[lowest_kept] += bins.pop(key)


def _overflow_key(metric: Metric) -> Key:
    if callable(metric.tags):
        return (("series", OVERFLOW),)
    return OVERFLOW if len(metric.tags) == 1 else (OVERFLOW,) * len(metric.tags)


def _tags(metric: Metric, key: Key) -> Tags:
    if callable(metric.tags):
        tags: Tags = key
        return tags
    return tuple(zip(metric.tags, key if len(metric.tags) != 1 else (key,), strict=True))
