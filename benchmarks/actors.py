"""Actors: what an idle one costs, how fast they start, answer and come back; beside pykka and greenlets."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import greenlet
import pykka
from loguru import logger

from actors import Actor, ActorRef, Future
from benchmarks._measure import Row, Settings, compare, duration, pinned, resident_bytes, rows
from supervisors import ChildSpec, DynamicSupervisor, Supervisor


class Idle(Actor):
    def on_receive(self, message: Any) -> Any:
        return message


class Inside(Actor):
    """Run a function inside the hub and answer what it answers."""

    def on_receive(self, message: Callable[[], Any]) -> Any:
        return message()


class PykkaIdle(pykka.ThreadingActor):
    use_daemon_thread = True

    def on_receive(self, message: Any) -> Any:
        return message


def idle(settings: Settings) -> list[Row]:
    """Bytes of a supervised idle actor, and of the peers' nearest thing."""
    count = settings.times(50_000)
    supervisor = DynamicSupervisor.start()
    spec = ChildSpec("idle", Idle, restart="temporary")
    inside = Inside.start()
    inside.ask(lambda: [supervisor.start_child(spec) for _ in range(100)], timeout=60)

    def grown(make: Callable[[], object], count: int) -> float:
        gc.collect()
        before = resident_bytes()
        keep = make()
        gc.collect()
        size = (resident_bytes() - before) / count
        del keep
        return size

    def start_all() -> object:
        return inside.ask(lambda: [supervisor.start_child(spec) for _ in range(count)], timeout=600)

    ours = grown(start_all, count)
    supervisor.stop(timeout=600)
    inside.stop()

    def greenlets() -> object:
        made = []
        for _ in range(count):
            one = greenlet.greenlet(lambda: greenlet.getcurrent().parent.switch())  # type: ignore[union-attr]
            one.switch()
            made.append(one)
        return made

    bare = grown(greenlets, count)
    few = min(count, 500)
    threads: list[Any] = []
    pykkas = grown(lambda: threads.extend(PykkaIdle.start() for _ in range(few)), few)
    pykka.ActorRegistry.stop_all()
    what = "idle supervised actor"
    met = None if settings.quick else ours <= 1024
    return [
        Row(
            what,
            f"{ours:,.0f} bytes",
            "pykka ThreadingActor " + f"{pykkas:,.0f} bytes",
            round(ours / pykkas, 4),
            None,
            "",
            None,
        ),
        Row(what, f"{ours:,.0f} bytes", f"bare greenlet {bare:,.0f} bytes", round(ours / bare, 3), None, "≤ 1 KB", met),
    ]


def spawn(settings: Settings) -> list[Row]:
    """Start and stop, one after the other."""
    inside = Inside.start()

    def in_hub(count: int) -> float:
        def work() -> float:
            begun = time.perf_counter()
            for _ in range(count):
                Idle.start().stop(block=False)
            return time.perf_counter() - begun

        return float(inside.ask(work, timeout=600))

    def with_pykka(count: int) -> float:
        begun = time.perf_counter()
        for _ in range(count):
            PykkaIdle.start().stop(block=False)
        return time.perf_counter() - begun

    figures = compare({"Actor": in_hub, "pykka ThreadingActor": with_pykka}, 1_000, settings)
    inside.stop()
    pykka.ActorRegistry.stop_all()
    return rows("start and stop an actor", "Actor", figures, {})


def asks(settings: Settings) -> list[Row]:
    """Ask round trips, inside the hub and from a foreign thread."""

    def in_hub(count: int) -> float:
        def work() -> float:
            begun = time.perf_counter()
            for _ in range(count):
                echo.ask(1)
            return time.perf_counter() - begun

        return float(inside.ask(work, timeout=600))

    def from_thread(count: int) -> float:
        begun = time.perf_counter()
        for _ in range(count):
            echo.ask(1)
        return time.perf_counter() - begun

    def with_pykka(count: int) -> float:
        begun = time.perf_counter()
        for _ in range(count):
            peer.ask(1)
        return time.perf_counter() - begun

    # Asker and asked take turns, so a second core has nothing to do but to be woken up, which costs more than an ask.
    with pinned():
        inside, echo, peer = Inside.start(), Idle.start(), PykkaIdle.start()
        candidates = {"in the hub": in_hub, "from a thread": from_thread, "pykka ask": with_pykka}
        figures = compare(candidates, 2_000, settings)
        for ref in (inside, echo, peer):
            ref.stop()
    made = []
    for name, limit_ns in (("in the hub", 10_000), ("from a thread", 60_000)):
        own, other = figures[name], figures["pykka ask"]
        met = own.median_ns <= limit_ns
        made.append(
            Row(
                f"ask, {name}",
                duration(own.median_ns),
                f"pykka ask {duration(other.median_ns)}",
                round(own.over(other), 3),
                round(own.over(figures["yardstick"]), 1),
                f"≤ {duration(limit_ns)}",
                met,
            )
        )
    return made


