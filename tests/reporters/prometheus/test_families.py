"""What Prometheus is told: names, types, labels, and nothing that it could not read."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from actors._series import SeriesStore
from actors._series_points import Distribution
from reporters.prometheus._families import OPENMETRICS, TEXT, name_of, render
from runtime import Event
from runtime import metrics as m
from runtime.metrics import Metric, counter, distribution, last_value, summary


def store_of(*metrics: Metric) -> SeriesStore:
    return SeriesStore(metrics)


def event(metadata: dict[str, Any] | None = None, /, rate: float = 1.0, **measurements: Any) -> Event:
    return Event("shop.order", measurements, metadata or {}, 0, None, rate)


def text_of(store: SeriesStore) -> str:
    body, content_type = render(store.snapshot())
    assert content_type == TEXT
    return body.decode()


def everything() -> SeriesStore:
    store = store_of(
        counter("shop.order.count", tags=["country"], description='Orders.\nWith "quotes" and \\.'),
        m.sum("shop.order.items"),
        m.sum("shop.order.balance", reporter_options={"prometheus_type": "gauge"}),
        last_value("shop.order.queue.count", event_name="shop.order", measurement="queue"),
        summary("shop.order.weight", tags=["country"], unit="gram"),
        distribution("shop.order.duration", unit=("native", "millisecond"), reporter_options={"buckets": [10, 50.5]}),
        distribution("shop.order.depth", tags=["country"], reporter_options={"buckets": [-1, 0, 1]}),
    )
    store.update(
        [
            event({"country": country}, items=2, balance=-1.5, queue=7, weight=n, duration=n * 10**6, depth=n - 3)
            for n, country in enumerate(['n"l', "f\\r", "d\ne", None, "é\ud800"])
        ]
    )
    store.update([event({}, items=1)])
    return store


EXPECTED = """\
# HELP shop_order_count_total Orders.\\nWith "quotes" and \\\\.
# TYPE shop_order_count_total counter
shop_order_count_total{country="n\\"l"} 1.0
shop_order_count_total{country="f\\\\r"} 1.0
shop_order_count_total{country="d\\ne"} 1.0
shop_order_count_total{country="nil"} 1.0
shop_order_count_total{country="é\\\\ud800"} 1.0
shop_order_count_total{country=""} 1.0
"""


def test_counters_are_said_with_their_help_and_escaped_labels() -> None:
    assert text_of(everything()).startswith(EXPECTED)


def test_the_other_kinds_are_said_as_prometheus_knows_them() -> None:
    text = text_of(everything())

    assert "# TYPE shop_order_items_total counter\nshop_order_items_total 11.0\n" in text
    assert "# TYPE shop_order_balance gauge\nshop_order_balance -7.5\n" in text
    assert "# TYPE shop_order_queue gauge\nshop_order_queue 7.0\n" in text
    assert "# HELP shop_order_weight summary of shop.order (gram)\n# TYPE shop_order_weight summary\n" in text
    assert 'shop_order_weight{country="f\\\\r",quantile="0.99"} 1.0\n' in text
    assert 'shop_order_weight_count{country="f\\\\r"} 1.0\nshop_order_weight_sum{country="f\\\\r"} 1.0\n' in text
    assert (
        "# TYPE shop_order_duration histogram\n"
        'shop_order_duration_bucket{le="10.0"} 5.0\n'
        'shop_order_duration_bucket{le="50.5"} 5.0\n'
        'shop_order_duration_bucket{le="+Inf"} 5.0\n'
        "shop_order_duration_count 5.0\n"
        "shop_order_duration_sum 10.0\n"
    ) in text


def test_the_text_format_is_what_a_parser_takes() -> None:
    families = {family.name: family for family in parse_text(text_of(everything()))}

    assert families["shop_order_count"].type == "counter"
    assert {sample.labels["country"] for sample in families["shop_order_count"].samples} == {
        'n"l', "f\\r", "d\ne", "nil", "é\\ud800", "",
    }  # fmt: skip


def test_openmetrics_is_what_a_parser_takes() -> None:
    body, content_type = render(everything().snapshot(), "application/openmetrics-text; version=1.0.0")

    families = {family.name: family for family in parse_openmetrics(body.decode())}
    assert content_type == OPENMETRICS
    assert "version=1.0.0" in content_type
    assert families["shop_order_count"].type == "counter"
    assert families["shop_order_weight"].type == "summary"
    assert body.endswith(b"# EOF\n")


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/plain;version=0.0.4", TEXT),
        ("application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.5", OPENMETRICS),
        ("application/openmetrics-text;q=0", TEXT),
        ("application/openmetrics-text;q=0.000, text/plain", TEXT),
        ("application/openmetrics-text;q=high", TEXT),
        ("application/openmetrics-text;version=0.0.1", TEXT),
        ("application/openmetrics-text;version=0.0.1, Application/OpenMetrics-Text; Version=1.0.0", OPENMETRICS),
        ("application/openmetrics-text;version=1.0.0;q=0.1,text/plain;q=0.9", TEXT),
        (";,;=,", TEXT),
    ],
)
def test_the_format_is_what_the_accept_header_asks_for(accept: str, content_type: str) -> None:
    assert render([], accept)[1] == content_type


def test_promtool_finds_nothing_to_complain_of(peer: Callable[[str], str]) -> None:
    body, _ = render(everything().snapshot())

    checked = subprocess.run([peer("promtool"), "check", "metrics"], input=body, capture_output=True, timeout=60)

    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        (counter("http-server:v2.request.count"), "http_server_v2_request_count"),
        (counter("a.b.total"), "a_b"),
        (counter("é.ü"), "___"),
        (last_value("9.lives"), "_9_lives"),
        (last_value("a.count"), "a"),
        (last_value("a.b_bucket"), "a_b"),
        (summary("a.value"), "a_value"),
    ],
)
def test_names_are_joined_and_cleaned(metric: Metric, name: str) -> None:
    assert name_of(metric) == name


def test_metrics_whose_names_would_meet_are_kept_apart() -> None:
    store = store_of(
        distribution("shop.order.duration"),
        summary("shop.order.duration"),
        last_value("shop.order.duration"),
        counter("shop.order.duration.count", event_name="shop.order"),
        last_value("shop.order_duration", event_name="shop.order", measurement="duration"),
    )
    store.update([event(duration=1)])

    names = [family.name for family in parse_text(text_of(store))]

    assert len(set(names)) == 5
    assert names[:3] == ["shop_order_duration", "shop_order_duration_summary", "shop_order_duration_last_value"]


def test_labels_that_are_not_allowed_are_renamed_and_kept_apart() -> None:
    store = store_of(distribution("shop.order.n", tags=["le", "a-b", "a.b", "__own", "1st", "é"]))
    store.update([event({"le": "x", "a-b": "1", "a.b": "2", "__own": "3", "1st": "4", "é": "5"}, n=1)])

    (family,) = parse_text(text_of(store))

    labels = family.samples[0].labels
    del labels["le"]
    assert labels == {"tag_le": "x", "a_b": "1", "a_b_2": "2", "tag_own": "3", "tag_1st": "4", "tag": "5"}


def test_series_of_a_tag_function_may_have_different_labels() -> None:
    store = store_of(counter("shop.order.count", tags=lambda metadata: metadata))
    store.update([event({"a": "1"}), event({"b": "2"})])

    (family,) = parse_text(text_of(store))

    assert [sample.labels for sample in family.samples] == [{"a": "1", "b": ""}, {"a": "", "b": "2"}]


def test_sampled_events_are_scaled() -> None:
    store = store_of(counter("shop.order.count"), summary("shop.order.n"))
    store.update([event(n=2, rate=0.1), event(n=2, rate=0.1)])

    text = text_of(store)

    assert "shop_order_count_total 20.0\n" in text
    assert "shop_order_n_count 20.0\nshop_order_n_sum 40.0\n" in text


def test_metrics_that_have_recorded_nothing_are_not_said() -> None:
    assert text_of(store_of(counter("shop.order.count"))) == ""


# -- what Prometheus does not take as it is --------------------------------------------------------------------------


def openmetrics_of(store: SeriesStore) -> str:
    body, _ = render(store.snapshot(), "application/openmetrics-text")
    return body.decode()


def values_of(families: Iterable[Any]) -> dict[Any, float]:
    """Every sample's value, under (name, labels); no series may be said twice."""
    samples = [sample for family in families for sample in family.samples]
    found = {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}
    assert len(found) == len(samples)
    return found


def test_a_sum_is_a_gauge_from_its_first_negative_measurement_on() -> None:
    store = store_of(m.sum("shop.order.balance", tags=["till"], description="Balance."))

    store.update([event({"till": "a"}, balance=5)])
    assert (
        text_of(store)
        == """\
# HELP shop_order_balance_total Balance.
# TYPE shop_order_balance_total counter
shop_order_balance_total{till="a"} 5.0
"""
    )

    store.update([event({"till": "b"}, balance=-9), event({"till": "b"}, balance=12)])
    assert (
        text_of(store)
        == """\
# HELP shop_order_balance Balance.; a gauge because a measurement was negative
# TYPE shop_order_balance gauge
shop_order_balance{till="a"} 5.0
shop_order_balance{till="b"} 3.0
"""
    )
    (family,) = parse_openmetrics(openmetrics_of(store))
    assert (family.name, family.type) == ("shop_order_balance", "gauge")


def test_a_sum_that_says_it_is_a_counter_stays_one() -> None:
    store = store_of(m.sum("shop.order.balance", reporter_options={"prometheus_type": "counter"}))

    store.update([event(balance=5), event(balance=-9)])

    assert text_of(store).endswith("# TYPE shop_order_balance_total counter\nshop_order_balance_total 5.0\n")
    assert store.statistics().metrics[0].skipped == {"negative": 1}


def test_a_summary_of_negative_values_is_said_in_openmetrics_as_what_that_takes() -> None:
    store = store_of(summary("shop.order.n", tags=["till"], reporter_options={"percentiles": [0, 1]}))
    store.update([event({"till": till}, n=n) for till, n in (("a", 2), ("b", -4), ("b", 1))])

    found = {family.name: family for family in parse_openmetrics(openmetrics_of(store))}

    assert {name: family.type for name, family in found.items()} == {
        "shop_order_n": "gauge", "shop_order_n_count": "unknown", "shop_order_n_sum": "unknown",
    }  # fmt: skip
    (as_text,) = parse_text(text_of(store))
    assert as_text.type == "summary"
    assert values_of(found.values()) == values_of([as_text])
    assert values_of([as_text])["shop_order_n_sum", (("till", "b"),)] == -3


@pytest.mark.parametrize(
    ("buckets", "value", "in_openmetrics"), [([0, 1], 0.5, True), ([0, 1], -0.5, False), ([-1, 1], 0.5, False)]
)
def test_a_histogram_of_negative_values_goes_without_its_sum_in_openmetrics_alone(
    buckets: list[float], value: float, in_openmetrics: bool
) -> None:
    store = store_of(distribution("shop.order.n", reporter_options={"buckets": buckets}))
    store.update([event(n=value)])

    (in_text,), (open_,) = parse_text(text_of(store)), parse_openmetrics(openmetrics_of(store))

    endings = [sample.name.rpartition("_")[2] for sample in in_text.samples]
    assert endings == ["bucket", "bucket", "bucket", "count", "sum"]
    assert len(open_.samples) == (5 if in_openmetrics else 3)


def test_what_sampled_measurements_stand_for_is_said_in_whole_numbers() -> None:
    store = store_of(
        summary("shop.order.n"),
        distribution("shop.order.n", reporter_options={"buckets": [1]}),
        counter("shop.order.c"),
    )
    store.update([event(rate=0.3, n=1), event(rate=0.3, n=2)])

    text = openmetrics_of(store)

    assert "shop_order_n_count 7.0\n" in text
    assert 'bucket{le="1.0"} 3.0\n' in text
    assert 'bucket{le="+Inf"} 7.0\n' in text
    assert len(list(parse_openmetrics(text))) == 3


@pytest.mark.parametrize("kind", ["counter", "last_value", "summary", "distribution"])
def test_series_whose_labels_would_be_the_same_are_kept_apart(kind: str) -> None:
    store = store_of(getattr(m, kind)("shop.order.n", tags=["a", "b"]))
    store.update([event({"a": a, "b": "x"}, n=1) for a in (None, "nil", "nil_2", "\ud800", "\\ud800")])

    (family,) = parse_text(text_of(store))

    assert {sample.labels["a"] for sample in family.samples} == {"nil", "nil_2", "nil_2_2", "\\ud800", "\\ud800_2"}
    assert len(list(parse_openmetrics(openmetrics_of(store)))) == 1


def test_what_a_metric_is_called_does_not_change_when_another_one_begins_to_record() -> None:
    store = store_of(last_value("shop.order.n"), summary("shop.order.n", event_name="shop.cart"))
    store.update([Event("shop.cart", {"n": 1}, {}, 0)])
    (before,) = parse_text(text_of(store))

    store.update([event(n=1)])

    assert [family.name for family in parse_text(text_of(store))] == ["shop_order_n", before.name]


nasty = st.text(st.characters() | st.sampled_from('\n\\"{}=,#\ud800\0'), max_size=12)
# Few letters, so that what must be kept apart often meets; and any.
names = st.text("aA-_é", min_size=1, max_size=2) | nasty.filter(bool).map(lambda text: text.replace(".", "-"))
endings = st.sampled_from(["n", "total", "count", "sum", "bucket", "total-count"])
tags = st.dictionaries(
    names | st.sampled_from(["le", "quantile"]), st.sampled_from([None, "nil", "", 1]) | nasty, max_size=2
)
numbers = st.integers(-(2**70), 2**70) | st.floats(-1e300, 1e300) | st.sampled_from([0, -0.0, 5e-324, -1])
buckets = st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=4, unique=True).map(sorted)


