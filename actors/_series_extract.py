"""From events to columns: the keys and the numbers that a batch of events holds for a metric.

Pure functions, run by the aggregator's single writer. Events are hostile input: a measurement may be missing, text or
infinite, a tag may be a dict, a user's function may raise anything. Nothing here raises for any of that; what cannot be
recorded is left out and counted under its reason.

Column-wise: the plain case runs over a whole batch in a handful of C loops; only a batch that holds something odd, or a
metric whose options demand a function call per event, is walked one by one.
"""

from __future__ import annotations

import enum
import math
import numbers
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from itertools import repeat
from operator import mul, truediv
from typing import Any

from actors._series_points import Key, Number
from runtime import Event
from runtime.metrics import Metric, arity

MISSING, NOT_A_NUMBER, NOT_FINITE, NEGATIVE = "missing", "not_a_number", "not_finite", "negative"
MEASUREMENT_ERROR, KEEP_ERROR, TAG_ERROR = "measurement_error", "keep_error", "tag_error"

MAX_TAG_CHARS = 200
_PLAIN = frozenset({int, float})
_LARGEST_INT = 2**63
"""Integers beyond become floats, so that no sum of them can grow beyond what a float can hold."""


class Batch:
    """Hold the samples of one metric in a batch: one key each and, but for counters, one number each."""

    __slots__ = ("_by_key", "counts", "keys", "values")

    def __init__(self, keys: Sequence[Key], values: Sequence[Number] | None, counts: Mapping[Key, int]) -> None:
        self.keys = keys
        self.values = values
        self.counts = counts
        self._by_key: dict[Key, list[Number]] | None = None

    @classmethod
    def of(cls, keys: Sequence[Key], values: Sequence[Number] | None) -> Batch:
        """Make a batch of keys that are known to be texts."""
        return cls(keys, values, Counter(keys))

    def with_values(self, values: Sequence[Number], positions: Sequence[int] | None) -> Batch:
        """Answer the samples at these positions (None: all) with their numbers."""
        if positions is None:
            return Batch(self.keys, values, self.counts)
        return Batch.of([self.keys[position] for position in positions], values)

    def missing_tags(self) -> int:
        """Answer how many tags are missing in all samples together."""
        missing = self.counts.get("", 0)
        for key, count in self.counts.items():
            if key.__class__ is tuple and "" in key:
                missing += count * key.count("")
        return missing

    def by_key(self) -> dict[Key, list[Number]]:
        """Answer each key's numbers, in the order of the events; shared by all who ask, so leave them as they are."""
        if self._by_key is None:
            by_key: dict[Key, list[Number]] = {key: [] for key in self.counts}
            values = self.values or ()
            if len(by_key) == 1:
                next(iter(by_key.values())).extend(values)
            else:
                for key, value in zip(self.keys, values, strict=True):
                    by_key[key].append(value)
            self._by_key = by_key
        return self._by_key


def keys_of(tags: tuple[str, ...], metadata: Sequence[Mapping[str, Any]], known: Mapping[Key, Any]) -> Batch:
    """Read the tags of every event; `known` holds keys that need no further look.

    A key is a text (one tag), a tuple of texts (several) or () (none); None is a tag without value, "" a missing one.
    """
    if not tags:
        return Batch([()] * len(metadata), None, {(): len(metadata)})
    columns = [_column(tag, metadata) for tag in tags]
    keys: list[Key] = columns[0] if len(tags) == 1 else list(zip(*columns, strict=True))
    try:
        counts = Counter(keys)
        unknown = [] if counts.keys() <= known.keys() else [key for key in counts if key not in known]
        plain = all(map(_is_text, unknown)) if len(tags) == 1 else all(all(map(_is_text, key)) for key in unknown)
    except Exception:  # noqa: BLE001 - a tag that cannot be hashed or compared: a list, a dict, something hostile
        plain = False
    if not plain:
        # 1, 1.0 and True are one dictionary key, but three tags: texts are what tells series apart.
        columns = [list(map(text, column)) for column in columns]
        keys = columns[0] if len(tags) == 1 else list(zip(*columns, strict=True))
        counts = Counter(keys)
    return Batch(keys, None, counts)


def _column(tag: str, metadata: Sequence[Mapping[str, Any]]) -> list[Any]:
    try:
        return [each[tag] for each in metadata]
    except KeyError:
        return [each.get(tag, "") for each in metadata]


def _is_text(value: object) -> bool:
    return type(value) is str or value is None


def text(value: Any) -> str | None:
    """Answer the text of a tag; "" for what makes no tag: containers, bytes, and whatever refuses to become text."""
    if value is None or type(value) is str:
        return value
    try:
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, enum.Enum):
            return text(value.value)
        if isinstance(value, dict | list | tuple | set | frozenset | bytes | bytearray | Mapping):
            return ""
        return str.__str__(value) if isinstance(value, str) else str(value)
    except Exception:  # noqa: BLE001 - a hostile __str__ costs its tag, nothing else
        return ""


