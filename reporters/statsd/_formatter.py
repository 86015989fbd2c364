"""Points into StatsD lines, in two dialects: standard (tags in the name) and datadog (tags of their own).

Pure but for a count of what could not be said. Everything that a caller names is hostile: whatever would end a line, a
field or a tag becomes "_", so that any input yields exactly one line a sample. Numbers are plain decimals, never 1e-09;
what is not finite is dropped and counted. What never changes of a series' lines is made once and kept with the series.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from decimal import Decimal
from itertools import islice
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import msgspec

from actors._series_points import Number, Point, Series
from reporters.statsd._packets import TIE
from runtime.metrics import Metric

Holds: TypeAlias = Literal["numbers", "sum", "gauge", "samples"]

_UNSAFE = dict.fromkeys([*range(0x20), 0x7F, 0x85, 0x2028, 0x2029, *map(ord, "|,#@")], "_")
_UNSAFE_IN_NAMES = _UNSAFE | {ord(":"): "_"}

NIL = "nil"
"""The text of a tag whose value is None."""


def clean_name(text: str) -> str:
    """Answer a text that is safe as a metric name, a segment of one, or a tag's key.

    >>> clean_name("label:submit\\n|c")
    'label_submit__c'
    """
    return _encodable(text).translate(_UNSAFE_IN_NAMES)


def clean_tag(text: str) -> str:
    """Answer a text that is safe as a tag's value; colons may stay.

    >>> clean_tag("a:b,c#d")
    'a:b_c_d'
    """
    return _encodable(text).translate(_UNSAFE)


def _encodable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode()  # lone surrogates cannot travel


def number(value: Number) -> str | None:
    """Answer the shortest plain decimal; None for what is not finite.

    >>> [number(value) for value in (45, 45.0, 0.38, 1e-09, 1e22, -0.0, True, float("nan"))]
    ['45', '45', '0.38', '0.000000001', '10000000000000000000000', '0', '1', None]
    """
    text = repr(value)
    if "e" not in text and "n" not in text:
        return text.removesuffix(".0") if value else "0"
    if isinstance(value, int):  # True, and what else calls itself a number
        return str(int(value))
    if not math.isfinite(value):
        return None
    return format(Decimal(repr(float(value))), "f").removesuffix(".0")


def rounded(value: Number) -> int:
    """Round half away from zero, as StatsD servers expect; `round` would go to the even neighbour.

    >>> [rounded(value) for value in (131.5, -2.5, 2.4, -0.4, 0.49999999999999994)]
    [132, -3, 2, 0, 0]
    """
    whole = int(value)
    rest = value - whole
    return whole + (rest >= 0.5) - (rest <= -0.5)


class Frame(NamedTuple):
    """What never changes of a series' lines: what stands before the value and at the end, the type, what they hold."""

    head: str
    tail: str
    kind: str
    holds: Holds

    def end(self, rate: float) -> str:
        """Answer what follows the value at this sample rate."""
        return f"{self.kind}{self.tail}" if rate == 1.0 else f"{self.kind}|@{number(rate)}{self.tail}"


