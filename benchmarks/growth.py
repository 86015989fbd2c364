"""Growth: the same operation at 1, 10 and 100 times the size. Curves, not figures: a cliff is what to look for."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import runtime
from actors._series import SeriesStore
from benchmarks._measure import Row, Settings, duration
from benchmarks.actors import Idle, Inside
from runtime import Event
from runtime.metrics import counter
from supervisors import Application, ChildSpec, DynamicSupervisor

Curve = list[tuple[int, float]]
"""(size, ns per operation)."""


def _events(sizes: list[int]) -> Curve:
    """Emit and handle so many events in one burst."""
    curve = []
    application = Application("bench")
    with application.running():
        runtime.attach("bench", "shop.order", lambda *event: None, carrier="green", capacity=10_000_000)
        for size in sizes:
            begun = time.perf_counter()
            for _ in range(size):
                runtime.execute("shop.order", {"n": 1}, {"shop": "s1"})
            application.drain(120)
            curve.append((size, (time.perf_counter() - begun) / size * 1e9))
        runtime.detach("bench")
    return curve


def _handlers(sizes: list[int]) -> Curve:
    """Emit one event to so many handlers: cost per handler."""
    curve = []
    application = Application("bench", drain_s=30)
    with application.running():
        for size in sizes:
            for n in range(size):
                runtime.attach(f"bench-{n}", "shop.order", lambda *event: None, carrier="green")
            begun = time.perf_counter()
            for _ in range(20):
                runtime.execute("shop.order", {"n": 1}, {"shop": "s1"})
            application.drain(120)
            curve.append((size, (time.perf_counter() - begun) / (20 * size) * 1e9))
            for n in range(size):
                runtime.detach(f"bench-{n}")
    return curve


def _series(sizes: list[int]) -> Curve:
    """Record events that fall into so many series: cost per event."""
    curve = []
    for size in sizes:
        options = {"max_series": size}
        store = SeriesStore([counter("shop.order.count", tags=["shop"], reporter_options=options)])
        store.subscribe("bench")
        # As many events for each size, or the curve would be that of the processor's caches.
        events = [Event("shop.order", {}, {"shop": f"s{n % size}"}, n) for n in range(max(sizes))]
        repeats = max(1, 100_000 // len(events))
        begun = time.perf_counter()
        for _ in range(repeats):
            for start in range(0, len(events), 256):
                store.update(events[start : start + 256])
        curve.append((size, (time.perf_counter() - begun) / (len(events) * repeats) * 1e9))
    return curve


def _actors(sizes: list[int]) -> Curve:
    """Start and stop so many supervised actors: cost per actor."""
    curve = []
    inside = Inside.start()
    spec = ChildSpec("idle", Idle, restart="temporary")
    for size in sizes:
        supervisor: Any = DynamicSupervisor.start()
        begun = time.perf_counter()
        inside.ask(lambda s=supervisor, n=size: [s.start_child(spec) for _ in range(n)] and None, timeout=600)
        supervisor.stop(timeout=600)
        curve.append((size, (time.perf_counter() - begun) / size * 1e9))
    inside.stop()
    return curve


CURVES = {"events": (_events, 2_000), "handlers": (_handlers, 10), "series": (_series, 100), "actors": (_actors, 1_000)}


def growth(settings: Settings, pictures: Path | None = None) -> list[Row]:
    """Measure every curve; draw each into the folder `pictures`, if one is given."""
    rows = []
    for name, (measure, size) in CURVES.items():
        sizes = [max(1, size // 10), size] if settings.quick else [size, 10 * size, 100 * size]
        curve = measure(sizes)
        ratio = curve[-1][1] / curve[0][1]
        told = ", ".join(f"{n:,}: {duration(cost)}" for n, cost in curve)
        rows.append(Row(f"growth of {name}, each", told, "", round(ratio, 2), None, "no cliff: ≤ 5 ×", ratio <= 5))
        if pictures is not None:
            _draw(name, curve, pictures / f"growth-{name}.svg")
    return rows


def _draw(name: str, curve: Curve, path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3))
    axes.plot([size for size, _ in curve], [cost / 1e3 for _, cost in curve], marker="o")
    axes.set(xscale="log", xlabel=name, ylabel="µs each", ylim=(0, None), title=f"cost of each of N {name}")
    axes.grid(visible=True, alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
