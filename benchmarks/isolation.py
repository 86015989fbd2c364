"""An emitter beside bad neighbours: its slowest emissions, with and without them."""

from __future__ import annotations

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


def _p999_ns(count: int) -> int:
    """Emit at a service's pace, so that nothing piles up; return the 99.9th percentile."""
    took = []
    for _ in range(count):
        begun = time.perf_counter_ns()
        runtime.execute(EVENT, {"duration": 1}, {"queue_id": "q1"})
        took.append(time.perf_counter_ns() - begun)
        time.sleep(0.0002)
    took.sort()
    return took[int(len(took) * 0.999)]


def neighbours(settings: Settings) -> list[Row]:
    """The 99.9th percentile of `execute` beside a handler that sleeps 100 ms, and beside one that burns a core."""
    count = settings.times(5_000)
    alone: list[int] = []
    beside: dict[str, list[int]] = {"sleeper (thread)": [], "CPU hog (process)": []}
    attach: dict[str, Callable[[], None]] = {
        "sleeper (thread)": lambda: runtime.attach("bad", EVENT, sleep_100_ms, capacity=100),
        "CPU hog (process)": lambda: runtime.attach("bad", EVENT, burn, carrier="process", capacity=100),
    }
    with Application("bench", drain_s=1).running():
        runtime.attach("good", EVENT, _nothing, carrier="green", capacity=100_000)
        for _ in range(settings.rounds):
            alone.append(_p999_ns(count))
            for name, begin in attach.items():
                begin()
                beside[name].append(_p999_ns(count))
                runtime.detach("bad")
        runtime.detach("good")
    rows = []
    for name, goal in (("sleeper (thread)", 1.2), ("CPU hog (process)", 1.5)):
        # Median of the rounds' ratios: the machine's own hiccups hit both sides of a round.
        ratios = sorted(each / bare for each, bare in zip(beside[name], alone, strict=True))
        ratio = ratios[len(ratios) // 2]
        own, bare = sorted(beside[name])[len(ratios) // 2], sorted(alone)[len(ratios) // 2]
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
