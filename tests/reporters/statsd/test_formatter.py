"""Both dialects, to the byte, and what any hostile text makes of a line."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from actors._series import SeriesStore
from actors._series_points import Point, Series
from reporters.statsd._formatter import Datadog, Formatter, Standard, number, rounded
from reporters.statsd._packets import TIE, pack
from runtime import Event
from runtime import metrics as m
from runtime.metrics import Metric, counter, distribution, last_value, summary

DIALECTS: list[type[Formatter]] = [Standard, Datadog]


def point(metric: Metric, *values: Any, tags: dict[str, Any] | None = None, rate: float = 1.0) -> Point:
    """What a store answers after these measurements."""
    store = SeriesStore([metric])
    cursor = store.subscribe("test")
    measurement = str(metric.measurement)
    store.update([Event(metric.event_name, {measurement: v}, tags or {}, 0, None, rate) for v in values or (1,)])
    (found,) = cursor.collect().points
    return found


def lines(formatter: Formatter, *points: Point) -> list[str]:
    return [line for p in points for line in formatter.text(p).replace(TIE, "\n").split("\n")]


COUNTER = counter("label.submit.count", tags=["queue"])
SUM = m.sum("label.submit.n")
COUNTED_SUM = m.sum("label.submit.n", reporter_options={"report_as": "counter"})
GAUGE = last_value("label.submit.n")
SUMMARY = summary("label.submit.n")
SUMMARY_GAUGE = summary("label.submit.n", tags=["dimension"], reporter_options={"report_as": "gauge"})
SUMMARY_TIMER = summary("label.submit.n", reporter_options={"report_as": "timer"})
DISTRIBUTION = distribution("label.submit.n")
TIMER = distribution("label.submit.n", tags=["policy"], reporter_options={"report_as": "timer"})

TAGGED = {"queue": "q1", "dimension": "novelty", "policy": "weighted"}


@pytest.mark.parametrize(
    ("metric", "values", "standard", "datadog"),
    [
        (COUNTER, [1, 1, 1], ["label.submit.count.q1:3|c"], ["label.submit.count:3|c|#queue:q1"]),
        (SUM, [5], ["label.submit.n:+5|g"], ["label.submit.n:5|c"]),
        (SUM, [-5], ["label.submit.n:-5|g"], ["label.submit.n:-5|c"]),
        (SUM, [0], ["label.submit.n:+0|g"], ["label.submit.n:0|c"]),
        (SUM, [-0.4], ["label.submit.n:-0|g"], ["label.submit.n:-0.4|c"]),
        (SUM, [131.5], ["label.submit.n:+132|g"], ["label.submit.n:131.5|c"]),
        (SUM, [-2.5], ["label.submit.n:-3|g"], ["label.submit.n:-2.5|c"]),
        (COUNTED_SUM, [15], ["label.submit.n:15|c"], ["label.submit.n:15|c"]),
        (COUNTED_SUM, [1.5], ["label.submit.n:2|c"], ["label.submit.n:1.5|c"]),
        (GAUGE, [20], ["label.submit.n:20|g"], ["label.submit.n:20|g"]),
        (GAUGE, [20.5], ["label.submit.n:21|g"], ["label.submit.n:20.5|g"]),
        (GAUGE, [-5], ["label.submit.n:0|g", "label.submit.n:-5|g"], ["label.submit.n:-5|g"]),
        (GAUGE, [-0.4], ["label.submit.n:0|g"], ["label.submit.n:-0.4|g"]),
        (SUMMARY, [4.0], ["label.submit.n:4|ms"], ["label.submit.n:4|h"]),
        (SUMMARY, [4, 1], ["label.submit.n:4|ms", "label.submit.n:1|ms"], ["label.submit.n:4|h", "label.submit.n:1|h"]),
        (SUMMARY_GAUGE, [0.5, 0.38], ["label.submit.n.novelty:0|g"], ["label.submit.n:0.38|g|#dimension:novelty"]),
        (SUMMARY_TIMER, [45], ["label.submit.n:45|ms"], ["label.submit.n:45|ms"]),
        (DISTRIBUTION, [-1], ["label.submit.n:-1|ms"], ["label.submit.n:-1|d"]),
        (TIMER, [45.0], ["label.submit.n.weighted:45|ms"], ["label.submit.n:45|ms|#policy:weighted"]),
    ],
)  # fmt: skip
def test_each_kind_has_its_line(metric: Metric, values: list[Any], standard: list[str], datadog: list[str]) -> None:
    found = point(metric, *values, tags=TAGGED)

    assert lines(Standard(), found) == standard
    assert lines(Datadog(), found) == datadog


def test_the_four_lines_that_adr_008_shows() -> None:
    formatter = Datadog()

    assert [
        *lines(formatter, point(counter("anvil.queue.created.count"))),
        *lines(
            formatter,
            point(
                counter("anvil.label.submit.count", tags=["queue_id", "schema_version_id"]),
                tags={"queue_id": "abc123", "schema_version_id": "v2"},
            ),
        ),
        *lines(
            formatter,
            point(
                distribution(
                    "anvil.assignment.dispatch.duration",
                    unit=("native", "millisecond"),
                    tags=["policy_type"],
                    reporter_options={"report_as": "timer"},
                ),
                45_000_000,
                tags={"policy_type": "weighted_expertise"},
            ),
        ),
        *lines(
            formatter,
            point(
                summary("anvil.agreement.low_score.value", tags=["dimension"], reporter_options={"report_as": "gauge"}),
                0.38,
                tags={"dimension": "novelty"},
            ),
        ),
    ] == [
        "anvil.queue.created.count:1|c",
        "anvil.label.submit.count:1|c|#queue_id:abc123,schema_version_id:v2",
        "anvil.assignment.dispatch.duration:45|ms|#policy_type:weighted_expertise",
        "anvil.agreement.low_score.value:0.38|g|#dimension:novelty",
    ]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (45, "45"),
        (45.0, "45"),
        (-0.0, "0"),
        (0.1 + 0.2, "0.30000000000000004"),
        (1e-09, "0.000000001"),
        (1.5e-7, "0.00000015"),
        (1e22, "10000000000000000000000"),
        (-1e16, "-10000000000000000"),
        (123456789.25, "123456789.25"),
        (True, "1"),
        (False, "0"),
        (math.nan, None),
        (math.inf, None),
        (-math.inf, None),
    ],
)
def test_datadog_numbers_are_plain_decimals(value: Any, said: str | None) -> None:
    assert number(value) == said


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers())
def test_a_number_is_read_back_as_itself(value: float) -> None:
    said = number(value)

    assert said is not None
    assert re.fullmatch(r"-?\d+(\.\d+)?", said)
    assert type(value)(said) == value


@given(st.lists(st.floats() | st.integers(-(10**6), 10**6) | st.sampled_from([-0.0, 10.0, -10.0, 0.0, 100.0])))
def test_a_column_of_numbers_is_said_like_each_number_alone(values: list[float]) -> None:
    said = Datadog()._numbers(values)

    assert said == ":".join(filter(None, map(number, values)))


@given(st.floats(-1e300, 1e300) | st.integers())
def test_rounding_goes_half_away_from_zero(value: float) -> None:
    result = rounded(value)

    assert abs(result - value) <= 0.5
    if abs(result - value) == 0.5:
        assert abs(result) > abs(value)


def test_what_is_not_finite_is_dropped_and_counted() -> None:
    series = Series(DISTRIBUTION, ())
    found = Point(series, 1.0, {1.0: [1.0, math.nan, 2.0, math.inf]}, count=4)

    for formatter in (Standard(), Datadog()):
        assert lines(formatter, found)[0].startswith("label.submit.n:1|")
        assert len(lines(formatter, found)) == 2
        assert formatter.not_finite == 4

    for metric in (SUM, GAUGE):
        overflowed = Point(Series(metric, ()), math.inf, {1.0: math.inf}, math.inf)
        for formatter in (Standard(), Datadog()):
            assert formatter.text(overflowed) == ""
            assert formatter.not_finite == 1


def test_the_rate_stands_before_the_tags_and_never_on_a_gauge() -> None:
    assert lines(Datadog(), point(COUNTER, 1, 1, tags=TAGGED, rate=0.1)) == ["label.submit.count:2|c|@0.1|#queue:q1"]
    assert lines(Standard(), point(COUNTER, 1, 1, tags=TAGGED, rate=0.1)) == ["label.submit.count.q1:2|c|@0.1"]
    assert lines(Datadog(), point(TIMER, 4.0, 5.5, tags=TAGGED, rate=0.00005)) == [
        "label.submit.n:4|ms|@0.00005|#policy:weighted",
        "label.submit.n:5.5|ms|@0.00005|#policy:weighted",
    ]
    assert lines(Datadog(), point(SUM, 3, rate=0.5)) == ["label.submit.n:3|c|@0.5"]
    assert lines(Standard(), point(SUM, 3, rate=0.5)) == ["label.submit.n:+6|g"]
    assert lines(Standard(), point(COUNTED_SUM, 3, rate=0.5)) == ["label.submit.n:3|c|@0.5"]
    assert lines(Datadog(), point(GAUGE, 3, rate=0.5)) == ["label.submit.n:3|g"]
    assert lines(Datadog(), point(SUMMARY_GAUGE, 3, tags=TAGGED, rate=0.5)) == ["label.submit.n:3|g|#dimension:novelty"]


def test_each_rate_gets_its_own_line() -> None:
    store = SeriesStore([counter("a.n"), summary("a.n")])
    cursor = store.subscribe("test")
    store.update([Event("a", {"n": 1}, {}, 0, None, rate) for rate in (1.0, 0.5, 0.5)])

    count, samples = cursor.collect().points

    assert sorted(lines(Datadog(), count)) == ["a.n:1|c", "a.n:2|c|@0.5"]
    assert sorted(lines(Datadog(), samples)) == ["a.n:1|h", "a.n:1|h|@0.5", "a.n:1|h|@0.5"]


def test_rounding_a_sum_loses_nothing_over_time() -> None:
    store = SeriesStore([SUM, COUNTED_SUM.__class__(**{**_fields(COUNTED_SUM), "name": "label.submit.counted"})])
    cursor = store.subscribe("test")
    formatter = Standard()
    gauge = counted = 0

    for _ in range(10):
        store.update([Event("label.submit", {"n": 0.4}, {}, 0)])
        delta = cursor.collect()
        for line in lines(formatter, *delta.points):
            value = int(line.split(":")[1].split("|")[0])
            if "counted" in line:
                counted += value
            else:
                assert line.split(":")[1][0] in "+-"
                gauge += value
        cursor.commit(delta)

    assert (gauge, counted) == (4, 4)


@given(st.lists(st.tuples(st.floats(-1e6, 1e6) | st.sampled_from([0.1, -0.1, 0.5, -0.5, 0.25]), st.booleans())))
@example([(8187.5, True), (8.4314706936464, True)])  # 8195.9314706936464 - 8.4314706936464 is not 8187.5
@example([(0.5, True), (0.1, False), (-0.1, False)])
def test_the_gauge_of_a_sum_is_its_rounded_total_at_every_moment(steps: list[tuple[float, bool]]) -> None:
    store = SeriesStore([SUM])
    cursor = store.subscribe("test")
    formatter = Standard()
    gauge = 0

    for value, is_sent in [*steps, (0.0, True)]:
        store.update([Event("label.submit", {"n": value}, {}, 0)])
        delta = cursor.collect()
        if is_sent:
            (found,) = delta.points
            (line,) = lines(formatter, found)
            assert line.split(":")[1][0] in "+-"
            gauge += int(line.split(":")[1].removesuffix("|g"))
            assert gauge == rounded(found.total)
            cursor.commit(delta)


def _fields(metric: Metric) -> dict[str, Any]:
    return {name: getattr(metric, name) for name in metric.__dataclass_fields__}


# -- tags, prefix ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metadata", "standard", "datadog"),
    [
        ({"a": "x", "b": "y"}, "e.n.x.y:1|c", "e.n:1|c|#a:x,b:y"),
        ({"a": None, "b": "y"}, "e.n.nil.y:1|c", "e.n:1|c|#a:nil,b:y"),
        ({"b": "y"}, "e.n.none.y:1|c", "e.n:1|c|#b:y"),
        ({"a": "", "b": ""}, "e.n.none.none:1|c", "e.n:1|c"),
        ({"a": {"x": 1}, "b": True}, "e.n.none.true:1|c", "e.n:1|c|#b:true"),
        ({"a": 1.5, "b": -3}, "e.n.1.5.-3:1|c", "e.n:1|c|#a:1.5,b:-3"),
        ({"a": "k:v|x,y#z@w", "b": "é\n"}, "e.n.k_v_x_y_z_w.é_:1|c", "e.n:1|c|#a:k:v_x_y_z_w,b:é_"),
        ({"a": "\ud800", "b": "\u2028"}, "e.n.?._:1|c", "e.n:1|c|#a:?,b:_"),
    ],
)
def test_tags_are_said_in_declared_order(metadata: dict[str, Any], standard: str, datadog: str) -> None:
    found = point(counter("e.n", tags=["a", "b"]), tags=metadata)

    assert lines(Standard(), found) == [standard]
    assert lines(Datadog(), found) == [datadog]


def test_prefix_and_global_tags_go_to_everything() -> None:
    options: dict[str, Any] = {"prefix": "app.eu", "global_tags": {"env": "prod", "queue": "all", "zone": None}}

    assert lines(Datadog(**options), point(SUM, 1)) == ["app.eu.label.submit.n:1|c|#env:prod,queue:all,zone:nil"]
    assert lines(Standard(**options), point(COUNTED_SUM, 1)) == ["app.eu.label.submit.n.prod.all.nil:1|c"]


def test_a_series_own_tag_wins_over_a_global_one_and_a_global_one_over_a_missing_one() -> None:
    formatter = Datadog(global_tags={"queue": "all", "env": "prod"})

    assert lines(formatter, point(COUNTER, tags={"queue": "q1"})) == ["label.submit.count:1|c|#queue:q1,env:prod"]
    assert lines(formatter, point(COUNTER, tags={"queue": None})) == ["label.submit.count:1|c|#queue:nil,env:prod"]
    assert lines(formatter, point(COUNTER, tags={})) == ["label.submit.count:1|c|#queue:all,env:prod"]


def test_two_reporters_do_not_share_what_they_have_made_of_a_series() -> None:
    found = point(COUNTER, tags=TAGGED)

    assert lines(Datadog(prefix="a"), found) == ["a.label.submit.count:1|c|#queue:q1"]
    assert lines(Datadog(prefix="b"), found) == ["b.label.submit.count:1|c|#queue:q1"]
    assert lines(Standard(prefix="b"), found) == ["b.label.submit.count.q1:1|c"]


# -- several samples in a line, and what is left of a point ------------------------------------------------------------


def test_samples_are_packed_into_lines_of_the_given_size() -> None:
    found = point(DISTRIBUTION, *range(10), 10.5)

    assert lines(Datadog(packed_bytes=1000), found) == ["label.submit.n:0:1:2:3:4:5:6:7:8:9:10.5|d"]
    assert lines(Datadog(packed_bytes=24), found) == [
        "label.submit.n:0:1:2:3|d",
        "label.submit.n:4:5:6:7|d",
        "label.submit.n:8:9|d",
        "label.submit.n:10.5|d",
    ]
    assert lines(Datadog(packed_bytes=24), point(COUNTER, tags={})) == ["label.submit.count:1|c"]


@given(st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=60), st.integers(1, 60))
def test_packed_lines_hold_every_sample_within_the_size_where_one_fits(samples: list[int], size: int) -> None:
    said = lines(Datadog(packed_bytes=size), point(DISTRIBUTION, *samples))

    values = [value for line in said for value in line[len("label.submit.n:") : -len("|d")].split(":")]
    assert values == [str(sample) for sample in samples]
    assert all(len(line) <= size or line.count(":") == 1 for line in said)


@pytest.mark.parametrize("formatter", [Standard(), Datadog(), Datadog(packed_bytes=24)], ids=["std", "dd", "packed"])
@given(data=st.data())
def test_what_is_left_of_a_point_says_exactly_the_lines_that_were_not_sent(formatter: Formatter, data: Any) -> None:
    metric = data.draw(st.sampled_from([COUNTER, SUM, GAUGE, SUMMARY, SUMMARY_GAUGE, DISTRIBUTION]))
    store = SeriesStore([metric])
    cursor = store.subscribe("test")
    samples = data.draw(st.lists(st.tuples(st.integers(0, 999), st.sampled_from([1.0, 0.5])), min_size=1, max_size=20))
    store.update([Event(metric.event_name, {"n": n, "count": n}, {}, 0, None, rate) for n, rate in samples])
    (found,) = cursor.collect().points
    whole = formatter.text(found).split("\n")
    sent = data.draw(st.integers(0, len(whole)))

    rest = formatter.remainder(found, sent)

    assert (formatter.text(rest).split("\n") if rest else []) == whole[sent:]


# -- anything at all ---------------------------------------------------------------------------------------------------

SAFE = r"[^\x00-\x1f\x7f\x85\u2028\u2029|,#@]"
NUMBER = r"[+-]?\d+(?:\.\d+)?"
RATE = r"(?:\|@\d+(?:\.\d+)?)?"
DATADOG_LINE = re.compile(
    rf"(?:(?!:){SAFE})+:{NUMBER}(?::{NUMBER})*\|(?:c|g|h|d|ms){RATE}"
    rf"(?:\|#(?:(?!:){SAFE})+:{SAFE}+(?:,(?:(?!:){SAFE})+:{SAFE}+)*)?"
)
STANDARD_LINE = re.compile(rf"(?:(?!:){SAFE})+:{NUMBER}\|(?:c|g|ms){RATE}")

nasty = st.text(st.characters() | st.sampled_from("|:,#@\n\r\0\x7f\x85\u2028\u2029 .\ud800"), max_size=30)
names = nasty.filter(bool).map(lambda text: text.replace(".", "-"))


@given(
    kind=st.sampled_from(["counter", "sum", "last_value", "summary", "distribution"]),
    name=names,
    tags=st.dictionaries(names, st.none() | nasty | st.integers() | st.booleans(), max_size=4),
    global_tags=st.dictionaries(names, nasty.filter(bool), max_size=2),
    prefix=st.just("") | names,
    values=st.lists(st.floats(-1e300, 1e300) | st.integers(-(10**20), 10**20), min_size=1, max_size=5),
    rate=st.sampled_from([1.0, 0.1, 1e-7]),
    mtu=st.integers(1, 300),
)
def test_anything_becomes_exactly_one_parseable_line_a_sample_in_datagrams_within_the_mtu(
    kind: str,
    name: str,
    tags: dict[str, Any],
    global_tags: dict[str, str],
    prefix: str,
    values: list[float],
    rate: float,
    mtu: int,
) -> None:
    metric: Metric = getattr(m, kind)((name, "n"), event_name="e", measurement="n", tags=lambda metadata: tags)
    found = point(metric, *values, rate=rate)
    samples = len(values) if kind in ("summary", "distribution") else 1

    for formatter, line_of in (
        (Datadog(prefix, global_tags), DATADOG_LINE),
        (Standard(prefix, global_tags), STANDARD_LINE),
    ):
        text = formatter.text(found)
        assert len(text.split("\n")) == samples
        for line in text.replace(TIE, "\n").split("\n"):
            assert line_of.fullmatch(line), line
            assert line.splitlines() == [line]
        datagrams, too_large = pack(text, mtu)
        assert all(0 < len(datagram.payload) <= mtu for datagram in datagrams)
        sent = sum(datagram.payload.count(b"\n") + 1 for datagram in datagrams)
        assert sent - text.count(TIE) * (not too_large) + too_large == samples