@st.composite
def metrics(draw: Any) -> Metric:
    define = draw(st.sampled_from([counter, m.sum, last_value, summary, distribution]))
    options: dict[str, Any] = {}
    if define is distribution and draw(st.booleans()):
        options["buckets"] = draw(buckets)
    if define is summary and draw(st.booleans()):
        options["percentiles"] = draw(st.lists(st.floats(0, 1), min_size=1, max_size=3, unique=True))
    if define is m.sum:
        options |= draw(st.sampled_from([{}, {"prometheus_type": "gauge"}, {"prometheus_type": "counter"}]))
    metric: Metric = define(
        (draw(names), draw(endings)),
        event_name="shop.order",
        measurement="n",
        description=draw(nasty),
        tags=draw(st.sampled_from([lambda metadata: metadata, ["a", "le"], []])),
        reporter_options=options,
    )
    return metric


@given(
    st.lists(metrics(), min_size=1, max_size=3, unique_by=lambda metric: (metric.name, metric.kind)),
    st.lists(st.tuples(tags, numbers, st.sampled_from([1.0, 0.3, 1e-7])), min_size=1, max_size=12),
)
def test_anything_is_said_so_that_a_parser_takes_it_and_finds_every_series(
    several: list[Metric], happened: list[tuple[dict[str, Any], float, float]]
) -> None:
    store = store_of(*several)
    store.update([event(metadata, rate=rate, n=n) for metadata, n, rate in happened])
    views = [view for view in store.snapshot() if view.series]

    in_text = list(parse_text(text_of(store)))
    in_openmetrics = list(parse_openmetrics(openmetrics_of(store)))

    assert len(in_text) == len(views)
    assert len({family.name for family in in_openmetrics}) == len(in_openmetrics) >= len(views)
    values = values_of(in_openmetrics)
    for key, value in values_of(in_text).items():
        assert values.get(key) == value or (key not in values and key[0].endswith(("_count", "_sum")))
    for view, family in zip(views, in_text, strict=True):
        ending = (
            "_count"
            if view.metric.kind in ("summary", "distribution")
            else "_total"
            if family.type == "counter"
            else ""
        )
        totals = [
            sample
            for sample in family.samples
            if sample.name == family.name + ending and "quantile" not in sample.labels
        ]
        assert [sample.value for sample in totals] == [
            round(one.value.count) if isinstance(one.value, Distribution) else one.value for one in view.series
        ]
