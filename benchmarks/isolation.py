"""An emitter beside bad neighbours: its slowest emissions, with and without them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import runtime
from benchmarks._measure import Row, Settings, duration
from benchmarks.neighbours import burn, sleep_100_ms
from supervisors import Application

EVENT = "anvil.label.submit.stop"


def _nothing(*event: Any) -> None:
    """A handler that is no burden."""


ROUNDS = 20
"""Short ones in turn, and their median, because a shared machine has slow moments."""


def _emit(count: int) -> list[int]:
    """Emit at a service's pace, so that nothing piles up; return what each emission took, in ns."""
    took = []
    for _ in range(count):
        begun = time.perf_counter_ns()
        runtime.execute(EVENT, {"duration": 1}, {"queue_id": "q1"})
        took.append(time.perf_counter_ns() - begun)
        time.sleep(0.0002)
    return took


def _p999_ns(took: list[int]) -> int:
    return sorted(took)[int(len(took) * 0.999)]


def _has_handled(handler_id: str) -> bool:
    return any(info.mailbox.handled for info in runtime.list_handlers(EVENT) if info.id == handler_id)


def neighbours(settings: Settings) -> list[Row]:
    """The 99.9th percentile of `execute` beside a handler that sleeps 100 ms, and beside one that burns a core."""
    count = settings.times(2_000)
    alone: list[int] = []
    beside: dict[str, list[int]] = {"sleeper (thread)": [], "CPU hog (process)": []}
    attach: dict[str, Callable[[], None]] = {
        "sleeper (thread)": lambda: runtime.attach("bad", EVENT, sleep_100_ms, capacity=100),
        "CPU hog (process)": lambda: runtime.attach("bad", EVENT, burn, carrier="process", capacity=100),
    }
    with Application("bench", drain_s=1).running():
        runtime.attach("good", EVENT, _nothing, carrier="green", capacity=100_000)
        for _ in range(1 if settings.quick else ROUNDS):
            _emit(50)  # not measured: what has just ended, or begins, is no neighbour
            alone.append(_p999_ns(_emit(count)))
            for name, begin in attach.items():
                begin()
                while not _has_handled("bad"):
                    _emit(50)
                beside[name].append(_p999_ns(_emit(count)))
                runtime.detach("bad")
        runtime.detach("good")
    bare = statistics.median(alone)
    rows = []
    for name, goal in (("sleeper (thread)", 1.2), ("CPU hog (process)", 1.5)):
        own = statistics.median(beside[name])
        ratio = own / bare
        rows.append(
            Row(
                f"emitter p99.9 beside a {name}",
                duration(own),
                f"without it {duration(bare)}",
                round(ratio, 2),
                None,
                f"≤ {goal} ×",
                ratio <= goal,
            )
        )
    return rows
