"""Handing over the GIL, for threads of ours that drain mail: the scheduler's, and those of actors that have one.

CPython takes the GIL from a thread only when another has waited for it for 5 ms, and that is what a thread that drains
would cost each emitter. So it gives the GIL away by itself after every `YIELD_NS` of work; what a single handler does
with it in between is the handler's affair.
"""

from __future__ import annotations

from time import process_time_ns, thread_time_ns

from runtime import _native

YIELD_NS = 100_000
_OTHERS_NS = 1_000


class Turns:
    """Give the GIL away from one thread, the only one to use this object."""

    __slots__ = ("_alone", "_others_ns")

    def __init__(self) -> None:
        self._alone = 0
        self._others_ns = 0

    def pass_on(self) -> None:
        """Let other threads have the GIL, if any other thread lives.

        A release that is taken back at once hands the GIL to nobody, so this must sleep, and even a sleep of 0 costs a
        busy thread some 60 µs: half of its time. A thread that wants the GIL has used some CPU to get there, so we look
        whether the process has used more than we have. Where it has not for several looks, nobody waits, and one sleep
        in ten will do.
        """
        others_ns = process_time_ns() - thread_time_ns()
        self._alone = self._alone + 1 if others_ns - self._others_ns < _OTHERS_NS else 0
        self._others_ns = others_ns
        if self._alone < 4 or self._alone % 10 == 0:
            _native.sleep(0)
