"""The green scheduler: one daemon OS thread, one gevent hub of its own, a pool of greenlets.

An idle actor holds no stack: `ready` takes whatever has mail, the pump gives each a pooled greenlet, and a greenlet
that blocks inside a handler is simply left behind until its wait is over. Any thread may call `activate`, `post` and
`call_after`; everything else happens on the hub's thread.

Waking: a foreign thread appends to `ready` and, if the pump has published that it is parked, sends the loop's async
watcher, the one call of gevent that is safe there. The pump publishes *parked* and then looks at `ready` again.

The GIL: a busy pump gives it away every 100 µs of work while other threads are about (see `_gil`). It also returns to
the loop every few milliseconds, for I/O and timers.
"""

from __future__ import annotations

import atexit
import random
import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic_ns, perf_counter_ns
from typing import Any, Protocol

import gevent
import greenlet
import msgspec
from gevent.exceptions import HubDestroyed
from loguru import logger

from runtime import _native
from runtime._fork import in_child
from runtime._gil import YIELD_NS, Turns
from runtime._harmless import Interrupted, harmless
from runtime._timers import Timer, Timers
from runtime._waiting import ThreadWaiter, set_own_hub
from runtime._watchdog import Watchdog
from runtime.clock import Clock, FakeClock
from runtime.errors import BeamstalkError

_INTERRUPT_S = 0.5
_LOOP_SLICE_NS = 3_000_000
_POOL = 64


class Activity(Protocol):
    """What the scheduler runs on a pooled greenlet: an actor with mail."""

    def _activate(self) -> bool:
        """Handle mail for a while; True when there is more to do."""

    def _blocks_hub(self) -> None:
        """Take note of holding the hub for too long; called from the watchdog's thread."""


class SchedulerStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What the scheduler has done; `blocked_ns` is how long the hub has not come back to its loop."""

    running: bool
    ready: int
    activations: int
    greenlets: int
    pooled: int
    blocked_ns: int


class Worker(greenlet.greenlet):
    """A pooled greenlet; `activity` is the actor it runs at the moment."""

    activity: Any = None


class _GreenWaiter:
    """Let a green actor wait: its greenlet leaves the hub to the others. One-shot."""

    __slots__ = ("_greenlet", "_over", "_scheduler", "_woken")

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._greenlet: Any = None
        self._woken = False
        self._over = False

    def wait(self, timeout_s: float | None = None) -> bool:
        self._greenlet = greenlet.getcurrent()
        timer = None if timeout_s is None else self._scheduler.call_after(timeout_s, self._time_over)
        try:
            while not (self._woken or self._over):
                self._scheduler._hub_switch()
        finally:
            self._greenlet = None
            if timer is not None:
                timer.cancel()
        return self._woken

    def wake(self) -> None:
        self._woken = True
        if self._greenlet is not None:
            self._scheduler.activate(self)

    def _time_over(self) -> None:
        self._over = True
        self.resume()

    def resume(self) -> None:
        """Go on where the wait began; on the hub's own greenlet."""
        # The greenlet may have left the wait for another reason and serve somebody else by now.
        if self._greenlet is not None:
            self._greenlet.switch()


