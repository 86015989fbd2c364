"""Spans: for every start exactly one stop or exception, whatever ends the work."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from types import MappingProxyType
from typing import Any

import gevent
import pytest
from greenlet import GreenletExit, greenlet

import runtime
from runtime import _dispatch
from runtime._mailbox import Mailbox
from runtime.clock import FakeClock
from runtime.errors import InvalidValue

NAMES = ("work.start", "work.stop", "work.exception")


class Kept(list[Any]):
    """Every event of a span that was emitted; `.names`, `.metadata(n)`."""

    @property
    def names(self) -> list[str]:
        return [event.name.removeprefix("work.") for event in self]


@pytest.fixture
def events(routed: Callable[..., Mailbox]) -> Kept:
    """What the span named "work" emits."""
    mail = routed(*NAMES)
    kept = Kept()
    mail.load = kept
    return kept


@pytest.fixture
def clock() -> FakeClock:
    """The clock of the events, moved by the test."""
    clock = FakeClock(monotonic_ns=1_000)
    _dispatch.use_clock(clock)
    return clock


# -- the context manager -----------------------------------------------------------------------------------------------


def test_a_span_starts_and_stops(events: Kept, clock: FakeClock) -> None:
    with runtime.span("work", {"queue": "q1"}):
        clock.advance(2.0)

    start, stop = events
    assert events.names == ["start", "stop"]
    assert set(start.measurements) == {"monotonic_time", "system_time"}
    assert start.measurements["monotonic_time"] == 1_000
    assert stop.measurements == {"duration": 2_000_000_000, "monotonic_time": 2_000_001_000}
    assert start.metadata["queue"] == stop.metadata["queue"] == "q1"


def test_times_are_integers(events: Kept) -> None:
    with runtime.span("work"):
        pass

    assert all(type(value) is int for event in events for value in event.measurements.values())
    assert events[1].measurements["duration"] >= 0


def test_what_the_body_adds_is_merged_into_the_stop_metadata(events: Kept) -> None:
    with runtime.span("work", {"queue": "q1", "state": "new"}) as span:
        span.metadata["errors"] = ["is required"]
        span.metadata["state"] = "done"
        span.measurements["bytes"] = 7

    start, stop = events
    assert "errors" not in start.metadata
    assert start.metadata["state"] == "new"
    assert (stop.metadata["queue"], stop.metadata["state"]) == ("q1", "done")
    assert stop.metadata["errors"] == ["is required"]
    assert stop.measurements["bytes"] == 7


def test_the_standard_measurements_win_over_extras_of_the_same_name(events: Kept, clock: FakeClock) -> None:
    with runtime.span("work") as span:
        span.measurements["duration"] = "mine"
        clock.advance(1.0)

    assert events[1].measurements["duration"] == 1_000_000_000


def test_both_events_carry_the_same_context_and_each_span_another(events: Kept) -> None:
    for _ in range(3):
        with runtime.span("work"):
            pass

    contexts = [event.metadata["telemetry_span_context"] for event in events]
    assert contexts[0::2] == contexts[1::2]
    assert len(set(contexts)) == 3


def test_a_context_that_the_caller_gives_is_kept(events: Kept) -> None:
    with runtime.span("work", {"telemetry_span_context": "mine"}):
        pass

    assert [event.metadata["telemetry_span_context"] for event in events] == ["mine", "mine"]


def test_the_callers_metadata_is_not_touched(events: Kept) -> None:
    metadata = {"tags": ["a"]}

    with runtime.span("work", metadata) as span:
        span.metadata["tags"].append("b")
        span.metadata["more"] = 1

    assert metadata == {"tags": ["a"]}


def test_a_slow_start_handler_does_not_count_into_the_duration(clock: FakeClock) -> None:
    class Slow(Mailbox):
        def put_when_full(self, message: Any) -> bool:
            clock.advance(5.0)
            return True

    slow, mail = Slow(), Mailbox()
    slow.limit = 0
    _dispatch.publish({"work.start": (slow,), "work.stop": (mail,)})

    with runtime.span("work"):
        clock.advance(1.0)

    assert mail.load[0].measurements["duration"] == 1_000_000_000


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("bad"), "error"),
        (StopIteration(), "error"),
        (asyncio.CancelledError(), "cancelled"),
        (KeyboardInterrupt(), "exit"),
        (SystemExit(3), "exit"),
        (GeneratorExit(), "exit"),
        (GreenletExit(), "exit"),
        (gevent.Timeout(), "exit"),
    ],
)
def test_whatever_ends_the_work_is_an_exception_event_and_goes_on_unchanged(
    events: Kept, clock: FakeClock, error: BaseException, kind: str
) -> None:
    with pytest.raises(type(error)) as caught:
        with runtime.span("work", {"queue": "q1"}) as span:
            span.metadata["added"] = True
            clock.advance(1.0)
            raise error

    assert caught.value is error
    assert events.names == ["start", "exception"]
    exception = events[1]
    assert exception.measurements == {"duration": 1_000_000_000, "monotonic_time": 1_000_001_000}
    assert (exception.metadata["kind"], exception.metadata["reason"]) == (kind, error)
    assert (exception.metadata["queue"], exception.metadata["added"]) == ("q1", True)
    assert __file__ in str(exception.metadata["stacktrace"])


def test_nested_spans_end_inside_out(routed: Callable[..., Mailbox]) -> None:
    mail = routed("outer.start", "outer.stop", "outer.exception", "inner.start", "inner.exception")

    with contextlib.suppress(ZeroDivisionError), runtime.span("outer"), runtime.span("inner"):
        raise ZeroDivisionError

    assert [event.name for event in mail.load] == ["outer.start", "inner.start", "inner.exception", "outer.exception"]


@pytest.mark.parametrize("prefix", ["", "a..b", "a b", (), 7, None])
def test_a_bad_prefix_is_refused_where_the_span_is_made(prefix: Any) -> None:
    with pytest.raises(InvalidValue, match="expected an event name"):
        runtime.span(prefix)


@pytest.mark.parametrize("metadata", [7, "text", ["a"]])
def test_metadata_that_is_no_mapping_is_refused(metadata: Any) -> None:
    with pytest.raises(InvalidValue, match="expected metadata to be a mapping"):
        runtime.span("work", metadata).__enter__()


@pytest.mark.parametrize("prefix", [("work",), ["work"], "work"])
def test_the_prefix_may_be_segments(events: Kept, prefix: Any) -> None:
    with runtime.span(prefix):
        pass

    assert events.names == ["start", "stop"]


def test_a_span_costs_no_event_and_no_error_while_nobody_listens() -> None:
    with pytest.raises(ValueError, match="bad"), runtime.span("work"):
        raise ValueError("bad")


# -- the call ----------------------------------------------------------------------------------------------------------


def test_the_call_returns_the_result_and_merges_the_stop_metadata(events: Kept) -> None:
    def work(base: int, step: int) -> tuple[int, dict[str, Any]]:
        return base + step, {"lines": 3}

    assert runtime.span("work", {"queue": "q1"}, work, 40, 2) == 42

    assert events.names == ["start", "stop"]
    assert (events[1].metadata["queue"], events[1].metadata["lines"]) == ("q1", 3)


def test_the_call_may_add_measurements(events: Kept) -> None:
    assert runtime.span("work", {}, lambda: ("r", {"bytes": 7}, {"k": "v"})) == "r"

    assert events[1].measurements["bytes"] == 7
    assert events[1].metadata["k"] == "v"


@pytest.mark.parametrize("outcome", [None, 7, "ab", ("r",), ("r", 7), ("r", {}, 7), ("r", 7, {}), (1, {}, {}, {})])
def test_another_shape_is_an_exception_event_and_a_type_error(events: Kept, outcome: Any) -> None:
    with pytest.raises(TypeError, match=r"expected the span's function to return \(result, stop_metadata\)"):
        runtime.span("work", {}, lambda: outcome)

    assert events.names == ["start", "exception"]
    assert isinstance(events[1].metadata["reason"], TypeError)


def test_what_the_function_raises_goes_on(events: Kept) -> None:
    def work() -> Any:
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        runtime.span("work", {}, work)

    assert events.names == ["start", "exception"]


@pytest.mark.filterwarnings("error")  # a coroutine that nobody awaits would complain
def test_a_coroutine_function_is_no_function_for_the_call(events: Kept) -> None:
    async def work() -> Any:
        return "result", {}

    with pytest.raises(TypeError, match="got: <coroutine object"):
        runtime.span("work", {}, work)

    assert events.names == ["start", "exception"]


# -- what a body might do to its span ----------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["metadata", "measurements"])
@pytest.mark.parametrize("value", [7, "text", [1]])
def test_what_is_no_mapping_is_refused_inside_the_span_and_ends_it_as_usual(
    events: Kept, what: str, value: object
) -> None:
    with pytest.raises(InvalidValue, match=f"expected {what} to be a mapping, got: "), runtime.span("work") as current:
        setattr(current, what, value)

    assert events.names == ["start", "exception"]


def test_metadata_and_measurements_may_be_set_as_a_whole(events: Kept) -> None:
    with runtime.span("work", {"queue": "q1"}) as current:
        current.metadata |= {"rows": 3}
        current.measurements |= {"size": 7}
    with runtime.span("work", {"queue": "q1"}) as current:
        current.metadata = MappingProxyType({"rows": 4})  # type: ignore[assignment]
        current.measurements = {"size": 8}

    _, first, _, second = events
    assert (first.metadata["queue"], first.metadata["rows"], first.measurements["size"]) == ("q1", 3, 7)
    assert (second.metadata.keys(), second.measurements["size"]) == ({"rows", "telemetry_span_context"}, 8)


@pytest.mark.parametrize("given", [{}, {"telemetry_span_context": "mine"}])
@pytest.mark.parametrize("error", [None, LookupError("gone")])
def test_start_and_end_carry_the_same_context_whatever_the_body_does_to_it(
    events: Kept, given: dict[str, Any], error: Exception | None
) -> None:
    with contextlib.suppress(LookupError), runtime.span("work", given) as current:
        current.metadata.clear()
        if error is not None:
            raise error
    with contextlib.suppress(LookupError), runtime.span("work", given) as current:
        current.metadata["telemetry_span_context"] = "another"
        if error is not None:
            raise error

    first, first_end, second, second_end = (event.metadata["telemetry_span_context"] for event in events)
    assert (first, second) == (first_end, second_end)
    assert "another" not in (first, second)


def test_a_span_is_used_once(events: Kept) -> None:
    span = runtime.span("work")

    with span:
        with pytest.raises(InvalidValue, match="expected a span that has not begun, got: 'work'. Make one for each"):
            span.__enter__()
    with pytest.raises(InvalidValue), span:
        pass

    assert events.names == ["start", "stop"]


@pytest.mark.parametrize("target", [5, None, dict])
def test_only_a_function_is_decorated(target: Any) -> None:
    with pytest.raises(InvalidValue, match="expected a function to put the span around, got: "):
        runtime.span("work")(target)


# -- the decorator -----------------------------------------------------------------------------------------------------


def test_each_call_of_a_decorated_function_is_a_span_of_its_own(events: Kept) -> None:
    @runtime.span("work", {"queue": "q1"})
    def work(n: int, *, by: int = 1) -> int:
        """Add."""
        return n + by

    assert (work(1), work(1, by=2)) == (2, 3)

    assert events.names == ["start", "stop"] * 2
    assert (work.__name__, work.__doc__) == ("work", "Add.")
    assert len({event.metadata["telemetry_span_context"] for event in events}) == 2


def test_a_decorated_function_may_call_itself(events: Kept) -> None:
    @runtime.span("work")
    def countdown(n: int) -> int:
        return n and countdown(n - 1)

    countdown(2)

    assert events.names == ["start"] * 3 + ["stop"] * 3


def test_a_decorated_function_runs_in_many_threads_at_once(events: Kept) -> None:
    meet = threading.Barrier(4)

    @runtime.span("work")
    def work() -> None:
        meet.wait(30)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(events.names) == ["start"] * 4 + ["stop"] * 4


def test_a_coroutine_is_spanned_until_it_ends(events: Kept) -> None:
    @runtime.span("work")
    async def work() -> int:
        await asyncio.sleep(0)
        assert events.names == ["start"]
        return 7

    assert asyncio.run(work()) == 7
    assert events.names == ["start", "stop"]


def test_a_cancelled_coroutine_is_an_exception_event(events: Kept) -> None:
    @runtime.span("work")
    async def work() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    assert events.names == ["start", "exception"]
    assert events[1].metadata["kind"] == "cancelled"


def test_an_async_with_block_is_spanned(events: Kept) -> None:
    async def main() -> None:
        async with runtime.span("work") as span:
            span.metadata["k"] = "v"
            await asyncio.sleep(0)

    asyncio.run(main())

    assert events.names == ["start", "stop"]
    assert events[1].metadata["k"] == "v"


def test_a_generator_is_spanned_from_its_first_item_to_its_end(events: Kept) -> None:
    @runtime.span("work")
    def count(to: int) -> Iterator[int]:
        yield from range(to)

    counting = count(2)
    assert events.names == []
    assert next(counting) == 0
    assert events.names == ["start"]
    assert list(counting) == [1]

    assert events.names == ["start", "stop"]


def test_a_generator_that_is_closed_early_is_an_exception_event(events: Kept) -> None:
    @runtime.span("work")
    def count() -> Iterator[int]:
        yield 1
        yield 2

    counting = count()
    next(counting)
    counting.close()  # type: ignore[attr-defined]

    assert events.names == ["start", "exception"]
    assert events[1].metadata["kind"] == "exit"


def test_what_is_sent_and_thrown_into_a_generator_reaches_it(events: Kept) -> None:
    @runtime.span("work")
    def echo() -> Any:
        got = yield "ready"
        try:
            yield got
        except ValueError:
            yield "caught"

    generator = echo()

    assert [next(generator), generator.send(7), generator.throw(ValueError)] == ["ready", 7, "caught"]
    assert list(generator) == []
    assert events.names == ["start", "stop"]


def test_an_asynchronous_generator_is_spanned_and_gets_what_is_sent_and_thrown(events: Kept) -> None:
    @runtime.span("work")
    async def echo() -> Any:
        got = yield "ready"
        try:
            yield got
        except ValueError:
            yield "caught"

    async def main() -> list[Any]:
        generator = echo()
        return [
            await generator.asend(None),
            await generator.asend(7),
            await generator.athrow(ValueError("thrown")),
            [item async for item in generator],
        ]

    assert asyncio.run(main()) == ["ready", 7, "caught", []]
    assert events.names == ["start", "stop"]


def test_an_asynchronous_context_manager_of_a_spanned_generator_sees_the_exception_of_its_block(events: Kept) -> None:
    cleaned: list[BaseException] = []

    @contextlib.asynccontextmanager
    @runtime.span("work")
    async def transaction() -> AsyncIterator[None]:
        try:
            yield
        except ValueError as error:
            cleaned.append(error)
            raise

    async def main() -> None:
        with pytest.raises(ValueError, match="rolled back"):
            async with transaction():
                raise ValueError("rolled back")

    asyncio.run(main())

    assert len(cleaned) == 1
    assert events.names == ["start", "exception"]
    assert events[1].metadata["reason"] is cleaned[0]


def test_an_asynchronous_generator_that_is_closed_early_is_closed_inside_as_well(events: Kept) -> None:
    closed: list[str] = []

    @runtime.span("work")
    async def count() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append("inner")

    async def main() -> None:
        counting = count()
        await counting.__anext__()
        await counting.aclose()  # type: ignore[attr-defined]

    asyncio.run(main())

    assert closed == ["inner"]
    assert events.names == ["start", "exception"]


def test_a_span_in_a_greenlet_that_is_thrown_out_ends(events: Kept) -> None:
    def work() -> None:
        with runtime.span("work"):
            main.switch()

    main = gevent.getcurrent()
    working = greenlet(work)
    working.switch()
    working.throw(GreenletExit)

    assert events.names == ["start", "exception"]
