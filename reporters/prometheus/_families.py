"""Metric views into Prometheus families: names, labels, buckets, quantiles.

Pure. Names are joined by "_" and what Prometheus does not allow in them becomes "_"; counters end in `_total`. The
writing itself, escapes included, is `prometheus_client`'s. Nothing a caller names can make the output invalid: two
metrics, labels or series that would become the same are kept apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, cast

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, SummaryMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from actors._series_points import Distribution, MetricView, Tags
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
    collector = _Views(families_of(views))
    if wants_openmetrics(accept):
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


def families_of(views: Iterable[MetricView]) -> list[Family]:
    """Make a family of each metric that has series."""
    taken: set[str] = set()
    families = []
    for view in views:
        if view.series:
            name = _unique(name_of(view.metric), view.metric.kind, taken)
            families.append(_family(name, view))
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
    for ending in _RESERVED:
        if name.endswith(ending) and name != ending:
            return name.removesuffix(ending)
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
    is_sum = metric.kind == "sum" and metric.reporter_options.get("prometheus_type", "counter") == "counter"
    return metric.kind == "counter" or is_sum


def _family(name: str, view: MetricView) -> Family:
    metric = view.metric
    unit = "" if metric.unit == "unit" else f" ({metric.unit})"
    text = _encodable((metric.description or f"{metric.kind} of {metric.event_name}") + unit)
    labels, rows = _labels(metric, [series.tags for series in view.series])
    values = [series.value for series in view.series]
    if metric.kind == "distribution":
        return _histogram(HistogramMetricFamily(name, text, labels=labels), rows, values)
    if metric.kind == "summary":
        return _summary(SummaryMetricFamily(name, text, labels=labels), labels, rows, values, metric.percentiles)
    family: Any = (CounterMetricFamily if _is_counter(metric) else GaugeMetricFamily)(name, text, labels=labels)
    for row, value in zip(rows, values, strict=True):
        family.add_metric(row, value)
    return family  # type: ignore[no-any-return]


def _histogram(family: HistogramMetricFamily, rows: Sequence[Sequence[str]], values: Sequence[Any]) -> Family:
    value: Distribution
    for row, value in zip(rows, values, strict=True):
        buckets = [(_go(bound), float(count)) for bound, count in value.buckets]
        family.add_metric(row, [*buckets, ("+Inf", float(value.count))], float(value.sum))
    return family


def _summary(
    family: SummaryMetricFamily,
    labels: Sequence[str],
    rows: Sequence[Sequence[str]],
    values: Sequence[Any],
    quantiles: Sequence[float],
) -> Family:
    value: Distribution
    for row, value in zip(rows, values, strict=True):
        for quantile in quantiles:
            pairs = dict(zip(labels, row, strict=True), quantile=_go(quantile))
            family.add_sample(family.name, pairs, value.percentile(quantile))
        family.add_metric(row, cast(int, value.count), float(value.sum))  # a sampled count may be no integer
    return family


def _labels(metric: Metric, tags: Sequence[Tags]) -> tuple[list[str], list[list[str]]]:
    """Answer label names, and a row of values for each series; "" is a label that the series does not have."""
    keys = list(metric.tags) if isinstance(metric.tags, tuple) else sorted({key for pairs in tags for key, _ in pairs})
    names: list[str] = []
    for key in keys:
        name = re.sub(r"[^a-zA-Z0-9_]", "_", key)
        if name in ("le", "quantile") or name[0].isdigit() or name.startswith("__") or not name.strip("_"):
            name = f"tag_{name.strip('_')}".rstrip("_")  # a histogram's or Prometheus's own, or no name at all
        alike = (name, *(f"{name}_{n}" for n in range(2, len(keys) + 2)))
        names.append(next(candidate for candidate in alike if candidate not in names))
    rows = []
    for pairs in tags:
        values = dict(pairs)
        rows.append([_encodable("nil" if values.get(key, "") is None else values.get(key) or "") for key in keys])
    return names, rows


def _go(value: float) -> str:
    """Write a bound or quantile as everybody in this ecosystem does: 10 is 10.0."""
    return floatToGoString(value)  # type: ignore[no-any-return, no-untyped-call]


def _encodable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