def clipped(key: Key) -> Key:
    """Shorten long tags, so that the memory of a series is bounded."""
    if isinstance(key, str):
        return key[:MAX_TAG_CHARS]
    if isinstance(key, tuple):
        short = tuple(clipped(part) for part in key)
        return key if short == key else short
    return key


def numbers_of(values: Sequence[Any], scale: tuple[int, int]) -> tuple[list[Number], list[int] | None, Counter[str]]:
    """Convert measurements to the target unit: (numbers, positions of the usable ones or None: all, skips)."""
    if values and _PLAIN.issuperset(map(type, values)) and min(values) > -_LARGEST_INT and max(values) < _LARGEST_INT:
        plain = _scaled(values, scale)
        if math.isfinite(sum(plain)):
            return plain, None, Counter()
    usable: list[Number] = []
    positions: list[int] = []
    skipped: Counter[str] = Counter()
    for position, value in enumerate(values):
        number = _number(value, scale)
        if isinstance(number, str):
            skipped[number] += 1
        else:
            usable.append(number)
            positions.append(position)
    return usable, positions, skipped


def _scaled(values: Sequence[Number], scale: tuple[int, int]) -> list[Number]:
    factor, divisor = scale
    if divisor != 1:  # one of the two is 1: every unit is a power of 1000 of the other
        return list(map(truediv, values, repeat(divisor)))
    return list(map(mul, values, repeat(factor))) if factor != 1 else list(values)


def _number(value: Any, scale: tuple[int, int]) -> Number | str:
    """Answer the number in the target unit, or the reason why there is none."""
    if value is None:
        return MISSING
    try:
        if isinstance(value, int):
            value = int(value) if -_LARGEST_INT < value < _LARGEST_INT else float(value)
        elif isinstance(value, numbers.Real | Decimal):
            value = float(value)
        else:
            return NOT_A_NUMBER
        number = _scaled([value], scale)[0]
        return number if math.isfinite(number) else NOT_FINITE
    except OverflowError:
        return NOT_FINITE
    except Exception:  # noqa: BLE001 - a hostile number type costs its sample, nothing else
        return NOT_A_NUMBER


class Selection:
    """Read events one by one for a metric whose options call functions.

    Each call's outcome is counted: `filtered` (keep or drop said no), `skipped` by reason, `tags_left_out`.
    """

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self._filter: Callable[..., object] | None = metric.keep or metric.drop
        self._filter_arity = arity(self._filter) if self._filter else 0
        self._wanted = metric.keep is not None
        self._measure: Callable[..., Any] | None = metric.measurement if callable(metric.measurement) else None
        self._measure_arity = arity(self._measure) if self._measure else 0

    def read(self, events: Sequence[Event]) -> tuple[list[Key], list[Number] | None, int, Counter[str], int]:
        """Answer (keys, numbers or None for a counter, filtered, skips by reason, tags left out)."""
        keys: list[Key] = []
        values: list[Number] = []
        skipped: Counter[str] = Counter()
        filtered = left_out = 0
        for event in events:
            try:
                reason = KEEP_ERROR
                if not self._is_wanted(event):
                    filtered += 1
                    continue
                reason = MEASUREMENT_ERROR
                number = self._number(event)
                if isinstance(number, str):
                    skipped[number] += 1
                    continue
                reason = TAG_ERROR
                key, missing = self._key(event)
            except BaseException:  # noqa: BLE001 - whatever a user's function raises costs its sample, nothing else
                skipped[reason] += 1
                continue
            keys.append(key)
            values.append(number)
            left_out += missing
        return keys, None if self._metric.kind == "counter" else values, filtered, skipped, left_out

    def _is_wanted(self, event: Event) -> bool:
        if self._filter is None:
            return True
        arguments = (event.metadata, event.measurements)[: self._filter_arity]
        return bool(self._filter(*arguments)) is self._wanted

    def _number(self, event: Event) -> Number | str:
        metric = self._metric
        if metric.kind == "counter":
            return 1
        if self._measure is not None:
            value = self._measure(*(event.measurements, event.metadata)[: self._measure_arity])
        else:
            value = event.measurements.get(metric.measurement)  # type: ignore[arg-type]
        return _number(value, metric.scale)

    def _key(self, event: Event) -> tuple[Key, int]:
        metric = self._metric
        metadata: Any = event.metadata
        if metric.tag_values is not None:
            metadata = metric.tag_values(metadata)
        if callable(metric.tags):
            tags = metric.tags(metadata)
            pairs = tuple(sorted((str(name), text(value)) for name, value in tags.items()))
            return pairs, sum(value == "" for _, value in pairs)
        parts = tuple(text(metadata.get(tag, "")) for tag in metric.tags)
        return parts[0] if len(parts) == 1 else parts, parts.count("")
