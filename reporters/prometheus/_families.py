"""Metric views into Prometheus families: names, labels, buckets, quantiles.

Pure. Names are joined by "_" and what Prometheus does not allow in them becomes "_"; counters end in `_total`. The
writing itself, escapes included, is `prometheus_client`'s. Nothing a caller names can make the output invalid: two
metrics, labels or series that would become the same are kept apart.

Nor can what is measured. A sum is a counter until it takes a negative measurement, and from then on a gauge of the same
name without `_total`. Where measurements were negative, OpenMetrics (unlike the text format) takes no `_sum` and no
quantiles: of a summary they are then said as gauges, and a histogram goes without `_sum` and `_count`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from actors._series_points import Distribution, MetricView, Number, Tags
from runtime.metrics import Metric

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: str = openmetrics.CONTENT_TYPE_LATEST

_RESERVED = ("_total", "_count", "_sum", "_bucket", "_created", "_info")
"""Endings that belong to counters, histograms and summaries; a gauge goes without."""


class _Views(Collector):
    """Hands ready families to prometheus_client, which asks a registry or whatever has `collect`."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


def render(views: Iterable[MetricView], accept: str = "") -> tuple[bytes, str]:
    """Write the views in the format that an Accept header asks for; answer (body, content type)."""
    is_open = wants_openmetrics(accept)
    collector = _Views(families_of(views, is_open))
    if is_open:
        return openmetrics.generate_latest(collector), OPENMETRICS  # type: ignore[no-untyped-call]
    return generate_latest(collector), TEXT


def wants_openmetrics(accept: str) -> bool:
    """Tell whether an Accept header takes OpenMetrics 1.0, and likes the text format no better.

    >>> [wants_openmetrics(a) for a in ("application/openmetrics-text;version=1.0.0,*/*;q=0.1", "text/plain", "")]
    [True, False, False]
    """
    liked = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for part in accept.lower().split(","):
        kind, *options = (piece.strip() for piece in part.split(";"))
        given = {name.strip(): value.strip() for name, _, value in (option.partition("=") for option in options)}
        if kind in liked and (kind == "text/plain" or given.get("version", "1.0.0") == "1.0.0"):
            liked[kind] = max(liked[kind], _quality(given.get("q", "1")))
    return 0 < liked["application/openmetrics-text"] >= liked["text/plain"]


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def families_of(views: Iterable[MetricView], is_open: bool = False) -> list[Family]:
    """Make the families of each metric that has series; `is_open`: as OpenMetrics wants them."""
    taken: set[str] = set()
    families: list[Family] = []
    for view in views:
        # Also where there is nothing to say yet: what another metric is called must not change once there is.
        name = _unique(name_of(view.metric), view.metric.kind, taken)
        if view.series:
            families += _families(name, view, is_open)
    return families


def name_of(metric: Metric) -> str:
    """Answer a metric's name in Prometheus, but for a counter's `_total`.

    >>> from runtime.metrics import counter, last_value
    >>> name_of(counter("shop.order-v2.count")), name_of(last_value("shop.queue.count"))
    ('shop_order_v2_count', 'shop_queue')
    """
    name = re.sub(r"[^a-zA-Z0-9_]", "_", metric.name)
    name = f"_{name}" if name[0].isdigit() else name
    if _is_counter(metric):
        return name.removesuffix("_total") or name
    while name not in _RESERVED and (ending := next(filter(name.endswith, _RESERVED), "")):
        name = name.removesuffix(ending)
    return name


def _unique(name: str, kind: str, taken: set[str]) -> str:
    """Tell metrics apart that would have the same name; also where one's name is another's plus an ending."""
    candidates = [name, f"{name}_{kind}", *(f"{name}_{kind}_{n}" for n in range(2, len(taken) + 3))]
    for candidate in candidates:
        samples = {candidate, *(candidate + ending for ending in _RESERVED)}
        if not samples & taken:
            taken |= samples
            return candidate
    raise AssertionError("more names than metrics")


def _is_counter(metric: Metric) -> bool:
    return metric.kind == "counter" or (metric.kind == "sum" and metric.prometheus_type != "gauge")


