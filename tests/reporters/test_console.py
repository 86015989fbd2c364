"""The console reporter: plain words, and nothing that could play tricks on a terminal."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

import pytest

import runtime
from actors import whereis
from reporters import Console
from reporters._reporter import Flush
from runtime import metrics as m
from runtime.errors import InvalidValue
from runtime.metrics import Metric, counter, distribution, last_value, summary
from supervisors import Application

NEVER_S = 3600.0


class Shop:
    """A running application with a console reporter, and what it has written."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.console = Console(interval_s=NEVER_S, stream=self.stream)

    def flush(self) -> bool:
        reporter = whereis(self.console.name)
        sent: bool = reporter.ask(Flush())
        return sent

    def written(self) -> list[str]:
        """The lines since the last look, without the time of day."""
        lines = self.stream.getvalue().splitlines()
        self.stream.seek(0)
        self.stream.truncate()
        return [line for line in lines if not re.fullmatch(r"\d\d:\d\d:\d\d", line)]


@pytest.fixture
def shop(request: pytest.FixtureRequest) -> Iterator[Shop]:
    """A shop with the metrics of the test's parameter."""
    shop = Shop()
    with Application("shop", metrics=request.param, children=[shop.console]).running():
        yield shop


def metrics(*several: Metric) -> Any:
    return pytest.mark.parametrize("shop", [several], indirect=True, ids=["shop"])


@metrics(
    counter("shop.order.count", tags=["country", "missing"]),
    m.sum("shop.order.items"),
    m.sum("shop.order.balance"),
    last_value("shop.order.queue", tags=["country"]),
    summary("shop.order.weight", unit="gram"),
    distribution("shop.order.duration", unit=("native", "millisecond")),
)
def test_what_happened_is_told_in_plain_words(shop: Shop) -> None:
    for n in (1, 2):
        measurements = {"items": 1_000 * n, "balance": -n / 2, "queue": n, "weight": n, "duration": n * 1_500_000}
        runtime.execute("shop.order", measurements, {"country": "nl"})
    assert shop.flush()
    runtime.execute("shop.order", {"items": 5}, {"country": None})
    assert shop.flush()

    assert shop.written()[:8] == [
        "  shop.order.count [country=nl]: 2 events, 2 since the start",
        "  shop.order.items: +3,000, 3,000 since the start",
        "  shop.order.balance: -1.5, -1.5 since the start",
        "  shop.order.queue [country=nl]: 2",
        "  shop.order.weight: 2 measurements from 1 to 2 gram, mean 1.5",
        "  shop.order.duration: 2 measurements from 1.5 to 3 millisecond, mean 2.25",
        "  shop.order.count [country=nil]: 1 event, 1 since the start",
        "  shop.order.items: +5, 3,005 since the start",
    ]


@metrics(m.sum("shop.order.items"), counter("shop.order.count", tags=["user"], reporter_options={"max_series": 1}))
def test_what_was_skipped_is_told_once(shop: Shop) -> None:
    runtime.execute("shop.order", {}, {"user": "a"})
    runtime.execute("shop.order", {"items": "many"}, {"user": "b"})
    runtime.execute("shop.order", {"items": "more"}, {"user": "c"})
    assert shop.flush()

    assert shop.written() == [
        "  shop.order.count [user=a]: 1 event, 1 since the start",
        "  shop.order.count [user=__overflow__]: 2 events, 2 since the start",
        "  shop.order.items: skipped 1 event without the measurement",
        "  shop.order.items: skipped 2 events whose measurement is no number",
        "  shop.order.count: 2 samples went to the overflow series: too many tag combinations",
    ]
    assert shop.flush()
    assert shop.written() == []


@metrics(counter("shop.order.count", tags=["country"]))
def test_what_a_caller_names_plays_no_tricks_on_the_terminal(shop: Shop) -> None:
    runtime.execute("shop.order", {}, {"country": "\x1b[2Jnl\nfake: 1 event\r\u2028é"})
    assert shop.flush()

    assert shop.written() == [
        r"  shop.order.count [country=\x1b[2Jnl\nfake: 1 event\r\u2028é]: 1 event, 1 since the start"
    ]


@metrics(counter("shop.order.count"))
def test_a_closed_stream_is_told_and_costs_nothing(shop: Shop) -> None:
    shop.stream.close()
    runtime.execute("shop.order")

    assert not shop.flush()

    statistics = shop.console.statistics()
    assert "closed file" in statistics.last_error
    assert statistics.waiting_points == 1


def test_it_writes_to_standard_output_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with Application("shop", metrics=[counter("shop.order.count")], children=[Console()]).running():
        runtime.execute("shop.order")

    assert "shop.order.count: 1 event, 1 since the start\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interval_s": 0}, "expected interval_s to be a positive number of seconds, got: 0"),
        ({"stream": "stdout"}, "expected stream to have a write method, got: 'stdout'"),
        ({"name": None}, "expected name to be a non-empty string, got: None"),
    ],
)
def test_a_bad_option_is_refused_where_it_is_given(options: Any, message: str) -> None:
    with pytest.raises(InvalidValue) as refusal:
        Console(**options)

    assert message in str(refusal.value)