class Scheduler:
    """Run green actors on one hub.

    `clock` moves time (a FakeClock makes timers wait for the test); `seed` runs ready actors in a random but
    repeatable order, to find what depends on order.
    """

    def __init__(self, clock: Clock | None = None, seed: int | None = None) -> None:
        self.clock = clock or Clock()
        self._timers = Timers(self._guarded)
        self._random = None if seed is None else random.Random(seed)
        self._ready: deque[Any] = deque()
        self._idle: list[Worker] = []
        self._parked = False
        self._stopping = False
        self._hub: Any = None
        self._async: Any = None
        self._hub_switch: Callable[[], Any] = _nothing
        self._thread_id: int | None = None
        self._activations = 0
        self._greenlets = 0
        self._busy_since_ns = 0
        self._yield_at_ns = 0
        self._turns = Turns()
        self._exited = ThreadWaiter()
        self._quiet_waiters: list[ThreadWaiter] = []

    # -- any thread --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread and return when its hub runs."""
        started = ThreadWaiter()
        _native.start_new_thread(self._run, (started,))
        if not started.wait(30):
            raise BeamstalkError("expected the scheduler's thread to start within 30 s, got: no answer")
        if isinstance(self.clock, FakeClock):
            self.clock.settle = self._settle

    def stop(self, timeout_s: float = 5.0) -> bool:
        """End the thread; False when it does not come to an end in time (an actor holds the hub)."""
        self.post(self._leave)
        if self._exited.wait(timeout_s):
            return True
        # An actor that computes without end. It must not go on while the interpreter exits: CPython ends threads that
        # ask for the GIL then by unwinding their stack, and that of a greenlet cannot be unwound.
        _native.interrupt(self._thread_id or 0, Interrupted)
        return self._exited.wait(_INTERRUPT_S)

    def activate(self, activity: Activity | _GreenWaiter) -> None:
        """Give an actor a greenlet soon, or let one go on that waits."""
        self._ready.append(activity)
        if self._parked:
            self._unpark()

    def post(self, call: Callable[[], None]) -> None:
        """Call something short on the hub's own greenlet soon; it must not wait."""
        self._ready.append(_Call(call))
        if self._parked:
            self._unpark()

    def call_after(self, delay_s: float, fire: Callable[[], None]) -> Timer:
        """Call something short on the hub's own greenlet after `delay_s` seconds of this scheduler's clock."""
        if isinstance(self.clock, FakeClock):
            return self.clock.call_after(delay_s, lambda: self.post(fire))
        timer = self._timers.pending(delay_s, fire)
        if _native.get_ident() == self._thread_id:
            self._timers.add(timer)
        else:
            self.post(lambda: self._timers.add(timer))
        return timer

    def on_hub_thread(self) -> bool:
        """Tell whether the caller runs on the hub's thread."""
        return _native.get_ident() == self._thread_id

    def wait_quiet(self, timeout_s: float = 30.0) -> bool:
        """Wait (from a foreign thread) until nothing is ready to run on the hub."""
        waiting = ThreadWaiter()
        # Enlisted on the hub, behind all that was ready before: a hub that has just found nothing to do, and has not
        # told so yet, must not take this one for somebody who asked before it looked.
        self.post(lambda: self._quiet_waiters.append(waiting))
        return waiting.wait(timeout_s)

    def _settle(self) -> None:
        if not self.wait_quiet():
            raise BeamstalkError("expected the actors to become quiet within 30 s, got: they go on and on")

    def statistics(self) -> SchedulerStatistics:
        """Answer from any thread without waiting for the hub."""
        since_ns = self._busy_since_ns
        return SchedulerStatistics(
            running=self._thread_id is not None,
            ready=len(self._ready),
            activations=self._activations,
            greenlets=self._greenlets,
            pooled=len(self._idle),
            blocked_ns=monotonic_ns() - since_ns if since_ns else 0,
        )

    # -- the hub's thread --------------------------------------------------------------------------------------------

    def _run(self, started: ThreadWaiter) -> None:
        hub = self._hub = gevent.get_hub()
        hub.handle_error = self._report  # gevent would print to the host's stderr
        self._hub_switch = partial(greenlet.greenlet.switch, hub)  # gevent's own asks its greenlets first, we have none
        self._thread_id = _native.get_ident()
        self._main = greenlet.getcurrent()
        self._async = hub.loop.async_()
        self._async.start(self._woken)
        # Around the loop's wait for I/O: what lies between two waits is how long somebody holds the hub. gevent runs
        # its callbacks, our pump among them, in a prepare watcher of its own; ours must come after that one.
        before, after = hub.loop.prepare(priority=hub.loop.MINPRI), hub.loop.check(priority=hub.loop.MAXPRI)
        before.start(self._loop_waits)
        after.start(self._loop_runs)
        self._timers.open(hub.loop)
        watchdog = Watchdog(self._thread_id, lambda: self._busy_since_ns, Scheduler._work.__code__)
        set_own_hub(hub, lambda: _GreenWaiter(self))
        hub.loop.run_callback(self._pump)
        started.wake()
        _native.start_new_thread(watchdog.run, ())
        try:
            while not self._stopping:
                hub.switch()
        finally:
            self._thread_id = None
            self._parked = False
            before.close()
            after.close()
            self._async.close()
            self._timers.close()
            hub.destroy(destroy_loop=True)
            watchdog.stop()
            self._exited.wake()

    def _loop_waits(self) -> None:
        self._busy_since_ns = 0

    def _loop_runs(self) -> None:
        self._busy_since_ns = monotonic_ns()

    def _leave(self) -> None:
        self._stopping = True
        self._main.switch()

    def _unpark(self) -> None:
        self._parked = False
        try:
            self._async.send()
        except ValueError:
            return  # the scheduler has just stopped, and destroyed its loop

    def _woken(self) -> None:
        """Go on after a wait; others have had the GIL meanwhile."""
        self._yield_at_ns = perf_counter_ns() + YIELD_NS
        self._pump()

    def _pump(self) -> None:
        """Run what is ready. A loop callback, so it is the hub's own greenlet that runs here."""
        if not self._busy_since_ns:
            self._busy_since_ns = monotonic_ns()  # the loop may call us before it calls `_loop_runs`
        ready = self._ready
        leave_at_ns = perf_counter_ns() + _LOOP_SLICE_NS
        while True:
            while ready:
                item = ready.popleft() if self._random is None else self._pick(ready)
                now_ns = perf_counter_ns()
                if item.__class__ is _Call:
                    self._guarded(item.call)
                elif item.__class__ is _GreenWaiter:
                    item.resume()
                else:
                    self._activations += 1
                    worker = self._idle.pop() if self._idle else self._new_worker()
                    worker.switch(item)
                if now_ns > self._yield_at_ns:
                    self.yield_gil()
                    if now_ns > leave_at_ns:
                        self._hub.loop.run_callback(self._pump)
                        return
            self._parked = True
            if not ready:
                self._tell_quiet()
                return
            self._parked = False

    def yield_gil(self) -> None:
        """Let other threads have the GIL; on the hub's thread."""
        self._turns.pass_on()
        self._yield_at_ns = perf_counter_ns() + YIELD_NS

    def _pick(self, ready: deque[Any]) -> Any:
        assert self._random is not None
        ready.rotate(-self._random.randrange(len(ready)))
        return ready.popleft()

    def _new_worker(self) -> Worker:
        self._greenlets += 1
        return Worker(self._work, self._hub)

    def _work(self, activity: Activity) -> None:
        worker = greenlet.getcurrent()
        assert isinstance(worker, Worker)
        idle = self._idle
        try:
            while True:
                worker.activity = activity
                try:
                    if activity._activate():
                        self.activate(activity)
                except BaseException:
                    # An actor contains its own failures; what arrives here is a defect of ours, or a late kill.
                    self._report(activity, *sys.exc_info())
                worker.activity = None
                if len(idle) >= _POOL or self._stopping:
                    return
                idle.append(worker)
                activity = self._hub_switch()
        finally:
            self._greenlets -= 1

    def _guarded(self, call: Callable[[], None]) -> None:
        try:
            call()
        except HubDestroyed:
            raise  # the thread ends
        except BaseException:
            self._report(call, *sys.exc_info())

    @harmless
    def _report(self, context: object, kind: Any, value: Any, trace: Any) -> None:
        logger.opt(exception=(kind, value, trace)).error("unexpected failure in the scheduler, in {!r}", context)

    def _tell_quiet(self) -> None:
        while self._quiet_waiters:
            self._quiet_waiters.pop().wake()


