"""Wait for another actor or thread, from wherever the caller happens to run.

`waiter()` gives a one-shot meeting point that fits the calling context: a plain thread parks on a native lock; a green
actor gives its hub back to the others; a greenlet of the host's own gevent hub does the same there. `wake` may come
from any thread, before or after the wait. The hub's own greenlet (a loop callback) must never wait: that is an error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Protocol

from gevent._hub_local import get_hub_if_exists
from greenlet import getcurrent

from runtime import _native
from runtime.errors import BeamstalkError


class Waiter(Protocol):
    """A one-shot meeting point."""

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until `wake` was called; False when the time is over first."""

    def wake(self) -> None:
        """End the wait; any thread, any number of times."""


class ThreadWaiter:
    """Park an OS thread."""

    __slots__ = ("_gate",)

    def __init__(self) -> None:
        self._gate = _native.allocate_lock()
        self._gate.acquire()

    def wait(self, timeout_s: float | None = None) -> bool:
        return bool(self._gate.acquire(True, -1 if timeout_s is None else max(timeout_s, 0)))

    def wake(self) -> None:
        try:
            self._gate.release()
        except RecursionError:
            raise  # a RuntimeError too, but this one says that nobody was woken
        except RuntimeError:
            return  # released already: a second wake says nothing new


class HostHubWaiter:
    """Give a hub that is not ours (a gevent host's) back to its other greenlets meanwhile."""

    __slots__ = ("_async", "_greenlet", "_hub", "_woken")

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self._greenlet: Any = None
        self._woken = False
        self._async = hub.loop.async_()

    def wait(self, timeout_s: float | None = None) -> bool:
        # Not before it waits here: until then the greenlet may stand in some other wait, that a wake must not end.
        self._async.start(self._resume)
        self._greenlet = getcurrent()
        timer = None
        try:
            if timeout_s is not None:
                timer = self._hub.loop.timer(max(timeout_s, 0))
                timer.start(self._time_over)
            over = False
            while not (self._woken or over):
                over = self._hub.switch() is self
            return self._woken
        finally:
            self._greenlet = None
            self._async.close()
            if timer is not None:
                timer.close()

    def wake(self) -> None:
        self._woken = True
        if self._greenlet is not None:
            # Nobody waits any more when the host has destroyed its loop meanwhile.
            with contextlib.suppress(ValueError):
                self._async.send_ignoring_arg(None)

    def _resume(self) -> None:
        if self._greenlet is not None:
            self._greenlet.switch()

    def _time_over(self) -> None:
        if self._greenlet is not None:
            self._greenlet.switch(self)


_own_hub_waiter: tuple[Any, Callable[[], Waiter]] | None = None


def set_own_hub(hub: Any, make: Callable[[], Waiter]) -> None:
    """Tell which hub is the scheduler's and how its greenlets wait; the scheduler calls it when it starts."""
    global _own_hub_waiter
    _own_hub_waiter = (hub, make)


def waiter() -> Waiter:
    """Make a meeting point for the calling thread or greenlet."""
    hub = get_hub_if_exists()
    if hub is None:
        return ThreadWaiter()
    if getcurrent() is hub:
        raise BeamstalkError("expected to wait in a greenlet or thread, got: a callback of the gevent loop")
    if _own_hub_waiter is not None and hub is _own_hub_waiter[0]:
        return _own_hub_waiter[1]()
    return HostHubWaiter(hub)
