"""Time, handed in rather than reached for, so that a whole tree can run without waiting.

`Clock` is the machine's; `FakeClock` moves only when a test advances it and fires the timers that come due, in order.
Durations and instants are integer nanoseconds; `monotonic_ns` is for durations, `system_ns` for calendars.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable

from runtime.errors import expected

__all__ = ["Clock", "FakeClock"]


class Clock:
    """The machine's clock."""

    monotonic_ns = staticmethod(time.monotonic_ns)
    system_ns = staticmethod(time.time_ns)

    def system_of(self, monotonic_ns: int) -> int:
        """Convert a monotonic instant of this clock to calendar time (ns since the epoch)."""
        return self.system_ns() - (self.monotonic_ns() - monotonic_ns)


class _FakeTimer:
    """A pending call of a fake clock."""

    __slots__ = ("due_ns", "fire")

    def __init__(self, due_ns: int, fire: Callable[[], None] | None) -> None:
        self.due_ns = due_ns
        self.fire = fire

    def cancel(self) -> None:
        """Forget the call; harmless when it has been made."""
        self.fire = None


class FakeClock(Clock):
    """A clock that a test moves.

    >>> clock = FakeClock()
    >>> fired = []
    >>> timer = clock.call_after(2.0, lambda: fired.append("due"))
    >>> clock.advance(1.5)
    >>> fired
    []
    >>> clock.advance(1.0)
    >>> fired, clock.monotonic_ns()
    (['due'], 2500000000)
    """

    def __init__(self, monotonic_ns: int = 0, system_ns: int = 1_700_000_000_000_000_000) -> None:
        self._now_ns = monotonic_ns
        self._offset_ns = system_ns - monotonic_ns
        self._timers: list[tuple[int, int, _FakeTimer]] = []
        self._order = itertools.count()
        self.settle: Callable[[], None] = lambda: None
        """Called before and after each due timer; a scheduler sets it to wait until its actors are quiet."""

    def monotonic_ns(self) -> int:
        return self._now_ns

    def system_ns(self) -> int:
        return self._now_ns + self._offset_ns

    def call_after(self, delay_s: float, fire: Callable[[], None]) -> _FakeTimer:
        """Call `fire` once the clock has been advanced by `delay_s`."""
        timer = _FakeTimer(self._now_ns + int(max(delay_s, 0) * 1e9), fire)
        heapq.heappush(self._timers, (timer.due_ns, next(self._order), timer))
        return timer

    def advance(self, seconds: float) -> None:
        """Move time forward, firing the timers that come due on the way in their order.

        Run by the test's own thread; blocks until the actors that the timers woke are quiet again.
        """
        if seconds < 0:
            raise expected("seconds to be zero or more", seconds)
        self.settle()
        until_ns = self._now_ns + round(seconds * 1e9)
        while self._timers and self._timers[0][0] <= until_ns:
            due_ns, _, timer = heapq.heappop(self._timers)
            if timer.fire is None:
                continue
            self._now_ns = max(self._now_ns, due_ns)
            timer.fire()
            self.settle()
        self._now_ns = until_ns
        self.settle()
