"""Units and reporter options of metric definitions: what exists, what is allowed, and the defaults.

Pure functions, called once by each definition in `runtime.metrics`. A new reporter option is one more entry in
`_REPORTER_OPTIONS`: the kinds of metric that it means something to, and a check that raises `InvalidValue` and answers
the value to keep.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, get_args

from runtime.errors import expected

Kind: TypeAlias = Literal["counter", "sum", "last_value", "summary", "distribution"]

DEFAULT_PERCENTILES = (0.5, 0.9, 0.95, 0.99)
DEFAULT_MAX_SERIES = 2_000
DEFAULT_MAX_SAMPLES = 20_000

TIMES = {"second": 10**9, "millisecond": 10**6, "microsecond": 10**3, "nanosecond": 1, "native": 1}
SIZES = {"byte": 1, "kilobyte": 1_000, "megabyte": 1_000_000}

_REPORT_AS: Mapping[str, tuple[str, ...]] = {
    "sum": ("counter",),
    "summary": ("gauge", "timer"),
    "distribution": ("timer",),
}


def check_reporter_options(kind: Kind, options: object) -> Mapping[str, Any]:
    """Answer the options, checked and read-only."""
    if not isinstance(options, Mapping):
        raise expected("reporter_options to be a dict", options)
    checked: dict[str, Any] = {}
    for option, value in options.items():
        if isinstance(option, str) and "." in option:
            checked[option] = value
        elif option in _REPORTER_OPTIONS:
            kinds, check = _REPORTER_OPTIONS[option]
            if kind not in kinds:
                raise expected(f"{option} only on a {' or '.join(kinds)}, not on a {kind}", value)
            checked[option] = check(kind, value)
        else:
            known = ", ".join(_REPORTER_OPTIONS)
            fix = "Options of other reporters carry a dot: 'acme.colour'"
            raise expected(f"a reporter option ({known})", option, fix)
    return MappingProxyType(checked)


def _check_buckets(kind: Kind, value: object) -> tuple[float, ...]:
    bounds = tuple(value) if isinstance(value, list | tuple) else ()
    numeric = bool(bounds) and all(map(_is_number, bounds))
    if not numeric or any(low >= high for low, high in itertools.pairwise(bounds)):
        raise expected("buckets to be a list of ascending numbers", value)
    return bounds


def _check_percentiles(kind: Kind, value: object) -> tuple[float, ...]:
    quantiles = tuple(value) if isinstance(value, list | tuple) else ()
    if not quantiles or not all(_is_number(q) and 0 <= q <= 1 for q in quantiles):
        raise expected("percentiles to be a list of numbers within 0…1 (0.99, not 99)", value)
    return quantiles


def _check_sampling_rate(kind: Kind, value: Any) -> float:
    if not _is_number(value) or not 0 < value <= 1:
        raise expected("sampling_rate to be a number above 0, at most 1", value)
    return float(value)


def _check_report_as(kind: Kind, value: object) -> str:
    allowed = _REPORT_AS[kind]
    if value not in allowed:
        raise expected(f"report_as of a {kind} to be {' or '.join(allowed)}", value)
    return str(value)


def _check_prometheus_type(kind: Kind, value: object) -> str:
    if value not in ("counter", "gauge"):
        raise expected("prometheus_type of a sum to be counter or gauge", value)
    return str(value)


def _check_limit(option: str, kind: Kind, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise expected(f"{option} to be a positive integer", value)
    return value


def _check_nav(kind: Kind, value: object) -> str:
    return check_text("nav", value)


_EVERY: tuple[Kind, ...] = get_args(Kind)
_SAMPLED: tuple[Kind, ...] = ("summary", "distribution")

# An option that means nothing where it is given would be a promise that nobody keeps.
_REPORTER_OPTIONS: Mapping[str, tuple[tuple[Kind, ...], Callable[[Kind, Any], Any]]] = {
    "buckets": (("distribution",), _check_buckets),
    "percentiles": (("summary",), _check_percentiles),
    "sampling_rate": (tuple(kind for kind in _EVERY if kind != "last_value"), _check_sampling_rate),
    "report_as": (("sum", "summary", "distribution"), _check_report_as),
    "prometheus_type": (("sum",), _check_prometheus_type),
    "max_series": (_EVERY, partial(_check_limit, "max_series")),
    "max_samples": (_SAMPLED, partial(_check_limit, "max_samples")),
    "nav": (_EVERY, _check_nav),
}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def default_buckets(unit: str) -> tuple[float, ...]:
    """Answer bounds that suit the unit: 1 ms … 10 s for times, 100 B … 1 GB for sizes, 1 … 10,000 for the rest."""
    if unit in TIMES:
        one_ms = 10**6 / TIMES[unit]
        return tuple(one_ms * ms for ms in (1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000))
    if unit in SIZES:
        return tuple(10**power / SIZES[unit] for power in range(2, 10))
    return (1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000)


def check_text(option: str, text: object) -> str:
    """Answer the text."""
    if not isinstance(text, str):
        raise expected(f"{option} to be a string", text)
    return text
