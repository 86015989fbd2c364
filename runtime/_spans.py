"""Spans: a start event, a piece of work, and always exactly one stop or exception event.

A span works as a context manager (sync and async), as a decorator (functions, coroutines, generators, asynchronous
generators) and as a call. Times are integer nanoseconds of one monotonic clock; the duration begins after the start
event is out, so that it measures the work alone.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import itertools
import traceback
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from types import TracebackType
from typing import Any, Literal, TypeVar, overload

from greenlet import GreenletExit

from runtime import _dispatch, sampling
from runtime._dispatch import emit
from runtime._events import Name, canonical, own
from runtime.clock import Clock
from runtime.errors import expected

Kind = Literal["error", "cancelled", "exit"]
F = TypeVar("F", bound=Callable[..., Any])

_CONTEXT = "telemetry_span_context"
_contexts = itertools.count(1)
_system_ns = Clock.system_ns
_traceback_of = BaseException.__dict__["__traceback__"].__get__


@functools.lru_cache(maxsize=4096)
def _names(prefix: str) -> tuple[str, str, str, str]:
    dotted = canonical(prefix)
    return dotted, f"{dotted}.start", f"{dotted}.stop", f"{dotted}.exception"


def kind_of(error: BaseException) -> Kind:
    """Say what sort of end an exception is: "error", "cancelled" or "exit".

    >>> kind_of(ValueError()), kind_of(asyncio.CancelledError()), kind_of(KeyboardInterrupt())
    ('error', 'cancelled', 'exit')
    """
    # By its type alone: what `isinstance` and attributes look up may be an exception's own, and raise.
    kind = type(error)
    if issubclass(kind, asyncio.CancelledError):
        return "cancelled"
    return "error" if issubclass(kind, Exception) and not issubclass(kind, GreenletExit) else "exit"


class Span:
    """One run of a piece of work; made by `runtime.span`.

    Inside it, `metadata` (start metadata; what is added is merged into the stop or exception event) and `measurements`
    (extras of the stop event) may be filled. A span is used once; as a decorator each call gets its own.
    """

    __slots__ = (
        "_context",
        "_exception",
        "_given",
        "_measurements",
        "_metadata",
        "_prefix",
        "_rate",
        "_start",
        "_started_ns",
        "_stop",
    )

    def __init__(self, prefix: Name, metadata: Mapping[str, Any] | None = None) -> None:
        self._prefix, self._start, self._stop, self._exception = _names(
            prefix if isinstance(prefix, str) else canonical(prefix)
        )
        self._given = metadata
        self._metadata: dict[str, Any] = {}
        self._measurements: dict[str, Any] = {}
        self._context: Any = None
        self._started_ns = 0
        self._rate = 1.0

    @property
    def metadata(self) -> dict[str, Any]:
        """Start metadata, and whatever the body adds for the stop or exception event."""
        return self._metadata

    @metadata.setter
    def metadata(self, value: dict[str, Any]) -> None:
        self._metadata = value if type(value) is dict else own(value, "metadata")

    @property
    def measurements(self) -> dict[str, Any]:
        """Extra measurements of the stop event."""
        return self._measurements

    @measurements.setter
    def measurements(self, value: dict[str, Any]) -> None:
        self._measurements = value if type(value) is dict else own(value, "measurements")

    def __enter__(self) -> Span:
        if self._started_ns:
            raise expected("a span that has not begun", self._prefix, "Make one for each run, or decorate a function")
        metadata = self._metadata = own(self._given, "metadata")
        if _CONTEXT in metadata:
            self._context = metadata[_CONTEXT]
        else:
            self._context = metadata[_CONTEXT] = next(_contexts)
        rate = sampling.rate_of(self._prefix)
        if rate is not None:
            # Once for the whole span; a rate of 0 stands for "not this one".
            self._rate = rate if sampling.chosen(rate) else 0
        if self._rate:
            now_ns = _dispatch._now_ns()
            emit(self._start, {"monotonic_time": now_ns, "system_time": _system_ns()}, metadata, now_ns, self._rate)
        self._started_ns = _dispatch._now_ns()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        now_ns = _dispatch._now_ns()
        if not self._rate:
            return False
        standard = {"duration": now_ns - self._started_ns, "monotonic_time": now_ns}
        metadata = self._metadata
        metadata[_CONTEXT] = self._context  # whatever the body has done to it: it tells what belongs together
        if error is None:
            measured = {**self._measurements, **standard} if self._measurements else standard
            emit(self._stop, measured, metadata, now_ns, self._rate)
        else:
            emit(self._exception, standard, {**metadata, **describe(error)}, now_ns, self._rate)
        return False

    async def __aenter__(self) -> Span:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        return self.__exit__(kind, error, trace)

    def __call__(self, function: F) -> F:
        """Put the span around every call of a function, coroutine or generator function."""
        if not callable(function) or isinstance(function, type):
            raise expected("a function to put the span around", function)
        prefix, given = self._prefix, self._given
        wrapped: Callable[..., Any]

        if inspect.iscoroutinefunction(function):

            async def wrapped(*args: Any, **kwargs: Any) -> Any:
                with Span(prefix, given):
                    return await function(*args, **kwargs)

        elif inspect.isasyncgenfunction(function):

            async def wrapped(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
                with Span(prefix, given):
                    inner = function(*args, **kwargs)
                    try:
                        step = inner.asend(None)
                        while True:
                            try:
                                item = await step
                            except StopAsyncIteration:
                                return
                            try:
                                step = inner.asend((yield item))
                            except GeneratorExit:
                                raise
                            except BaseException as thrown:  # noqa: BLE001 - it is for the function, as with `yield from`
                                step = inner.athrow(thrown)
                    finally:
                        await inner.aclose()

        elif inspect.isgeneratorfunction(function):

            def wrapped(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
                with Span(prefix, given):
                    return (yield from function(*args, **kwargs))

        else:

            def wrapped(*args: Any, **kwargs: Any) -> Any:
                with Span(prefix, given):
                    return function(*args, **kwargs)

        return functools.wraps(function)(wrapped)  # type: ignore[return-value]


class Stacktrace:
    """Where an exception came from; `str` renders it, so that the emitter does not pay for what nobody reads."""

    __slots__ = ("_trace",)

    def __init__(self, trace: TracebackType | None) -> None:
        self._trace = trace

    def __str__(self) -> str:
        return "".join(traceback.format_tb(self._trace))

    def __repr__(self) -> str:
        return f"<Stacktrace {self.places()}>"

    def places(self) -> str:
        """Say in one line where it was, outermost call first.

        >>> Stacktrace(None).places()
        ''
        """
        found = []
        trace = self._trace
        while trace is not None:
            code = trace.tb_frame.f_code
            found.append(f"{code.co_filename}:{trace.tb_lineno} {code.co_name}")
            trace = trace.tb_next
        return " > ".join(found)


def describe(error: BaseException) -> dict[str, Any]:
    """Metadata of an exception event: {kind, reason (the exception), stacktrace (rendered by `str`)}."""
    return {"kind": kind_of(error), "reason": error, "stacktrace": Stacktrace(_traceback_of(error))}


@overload
def span(prefix: Name, metadata: Mapping[str, Any] | None = None) -> Span: ...


@overload
def span(prefix: Name, metadata: Mapping[str, Any] | None, fn: Callable[..., Any], *args: Any) -> Any: ...


def span(
    prefix: Name, metadata: Mapping[str, Any] | None = None, fn: Callable[..., Any] | None = None, *args: Any
) -> Any:
    """Put a span around a piece of work.

    Emits `prefix.start` {monotonic_time, system_time}, then either `prefix.stop` {duration, monotonic_time, extras} or
    `prefix.exception` {duration, monotonic_time} with {kind, reason, stacktrace} in its metadata; the exception then
    continues unchanged. Every span carries a `telemetry_span_context`, the same on both events. Runs in the caller's
    thread and never waits.

    Three forms. A context manager (also `async with`), a decorator, and a call in which `fn(*args)` returns
    `(result, stop_metadata)` or `(result, extra_measurements, stop_metadata)`; another shape is an exception event and
    a TypeError.

    >>> with span("shop.order.place", {"shop": "s1"}) as current:
    ...     current.metadata["lines"] = 3
    >>> span("shop.order.place", {"shop": "s1"}, lambda: ("order-7", {"lines": 3}))
    'order-7'
    >>> @span("shop.order.place")
    ... def place():
    ...     return "order-8"
    >>> place()
    'order-8'
    """
    current = Span(prefix, metadata)
    if fn is None:
        return current
    with current:
        outcome = fn(*args)
        match outcome:
            case (result, Mapping() as stop_metadata):
                pass
            case (result, Mapping() as extras, Mapping() as stop_metadata):
                current.measurements.update(extras)
            case _:
                if inspect.iscoroutine(outcome):
                    outcome.close()  # or it would complain that nobody awaited it
                raise TypeError(
                    "expected the span's function to return (result, stop_metadata) or "
                    f"(result, extra_measurements, stop_metadata), got: {outcome!r}"
                )
        current.metadata.update(stop_metadata)
    return result
