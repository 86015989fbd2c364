"""What Prometheus is told: names, types, labels, and nothing that it could not read."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from actors._series import SeriesStore
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


nasty = st.text(st.characters() | st.sampled_from('\n\\"{}=,#\ud800\0'), max_size=12)


@given(
    name=nasty.filter(bool).map(lambda text: text.replace(".", "-")),
    description=nasty,
    tags=st.dictionaries(nasty.filter(bool), st.none() | nasty | st.integers(), max_size=3),
    kind=st.sampled_from(["counter", "sum", "last_value", "summary", "distribution"]),
)
def test_anything_is_said_so_that_a_parser_takes_it(
    name: str, description: str, tags: dict[str, Any], kind: str
) -> None:
    metric = getattr(m, kind)(
        (name, "n"), event_name="shop.order", description=description, tags=lambda metadata: metadata
    )
    store = store_of(metric)
    store.update([event(tags, n=1)])

    (in_text,) = parse_text(text_of(store))
    (in_openmetrics,) = parse_openmetrics(render(store.snapshot(), "application/openmetrics-text")[0].decode())

    assert [sample.value for sample in in_text.samples] == [sample.value for sample in in_openmetrics.samples]
