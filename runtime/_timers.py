"""Timers: calls that the scheduler's hub makes later, in a heap of their own.

One timer of the loop stands for the whole heap: most timers are time limits that are cancelled long before they are
due, and a heap entry costs a tenth of a timer of the loop. A cancelled one stays there, empty, until its time or the
next clean-up. Everything here happens on the hub's thread, but for `Timer.cancel`.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from time import monotonic_ns
from typing import Any, Protocol


class Timer(Protocol):
    """A pending call."""

    def cancel(self) -> None:
        """Forget the call; harmless when it has been made."""


class _Never:
    """A timer that is never due."""

    __slots__ = ()

    def cancel(self) -> None:
        """There is nothing to forget."""


NEVER: Timer = _Never()


class PendingCall:
    """An entry of the heap; `fire` is None once it was made or cancelled."""

    __slots__ = ("_timers", "due_ns", "fire")

    def __init__(self, timers: Timers, due_ns: int, fire: Callable[[], None]) -> None:
        self._timers = timers
        self.due_ns = due_ns
        self.fire: Callable[[], None] | None = fire

    def cancel(self) -> None:
        if self.fire is not None:
            self.fire = None
            self._timers.cancelled += 1


class Timers:
    """Make calls when they are due; `call` makes one and contains what it raises."""

    def __init__(self, call: Callable[[Callable[[], None]], None]) -> None:
        self.cancelled = 0
        self._call = call
        self._heap: list[tuple[int, int, PendingCall]] = []
        self._order = itertools.count()
        self._loop: Any = None
        self._loop_timer: Any = None

    def __len__(self) -> int:
        """Count what is kept, cancelled timers among it."""
        return len(self._heap)

    def open(self, loop: Any) -> None:
        """Begin, with the loop that runs now."""
        self._loop = loop
        self._loop_timer = loop.timer(0)

    def close(self) -> None:
        """End, before the loop does."""
        self._loop_timer.close()

    def pending(self, delay_s: float, fire: Callable[[], None]) -> PendingCall:
        """Make a timer that `add` will start; any thread."""
        return PendingCall(self, monotonic_ns() + int(max(delay_s, 0) * 1e9), fire)

    def add(self, timer: PendingCall) -> None:
        """Start a timer."""
        heap = self._heap
        heapq.heappush(heap, (timer.due_ns, next(self._order), timer))
        if heap[0][2] is timer:
            self._arm()
        if self.cancelled > 1000 and self.cancelled > len(heap) // 2:
            self._heap = [entry for entry in heap if entry[2].fire is not None]
            heapq.heapify(self._heap)
            self.cancelled = 0

    def _arm(self) -> None:
        """Have the loop call `_fire_due` when the first timer is due."""
        self._loop_timer.close()
        if self._heap:
            delay_s = max((self._heap[0][0] - monotonic_ns()) / 1e9, 0)
            self._loop_timer = self._loop.timer(delay_s)
            self._loop_timer.start(self._fire_due)

    def _fire_due(self) -> None:
        now_ns = monotonic_ns()
        while self._heap and self._heap[0][0] <= now_ns:
            timer = heapq.heappop(self._heap)[2]
            fire, timer.fire = timer.fire, None
            if fire is None:
                self.cancelled -= 1
            else:
                self._call(fire)
        self._arm()
