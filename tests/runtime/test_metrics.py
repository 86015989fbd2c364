"""Metric definitions: what they derive from a name, and what they refuse."""

from __future__ import annotations

import functools
import operator
import warnings
from typing import Any

import pytest

from runtime import metrics as m
from runtime.errors import InvalidValue
from runtime.metrics import (
    HighCardinalityWarning,
    arity,
    bind,
    counter,
    distribution,
    from_metadata,
    last_value,
    summary,
)

KINDS = [counter, m.sum, last_value, summary, distribution]


@pytest.mark.parametrize("define", KINDS)
def test_every_kind_takes_its_event_and_measurement_from_its_name(define: Any) -> None:
    metric = define("anvil.label.submit.duration")

    assert (metric.event_name, metric.measurement) == ("anvil.label.submit", "duration")
    assert metric.kind == define.__name__


def test_event_name_and_measurement_may_be_given() -> None:
    metric = m.sum("labels", event_name=("anvil", "label", "submit", "stop"), measurement="count")

    assert (metric.name, metric.event_name, metric.measurement) == ("labels", "anvil.label.submit.stop", "count")


def test_a_name_may_be_a_tuple_or_list_of_segments() -> None:
    assert counter(("anvil", "queue", "created", "count")) == counter(["anvil", "queue", "created", "count"])
    assert counter(("anvil", "queue", "created", "count")).name == "anvil.queue.created.count"


def test_names_are_split_on_dots_only() -> None:
    assert counter("http-server:v2.request/count").event_name == "http-server:v2"


def test_equal_definitions_are_equal_and_hash_alike() -> None:
    one = summary("a.b.c", tags=["x"], reporter_options={"percentiles": [0.5]})
    other = summary("a.b.c", tags=["x"], reporter_options={"percentiles": [0.5]})

    assert one == other
    assert hash(one) == hash(other)
    assert one != summary("a.b.c", tags=["x"], reporter_options={"percentiles": [0.9]})