def _families(name: str, view: MetricView, is_open: bool) -> Iterable[Family]:
    metric = view.metric
    unit = "" if metric.unit == "unit" else f" ({metric.unit})"
    fallen = "; a gauge because a measurement was negative" if view.has_fallen else ""
    text = _encodable((metric.description or f"{metric.kind} of {metric.event_name}") + unit + fallen)
    labels, rows = _labels(metric, [series.tags for series in view.series])
    values: Sequence[Any] = [series.value for series in view.series]
    if metric.kind == "distribution":
        return [_histogram(Family(name, text, "histogram"), labels, rows, values, is_open)]
    if metric.kind == "summary":
        return _summary(name, text, labels, rows, values, metric.percentiles, is_open)
    is_counter = _is_counter(metric) and not view.has_fallen
    family: Any = (CounterMetricFamily if is_counter else GaugeMetricFamily)(name, text, labels=labels)
    for row, value in zip(rows, values, strict=True):
        family.add_metric(row, value)
    return [family]


def _histogram(
    family: Family, labels: Sequence[str], rows: Sequence[Sequence[str]], values: Sequence[Distribution], is_open: bool
) -> Family:
    for row, value in zip(rows, values, strict=True):
        pairs = dict(zip(labels, row, strict=True))
        for bound, up_to in value.buckets:
            family.add_sample(f"{family.name}_bucket", {**pairs, "le": _go(bound)}, _whole(up_to))
        family.add_sample(f"{family.name}_bucket", {**pairs, "le": "+Inf"}, _whole(value.count))
        if not is_open or (value.low >= 0 and value.buckets[0][0] >= 0):
            family.add_sample(f"{family.name}_count", pairs, _whole(value.count))
            family.add_sample(f"{family.name}_sum", pairs, float(value.sum))
    return family


def _summary(
    name: str,
    text: str,
    labels: Sequence[str],
    rows: Sequence[Sequence[str]],
    values: Sequence[Distribution],
    quantiles: Sequence[float],
    is_open: bool,
) -> Sequence[Family]:
    families = [Family(name, text, "summary")]
    quantiles_of, counts, sums = families * 3
    if is_open and any(value.low < 0 for value in values):
        families = [Family(name, text, "gauge"), *(Family(name + part, text, "unknown") for part in ("_count", "_sum"))]
        quantiles_of, counts, sums = families
    for row, value in zip(rows, values, strict=True):
        pairs = dict(zip(labels, row, strict=True))
        for quantile in quantiles:
            quantiles_of.add_sample(name, {**pairs, "quantile": _go(quantile)}, value.percentile(quantile))
        counts.add_sample(f"{name}_count", pairs, _whole(value.count))
        sums.add_sample(f"{name}_sum", pairs, float(value.sum))
    return families


def _whole(count: Number) -> float:
    """Round what sampled measurements stand for: there is no third of a measurement, and OpenMetrics takes none."""
    return float(round(count))


def _labels(metric: Metric, tags: Sequence[Tags]) -> tuple[list[str], list[tuple[str, ...]]]:
    """Answer label names, and a row of values for each series; "" is a label that the series does not have."""
    keys = list(metric.tags) if isinstance(metric.tags, tuple) else sorted({key for pairs in tags for key, _ in pairs})
    names: list[str] = []
    for key in keys:
        name = re.sub(r"[^a-zA-Z0-9_]", "_", key)
        if name in ("le", "quantile") or name[0].isdigit() or name.startswith("__") or not name.strip("_"):
            name = f"tag_{name.strip('_')}".rstrip("_")  # a histogram's or Prometheus's own, or no name at all
        alike = (name, *(f"{name}_{n}" for n in range(2, len(keys) + 2)))
        names.append(next(candidate for candidate in alike if candidate not in names))
    rows: dict[tuple[str, ...], None] = {}
    for pairs in tags:
        values = dict(pairs)
        row = tuple(_encodable("nil" if values.get(key, "") is None else values.get(key) or "") for key in keys)
        if row in rows:  # None beside "nil", say
            row = next(each for n in count(2) if (each := (f"{row[0]}_{n}", *row[1:])) not in rows)
        rows[row] = None
    return names, list(rows)


def _go(value: float) -> str:
    """Write a bound or quantile as everybody in this ecosystem does: 10 is 10.0."""
    return floatToGoString(value)  # type: ignore[no-any-return, no-untyped-call]


def _encodable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
