"""The poller: calls a measurement now and then; what it measures it emits itself.

A measurement runs in a thread of its own, so it may block. One that raises is reported, as `telemetry.poller.failure`
and in the log, and tried again after a pause that doubles up to ten periods; it is never removed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import msgspec
from loguru import logger

from actors._actor import Actor
from runtime import execute
from runtime._checks import check_seconds
from runtime._spans import describe
from runtime.errors import ExitReason, expected

__all__ = [
    "FAILURE",
    "Measurement",
    "Poller",
    "PollerStatistics",
]

FAILURE = "telemetry.poller.failure"
_LONGEST_PAUSE = 10


class Measurement(msgspec.Struct, frozen=True):
    """What to call (with no arguments) and how often.

    >>> Measurement(lambda: None, period_s=0)
    Traceback (most recent call last):
        ...
    runtime.errors.InvalidValue: expected period_s to be a positive number of seconds, got: 0
    """

    measure: Callable[[], object]
    period_s: float = 10.0
    name: str = ""

    def __post_init__(self) -> None:
        if not _is_plain_call(self.measure):
            raise expected("measure to be a plain function to be called without arguments", self.measure)
        check_seconds("period_s", self.period_s)
        if not isinstance(self.name, str):
            raise expected("name to be a string", self.name)
        if not self.name:
            name = getattr(self.measure, "__qualname__", repr(self.measure))
            msgspec.structs.force_setattr(self, "name", name)


def _is_plain_call(function: object) -> bool:
    """Tell whether it can be called without arguments, and has then done its work."""
    if not callable(function) or inspect.iscoroutinefunction(function):
        return False
    try:
        inspect.signature(function).bind()
    except TypeError:
        return False
    except ValueError:  # some functions written in C tell nothing about themselves
        return True
    return True


class PollerStatistics(msgspec.Struct, frozen=True):
    """How often a measurement was taken, how often it failed, and how often in a row by now."""

    name: str
    measured: int
    failed: int
    failing: int


class Poller(Actor):
    """Take one measurement periodically, the first time at once."""

    carrier: ClassVar[str] = "thread"

    def __init__(self, measurement: Measurement) -> None:
        super().__init__()
        self.measurement = measurement
        self.measured = 0
        self.failed = 0
        self.failing = 0
        self._timer: Any = None

    def on_start(self) -> None:
        self.continue_("measure")

    def on_continue(self, x: Any) -> None:
        self._measure()

    def on_receive(self, message: Any) -> None:
        self._measure()

    def on_stop(self, reason: ExitReason = "normal") -> None:
        if self._timer is not None:
            self._timer.cancel()

    def get_state(self) -> PollerStatistics:
        return PollerStatistics(self.measurement.name, self.measured, self.failed, self.failing)

    def _measure(self) -> None:
        try:
            self.measurement.measure()
        except BaseException as error:  # whatever a measurement raises, it must not use up its supervisor's restarts
            if self._dead:
                raise  # killed in the middle
            self.failed += 1
            self.failing += 1
            execute(FAILURE, {"failing": self.failing}, {"measurement": self.measurement.name, **describe(error)})
            logger.opt(exception=error).warning("measurement {} failed", self.measurement.name)
        else:
            self.measured += 1
            self.failing = 0
        pause = self.measurement.period_s * min(2 ** min(self.failing, 10), _LONGEST_PAUSE)
        self._timer = self.send_after(pause, "measure")