class Formatter(ABC):
    """Say points in one dialect.

    `prefix` goes before every name, `global_tags` to every line; a series' own tag of the same key wins.
    `not_finite` counts samples that no line could say.
    """

    name: ClassVar[str]

    def __init__(self, prefix: str = "", global_tags: Mapping[str, str | None] | None = None) -> None:
        self.not_finite = 0
        self._prefix = clean_name(prefix) + "." if prefix else ""
        self._global_tags = dict(global_tags or {})
        self._memo = f"statsd {self.name} {self._prefix!r} {self._global_tags!r}"  # the same for every incarnation

    def text(self, point: Point) -> str:
        """Answer the point's lines, joined by newlines; "" if there is nothing that can be said."""
        frame = point.series.memo.get(self._memo) or self._frame(point.series)
        parts = point.parts
        if frame.holds == "gauge":
            is_last_value = point.series.metric.kind == "last_value"
            return self._gauge(frame, point.value if is_last_value else point.newest)
        if frame.holds == "sum":
            return self._sum(frame, point)
        if len(parts) == 1 and 1.0 in parts:  # by far the most frequent: one number, not sampled
            alone = parts[1.0]
            if frame.holds == "numbers" or len(alone) == 1:
                said = self._number(alone if frame.holds == "numbers" else alone[0])
                if said is not None:
                    return f"{frame.head}{said}{frame.kind}{frame.tail}"
        return self._numbers_by_rate(frame, parts) if frame.holds == "numbers" else self._samples(frame, parts)

    def remainder(self, point: Point, lines: int) -> Point | None:
        """Answer what is left of a point when this many of its lines have been sent; None if nothing is."""
        if lines <= 0:
            return point
        if lines > self.text(point).count("\n"):
            return None
        if point.series.metric.kind in ("summary", "distribution"):
            left = self._unsent_samples(point, lines)
        else:
            left = dict(islice(point.parts.items(), lines, None))
        return msgspec.structs.replace(point, parts=left)

    def _unsent_samples(self, point: Point, lines: int) -> dict[float, Any]:
        left: dict[float, Any] = {}
        for rate, samples in point.parts.items():
            if lines < len(samples):
                left[rate] = samples[max(lines, 0) :]
            lines -= len(samples)
        return left

    def _frame(self, series: Series) -> Frame:
        """Make what never changes of a series' lines, and keep it with the series."""
        own = {key: value for key, value in series.tags if value != "" or key not in self._global_tags}
        tags = {key: own.get(key, self._global_tags.get(key)) for key, _ in series.tags}
        others = {key: value for key, value in self._global_tags.items() if key not in tags}
        head, tail = self._ends(series.metric.name, {**tags, **others})
        frame = series.memo[self._memo] = Frame(head, tail, *self._type_of(series.metric))
        return frame

    def _numbers_by_rate(self, frame: Frame, parts: Mapping[float, Number]) -> str:
        lines = []
        for rate, value in parts.items():
            said = self._number(value)
            if said is None:
                self.not_finite += 1
            else:
                lines.append(f"{frame.head}{said}{frame.end(rate)}")
        return "\n".join(lines)

    def _samples(self, frame: Frame, parts: Mapping[float, list[Number]]) -> str:
        texts = []
        for rate, samples in parts.items():
            joined = self._numbers(samples)
            if joined:
                end = frame.end(rate)
                between = f"{end}\n{frame.head}"
                texts.append(f"{frame.head}{joined.replace(':', between)}{end}")
        return "\n".join(texts)

    def _finite(self, numbers: Iterable[str | None]) -> list[str]:
        said = []
        for each in numbers:
            if each is None:
                self.not_finite += 1
            else:
                said.append(each)
        return said

    @abstractmethod
    def _ends(self, name: str, tags: Mapping[str, str | None]) -> tuple[str, str]:
        """Answer the head and the tail of a line; "" is a missing tag, None one without value."""

    @abstractmethod
    def _type_of(self, metric: Metric) -> tuple[str, Holds]:
        """Answer the type of the metric's lines, and what they hold."""

    @abstractmethod
    def _number(self, value: Number) -> str | None: ...

    @abstractmethod
    def _numbers(self, values: list[Number]) -> str:
        """Answer the numbers, joined by colons."""

    @abstractmethod
    def _sum(self, frame: Frame, point: Point) -> str: ...

    @abstractmethod
    def _gauge(self, frame: Frame, value: Number) -> str: ...


