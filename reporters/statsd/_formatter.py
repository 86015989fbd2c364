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
from typing import Any, ClassVar

import msgspec

from actors._series_points import Number, Point, Series
from reporters.statsd._packets import TIE

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
    if isinstance(value, int):
        return str(int(value))
    if not math.isfinite(value):
        return None
    text = repr(float(value))
    if "e" in text:
        text = format(Decimal(text), "f")
    return "0" if value == 0 else text.removesuffix(".0")


def rounded(value: Number) -> int:
    """Round half away from zero, as StatsD servers expect; `round` would go to the even neighbour.

    >>> [rounded(value) for value in (131.5, -2.5, 2.4, -0.4, 0.49999999999999994)]
    [132, -3, 2, 0, 0]
    """
    whole = int(value)
    rest = value - whole
    return whole + (rest >= 0.5) - (rest <= -0.5)


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
        head, tail = self._frame(point.series)
        metric = point.series.metric
        if metric.kind == "counter":
            return self._join(head, tail, "|c", point.parts)
        if metric.kind == "sum":
            return self._sum(head, tail, point, metric.report_as == "counter")
        if metric.kind == "last_value":
            return self._gauge(head, tail, point.value)
        if metric.report_as == "gauge":
            return self._gauge(head, tail, point.newest)
        return self._samples(head, tail, self._type_of_samples(point.series), point.parts)

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

    def _frame(self, series: Series) -> tuple[str, str]:
        frame: tuple[str, str] | None = series.memo.get(self._memo)
        if frame is None:
            own = {key: value for key, value in series.tags if value != "" or key not in self._global_tags}
            tags = {key: own.get(key, self._global_tags.get(key)) for key, _ in series.tags}
            frame = series.memo[self._memo] = self._make_frame(series.metric.name, {**tags, **self._others(tags)})
        return frame

    def _others(self, tags: Mapping[str, str | None]) -> dict[str, str | None]:
        return {key: value for key, value in self._global_tags.items() if key not in tags}

    def _join(self, head: str, tail: str, kind: str, parts: Mapping[float, Number]) -> str:
        """Say one number a rate."""
        lines = []
        for rate, value in parts.items():
            said = self._number(value)
            if said is None:
                self.not_finite += 1
            else:
                lines.append(f"{head}{said}{kind}{_at(rate)}{tail}")
        return "\n".join(lines)

    def _samples(self, head: str, tail: str, kind: str, parts: Mapping[float, list[Number]]) -> str:
        """Say every sample."""
        texts = []
        for rate, samples in parts.items():
            joined = self._numbers(samples)
            if joined:
                end = f"{kind}{_at(rate)}{tail}"
                texts.append(f"{head}{joined.replace(':', f'{end}{chr(10)}{head}')}{end}")
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
    def _make_frame(self, name: str, tags: Mapping[str, str | None]) -> tuple[str, str]:
        """Answer what stands before and after the value in each line; "" is a missing tag, None one without value."""

    @abstractmethod
    def _number(self, value: Number) -> str | None: ...

    @abstractmethod
    def _numbers(self, values: list[Number]) -> str:
        """Answer the numbers, joined by colons."""

    @abstractmethod
    def _sum(self, head: str, tail: str, point: Point, is_counter: bool) -> str: ...

    @abstractmethod
    def _gauge(self, head: str, tail: str, value: Number) -> str: ...

    @abstractmethod
    def _type_of_samples(self, series: Series) -> str: ...


class Standard(Formatter):
    """The dialect of the original StatsD: integers, and tags as further segments of the name."""

    name = "standard"

    def _make_frame(self, name: str, tags: Mapping[str, str | None]) -> tuple[str, str]:
        segments = [NIL if value is None else clean_name(value) or "none" for value in tags.values()]
        return ".".join([self._prefix + clean_name(name), *segments]) + ":", ""

    def _number(self, value: Number) -> str | None:
        return str(rounded(value)) if isinstance(value, int) or math.isfinite(value) else None

    def _numbers(self, values: list[Number]) -> str:
        return ":".join(self._finite(map(self._number, values)))

    def _sum(self, head: str, tail: str, point: Point, is_counter: bool) -> str:
        if not (math.isfinite(point.value) and math.isfinite(point.total)):
            self.not_finite += 1
            return ""
        # What rounding takes from one flush the next one gives back: the server's sum never drifts from ours.
        change = rounded(point.total) - rounded(point.total - point.value)
        if is_counter:
            return f"{head}{change}|c" if point.parts.keys() == {1.0} else self._join(head, tail, "|c", point.parts)
        # Always signed: an unsigned number would set the gauge instead of moving it.
        return f"{head}{'-' if point.value < 0 else '+'}{abs(change)}|g"

    def _gauge(self, head: str, tail: str, value: Number) -> str:
        said = self._number(value)
        if said is None:
            self.not_finite += 1
            return ""
        # A signed number would move the gauge instead of setting it.
        return f"{head}0|g{TIE}{head}{said}|g" if said.startswith("-") else f"{head}{said}|g"

    def _type_of_samples(self, series: Series) -> str:
        return "|ms"


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

    def _make_frame(self, name: str, tags: Mapping[str, str | None]) -> tuple[str, str]:
        said = [
            f"{clean_name(key)}:{NIL if value is None else clean_tag(value)}"
            for key, value in tags.items()
            if value != ""
        ]
        return f"{self._prefix}{clean_name(name)}:", "|#" + ",".join(said) if said else ""

    def _number(self, value: Number) -> str | None:
        return number(value)

    def _numbers(self, values: list[Number]) -> str:
        joined = ":".join(map(repr, values)) + ":"
        if "e" in joined or "n" in joined:  # an exponent, inf, nan, True
            return ":".join(self._finite(map(number, values)))
        return joined.replace(".0:", ":").replace("-0:", "0:")[:-1]

    def _sum(self, head: str, tail: str, point: Point, is_counter: bool) -> str:
        return self._join(head, tail, "|c", point.parts)

    def _gauge(self, head: str, tail: str, value: Number) -> str:
        return self._join(head, tail, "|g", {1.0: value})

    def _samples(self, head: str, tail: str, kind: str, parts: Mapping[float, list[Number]]) -> str:
        if not self._packed_bytes:
            return super()._samples(head, tail, kind, parts)
        lines = []
        for rate, samples in parts.items():
            joined = self._numbers(samples)
            end = f"{kind}{_at(rate)}{tail}"
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
            head, _ = self._frame(point.series)
            sent = self.text(point).split("\n")[:lines]
            lines = sum(line[len(head) : line.index("|", len(head))].count(":") + 1 for line in sent)
        return super()._unsent_samples(point, lines)

    def _type_of_samples(self, series: Series) -> str:
        if series.metric.report_as == "timer":
            return "|ms"
        return "|h" if series.metric.kind == "summary" else "|d"


def _at(rate: float) -> str:
    return "" if rate == 1.0 else f"|@{number(rate)}"
