"""Overload: ten times what the handlers can do is offered for a minute. Memory, emit latency, accounts, recovery."""

from __future__ import annotations

import time
from array import array
from typing import Any

import runtime
from benchmarks._measure import Row, Settings, duration, resident_bytes
from runtime import _native
from supervisors import Application

EVENT = "shop.order.placed"
SECONDS = 60.0
CAPACITY = 1_000
PAUSE_S = 0.001
"""What a handler takes per event: with the scheduler's own time, at most a thousand events a second."""
RATE = 10_000
"""Events offered each second."""


def slow(*event: Any) -> None:
    """Handle an event slowly."""
    _native.sleep(PAUSE_S)


def _emit(seconds: float) -> array[int]:
    """Emit at the offered rate; return what each emission took, in ns, 8 bytes each."""
    took = array("q")
    in_all = int(seconds * RATE)
    begun = time.perf_counter_ns()
    while len(took) < in_all:
        due = (time.perf_counter_ns() - begun) * RATE // 1_000_000_000
        while len(took) < min(due, in_all):
            before = time.perf_counter_ns()
            runtime.execute(EVENT, {"amount": 1}, {"shop": "s1"})
            took.append(time.perf_counter_ns() - before)
        time.sleep(0.0005)
    return took


def overload(settings: Settings) -> list[Row]:
    """Offer ten times the capacity, then see that everything is accounted for and works as before."""
    seconds = 0.3 if settings.quick else SECONDS
    with Application("bench", drain_s=60).running():
        alone = sorted(_emit(seconds / 10))
        runtime.attach("slow", EVENT, slow, capacity=CAPACITY)
        sizes = []
        took = array("q")
        for _ in range(10):
            took += _emit(seconds / 10)
            sizes.append(resident_bytes() - took.itemsize * len(took))
        (info,) = runtime.list_handlers(EVENT)
        offered = info.mailbox.offered
        until_empty = time.perf_counter()
        while (info := runtime.list_handlers(EVENT)[0]).mailbox.pending:
            time.sleep(0.01)
        recovered_s = time.perf_counter() - until_empty
        for _ in range(100):
            runtime.execute(EVENT, {"amount": 1}, {"shop": "s1"})
        while (after := runtime.list_handlers(EVENT)[0]).mailbox.pending:
            time.sleep(0.01)
        runtime.detach("slow")
    sorted_ns = sorted(took)
    seen = info.mailbox
    dropped = sum(seen.dropped.values())
    exact = len(took) == offered == seen.handled + dropped and after.mailbox.handled == seen.handled + 100
    growth_mb = (sizes[-1] - sizes[0]) / 2**20
    times = f"{offered / max(seen.handled, 1):.1f} × for {seconds:.0f} s"
    what = "overload"
    p999, bare = sorted_ns[int(len(took) * 0.999)], alone[int(len(alone) * 0.999)]
    return [
        Row(
            what,
            f"{offered:,} offered = {seen.handled:,} handled + {dropped:,} dropped",
            times,
            None,
            None,
            "drops equal the shortfall",
            exact,
        ),
        Row(what, f"p99.9 {duration(p999)}", f"before {duration(bare)}", round(p999 / bare, 2), None, "", None),
        Row(what, f"RSS {growth_mb:+.1f} MB from first to last tenth", "", None, None, "bounded", growth_mb < 16),
        Row(
            what,
            f"empty {recovered_s:.1f} s after the end",
            "",
            None,
            None,
            "recovers",
            not after.mailbox.dropped.keys() - {"full"},
        ),
    ]
