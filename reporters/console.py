"""The console reporter: what happened, in plain words, for whoever develops a service.

`Console` is the declaration that goes among an application's children; `ConsoleReporter` is the actor that it starts.
It writes one block per interval in which something happened, and it tells what was skipped and why, so that a metric
that does not record is seen before it is missed. It runs in a thread of its own, because a terminal may block.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import ClassVar, TextIO

import pykka

from actors._series_points import Number, Point, StoreStatistics
from actors.aggregator import Statistics
from reporters._reporter import FlushStatistics, Kept, Reporter, check_name, check_seconds
from runtime.errors import expected
from supervisors.child_spec import ChildSpec

__all__ = ["Console", "ConsoleReporter"]

_REASONS = {
    "missing": "without the measurement",
    "not_a_number": "whose measurement is no number",
    "not_finite": "whose measurement is not finite",
    "negative": "whose measurement is negative",
    "measurement_error": "whose measurement function raised",
    "keep_error": "whose keep or drop function raised",
    "tag_error": "whose tag function raised",
}


class Console:
    """Declare a console reporter, as a child of an application or supervisor.

    - `interval_s`: how often to write, in seconds; default 5.
    - `stream`: where to write; default standard output, as it is when it is written to.
    - `name`: tells reporters apart; default "console".

    Raises `InvalidValue` for a bad option.
    """

    def __init__(self, interval_s: float = 5.0, stream: TextIO | None = None, name: str = "console") -> None:
        self.interval_s = check_seconds("interval_s", interval_s)
        if stream is not None and not callable(getattr(stream, "write", None)):
            raise expected("stream to have a write method", stream)
        self.stream = stream
        self.name = check_name(name)
        self.kept = Kept()
        self.told: Counter[tuple[str, str]] = Counter()

    def child_spec(self) -> ChildSpec:
        """Answer the specification under which a supervisor starts the reporter."""
        return ChildSpec(self.name, (ConsoleReporter.options(name=self.name).start_link, (self,)))

    def statistics(self) -> FlushStatistics:
        """Account for the flushes, from any thread."""
        return self.kept.statistics()


class ConsoleReporter(Reporter):
    """Write what happened; see the module."""

    carrier: ClassVar[str] = "thread"

    def __init__(self, declaration: Console) -> None:
        super().__init__(declaration.name, declaration.interval_s, declaration.kept)
        self._declared = declaration

    def flush(self) -> bool:
        """Write what happened, then what was skipped."""
        done = super().flush()
        with contextlib.suppress(pykka.ActorDeadError, pykka.Timeout):  # it is told at the next flush
            self._tell_skipped()
        return done

    def send(self, points: Sequence[Point]) -> Sequence[Point]:
        """Write a block."""
        try:
            self._write(f"{datetime.now():%H:%M:%S}", *map(_sentence, points))
        except (OSError, ValueError) as error:  # a closed pipe or stream
            self.trouble(str(error))
            return points
        return ()

    def _tell_skipped(self) -> None:
        """Write what was skipped since the last time."""
        aggregator = self._aggregator()
        if aggregator is None:
            return
        told = self._declared.told
        new = Counter(dict(_skipped(aggregator.ask(Statistics())))) - told
        if not new:
            return
        try:
            self._write(*(f"  {name}: {_oddity(reason, count)}" for (name, reason), count in new.items()))
        except (OSError, ValueError) as error:
            self.trouble(str(error))
        else:
            told.update(new)

    def _write(self, *lines: str) -> None:
        stream = self._declared.stream or sys.stdout
        stream.write("".join(f"{line}\n" for line in lines))
        stream.flush()


def _sentence(point: Point) -> str:
    """Say a point in plain words."""
    metric = point.series.metric
    tags = ", ".join(f"{_visible(key)}={_visible(value)}" for key, value in point.series.tags if value != "")
    name = f"  {_visible(metric.name)}{f' [{tags}]' if tags else ''}"
    unit = "" if metric.unit == "unit" else f" {metric.unit}"
    if metric.kind == "counter":
        return f"{name}: {_plural(point.value, 'event')}, {_number(point.total)} since the start"
    if metric.kind == "sum":
        sign = "" if point.value < 0 else "+"
        return f"{name}: {sign}{_number(point.value)}{unit}, {_number(point.total)} since the start"
    if metric.kind == "last_value":
        return f"{name}: {_number(point.value)}{unit}"
    return (
        f"{name}: {_plural(point.count, 'measurement')} from {_number(point.low)} to {_number(point.high)}{unit}, "
        f"mean {_number(point.value / point.count)}"
    )


def _oddity(reason: str, count: int) -> str:
    """Say what was skipped in plain words.

    >>> _oddity("missing", 2)
    'skipped 2 events without the measurement'
    """
    if reason == "overflow":
        return f"{_plural(count, 'sample')} went to the overflow series: too many tag combinations"
    return f"skipped {_plural(count, 'event')} {_REASONS.get(reason, reason)}"


def _visible(text: str | None) -> str:
    """Answer a text that moves no cursor and ends no line.

    >>> _visible("a\\x1b[2J")
    'a\\\\x1b[2J'
    """
    if text is None:
        return "nil"
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _plural(count: Number, noun: str) -> str:
    """Answer a count with its noun.

    >>> _plural(1, "event"), _plural(2, "event")
    ('1 event', '2 events')
    """
    return f"{_number(count)} {noun}{'' if count == 1 else 's'}"


def _number(value: Number) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def _skipped(statistics: StoreStatistics) -> Iterable[tuple[tuple[str, str], int]]:
    for metric in statistics.metrics:
        yield from (((metric.name, reason), count) for reason, count in metric.skipped.items())
        if metric.overflowed:
            yield (metric.name, "overflow"), metric.overflowed
