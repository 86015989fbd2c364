"""The watchdog: a thread that finds an actor which holds the hub, and tells of it, with its stack, once each time.

It only looks: at a clock reading that the hub publishes whenever it comes back to its loop, and at the frames of the
hub's thread. What becomes of the actor is decided by the actor's own policy (`_blocks_hub`).
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from time import monotonic_ns
from types import CodeType

from loguru import logger

from runtime._dispatch import execute
from runtime._harmless import harmless
from runtime._waiting import ThreadWaiter

BLOCKED = "runtime.scheduler.blocked"
BLOCKED_NS = 100_000_000
_WATCH_S = 0.05


class Watchdog:
    """Watch the thread `thread_id`. `busy_since_ns` answers since when it holds the hub, or 0; in frames of `work`,
    the local `activity` is the actor that runs."""

    def __init__(self, thread_id: int, busy_since_ns: Callable[[], int], work: CodeType) -> None:
        self._thread_id = thread_id
        self._busy_since_ns = busy_since_ns
        self._work = work
        self._ended = ThreadWaiter()

    def stop(self) -> None:
        """End the watch."""
        self._ended.wake()

    def run(self) -> None:
        """Watch until `stop`; runs in a thread of its own."""
        reported_ns = 0
        while not self._ended.wait(_WATCH_S):
            since_ns = self._busy_since_ns()
            blocked_ns = monotonic_ns() - since_ns
            if since_ns and since_ns != reported_ns and blocked_ns >= BLOCKED_NS:
                reported_ns = since_ns
                self._report(blocked_ns)

    @harmless
    def _report(self, blocked_ns: int) -> None:
        """Event `runtime.scheduler.blocked`: measurements {duration} (ns so far), metadata {activity, stacktrace}."""
        frame = sys._current_frames().get(self._thread_id)
        activity, found = None, frame
        while found is not None and activity is None:
            if found.f_code is self._work:
                activity = found.f_locals.get("activity")
            found = found.f_back
        stack = "".join(traceback.format_stack(frame))
        execute(BLOCKED, {"duration": blocked_ns}, {"activity": str(activity), "stacktrace": stack})
        logger.warning("the hub is blocked for {} ms by {}, in\n{}", blocked_ns // 1_000_000, activity, stack)
        if activity is not None:
            activity._blocks_hub()
