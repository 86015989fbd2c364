"""Events become traces: those of one span, from its start to its end."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from reporters.aitrace import Trace, TraceRule
from reporters.aitrace._trace import EXPORTS, TraceCollector
from runtime import Event
from runtime.errors import InvalidValue

RULE = TraceRule("shop.order", "order_id", ("shop.order.paid",))


def event(name: str, at_us: int, measurements: dict[str, Any] | None = None, **metadata: Any) -> Event:
    return Event(name, measurements or {}, metadata, at_us * 1000)


def test_a_span_and_what_happened_in_it_is_one_trace() -> None:
    collector = TraceCollector([RULE])

    taken = [
        collector.take(event("shop.order.start", 10, order_id="o1")),
        collector.take(event("shop.order.paid", 20, {"amount": 5}, order_id="o1", currency="EUR")),
        collector.take(event("shop.order.paid", 25, {"amount": 6}, order_id="another")),
        collector.take(event("shop.order.stop", 30, {"duration": 20_000}, order_id="o1", lines=3)),
    ]

    assert [len(traces) for traces in taken] == [0, 0, 0, 1]
    (span,) = taken[3][0].spans
    assert (span.name, span.start_time, span.end_time, span.status) == ("shop.order", 10, 30, "ok")
    assert span.attributes == {"order_id": "o1", "lines": 3}
    assert [(one.name, one.timestamp, one.attributes) for one in span.events] == [
        ("shop.order.paid", 20, {"amount": 5, "order_id": "o1", "currency": "EUR"})
    ]


def test_spans_that_overlap_do_not_mix() -> None:
    collector = TraceCollector([RULE])
    for order in ("o1", "o2"):
        collector.take(event("shop.order.start", 1, order_id=order))
        collector.take(event("shop.order.paid", 2, {"amount": 1}, order_id=order))

    first, second = (collector.take(event("shop.order.stop", 3, order_id=order))[0] for order in ("o1", "o2"))

    assert first.trace_id != second.trace_id
    assert [len(trace.spans[0].events) for trace in (first, second)] == [1, 1]


def test_an_exception_is_an_error_and_its_reason_is_told() -> None:
    collector = TraceCollector([RULE])

    (trace,) = collector.take(
        event("shop.order.exception", 30, {"duration": 20_000}, order_id="o1", reason=ValueError("no"))
    )

    assert (trace.spans[0].status, trace.spans[0].start_time) == ("error", 10)
    assert trace.spans[0].attributes["reason"] == "no"


def test_ids_of_the_trace_context_are_taken_over_unless_a_file_name_cannot_hold_them() -> None:
    collector = TraceCollector([RULE])
    good, bad = (
        collector.take(
            event("shop.order.stop", 1, order_id="o1", trace_id=trace_id, span_id="s1", parent_span_id="p1")
        )[0]
        for trace_id in ("4bf92f3577b34da6a3ce929d0e0e4736", "../../etc/passwd")
    )

    assert good.trace_id == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert (good.spans[0].span_id, good.spans[0].parent_span_id) == ("s1", "p1")
    assert bad.trace_id.isalnum()


def test_what_is_collected_is_bounded() -> None:
    collector = TraceCollector([RULE])
    collector.take(event("shop.order.start", 1, order_id="busy"))
    for number in range(1_200):
        collector.take(event("shop.order.paid", 2, {"amount": number}, order_id="busy"))
    (busy,) = collector.take(event("shop.order.stop", 3, order_id="busy"))
    for number in range(1_500):
        collector.take(event("shop.order.start", 4, order_id=f"lost {number}"))

    assert len(busy.spans[0].events) == 1_000
    assert busy.spans[0].attributes["events_left_out"] == 200
    assert collector.forgotten == 500


@pytest.mark.parametrize("value", [float("nan"), b"\xff", object(), {"deep": {1, 2}}, "\ud83d", 1 << 80])
def test_hostile_attributes_make_valid_traces(value: object) -> None:
    (trace,) = TraceCollector([RULE]).take(event("shop.order.stop", 1, order_id="o1", odd=value))

    assert msgspec.json.decode(msgspec.json.encode(trace), type=Trace) == trace


def test_exports_are_traced_by_default() -> None:
    assert set(TraceCollector([EXPORTS]).events) >= {
        "anvil.export.generate.start",
        "anvil.export.generate.stop",
        "anvil.export.generate.exception",
        "anvil.export.progress",
    }


def test_misuse_is_an_error_at_the_call() -> None:
    with pytest.raises(InvalidValue, match="expected an event name"):
        TraceRule("shop order", "order_id")
    with pytest.raises(InvalidValue, match="expected by to be a key of the metadata, got: ''"):
        TraceRule("shop.order", "")
