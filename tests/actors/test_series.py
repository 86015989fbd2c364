"""The aggregation: what a batch of events makes of each metric, and what each reporter gets of it."""

from __future__ import annotations

import enum
import math
import random
import threading
from collections import Counter, defaultdict
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loguru import logger

from actors._series import Cursor, SeriesStore
from actors._series_points import BIN_FACTOR, MAPPING, Delta, Distribution, MetricStatistics, Point
from runtime import Event
from runtime import metrics as m
from runtime.clock import FakeClock
from runtime.errors import AlreadyExists, NotFound
from runtime.metrics import Metric, counter, distribution, last_value, summary

NAME = "label.submit"


def event(measurements: dict[str, Any] | None = None, rate: float = 1.0, name: str = NAME, **metadata: Any) -> Event:
    return Event(name, measurements or {}, metadata, 0, None, rate)


def store_of(*metrics: Metric, **options: Any) -> tuple[SeriesStore, Cursor]:
    store = SeriesStore(metrics, **options)
    return store, store.subscribe("test")


def values(delta: Delta) -> dict[str, Any]:
    """Each point's value under "name{tag=text,…}"."""
    found: dict[str, Any] = {}
    for point in delta.points:
        tags = ",".join(f"{key}={value}" for key, value in point.series.tags)
        found[f"{point.series.metric.name}{{{tags}}}" if tags else point.series.metric.name] = point.value
    return found


def statistics_of(store: SeriesStore) -> MetricStatistics:
    return store.statistics().metrics[0]


def one(cursor: Cursor) -> Point:
    (point,) = cursor.collect().points
    return point


# -- kinds -----------------------------------------------------------------------------------------------------------


def test_a_counter_counts_events_whatever_their_measurements_say() -> None:
    store, cursor = store_of(counter("label.submit.count"))

    store.update([event(), event({"count": 15}), event({"count": "many"})])

    assert values(cursor.collect()) == {"label.submit.count": 3}


def test_a_sum_adds_up_its_measurement() -> None:
    store, cursor = store_of(m.sum("assignment.timed_out.count"))

    store.update([event({"count": 15}, name="assignment.timed_out"), event({"count": 2}, name="assignment.timed_out")])

    assert values(cursor.collect()) == {"assignment.timed_out.count": 17}


def test_a_last_value_keeps_the_newest() -> None:
    store, cursor = store_of(last_value("label.submit.depth", tags=["queue"]))

    store.update([event({"depth": 3}, queue="a"), event({"depth": 9}, queue="b"), event({"depth": -1}, queue="a")])

    assert values(cursor.collect()) == {"label.submit.depth{queue=a}": -1, "label.submit.depth{queue=b}": 9}


@pytest.mark.parametrize("define", [summary, distribution])
def test_summaries_and_distributions_keep_every_sample_and_its_statistics(define: Any) -> None:
    store, cursor = store_of(define("label.submit.duration", unit=("native", "millisecond")))

    store.update([event({"duration": 45_000_000}), event({"duration": 1_500_000})])

    point = one(cursor)
    assert point.parts == {1.0: [45.0, 1.5]}
    assert (point.count, point.value, point.low, point.high) == (2, 46.5, 1.5, 45.0)


def test_buckets_include_their_upper_bound() -> None:
    store, _ = store_of(distribution("label.submit.duration", reporter_options={"buckets": [10, 50]}))

    store.update([event({"duration": d}) for d in (9, 10, 10.01, 50, 51)])

    ((view,),) = [metric.series for metric in store.snapshot()]
    assert isinstance(view.value, Distribution)
    assert view.value.buckets == ((10, 2), (50, 4))
    assert view.value.count == 5


def test_units_are_converted() -> None:
    store, cursor = store_of(
        m.sum("label.submit.seconds", measurement="duration", unit=("native", "second")),
        m.sum("label.submit.bytes", measurement="size", unit=("kilobyte", "byte")),
    )

    store.update([event({"duration": 2_500_000_000, "size": 3})])

    assert values(cursor.collect()) == {"label.submit.seconds": 2.5, "label.submit.bytes": 3000}


