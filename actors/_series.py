"""Turn events into series: the one place where metrics are aggregated, for all reporters at once.

`SeriesStore.update` takes batches of events; what they say is *open* until somebody reads. Reading closes it: the open
part becomes points, is added to the totals, and waits for every reporter that has a `Cursor`. A reporter collects what
it has not committed, sends it, and commits; what it could not send is collected again, combined with what came since.

The aggregator actor is the only writer. The store is made before it and outlives it, so a crash of the actor loses
nothing. `snapshot` and `statistics` may be called from any thread. Nothing here does I/O, and no event makes it raise.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from loguru import logger

from actors._series_columns import OVERFLOW, Column, column_of
from actors._series_extract import Batch, Selection, keys_of, numbers_of
from actors._series_points import (
    CursorStatistics,
    Delta,
    MetricView,
    Point,
    Samples,
    Series,
    StoreStatistics,
    bound_samples,
    fold,
    merge,
)
from runtime import Event
from runtime._native import allocate_lock, sleep
from runtime.clock import Clock
from runtime.errors import AlreadyExists, NotFound
from runtime.metrics import Metric

__all__ = ["Cursor", "SeriesStore"]

DEFAULT_EXPIRE_S = 3600.0
"""A series that nothing was recorded in for this long is forgotten."""


class SeriesStore:
    """Keep the series of these metrics.

    `clock` times the expiry, `rng` decides which raw samples go where there are too many, `expire_s` is how long
    an idle series is kept. Raises `AlreadyExists` for two metrics of the same name and kind.

    >>> from runtime.metrics import counter
    >>> store = SeriesStore([counter("shop.order.count", tags=["country"])])
    >>> cursor = store.subscribe("console")
    >>> store.update([Event("shop.order", {}, {"country": "nl"}, 0), Event("shop.order", {}, {"country": "nl"}, 0)])
    >>> [(point.series.tags, point.value) for point in cursor.collect().points]
    [((('country', 'nl'),), 2)]
    """

    def __init__(
        self,
        metrics: Iterable[Metric],
        clock: Clock | None = None,
        rng: random.Random | None = None,
        expire_s: float = DEFAULT_EXPIRE_S,
    ) -> None:
        self.metrics = tuple(metrics)
        names = [(metric.name, metric.kind) for metric in self.metrics]
        for name, kind in names:
            if names.count((name, kind)) > 1:
                raise AlreadyExists(f"expected one {kind} named {name!r}, got: {names.count((name, kind))}")
        self._clock = clock or Clock()
        self._rng = rng or random.Random()
        self._expire_ns = int(expire_s * 1e9)
        self._next_expiry_ns = self._clock.monotonic_ns() + self._expire_ns // 10
        self._columns = tuple(column_of(metric, self._rng) for metric in self.metrics)
        self._plans: dict[str, _Plan] = {}
        for column in self._columns:
            self._plans.setdefault(column.metric.event_name, _Plan()).add(column)
        self._log: list[tuple[int, dict[Series, Point]]] = []
        self._sequence = 0
        self._cursors: dict[str, Cursor] = {}
        self._events = self._unrouted = 0
        # A foreign thread that looks must never see half a batch. Held for one batch or one look, never across a wait.
        self._lock = allocate_lock()

    @property
    def event_names(self) -> tuple[str, ...]:
        """Answer the events that the metrics listen to, each once."""
        return tuple(self._plans)

    def update(self, events: Sequence[Event]) -> None:
        """Record a batch. Never raises for what is in the events. Some hundred at a time serve best."""
        with self._lock:
            self._events += len(events)
            if self._clock.monotonic_ns() >= self._next_expiry_ns:
                self._close()  # first, so that what is idle makes room for what comes
            for name, batch in _by_name(events).items():
                plan = self._plans.get(name)
                if plan is None:
                    self._unrouted += len(batch)
                    continue
                rates = {event.rate for event in batch}
                for rate in rates:
                    same = batch if len(rates) == 1 else [event for event in batch if event.rate == rate]
                    plan.record(same, rate if 0 < rate <= 1 else 1.0)
            crowded = [column for column in self._columns if column.overflowed and not column.is_crowding_told]
        for column in crowded:  # without the lock: a log sink may take its time
            column.is_crowding_told = True
            logger.warning(
                "metric {} has more than {} series: further tag combinations share one named {}",
                column.metric.name,
                column.metric.max_series,
                OVERFLOW,
            )

    def subscribe(self, reporter: str) -> Cursor:
        """Answer the cursor of this reporter: a new one starts with what is open, a known one goes on where it was."""
        with self._lock:
            cursor = self._cursors.get(reporter)
            if cursor is None:
                cursor = self._cursors[reporter] = Cursor(self, reporter, self._sequence)
            return cursor

    def unsubscribe(self, reporter: str) -> None:
        """Forget a reporter that will not come back, and what waits for it. Raises `NotFound`."""
        with self._lock:
            if self._cursors.pop(reporter, None) is None:
                raise NotFound(f"expected a reporter that has subscribed, got: {reporter!r}")
            self._compact()

    def snapshot(self) -> tuple[MetricView, ...]:
        """Show every metric since the start, in the order of definition; from any thread."""
        with self._lock:
            self._close()
            return tuple(column.view() for column in self._columns)

    def statistics(self) -> StoreStatistics:
        """Account for every event, from any thread."""
        with self._lock:
            return StoreStatistics(
                events=self._events,
                unrouted=self._unrouted,
                metrics=tuple(column.statistics() for column in self._columns),
                reporters=tuple(cursor._statistics() for cursor in self._cursors.values()),
            )

    def _close(self) -> None:
        """Turn what is open into points that wait for the cursors; now and then, forget the series that are idle."""
        now_ns = self._clock.monotonic_ns()
        points: dict[Series, Point] = {}
        for column in self._columns:
            points.update((point.series, point) for point in column.close(now_ns))
            sleep(0)  # others may want the GIL
        if now_ns >= self._next_expiry_ns:
            self._next_expiry_ns = now_ns + self._expire_ns // 10
            for column in self._columns:
                column.expire(now_ns - self._expire_ns)
        if points:
            self._sequence += 1
            self._log.append((self._sequence, points))
            self._compact()

    def _compact(self) -> None:
        """Drop what every cursor has committed; join what none tells apart: at most two stretches a cursor remain."""
        oldest = min((cursor._position for cursor in self._cursors.values()), default=self._sequence)
        edges = {edge for cursor in self._cursors.values() for edge in (cursor._position, cursor._collected)}
        kept: list[tuple[int, dict[Series, Point]]] = []
        for sequence, points in self._log:
            if sequence <= oldest:
                continue
            if kept and kept[-1][0] not in edges:
                joined = kept[-1][1]
                merge(joined, points.values())
                self._bound(joined)
                kept[-1] = (sequence, joined)
            else:
                kept.append((sequence, points))
        self._log = kept

    def _bound(self, points: dict[Series, Point]) -> None:
        """Keep what waits of each metric within its limits, series and raw samples, after points have been joined."""
        held: defaultdict[int, list[Series]] = defaultdict(list)
        for series in points:
            held[id(series.metric)].append(series)
        for column in self._columns:
            metric = column.metric
            several = held[id(metric)]
            if len(several) > metric.max_series + 1:
                # Only while a reporter cannot send for longer than idle series live: those then wait as one.
                oldest = [points.pop(series) for series in several[: len(several) - metric.max_series]]
                fold(points, oldest, column.overflow)
                column.overflowed += len(oldest)
                several = [series for series in several if series in points]
            if metric.kind not in ("summary", "distribution"):
                continue
            if sum(len(values) for s in several for values in points[s].parts.values()) > metric.max_samples:
                samples: list[Samples] = [{r: v[:] for r, v in points[series].parts.items()} for series in several]
                bound_samples(samples, metric.max_samples, self._rng)
                for series, parts in zip(several, samples, strict=True):
                    points[series] = msgspec.structs.replace(points[series], parts=parts)


def _by_name(events: Sequence[Event]) -> Mapping[str, Sequence[Event]]:
    names = {event.name for event in events}
    if len(names) == 1:
        return {names.pop(): events}
    by_name: dict[str, list[Event]] = {name: [] for name in sorted(names)}  # in an order that replays
    for event in events:
        by_name[event.name].append(event)
    return by_name


class Cursor:
    """Remember what one reporter has sent. Made by `SeriesStore.subscribe`; used by one caller at a time.

    collect → send → commit. Collecting again without a commit answers everything once more, together with what came
    since; the earlier delta is then void, and committing it changes nothing.
    """

    def __init__(self, store: SeriesStore, reporter: str, position: int) -> None:
        self.reporter = reporter
        self._store = store
        self._position = self._collected = position  # the last stretch of the log that was committed, collected
        self._unsent: dict[Series, Point] = {}
        self._serial = self._commits = 0
        self._is_open = False

    def collect(self) -> Delta:
        """Answer everything since the last commit, one point a series."""
        store = self._store
        with store._lock:
            store._close()
            points = dict(self._unsent)
            stretches = [waiting for sequence, waiting in store._log if sequence > self._position]
            for waiting in stretches:
                if points:
                    merge(points, waiting.values())
                else:
                    points = dict(waiting)
            if self._unsent or len(stretches) > 1:
                store._bound(points)
            self._collected = store._sequence
            self._serial += 1
            self._is_open = True
            return Delta(self.reporter, self._serial, tuple(points.values()))

    def commit(self, delta: Delta, unsent: Iterable[Point] = ()) -> bool:
        """Take a delta as sent, but for the `unsent` points, which are collected again.

        Answer False, and change nothing, for a delta that was committed before or that a newer one has replaced.
        """
        with self._store._lock:
            if delta.serial != self._serial or not self._is_open:
                return False
            self._is_open = False
            self._position = self._collected
            self._unsent = {point.series: point for point in unsent}
            self._commits += 1
            self._store._compact()
            return True

    def _statistics(self) -> CursorStatistics:
        waiting = sum(len(points) for sequence, points in self._store._log if sequence > self._position)
        return CursorStatistics(self.reporter, self._commits, waiting + len(self._unsent))


class _Plan:
    """Say what to do with the events of one name. Metrics that read the same tags or measurement read them once."""

    def __init__(self) -> None:
        self._by_tags: dict[tuple[str, ...], list[Column]] = {}
        self._selected: list[tuple[Column, Selection]] = []

    def add(self, column: Column) -> None:
        """Add a metric: to those that are read column-wise, or to those whose functions are called for each event."""
        metric = column.metric
        functions = (metric.tags, metric.measurement if metric.kind != "counter" else None)
        if metric.keep or metric.drop or metric.tag_values or any(map(callable, functions)):
            self._selected.append((column, Selection(metric)))
        else:
            self._by_tags.setdefault(metric.tags, []).append(column)  # type: ignore[arg-type]  # not a function: see above

    def record(self, events: Sequence[Event], rate: float) -> None:
        """Record events of this name and rate in every metric."""
        if self._by_tags:
            self._record_columns(events, rate)
        for column, selection in self._selected:
            column.offered += len(events)
            keys, values, filtered, skipped, left_out = selection.read(events)
            column.filtered += filtered
            column.skipped.update(skipped)
            column.tags_left_out += left_out
            column.record(Batch.of(keys, values), rate)

    def _record_columns(self, events: Sequence[Event], rate: float) -> None:
        metadata = [event.metadata for event in events]
        measured: dict[Any, Any] = {}
        for tags, columns in self._by_tags.items():
            keyed = keys_of(tags, metadata, columns[0].series)
            left_out = keyed.missing_tags()
            batches: dict[Any, Batch] = {}
            for column in columns:
                metric = column.metric
                column.offered += len(events)
                column.tags_left_out += left_out
                if metric.kind == "counter":
                    column.record(keyed, rate)
                    continue
                what = metric.measurement, metric.scale
                if what not in measured:
                    raw = [event.measurements.get(metric.measurement) for event in events]  # type: ignore[arg-type]
                    measured[what] = numbers_of(raw, metric.scale)
                values, positions, skipped = measured[what]
                if what not in batches:
                    batches[what] = keyed.with_values(values, positions)
                column.skipped.update(skipped)
                column.record(batches[what], rate)
