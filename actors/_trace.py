"""Traces: see the next messages of one actor, always bounded, and free when nobody looks.

A trace ends by itself after so many messages or so much time, whichever is first, so that a forgotten one costs
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from runtime import _scheduler
from runtime._checks import check_seconds
from runtime._waiting import Waiter, waiter
from runtime.errors import expected, shown

if TYPE_CHECKING:
    from actors._actor import Actor


class TraceEntry(msgspec.Struct, frozen=True):
    """One message: when it was taken (monotonic ns), how long it took (ns), whether it failed, and its repr (cut)."""

    time_ns: int
    duration_ns: int
    failed: bool
    message: str


class Trace:
    """Collect what an actor handles; made by `ref.trace`. `entries` may be read at any time."""

    def __init__(self, actor: Actor, limit: int, for_s: float) -> None:
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise expected("limit to be a positive number of messages", limit)
        check_seconds("for_s", for_s)
        if actor._dead:
            raise actor._dead_error()
        self.entries: list[TraceEntry] = []
        self._actor = actor
        self._limit = limit
        self._waiters: list[Waiter] = []
        self.done = False
        actor._tracer = self
        self._timer = _scheduler.scheduler().call_after(for_s, self.stop)

    def stop(self) -> None:
        """End the trace; what was seen stays."""
        self.done = True
        self._timer.cancel()
        if self._actor._tracer is self:
            self._actor._tracer = None
        while self._waiters:
            self._waiters.pop().wake()

    def wait(self, timeout_s: float | None = None) -> list[TraceEntry]:
        """Wait for the end of the trace, or for `timeout_s`, and return what was seen."""
        waiting = waiter()
        self._waiters.append(waiting)
        if self.done:
            waiting.wake()
        waiting.wait(timeout_s)
        return self.entries

    def add(self, message: Any, begun_ns: int, failed: bool) -> None:
        """Note a message that was handled; called by the actor."""
        if len(self.entries) < self._limit:
            duration_ns = _scheduler.now_ns() - begun_ns
            self.entries.append(TraceEntry(begun_ns, duration_ns, failed, shown(message)))
        if len(self.entries) >= self._limit:
            self.stop()