def test_a_measurement_may_be_a_function_of_measurements_and_metadata() -> None:
    store, cursor = store_of(
        m.sum("label.submit.both", measurement=lambda measurements, metadata: measurements["a"] + metadata["b"]),
        m.sum("label.submit.one", measurement=lambda measurements: measurements["a"]),
        last_value("label.submit.pct", measurement=m.from_metadata("pct")),
    )

    store.update([event({"a": 1}, b=2, pct=20.0)])

    assert values(cursor.collect()) == {"label.submit.both": 3, "label.submit.one": 1, "label.submit.pct": 20.0}


def test_the_numbers_of_other_types_count_as_what_they_are() -> None:
    class Level(enum.IntEnum):
        HIGH = 3

    store, cursor = store_of(m.sum("label.submit.n"))

    store.update([event({"n": n}) for n in (True, Decimal("0.5"), Fraction(1, 4), Level.HIGH)])

    assert values(cursor.collect()) == {"label.submit.n": 4.75}


# -- tags ------------------------------------------------------------------------------------------------------------


def test_tags_are_kept_in_declared_order() -> None:
    store, cursor = store_of(counter("label.submit.count", tags=["schema", "queue"]))

    store.update([event(queue="q1", schema="v2", other="x")])

    assert one(cursor).series.tags == (("schema", "v2"), ("queue", "q1"))


def test_values_that_look_alike_to_a_dictionary_are_different_tags() -> None:
    store, cursor = store_of(counter("label.submit.count", tags=["v"]))

    store.update([event(v=v) for v in (1, True, 1.0, "1", None)])

    assert values(cursor.collect()) == {
        "label.submit.count{v=1}": 2,
        "label.submit.count{v=true}": 1,
        "label.submit.count{v=1.0}": 1,
        "label.submit.count{v=None}": 1,
    }


def test_an_enum_is_tagged_with_its_value() -> None:
    class Policy(enum.Enum):
        ROUND_ROBIN = "round_robin"

    class Format(enum.StrEnum):
        CSV = "csv"

    store, cursor = store_of(counter("label.submit.count", tags=["a", "b"]))

    store.update([event(a=Policy.ROUND_ROBIN, b=Format.CSV)])

    assert one(cursor).series.tags == (("a", "round_robin"), ("b", "csv"))


