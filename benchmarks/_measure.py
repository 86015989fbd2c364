"""How everything here is measured.

Candidates of one comparison run alternately, round after round, so that a machine that slows down slows all of them;
each figure is the median (and the minimum) over the rounds. A yardstick, an empty call with three arguments, runs in
every round as well. No figure means anything alone; the ratios do, and they are taken within each round.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import msgspec

from runtime import _scheduler

ROUNDS = 7


class Figure(msgspec.Struct, frozen=True):
    """One candidate's cost per operation in ns, round by round."""

    name: str
    rounds_ns: list[float]

    @property
    def median_ns(self) -> float:
        return statistics.median(self.rounds_ns)

    @property
    def minimum_ns(self) -> float:
        return min(self.rounds_ns)

    def over(self, other: Figure) -> float:
        """Return the ratio to another's cost: the median of what it was in each round.

        >>> Figure("ours", [1.0, 9.0, 2.0]).over(Figure("theirs", [2.0, 18.0, 2.0]))
        0.5
        """
        return statistics.median(own / its for own, its in zip(self.rounds_ns, other.rounds_ns, strict=True))


class Row(msgspec.Struct, frozen=True):
    """One line of the table: medians, and the same of the minima where there are any. `goal` is told in words; `met`,
    of the medians, is None where there is none."""

    what: str
    ours: str
    peer: str
    ratio: float | None
    yardsticks: float | None
    goal: str
    met: bool | None
    ratio_of_minima: float | None = None
    yardsticks_of_minima: float | None = None


class Settings(msgspec.Struct, frozen=True):
    """How much to do: `quick` is one small round, to see that everything runs."""

    quick: bool = False

    @property
    def rounds(self) -> int:
        return 1 if self.quick else ROUNDS

    def times(self, count: int) -> int:
        """How often to repeat something that a full run repeats `count` times."""
        return max(1, count // 50) if self.quick else count


def nothing(a: object, b: object, c: object) -> None:
    """The yardstick."""


def yardstick(count: int) -> float:
    """Time the yardstick: seconds for `count` calls."""
    begun = time.perf_counter()
    for _ in range(count):
        nothing(1, 2, 3)
    return time.perf_counter() - begun


def compare(
    candidates: Mapping[str, Callable[[int], float]],
    count: int,
    settings: Settings,
    *,
    bursts: int = 1,
    with_yardstick: bool = True,
) -> dict[str, Figure]:
    """Run the candidates alternately; each gets how many operations to do and answers the seconds that they took.

    With `bursts`, each runs so many times in a round, and its figure of the round is their median.
    """
    count, bursts = settings.times(count), settings.times(bursts)
    runs = {"yardstick": yardstick, **candidates} if with_yardstick else candidates
    figures = {name: Figure(name, []) for name in runs}
    for _ in range(settings.rounds):
        for name, run in runs.items():
            gc.collect()
            figures[name].rounds_ns.append(statistics.median(run(count) for _ in range(bursts)) / count * 1e9)
    return figures


def rows(what: str, ours: str, figures: dict[str, Figure], goals: dict[str, float]) -> list[Row]:
    """Make a row for each peer; `goals` maps a peer to the largest ratio that is wanted."""
    own, empty = figures[ours], figures.get("yardstick")
    made = []
    for name, peer in figures.items():
        if name in (ours, "yardstick"):
            continue
        ratio = own.over(peer)
        goal = goals.get(name)
        made.append(
            Row(
                what,
                _told(own),
                f"{name} {_told(peer)}",
                round(ratio, 3),
                round(own.over(empty), 1) if empty else None,
                f"≤ {goal} ×" if goal is not None else "",
                ratio <= goal if goal is not None else None,
                round(own.minimum_ns / peer.minimum_ns, 3),
                round(own.minimum_ns / empty.minimum_ns, 1) if empty else None,
            )
        )
    return made


def _told(figure: Figure) -> str:
    return f"{duration(figure.median_ns)} ({duration(figure.minimum_ns)})"


def duration(ns: float) -> str:
    """Say a duration for people.

    >>> duration(532), duration(12_345), duration(1_500_000)
    ('532 ns', '12.3 µs', '1.50 ms')
    """
    if ns < 1_000:
        return f"{ns:.0f} ns"
    return f"{ns / 1e3:.1f} µs" if ns < 1e6 else f"{ns / 1e6:.2f} ms"


@contextmanager
def pinned() -> Iterator[None]:
    """Keep this thread, and those it starts, the scheduler's among them, on one core, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    _scheduler.stop()
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        _scheduler.stop()
        os.sched_setaffinity(0, before)


def resident_bytes() -> int:
    """Return the resident set of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
