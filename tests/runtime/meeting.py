"""How the tests of the kernel and the actors wait: for a condition, or at a gate, and never by the clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import gevent
from gevent import monkey

from runtime import _native
from runtime._waiting import Waiter, waiter

_T = TypeVar("_T")

PATIENCE_S = 60.0
"""How long anything may take before a test calls it hung; only a failing test waits this long."""


def until(condition: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Wait until a condition holds that nobody announces, such as a count in `statistics()`."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"expected the condition to hold within {patience_s} s: {condition}"
        time.sleep(0.001)


class Gate:
    """Holds whoever passes until it is opened, a thread as well as a green actor."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._open = False
        self._waiting: list[Waiter] = []

    def pass_through(self) -> None:
        """Wait, on whatever carrier the caller runs, until the gate is open."""
        waiting = waiter()
        self._waiting.append(waiting)
        if self._open:
            waiting.wake()
        self.reached.set()
        waiting.wait()

    def wait_reached(self) -> None:
        """Wait until somebody stands at the gate."""
        assert self.reached.wait(PATIENCE_S), "expected somebody to reach the gate"

    def open(self) -> None:
        """Let everybody pass, from now on for ever."""
        self._open = True
        for waiting in self._waiting:
            waiting.wake()


class Hold:
    """Holds the OS thread of whoever waits, and a green actor's hub with it: no hub can run others meanwhile."""

    def __init__(self) -> None:
        self._lock = _native.allocate_lock()
        self._lock.acquire()
        self._released = False

    def wait(self, timeout_s: float = PATIENCE_S) -> None:
        """Wait until it is released."""
        if self._lock.acquire(True, timeout_s):
            self._lock.release()

    def release(self) -> None:
        """Let everybody go on, from now on for ever."""
        if not self._released:
            self._released = True
            self._lock.release()


def in_threads(count: int, work: Callable[[int], object]) -> None:
    """Run `work(number)` in so many threads that begin together; what one of them raises is raised here."""
    errors: list[BaseException] = []
    together = threading.Barrier(count)

    def run(number: int) -> None:
        try:
            together.wait(PATIENCE_S)
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "expected every thread to come to its end"
    if errors:
        raise errors[0]


class Answer:
    """Runs a call in a thread of its own, and has its result or what it raised."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self.result: object = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._call()
        except BaseException as error:
            self.error = error

    def get(self) -> object:
        """Wait for the end of the call; raise what it raised."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "expected the call to come to its end"
        if self.error is not None:
            raise self.error
        return self.result


class OwnThread(Answer):
    """Runs a call as the runtime runs its own: in a thread of the system, also in a process that is patched."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self.result: object = None
        self.error: BaseException | None = None
        self._ended = False
        _native.start_new_thread(self._run, ())

    def _run(self) -> None:
        super()._run()
        self._ended = True

    def get(self) -> object:
        until(lambda: self._ended)
        if self.error is not None:
            raise self.error
        return self.result


def in_a_hub(work: Callable[[], _T]) -> _T:
    """Run something in a thread that has a gevent hub, as a gevent host's threads have, and be rid of the hub."""

    def run() -> _T:
        try:
            return work()
        finally:
            # In a patched process our thread is a greenlet of the host's own hub.
            if not monkey.is_module_patched("threading"):
                gevent.get_hub().destroy(destroy_loop=True)

    return Answer(run).get()  # type: ignore[return-value]