class Hostile:
    """Refuses to be text, to be hashed and to be compared."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")

    def __str__(self) -> str:
        raise RuntimeError("not text")


@pytest.mark.parametrize(
    "bad", [{"a": 1}, ["a"], {1}, ("a",), b"a", Hostile(), 10**5000], ids=lambda bad: type(bad).__name__
)
@pytest.mark.parametrize("tags", [["bad"], ["queue", "bad"]])
def test_what_makes_no_tag_is_left_out_and_counted(tags: list[str], bad: object) -> None:
    store, cursor = store_of(counter("label.submit.count", tags=tags))

    store.update([event(queue="q1", bad=bad), event(queue="q1", bad="good")])

    assert [dict(point.series.tags)["bad"] for point in cursor.collect().points] == ["", "good"]
    assert statistics_of(store).tags_left_out == 1
    assert statistics_of(store).recorded == 2


@pytest.mark.parametrize("tags", [["queue"], ["queue", "schema"], ["schema", "queue"]])
def test_a_missing_tag_is_left_out_and_counted(tags: list[str]) -> None:
    store, cursor = store_of(counter("label.submit.count", tags=tags))

    store.update([event(schema="v2"), event(schema="v2", queue="q1"), event(schema="v2")])

    assert [(dict(point.series.tags)["queue"], point.value) for point in cursor.collect().points] == [
        ("", 2),
        ("q1", 1),
    ]
    assert statistics_of(store).tags_left_out == 2


def test_tags_may_be_a_function_of_the_metadata() -> None:
    store, cursor = store_of(counter("label.submit.count", tags=lambda metadata: {"z": metadata["a"], "b": None}))

    store.update([event(a=1), event(a=[1])])

    assert [point.series.tags for point in cursor.collect().points] == [
        (("b", None), ("z", "1")),
        (("b", None), ("z", "")),
    ]


def test_tag_values_run_first() -> None:
    store, cursor = store_of(
        counter("label.submit.count", tags=["queue"], tag_values=lambda metadata: {"queue": metadata["id"].upper()})
    )

    store.update([event(id="q1")])

    assert values(cursor.collect()) == {"label.submit.count{queue=Q1}": 1}


def test_a_long_tag_is_shortened_so_that_a_series_stays_small() -> None:
    store, cursor = store_of(counter("label.submit.count", tags=["a"]), counter("label.submit.n", tags=["a", "b"]))

    for _ in range(2):
        store.update([event(a="x" * 10_000, b="y" * 200 + str(i)) for i in range(3)])

    assert values(cursor.collect()) == {
        f"label.submit.count{{a={'x' * 200}}}": 6,
        f"label.submit.n{{a={'x' * 200},b={'y' * 200}}}": 6,
    }


# -- filters and oddities --------------------------------------------------------------------------------------------


def test_keep_and_drop_see_the_raw_metadata_and_the_measurements() -> None:
    options: dict[str, Any] = {"tags": ["format"], "tag_values": lambda metadata: {"format": "masked"}}
    store, cursor = store_of(
        counter("label.submit.kept", keep=lambda metadata: metadata["format"] == "csv", **options),
        counter("label.submit.dropped", drop=lambda metadata, measurements: measurements["rows"] > 5, **options),
    )

    store.update([event({"rows": 3}, format="csv"), event({"rows": 9}, format="csv"), event({"rows": 1}, format="x")])

    assert values(cursor.collect()) == {"label.submit.kept{format=masked}": 2, "label.submit.dropped{format=masked}": 2}
    assert [(each.offered, each.recorded, each.filtered) for each in store.statistics().metrics] == [
        (3, 2, 1),
        (3, 2, 1),
    ]


@pytest.mark.parametrize("define", [m.sum, last_value, summary, distribution])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("absent", "missing"),
        (None, "missing"),
        ("12", "not_a_number"),
        ([1], "not_a_number"),
        (1 + 2j, "not_a_number"),
        (math.nan, "not_finite"),
        (math.inf, "not_finite"),
        (-math.inf, "not_finite"),
        pytest.param(10**400, "not_finite", id="beyond floats"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"keep": bool}], ids=["column-wise", "one by one"])
def test_what_is_no_number_is_skipped_and_counted(define: Any, value: Any, reason: str, options: Any) -> None:
    store, cursor = store_of(define("label.submit.n", tags=["queue"], **options))
    bad = event({} if value == "absent" else {"n": value}, queue="bad")

    store.update([event({"n": 2}, queue="good"), bad, event({"n": 3}, queue="good")])

    assert list(values(cursor.collect())) == ["label.submit.n{queue=good}"]
    assert statistics_of(store).skipped == {reason: 1}
    assert (statistics_of(store).offered, statistics_of(store).recorded) == (3, 2)


def test_a_conversion_beyond_the_range_of_numbers_is_skipped_and_counted() -> None:
    store, cursor = store_of(m.sum("label.submit.n", unit=("second", "native")))

    store.update([event({"n": 1e305}), event({"n": 1})])

    assert values(cursor.collect()) == {"label.submit.n": 10**9}
    assert statistics_of(store).skipped == {"not_finite": 1}


@pytest.mark.parametrize("define", [m.sum, last_value, summary, distribution])
@pytest.mark.parametrize("rate", [1.0, 0.3])
def test_numbers_at_the_edge_of_what_a_float_holds_break_nothing(define: Any, rate: float) -> None:
    store, cursor = store_of(
        define("label.submit.n"), define("label.submit.us", measurement="n", unit=("second", "native"))
    )

    for _ in range(3):
        store.update(
            [event({"n": n}, rate) for n in (10**308, -(10**308), 10**308, 1e308, -1e308, 10**400, 5e-324, 2**63)]
        )

    assert len(cursor.collect().points) == 2
    assert [metric.skipped["not_finite"] for metric in store.statistics().metrics] == [3, 18]
    store.snapshot()


def raises(error: BaseException) -> Any:
    def function(_: Any) -> Any:
        raise error

    return function


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(1), KeyboardInterrupt()])
@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("keep", "keep_error"),
        ("drop", "keep_error"),
        ("measurement", "measurement_error"),
        ("tags", "tag_error"),
        ("tag_values", "tag_error"),
    ],
)
def test_a_function_that_raises_costs_its_sample_and_nothing_else(
    option: str, reason: str, error: BaseException
) -> None:
    store, cursor = store_of(
        m.sum("label.submit.n", **{"tags": ["queue"], option: raises(error)}),  # type: ignore[misc]
        counter("label.submit.count"),
    )

    store.update([event({"n": 1}), event({"n": 1})])

    assert values(cursor.collect()) == {"label.submit.count": 2}
    assert statistics_of(store).skipped == {reason: 2}


@pytest.mark.parametrize(("option", "answer"), [("tags", None), ("tags", ["queue"]), ("tag_values", 3)])
def test_a_tag_function_that_answers_no_dict_costs_its_sample(option: str, answer: Any) -> None:
    store, cursor = store_of(
        counter("label.submit.count", **{"tags": ["queue"], option: lambda _: answer})  # type: ignore[misc]
    )

    store.update([event(queue="q1")])

    assert cursor.collect().points == ()
    assert statistics_of(store).skipped == {"tag_error": 1}


@pytest.mark.parametrize("option", ["report_as", "prometheus_type"])
@pytest.mark.parametrize("options", [{}, {"keep": lambda metadata: True}], ids=["column-wise", "one by one"])
def test_a_sum_that_says_it_is_a_counter_refuses_negative_measurements(option: str, options: Any) -> None:
    store, cursor = store_of(m.sum("label.submit.n", reporter_options={option: "counter"}, **options))

    store.update([event({"n": 5}), event({"n": -1}), event({"n": 0})])

    assert values(cursor.collect()) == {"label.submit.n": 5}
    assert statistics_of(store).skipped == {"negative": 1}
    assert not store.snapshot()[0].has_fallen


def test_a_sum_that_took_negative_measurements_says_so_for_good() -> None:
    store, cursor = store_of(m.sum("label.submit.n"))
    assert not store.snapshot()[0].has_fallen

    store.update([event({"n": 5}), event({"n": -1}), event({"n": -2}, rate=0.5)])
    store.update([event({"n": 9})])

    assert values(cursor.collect()) == {"label.submit.n": 9}
    assert (statistics_of(store).negative, statistics_of(store).skipped) == (2, {})
    assert store.snapshot()[0].has_fallen


def test_an_event_that_no_metric_listens_to_is_counted() -> None:
    store, cursor = store_of(counter("label.submit.count"))

    store.update([event(name="other"), event()])

    assert (store.statistics().events, store.statistics().unrouted) == (2, 1)
    assert store.event_names == ("label.submit",)
    assert len(cursor.collect().points) == 1


def test_two_metrics_of_the_same_name_and_kind_are_refused() -> None:
    with pytest.raises(AlreadyExists, match=r"expected one counter named 'a\.b', got: 2"):
        SeriesStore([counter("a.b"), counter("a.b", tags=["x"])])

    assert SeriesStore([counter("a.b"), m.sum("a.b")]).event_names == ("a",)


# -- sampling --------------------------------------------------------------------------------------------------------


def test_sampled_events_are_scaled_by_their_rate_and_keep_it() -> None:
    store, cursor = store_of(counter("label.submit.count"), m.sum("label.submit.n"), summary("label.submit.n"))

    store.update([event({"n": 2}, rate=0.1), event({"n": 3}), event({"n": 4}, rate=0.1)])

    count, total, samples = cursor.collect().points
    assert (count.value, count.parts) == (21, {0.1: 2, 1.0: 1})
    assert (total.value, total.parts) == (63, {0.1: 6, 1.0: 3})
    assert (samples.value, samples.count, samples.parts) == (63, 21, {0.1: [2, 4], 1.0: [3]})


def test_sampled_counters_are_exact_in_expectation() -> None:
    store, cursor = store_of(counter("label.submit.count"))
    chance = random.Random(7)
    rate, emitted = 0.1, 20_000

    store.update([event(rate=rate) for _ in range(emitted) if chance.random() < rate])

    error = abs(one(cursor).value - emitted)
    assert error < 4 * math.sqrt(emitted * (1 - rate) / rate)  # four standard deviations of the estimate


def test_a_sampling_rate_thins_the_raw_samples_and_nothing_else() -> None:
    store, cursor = store_of(summary("label.submit.n", reporter_options={"sampling_rate": 0.25}), rng=random.Random(7))

    store.update([event({"n": n}) for n in range(4_000)])

    point = one(cursor)
    assert (point.count, point.value) == (4_000, sum(range(4_000)))
    assert list(point.parts) == [0.25]
    assert 900 < len(point.parts[0.25]) < 1100


@pytest.mark.parametrize("series", [1, 7, 300])
def test_too_many_samples_are_thinned_and_what_they_stand_for_stays_exact(series: int) -> None:
    store, cursor = store_of(
        summary("label.submit.n", tags=["queue"], reporter_options={"max_samples": 1_000}), rng=random.Random(7)
    )

    for start in range(0, 20_000, 500):
        store.update([event({"n": n}, queue=str(n % series)) for n in range(start, start + 500)])

    points = cursor.collect().points
    assert len(points) == series
    held = sum(len(values) for point in points for values in point.parts.values())
    assert 300 <= held <= 1_000 + 16 * series  # a series keeps an odd one out at each rate
    for point in points:
        assert sum(len(values) / rate for rate, values in point.parts.items()) == point.count
    mean = sum(sum(values) / rate for point in points for rate, values in point.parts.items()) / 20_000
    assert mean == pytest.approx(9_999.5, rel=0.1)


# -- percentiles -----------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1e12, 1e12) | st.integers(-1000, 1000), min_size=1, max_size=300))
def test_percentiles_are_within_one_percent(numbers: list[float]) -> None:
    store = SeriesStore([summary("label.submit.n")])

    store.update([event({"n": n}) for n in numbers])

    ordered = sorted(numbers)
    ((view,),) = [metric.series for metric in store.snapshot()]
    assert isinstance(view.value, Distribution)
    for quantile in (0, 0.5, 0.9, 0.99, 1):
        exact = ordered[int(quantile * (len(ordered) - 1))]  # the sketch's own rank: the lower one
        assert view.value.percentile(quantile) == pytest.approx(exact, rel=0.0101, abs=1e-300)


@given(st.floats(1e-300, 1e300))
def test_the_bin_of_a_value_is_the_one_that_ddsketch_gives_it(value: float) -> None:
    ours = math.ceil(math.log2(value) * BIN_FACTOR)

    assert abs(ours - MAPPING.key(value)) <= 1  # the two logarithms round differently at a bin's edge
    assert MAPPING.value(ours) == pytest.approx(value, rel=0.0101)


def test_the_memory_of_a_sketch_is_bounded_and_high_percentiles_keep_their_accuracy() -> None:
    store = SeriesStore([summary("label.submit.n")])
    numbers = [1.03**n for n in range(20_000)]

    for start in range(0, len(numbers), 500):
        store.update([event({"n": n}) for n in numbers[start : start + 500]])

    ((view,),) = [metric.series for metric in store.snapshot()]
    assert isinstance(view.value, Distribution)
    assert len(view.value.bins) <= 2048
    assert view.value.percentile(0.99) == pytest.approx(numbers[int(0.99 * (len(numbers) - 1))], rel=0.0101)
    assert sum(view.value.bins.values()) == len(numbers)


# -- cardinality and expiry ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("define", [counter, m.sum, last_value, summary, distribution])
@pytest.mark.parametrize("tags", [["user"], ["queue", "user"], lambda metadata: {"user": metadata["user"]}])
def test_beyond_max_series_one_overflow_series_takes_the_rest_and_warns_once(define: Any, tags: Any) -> None:
    store, cursor = store_of(define("label.submit.n", tags=tags, reporter_options={"max_series": 3}))
    told: list[str] = []
    logger.enable("actors")
    sink = logger.add(lambda message: told.append(message.record["message"]), level="WARNING")

    try:
        for _ in range(2):
            store.update([event({"n": 1}, queue="q", user=f"u{n}") for n in range(10)])
    finally:
        logger.remove(sink)
        logger.disable("actors")

    points = cursor.collect().points
    assert len(points) == 4
    assert {"__overflow__"} == set(dict(points[-1].series.tags).values())
    if define is not last_value:
        assert [point.value for point in points] == [2, 2, 2, 14]
    assert statistics_of(store).overflowed == 14
    assert told == [
        "metric label.submit.n has more than 3 series: further tag combinations share one named __overflow__"
    ]


@pytest.mark.parametrize("define", [counter, m.sum, last_value, summary, distribution])
def test_an_idle_series_expires_and_makes_room(define: Any) -> None:
    clock = FakeClock()
    store, cursor = store_of(
        define("label.submit.n", tags=["user"], reporter_options={"max_series": 2}), clock=clock, expire_s=100
    )
    store.update([event({"n": 1}, user="idle"), event({"n": 1}, user="busy")])

    for _ in range(12):
        clock.advance(10)
        store.update([event({"n": 1}, user="busy")])
    store.update([event({"n": 1}, user="new")])

    ((busy, new),) = [metric.series for metric in store.snapshot()]
    assert (busy.tags, new.tags) == ((("user", "busy"),), (("user", "new"),))
    assert statistics_of(store).expired == 1
    assert len(cursor.collect().points) == 3, "what the idle series had to say is still delivered"


@pytest.mark.parametrize("look", ["snapshot", "collect"])
def test_series_expire_also_when_no_event_comes_any_more(look: str) -> None:
    clock = FakeClock()
    store, cursor = store_of(last_value("label.submit.n"), clock=clock, expire_s=100)
    store.update([event({"n": 1})])
    assert len(store.snapshot()[0].series) == 1

    clock.advance(111)
    if look == "collect":
        cursor.collect()

    assert store.snapshot()[0].series == ()
    assert statistics_of(store).expired == 1


# -- reporters -------------------------------------------------------------------------------------------------------


def test_each_reporter_gets_what_changed_since_its_own_last_commit() -> None:
    store, fast = store_of(counter("label.submit.count"))
    slow = store.subscribe("slow")

    store.update([event()])
    fast.commit(fast.collect())
    store.update([event(), event()])

    assert values(fast.collect()) == {"label.submit.count": 2}
    assert values(slow.collect()) == {"label.submit.count": 3}


def test_what_was_not_committed_is_collected_again_with_what_came_since() -> None:
    store, cursor = store_of(
        counter("label.submit.count"), last_value("label.submit.n"), summary("label.submit.n"), m.sum("label.submit.n")
    )
    store.update([event({"n": 1})])
    cursor.collect()
    store.update([event({"n": 5})])

    count, newest, samples, total = cursor.collect().points

    assert (count.value, newest.value, total.value, total.total) == (2, 5, 6, 6)
    assert (samples.parts, samples.count, samples.low, samples.high) == ({1.0: [1, 5]}, 2, 1, 5)


def test_nothing_changed_means_no_points() -> None:
    store, cursor = store_of(counter("label.submit.count"))
    store.update([event()])

    assert cursor.commit(cursor.collect())

    assert cursor.collect().points == ()


def test_a_delta_that_a_newer_one_replaced_cannot_be_committed() -> None:
    store, cursor = store_of(counter("label.submit.count"))
    store.update([event()])
    old = cursor.collect()
    new = cursor.collect()

    assert not cursor.commit(old)
    assert cursor.commit(new)
    assert not cursor.commit(new), "committed once is enough"


def test_points_that_could_not_be_sent_are_collected_again() -> None:
    store, cursor = store_of(counter("label.submit.count", tags=["queue"]))
    store.update([event(queue="a"), event(queue="b")])
    delta = cursor.collect()

    cursor.commit(delta, unsent=delta.points[1:])
    store.update([event(queue="b"), event(queue="c")])

    assert values(cursor.collect()) == {"label.submit.count{queue=b}": 2, "label.submit.count{queue=c}": 1}


def test_a_reporter_that_comes_back_goes_on_where_it_was() -> None:
    store, cursor = store_of(counter("label.submit.count"))
    store.update([event()])
    cursor.commit(cursor.collect())
    store.update([event(), event()])

    assert values(store.subscribe("test").collect()) == {"label.submit.count": 2}


def test_a_new_reporter_starts_with_what_is_open() -> None:
    store, _ = store_of(counter("label.submit.count"))
    store.update([event()])

    assert values(store.subscribe("late").collect()) == {"label.submit.count": 1}


def test_a_reporter_that_is_gone_for_good_holds_nothing_back() -> None:
    store, cursor = store_of(counter("label.submit.count"))
    store.subscribe("gone")
    store.update([event()])
    cursor.commit(cursor.collect())

    assert [(each.reporter, each.waiting_points) for each in store.statistics().reporters] == [("test", 0), ("gone", 1)]
    store.unsubscribe("gone")

    assert [each.reporter for each in store.statistics().reporters] == ["test"]
    with pytest.raises(NotFound, match="got: 'gone'"):
        store.unsubscribe("gone")


def test_memory_is_bounded_for_a_reporter_that_never_commits() -> None:
    store, _ = store_of(counter("label.submit.count"), summary("label.submit.n", reporter_options={"max_samples": 100}))
    busy = store.subscribe("busy")
    cursor = store.subscribe("test")

    for _ in range(200):
        store.update([event({"n": n}) for n in range(50)])
        busy.commit(busy.collect())

    assert store.statistics().reporters[0].waiting_points == 2
    count, samples = cursor.collect().points
    assert (count.value, samples.count) == (10_000, 10_000)
    assert sum(len(values) for values in samples.parts.values()) <= 100 + 16
    assert sum(len(values) / rate for rate, values in samples.parts.items()) == 10_000


def test_series_that_come_and_go_while_a_reporter_cannot_send_take_no_more_memory_and_lose_nothing() -> None:
    clock = FakeClock()
    defined = [
        define("label.submit.n", tags=["user"], reporter_options={"max_series": 10})
        for define in (counter, m.sum, last_value, summary)
    ]
    store, cursor = store_of(*defined, clock=clock, expire_s=100)
    busy = store.subscribe("busy")

    for hour in range(50):
        store.update([event({"n": 0.5}, user=f"{hour}-{n}") for n in range(8)])
        busy.commit(busy.collect())
        clock.advance(111)
        if hour == 25:
            delta = cursor.collect()
            cursor.commit(delta, unsent=delta.points)

    points = cursor.collect().points
    assert len(points) <= 4 * 11
    by_kind: defaultdict[str, list[Point]] = defaultdict(list)
    for point in points:
        by_kind[point.series.metric.kind].append(point)
    assert sum(point.value for point in by_kind["counter"]) == 400
    assert sum(point.value for point in by_kind["sum"]) == 200
    assert sum(point.total - point.before for point in by_kind["sum"]) == 200
    assert sum(point.count for point in by_kind["summary"]) == 400
    assert sum(len(values) for point in by_kind["summary"] for values in point.parts.values()) == 400
    assert [point.value for point in by_kind["last_value"]] == [0.5] * len(by_kind["last_value"])
    assert {dict(point.series.tags)["user"] for point in by_kind["sum"]} >= {"__overflow__", "49-7"}


def test_a_delta_that_was_handed_out_does_not_change_any_more() -> None:
    store, cursor = store_of(summary("label.submit.n"), counter("label.submit.n"))
    store.update([event({"n": 1})])
    delta = cursor.collect()
    before = [(point.value, repr(point.parts)) for point in delta.points]

    store.update([event({"n": 2})])
    cursor.collect()

    assert [(point.value, repr(point.parts)) for point in delta.points] == before


def test_a_snapshot_shows_totals_and_costs_no_reporter_anything() -> None:
    store, cursor = store_of(counter("label.submit.count", tags=["queue"]))
    store.update([event(queue="a")])
    cursor.commit(cursor.collect())
    store.update([event(queue="a"), event(queue="b")])

    ((a, b),) = [metric.series for metric in store.snapshot()]

    assert [(a.tags, a.value), (b.tags, b.value)] == [((("queue", "a"),), 2), ((("queue", "b"),), 1)]
    assert values(cursor.collect()) == {"label.submit.count{queue=a}": 1, "label.submit.count{queue=b}": 1}


def test_a_snapshot_from_another_thread_never_shows_half_a_batch() -> None:
    store, _ = store_of(counter("label.submit.count"), m.sum("label.submit.n"), distribution("label.submit.n"))
    done = threading.Event()
    torn: list[Any] = []

    def look() -> None:
        while not done.is_set():
            views = [metric.series[0].value for metric in store.snapshot() if metric.series]
            if views and not (views[0] == views[1] == views[2].count):  # type: ignore[union-attr]
                torn.append(views)

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(300):
        store.update([event({"n": 1})] * 100)
    done.set()
    thread.join()

    assert torn == []
    assert [metric.series[0].value for metric in store.snapshot()][:2] == [30_000, 30_000]


# -- everything at once, against a model -----------------------------------------------------------------------------

tag_values = st.sampled_from(["a", "b", "", None, 1, True, 1.0, "1"]) | st.just({"map": 1})
measurements = st.integers(-5, 5) | st.sampled_from([0.5, None, "text", math.nan, True])
events = st.builds(
    lambda n, rate, metadata: Event(NAME, n, metadata, 0, None, rate),
    st.fixed_dictionaries({}, optional={"n": measurements}),
    st.sampled_from([1.0, 0.5]),
    st.fixed_dictionaries({}, optional={"x": tag_values, "y": tag_values}),
)
steps = st.lists(
    st.lists(events, max_size=12) | st.sampled_from(["commit", "fail", "other commits", "look"]), max_size=12
)


def text(value: object) -> str | None:
    if value is True:
        return "true"
    return None if value is None else "" if isinstance(value, dict) else str(value)


def model(happened: Sequence[Event], tags: tuple[str, ...]) -> tuple[dict[Any, float], dict[Any, float]]:
    """Count and add up, one event at a time: {tags: count}, {tags: sum of n}."""
    counts: defaultdict[Any, float] = defaultdict(float)
    sums: defaultdict[Any, float] = defaultdict(float)
    for each in happened:
        key = tuple((tag, text(each.metadata.get(tag, ""))) for tag in tags)
        counts[key] += 1 / each.rate
        n = each.measurements.get("n")
        if isinstance(n, int | float) and math.isfinite(n):
            sums[key] += n / each.rate
    return dict(counts), dict(sums)


@given(steps, st.sampled_from([(), ("x",), ("x", "y")]), st.booleans())
def test_whatever_happens_every_reporter_gets_every_event_exactly_once(
    steps: list[Any], tags: tuple[str, ...], one_by_one: bool
) -> None:
    options: dict[str, Any] = {"tags": list(tags), "keep": (lambda metadata: True) if one_by_one else None}
    store = SeriesStore(
        [
            counter("label.submit.count", **options),
            m.sum("label.submit.n", **options),
            summary("label.submit.n", **options),
        ]
    )
    cursors = {name: store.subscribe(name) for name in ("steady", "other")}
    got: dict[str, list[Point]] = {name: [] for name in cursors}
    happened: list[Event] = []

    def flush(name: str) -> None:
        delta = cursors[name].collect()
        got[name].extend(delta.points)
        assert cursors[name].commit(delta)

    for step in steps:
        if step == "commit":
            flush("steady")
        elif step == "other commits":
            flush("other")
        elif step == "fail":
            cursors["steady"].collect()
        elif step == "look":
            store.snapshot()
        else:
            happened += step
            store.update(step)

    counts, sums = model(happened, tags)
    for name in cursors:
        flush(name)
        seen: dict[str, Counter[Any]] = {"counter": Counter(), "sum": Counter(), "summary": Counter()}
        for point in got[name]:
            seen[point.series.metric.kind][point.series.tags] += point.value  # type: ignore[assignment]
        assert dict(seen["counter"]) == counts
        assert dict(seen["sum"]) == sums
        assert dict(seen["summary"]) == sums
    for metric in store.statistics().metrics:
        assert metric.offered == len(happened) == metric.recorded + metric.filtered + sum(metric.skipped.values())
    for view in store.snapshot():
        totals = {s.tags: s.value.sum if isinstance(s.value, Distribution) else s.value for s in view.series}
        assert totals == (counts if view.metric.kind == "counter" else sums)