class _Call:
    """A short call for the hub's own greenlet, told apart from actors by its class."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call


def _nothing() -> None:
    """Make the pump look again."""


now_ns: Callable[[], int] = Clock.monotonic_ns
"""The monotonic time of the running scheduler's clock."""

_scheduler: Scheduler | None = None
_exit_registered = False
_start_lock = _native.allocate_lock()


def scheduler() -> Scheduler:
    """Return the process's scheduler, starting it when it does not run yet."""
    current = _scheduler
    return current if current is not None else start()


def running_clock() -> Clock:
    """Return the running scheduler's clock, or the machine's; starts nothing."""
    current = _scheduler
    return current.clock if current is not None else Clock()


def start(clock: Clock | None = None, seed: int | None = None) -> Scheduler:
    """Start the process's scheduler; one that runs already is kept when no clock and no seed are asked for."""
    global _scheduler, now_ns, _exit_registered
    with _start_lock:
        if _scheduler is None or clock is not None or seed is not None:
            if _scheduler is not None:
                raise BeamstalkError("expected the scheduler to be stopped, got: a running one. Stop it first")
            new = Scheduler(clock, seed)
            new.start()
            if _scheduler is None and not _exit_registered:
                atexit.register(_at_exit)
                _exit_registered = True
            _scheduler = new
            now_ns = new.clock.monotonic_ns
        return _scheduler


_inherited: list[Scheduler] = []


@in_child
def _leave_behind() -> None:
    """Have no scheduler; the parent's is kept aside untouched, because to collect it would be to touch its loop."""
    global _scheduler, _start_lock, now_ns
    _start_lock = _native.allocate_lock()
    if _scheduler is not None:
        _inherited.append(_scheduler)
    _scheduler = None
    now_ns = Clock.monotonic_ns
    set_own_hub(None, ThreadWaiter)


def post_if_running(call: Callable[[], None]) -> None:
    """Call something short on the hub soon, if there is one; safe in the middle of anything."""
    if _scheduler is not None:
        _scheduler.post(call)


def _at_exit() -> None:
    """End the thread before the interpreter does; the stopped scheduler stays, so that nobody starts another."""
    if _scheduler is not None:
        _scheduler.stop(_INTERRUPT_S)


def stop(timeout_s: float = 5.0) -> bool:
    """Stop the process's scheduler; True when none runs any more."""
    global _scheduler
    with _start_lock:
        current, _scheduler = _scheduler, None
    return current is None or current.stop(timeout_s)
