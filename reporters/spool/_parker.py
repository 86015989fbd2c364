"""Where one thread of the durable reporters sleeps until there is work, and how others learn that it has ended.

One thread calls `park`; any thread calls `unpark`. An `unpark` that comes first is not lost: the next `park` returns at
once. Under a fake clock a timeout ends when the test has advanced the clock that far, and not before.
"""

from __future__ import annotations

from runtime._waiting import ThreadWaiter
from runtime.clock import Clock, FakeClock


class Milestone:
    """Something that happens once and that any number of threads may wait for, before and after.

    >>> ended = Milestone()
    >>> ended.wait(0), ended.reach(), ended.wait(0), ended.wait(0)
    (False, None, True, True)
    """

    def __init__(self) -> None:
        self._waiter = ThreadWaiter()

    def wait(self, timeout_s: float) -> bool:
        """Block the calling thread until it has happened; False when the time is over first."""
        reached = self._waiter.wait(timeout_s)
        if reached:
            self._waiter.wake()  # for the next who waits
        return reached

    def reach(self) -> None:
        """Tell that it has happened; any number of times."""
        self._waiter.wake()


class Parker:
    """Let a native thread wait for work or for time to pass.

    >>> parker = Parker(Clock())
    >>> parker.unpark()
    >>> parker.park(None)
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._called = False
        self._parked: ThreadWaiter | None = None

    def park(self, timeout_s: float | None) -> None:
        """Sleep until somebody calls `unpark`, or until the time is over; blocks the calling thread."""
        waiter = self._parked = ThreadWaiter()  # published before the look at `_called`; `unpark` does it reversed
        if not self._called:
            if timeout_s is not None and isinstance(self._clock, FakeClock):
                timer = self._clock.call_after(timeout_s, waiter.wake)
                waiter.wait()
                timer.cancel()
            else:
                waiter.wait(timeout_s)
        self._parked = None
        self._called = False  # the caller looks for work now, and finds whatever was announced before

    def unpark(self) -> None:
        """End the sleep, or the next one; any thread, any number of times, and cheap while nobody sleeps."""
        self._called = True
        parked = self._parked
        if parked is not None:
            parked.wake()