class Standard(Formatter):
    """The dialect of the original StatsD: integers, and tags as further segments of the name."""

    name = "standard"

    def _ends(self, name: str, tags: Mapping[str, str | None]) -> tuple[str, str]:
        segments = [NIL if value is None else clean_name(value) or "none" for value in tags.values()]
        return ".".join([self._prefix + clean_name(name), *segments]) + ":", ""

    def _type_of(self, metric: Metric) -> tuple[str, Holds]:
        if metric.kind == "counter":
            return "|c", "numbers"
        if metric.kind == "sum":
            return "|c" if metric.report_as == "counter" else "|g", "sum"
        is_gauge = metric.kind == "last_value" or metric.report_as == "gauge"
        return ("|g", "gauge") if is_gauge else ("|ms", "samples")

    def _number(self, value: Number) -> str | None:
        return str(rounded(value)) if isinstance(value, int) or math.isfinite(value) else None

    def _numbers(self, values: list[Number]) -> str:
        return ":".join(self._finite(map(self._number, values)))

    def _sum(self, frame: Frame, point: Point) -> str:
        if not (math.isfinite(point.before) and math.isfinite(point.total)):
            self.not_finite += 1
            return ""
        # What rounding takes from one flush the next one gives back: the server's sum never drifts from ours.
        change = rounded(point.total) - rounded(point.before)
        if frame.kind == "|c":
            is_sampled = point.parts.keys() != {1.0}
            return self._numbers_by_rate(frame, point.parts) if is_sampled else f"{frame.head}{change}|c"
        # Always signed: an unsigned number would set the gauge instead of moving it.
        return f"{frame.head}{'-' if (change or point.value) < 0 else '+'}{abs(change)}|g"

    def _gauge(self, frame: Frame, value: Number) -> str:
        said = self._number(value)
        if said is None:
            self.not_finite += 1
            return ""
        # A signed number would move the gauge instead of setting it.
        line = f"{frame.head}{said}|g"
        return f"{frame.head}0|g{TIE}{line}" if said.startswith("-") else line


class Datadog(Formatter):
    """The dialect of DogStatsD: floats, tags, distributions.

    `packed_bytes`: put several samples into a line, `v1:v2:v3`, up to this size; 0 does not. Servers that speak version
    1.1 of the protocol take it (Datadog agent from 6.25, 7.25).
    """

    name = "datadog"

    def __init__(
        self, prefix: str = "", global_tags: Mapping[str, str | None] | None = None, packed_bytes: int = 0
    ) -> None:
        super().__init__(prefix, global_tags)
        self._packed_bytes = packed_bytes

    def _ends(self, name: str, tags: Mapping[str, str | None]) -> tuple[str, str]:
        said = [
            f"{clean_name(key)}:{NIL if value is None else clean_tag(value)}"
            for key, value in tags.items()
            if value != ""
        ]
        return f"{self._prefix}{clean_name(name)}:", "|#" + ",".join(said) if said else ""

    def _type_of(self, metric: Metric) -> tuple[str, Holds]:
        if metric.kind in ("counter", "sum"):
            return "|c", "numbers"
        if metric.kind == "last_value" or metric.report_as == "gauge":
            return "|g", "gauge"
        if metric.report_as == "timer":
            return "|ms", "samples"
        return "|h" if metric.kind == "summary" else "|d", "samples"

    def _number(self, value: Number) -> str | None:
        return number(value)

    def _numbers(self, values: list[Number]) -> str:
        joined = ":".join(map(repr, values)) + ":"
        if "e" in joined or "n" in joined:  # an exponent, inf, nan, True
            return ":".join(self._finite(map(number, values)))
        return joined.replace(".0:", ":").replace("-0:", "0:")[:-1]

    def _sum(self, frame: Frame, point: Point) -> str:
        return self._numbers_by_rate(frame, point.parts)

    def _gauge(self, frame: Frame, value: Number) -> str:
        return self._numbers_by_rate(frame, {1.0: value})

    def _samples(self, frame: Frame, parts: Mapping[float, list[Number]]) -> str:
        if not self._packed_bytes:
            return super()._samples(frame, parts)
        head = frame.head
        lines = []
        for rate, samples in parts.items():
            joined = self._numbers(samples)
            end = frame.end(rate)
            room = self._packed_bytes - len((head + end).encode())
            while len(joined) > room and ":" in joined:
                cut = joined.rfind(":", 0, max(room, 0) + 1)
                cut = joined.index(":") if cut < 0 else cut
                lines.append(f"{head}{joined[:cut]}{end}")
                joined = joined[cut + 1 :]
            if joined:
                lines.append(f"{head}{joined}{end}")
        return "\n".join(lines)

    def _unsent_samples(self, point: Point, lines: int) -> dict[float, Any]:
        if self._packed_bytes:
            sent = self.text(point).split("\n")[:lines]
            start = len(self._frame(point.series).head)
            lines = sum(line[start : line.index("|", start)].count(":") + 1 for line in sent)
        return super()._unsent_samples(point, lines)