class Crashing(Actor):
    """Crash on every message, and say when."""

    def __init__(self, moments: list[int]) -> None:
        super().__init__()
        self.moments = moments

    def on_receive(self, message: Any) -> None:
        self.moments.append(time.perf_counter_ns())
        raise ValueError("as planned")


def _crash(supervisor: Any, count: int, turns: list[Future[None]]) -> None:
    for _ in range(count):
        ((_, ref, _),) = supervisor.which_children()
        turns.append(Future())
        ref.tell("crash")
        turns[-1].get()


def restarts(settings: Settings) -> list[Row]:
    """From the crash until the new incarnation's `on_start` is done and the reports of both are written."""
    moments: list[int] = []
    turns: list[Future[None]] = []

    def write(message: Any) -> None:
        if message.startswith("progress report"):
            moments.append(time.perf_counter_ns())
            turns[-1].set()

    with pinned():
        crashing = ChildSpec("crashing", (Crashing, (moments,)))
        supervisor: Any = Supervisor.start([crashing], max_restarts=1_000_000, max_seconds=1)
        inside = Inside.start()
        sink = logger.add(write, level="DEBUG", format="{message}")
        for package in ("actors", "supervisors"):
            logger.enable(package)
        try:
            # From inside the hub, by one who waits for the last report: nothing but the restart is measured.
            for _ in range(settings.rounds):
                gc.collect()
                inside.ask(partial(_crash, supervisor, settings.times(1_000), turns), timeout=600)
                turns.clear()
        finally:
            logger.remove(sink)
            for package in ("actors", "supervisors"):
                logger.disable(package)
            supervisor.stop()
            inside.stop()
    took = [end - begun for begun, end in zip(moments[::2], moments[1::2], strict=True)]
    count = len(took) // settings.rounds
    medians = [statistics.median(took[begin : begin + count]) for begin in range(0, len(took), count)]
    median = statistics.median(medians)
    told = f"{duration(median)} ({duration(min(medians))})"
    return [Row("restart, reports written", told, "", None, None, "≤ 100 µs median", median <= 100_000)]


def million(settings: Settings) -> list[Row]:
    """A million supervised actors start, answer and stop."""
    count = settings.times(1_000_000)
    supervisor: Any = DynamicSupervisor.start()
    spec = ChildSpec("idle", Idle, restart="temporary")
    inside = Inside.start()
    inside.ask(lambda: supervisor.start_child(spec).stop(), timeout=60)
    before = resident_bytes()
    refs: list[ActorRef[Any]] = []
    begun = time.perf_counter()
    inside.ask(lambda: refs.extend(supervisor.start_child(spec) for _ in range(count)), timeout=None)
    started = time.perf_counter()
    gc.collect()
    size = (resident_bytes() - before) / count
    asked = time.perf_counter()
    answers = inside.ask(lambda: sum(ref.ask(1) for ref in refs), timeout=None)
    answered = time.perf_counter()
    supervisor.stop(timeout=None)
    stopped = time.perf_counter()
    inside.stop()
    if answers != count or any(ref.is_alive() for ref in refs):
        raise AssertionError(f"expected {count} actors to answer and stop, got: {answers} answers")
    each = ", ".join(
        f"{what} {duration(seconds / count * 1e9)}"
        for what, seconds in (("start", started - begun), ("ask", answered - asked), ("stop", stopped - answered))
    )
    met = None if settings.quick else size <= 1024
    return [Row(f"{count:,} supervised actors", each, f"{size:,.0f} bytes each", None, None, "≤ 1 KB", met)]


def answers(settings: Settings) -> list[Row]:
    """How long a supervisor of many children takes to answer."""
    count = settings.times(10_000)
    supervisor: Any = Supervisor.start()
    inside = Inside.start()
    inside.ask(lambda: [supervisor.start_child(ChildSpec(n, Idle)) for n in range(count)] and None, timeout=600)
    took = []
    for _ in range(settings.times(100)):
        begun = time.perf_counter_ns()
        supervisor.which_children()
        took.append(time.perf_counter_ns() - begun)
    supervisor.stop()
    inside.stop()
    slowest = max(took)
    what = f"which_children of {count:,}, the slowest answer"
    return [Row(what, duration(slowest), "", None, None, "≤ 100 ms", slowest <= 100_000_000)]