def test_a_definition_cannot_be_changed() -> None:
    options = {"buckets": [1, 2]}
    metric = distribution("a.b.c", reporter_options=options)

    options["buckets"].append(3)

    assert metric.buckets == (1, 2)
    with pytest.raises(AttributeError):
        metric.name = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        metric.reporter_options["buckets"] = ()  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "without empty segments"),
        (".a.b", "without empty segments"),
        ("a.b.", "without empty segments"),
        ("a..b", "without empty segments"),
        ((), "without empty segments"),
        (("a", ""), "without empty segments"),
        ("a", "at least two segments"),
        (None, "dotted string or a tuple of strings, got: None"),
        (("a.b", "c"), "dotted string or a tuple of strings"),
        (("a", 1), "dotted string or a tuple of strings"),
        ("a b.count", "event name"),
        ("a\n.count", "event name"),
    ],
)
def test_a_name_that_cannot_work_is_refused(name: Any, message: str) -> None:
    with pytest.raises(InvalidValue, match=message) as refusal:
        counter(name)

    assert "expected " in str(refusal.value)
    assert repr(name) in str(refusal.value) or "got: " in str(refusal.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"event_name": ""}, "expected an event name"),
        ({"event_name": "a..b"}, "expected an event name"),
        ({"event_name": 3}, "expected an event name"),
        ({"measurement": ""}, "expected a measurement key or function, got: ''"),
        ({"measurement": 3}, "expected a measurement key or function, got: 3"),
        ({"measurement": lambda: 1}, "expected measurement to be a function of"),
        ({"measurement": lambda a, b, c: 1}, "expected measurement to be a function of"),
        (
            {"tags": "queue_id"},
            "expected tags to be a list of metadata keys or a function of the metadata, got: 'queue_id'",
        ),
        ({"tags": {"queue_id": 1}}, "expected tags to be a list"),
        ({"tags": [1]}, "expected tags to be a list"),
        ({"tags": [""]}, "expected tags to be a list"),
        ({"tags": ["a", "a"]}, "expected tags without repetition"),
        ({"tags": lambda: None}, "expected tags to be a function of"),
        ({"tags": lambda a, b: {}}, "expected tags to be a function of"),
        ({"tag_values": {}}, "expected tag_values to be a function of"),
        ({"tag_values": lambda a, b: {}}, "expected tag_values to be a function of"),
        ({"keep": True}, "expected keep to be a function of"),
        ({"keep": lambda: True}, "expected keep to be a function of"),
        ({"drop": lambda a, b, c: True}, "expected drop to be a function of"),
        ({"keep": bool, "drop": bool}, "expected keep or drop, not both"),
        ({"unit": ("native", "byte")}, "expected unit to convert between"),
        ({"unit": ("byte", "second")}, "expected unit to convert between"),
        ({"unit": ("native", "fortnight")}, "expected unit to convert between"),
        ({"unit": ("second",)}, "expected unit to be a name, or a pair"),
        ({"unit": ""}, "expected unit to be a name, or a pair"),
        ({"unit": None}, "expected unit to be a name, or a pair"),
        ({"unit": (["second"], "native")}, "expected unit to be a name, or a pair"),
        ({"description": 3}, "expected description to be a string, got: 3"),
        ({"reporter_options": []}, "expected reporter_options to be a dict"),
        ({"reporter_options": {"bucket": [1]}}, "expected a reporter option .* got: 'bucket'"),
        ({"reporter_options": {3: [1]}}, "expected a reporter option .* got: 3"),
        ({"tagz": ["a"]}, "expected an option of distribution .* got: 'tagz'. Did you mean tags"),
        ({"whatever": 1}, "expected an option of distribution .* got: 'whatever'"),
    ],
)
def test_an_option_that_cannot_work_is_refused(options: Any, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        distribution("a.b.c", **options)


@pytest.mark.parametrize(
    ("define", "option", "value"),
    [
        (distribution, "buckets", []),
        (distribution, "buckets", [2, 1]),
        (distribution, "buckets", [1, 1]),
        (distribution, "buckets", ["a"]),
        (distribution, "buckets", [float("inf")]),
        (distribution, "buckets", [10**400]),
        (distribution, "buckets", 5),
        (summary, "percentiles", []),
        (summary, "percentiles", [99]),
        (summary, "percentiles", [-0.1]),
        (summary, "percentiles", [float("nan")]),
        (summary, "sampling_rate", 0),
        (summary, "sampling_rate", 1.1),
        (summary, "sampling_rate", "often"),
        (summary, "sampling_rate", True),
        (summary, "report_as", "counter"),
        (m.sum, "report_as", "gauge"),
        (distribution, "report_as", "gauge"),
        (distribution, "report_as", None),
        (m.sum, "prometheus_type", "summary"),
        (counter, "max_series", 0),
        (counter, "max_series", True),
        (counter, "max_series", 1.5),
        (summary, "max_samples", -1),
        (counter, "nav", 1),
    ],
)
def test_a_reporter_option_that_cannot_work_is_refused(define: Any, option: str, value: Any) -> None:
    with pytest.raises(InvalidValue, match=f"expected .*{option}.*got: "):
        define("a.b.c", reporter_options={option: value})


MEANT_FOR = {
    "buckets": ([10, 50], {distribution}),
    "percentiles": ([0.99], {summary}),
    "sampling_rate": (0.5, {counter, m.sum, summary, distribution}),
    "max_samples": (100, {summary, distribution}),
    "prometheus_type": ("gauge", {m.sum}),
    "max_series": (10, set(KINDS)),
    "nav": ("Labels", set(KINDS)),
}


@pytest.mark.parametrize("define", KINDS)
@pytest.mark.parametrize("option", MEANT_FOR)
def test_a_reporter_option_is_taken_where_it_means_something_and_refused_elsewhere(define: Any, option: str) -> None:
    value, kinds = MEANT_FOR[option]
    if define in kinds:
        assert list(define("a.b.c", reporter_options={option: value}).reporter_options) == [option]
        return

    with pytest.raises(InvalidValue) as refusal:
        define("a.b.c", reporter_options={option: value})

    what = f"expected {option} only on a {' or '.join(k.__name__ for k in KINDS if k in kinds)}, not on a "
    assert str(refusal.value) == f"{what}{define.__name__}, got: {value!r}"


@pytest.mark.parametrize("define", [counter, last_value])
def test_a_statsd_type_is_refused_on_what_has_but_one(define: Any) -> None:
    with pytest.raises(InvalidValue, match="expected report_as only on a sum or summary or distribution, not on a"):
        define("a.b.c", reporter_options={"report_as": "counter"})


def test_options_of_other_reporters_are_kept() -> None:
    metric = counter("a.b.c", reporter_options={"acme.colour": "red", "nav": "Labels"})

    assert dict(metric.reporter_options) == {"acme.colour": "red", "nav": "Labels"}


@pytest.mark.parametrize(
    ("unit", "target", "scale"),
    [
        ("percent", "percent", (1, 1)),
        (("native", "millisecond"), "millisecond", (1, 10**6)),
        (("nanosecond", "second"), "second", (1, 10**9)),
        (("native", "nanosecond"), "nanosecond", (1, 1)),
        (("second", "microsecond"), "microsecond", (10**6, 1)),
        (("millisecond", "millisecond"), "millisecond", (1, 1)),
        (("byte", "kilobyte"), "kilobyte", (1, 1000)),
        (("megabyte", "byte"), "byte", (10**6, 1)),
        (["byte", "megabyte"], "megabyte", (1, 10**6)),
    ],
)
def test_the_unit_is_the_target_and_the_ratio_exact(unit: Any, target: str, scale: tuple[int, int]) -> None:
    metric = last_value("a.b.c", unit=unit)

    assert (metric.unit, metric.scale) == (target, scale)


def test_default_buckets_fit_the_unit() -> None:
    assert distribution("a.b.c", unit=("native", "millisecond")).buckets[:3] == (1, 2.5, 5)
    assert distribution("a.b.c", unit="second").buckets[0] == pytest.approx(0.001)
    assert distribution("a.b.c", unit="kilobyte").buckets[1] == 1
    assert distribution("a.b.c").buckets[-1] == 10_000


def test_defaults_of_the_limits() -> None:
    metric = summary("a.b.c")

    assert metric.percentiles == (0.5, 0.9, 0.95, 0.99)
    assert (metric.max_series, metric.max_samples, metric.sampling_rate) == (2_000, 20_000, 1.0)
    assert metric.report_as is None
    assert not metric.is_monotonic


@pytest.mark.parametrize(
    ("options", "is_monotonic"),
    [
        ({}, False),
        ({"prometheus_type": "gauge"}, False),
        ({"report_as": "counter"}, True),
        ({"prometheus_type": "counter"}, True),
        ({"report_as": "counter", "prometheus_type": "gauge"}, True),
    ],
)
def test_a_sum_is_monotonic_when_it_says_that_it_is_a_counter(options: Any, is_monotonic: bool) -> None:
    assert m.sum("a.b.c", reporter_options=options).is_monotonic is is_monotonic
    assert not counter("a.b.c").is_monotonic


@pytest.mark.parametrize("tag", ["labeler_id", "sample_id", "assignment_id"])
def test_a_tag_with_one_value_per_person_or_item_warns_at_the_definition(tag: str) -> None:
    with pytest.warns(HighCardinalityWarning, match=f"'a.b.c' has the tags {tag}") as caught:
        counter("a.b.c", tags=["queue_id", tag])

    assert caught[0].filename == __file__


def test_other_tags_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        assert counter("a.b.c", tags=("queue_id", "tenant_id")).tags == ("queue_id", "tenant_id")


def test_a_metric_on_a_declared_span_listens_to_its_end_and_says_so() -> None:
    submit, created = bind(
        [counter("anvil.label.submit.count"), counter("anvil.queue.created.count")], ["anvil.label.submit"]
    )

    assert (submit.event_name, submit.span_prefix) == ("anvil.label.submit.stop", "anvil.label.submit")
    assert submit.describe()["listens_to"] == "anvil.label.submit.stop (end of the span anvil.label.submit)"
    assert (created.event_name, created.span_prefix) == ("anvil.queue.created", None)
    assert created.describe()["listens_to"] == "anvil.queue.created"


def test_binding_twice_changes_nothing() -> None:
    once = bind([counter("anvil.label.submit.count")], ["anvil.label.submit"])

    assert bind(once, ["anvil.label.submit"]) == once


def test_every_name_that_adr_008_publishes_can_record() -> None:
    spans = ["anvil.label.submit", "anvil.assignment.dispatch", "anvil.agreement.compute", "anvil.export.generate"]
    published = [
        counter("anvil.queue.created.count"),
        counter("anvil.label.submit.count", tags=["queue_id", "schema_version_id"]),
        m.sum("anvil.assignment.timed_out.count", tags=["queue_id"]),
        distribution("anvil.assignment.dispatch.duration", unit=("native", "millisecond")),
        distribution("anvil.label.submit.duration", unit=("native", "millisecond")),
        distribution("anvil.agreement.compute.duration", unit=("native", "millisecond")),
        distribution("anvil.export.generate.duration", unit=("native", "second")),
        summary("anvil.agreement.low_score.value", tags=["dimension"]),
        last_value("anvil.export.progress.progress_pct", measurement=from_metadata("progress_pct")),
        last_value("anvil.queue.active_labelers.count", tags=["queue_id"]),
        counter("anvil.export.generate.exception.count"),
    ]

    assert [metric.event_name for metric in bind(published, spans)] == [
        "anvil.queue.created",
        "anvil.label.submit.stop",
        "anvil.assignment.timed_out",
        "anvil.assignment.dispatch.stop",
        "anvil.label.submit.stop",
        "anvil.agreement.compute.stop",
        "anvil.export.generate.stop",
        "anvil.agreement.low_score",
        "anvil.export.progress",
        "anvil.queue.active_labelers",
        "anvil.export.generate.exception",
    ]


def test_a_listing_shows_functions_by_name() -> None:
    def by_country(metadata: Any) -> dict[str, Any]:
        return {}

    described = m.sum("a.b.c", measurement=from_metadata("x"), tags=by_country, drop=bool).describe()

    assert described["measurement"] == "metadata['x']"
    assert described["tags"].endswith("by_country")
    assert described["filter"] == "bool"
    assert counter("a.b.c").describe()["measurement"] is None


def test_a_coroutine_function_is_refused() -> None:
    async def keep(metadata: Any) -> bool:
        return True

    with pytest.raises(InvalidValue, match="expected keep to be a plain function"):
        counter("a.b.c", keep=keep)


def test_the_number_of_arguments_is_taken_from_any_callable() -> None:
    class Method:
        def one(self, metadata: Any) -> bool:
            return True

        def __call__(self, metadata: Any, measurements: Any) -> bool:
            return True

    assert arity(Method().one) == 1
    assert arity(Method()) == 2
    assert arity(functools.partial(lambda a, b: a, 1)) == 1
    assert arity(operator.itemgetter("x")) == 1
    assert arity(lambda *arguments: 1) == 1
    assert arity(lambda metadata, queue=3: 1) == 1
