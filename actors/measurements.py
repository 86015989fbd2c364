"""Built-in measurements for pollers: the process, and the runtime in it.

Each emits one event when it is called; give them to an application as `pollers`, or call them yourself.
"""

from __future__ import annotations

import gc
import os
import resource
import sys
import threading
import time

from actors.poller import Measurement
from runtime import _process_table, _scheduler, execute
from runtime._waiting import waiter

__all__ = ["built_in", "measure_process", "measure_runtime"]

_LAG_LIMIT_S = 5.0


def measure_process() -> None:
    """Emit `runtime.process`.

    Measurements: rss (bytes), cpu (ns, user and system, since the start of the process), threads, gc_collections (all
    generations), gc_uncollectable (objects). Metadata: pid.
    """
    generations = gc.get_stats()
    execute(
        "runtime.process",
        {
            "rss": _rss_bytes(),
            "cpu": time.process_time_ns(),
            "threads": threading.active_count(),
            "gc_collections": sum(generation["collections"] for generation in generations),
            "gc_uncollectable": sum(generation["uncollectable"] for generation in generations),
        },
        {"pid": os.getpid()},
    )


def measure_runtime() -> None:
    """Emit `runtime.system`.

    Measurements: actors (alive), pending and dropped (messages, over all mailboxes), deepest (messages in the fullest
    mailbox), hub_lag (ns until the hub ran something it was just given). Waits for the hub, at most 5 s.
    """
    mailboxes = [process.info().mailbox for process in _process_table.processes()]
    execute(
        "runtime.system",
        {
            "actors": len(mailboxes),
            "pending": sum(box.pending for box in mailboxes),
            "dropped": sum(sum(box.dropped.values()) for box in mailboxes),
            "deepest": max((box.pending for box in mailboxes), default=0),
            "hub_lag": _hub_lag_ns(),
        },
    )


def built_in(period_s: float = 10.0) -> tuple[Measurement, Measurement]:
    """Return pollers for all built-in measurements.

    >>> [measurement.name for measurement in built_in(period_s=5)]
    ['measure_process', 'measure_runtime']
    """
    return Measurement(measure_process, period_s), Measurement(measure_runtime, period_s)


def _hub_lag_ns() -> int:
    waiting = waiter()
    begun_ns = time.perf_counter_ns()
    _scheduler.scheduler().post(waiting.wake)
    waiting.wait(_LAG_LIMIT_S)
    return time.perf_counter_ns() - begun_ns


def _rss_bytes() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        # Without /proc the peak is the nearest thing; macOS counts it in bytes, others in kilobytes.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
