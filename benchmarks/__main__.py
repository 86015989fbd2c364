"""Run the benchmarks and print one table: `python -m benchmarks [NAME …] [--json FILE] [--quick] [--pictures DIR]`.

Each of several runs in a process of its own, one after the other: what one leaves behind costs the next one nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
from loguru import logger

from benchmarks import actors, durable, emission, growth, isolation, metrics, overload
from benchmarks._measure import Row, Settings

BENCHMARKS: dict[str, Callable[[Settings], list[Row]]] = {
    "emit": emission.one_handler,
    "application": emission.full_application,
    "span": emission.spans,
    "counter": metrics.tagged_counter,
    "six": metrics.six_metrics,
    "timings": metrics.timings,
    "idle": actors.idle,
    "spawn": actors.spawn,
    "ask": actors.asks,
    "restart": actors.restarts,
    "answers": actors.answers,
    "million": actors.million,
    "neighbours": isolation.neighbours,
    "overload": overload.overload,
    "commit": durable.commits,
    "growth": growth.growth,
}


class Report(msgspec.Struct):
    """What `--json` writes."""

    python: str
    machine: str
    cores: int
    rows: list[Row]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Ours beside the peers, as ratios.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones: {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table to a file")
    parser.add_argument("--quick", action="store_true", help="one small round: see that everything runs")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="draw the growth curves into this folder (SVG)")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"expected names among {', '.join(BENCHMARKS)}, got: {', '.join(unknown)}")

    names = options.names or list(BENCHMARKS)
    if len(names) == 1:
        print(f"{names[0]} …", file=sys.stderr, flush=True)
        found = run(names[0], Settings(quick=options.quick), options.pictures)
    else:
        further = ["--quick"] * options.quick
        further += ["--pictures", str(options.pictures)] * (options.pictures is not None)
        found = [row for name in names for row in run_apart(name, further)]
    print(table(found))
    if options.json is not None:
        report = Report(platform.python_version(), platform.machine(), os.cpu_count() or 0, found)
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    return 0


def run(name: str, settings: Settings, pictures: Path | None) -> list[Row]:
    """Run one benchmark in this process."""
    logger.remove()  # the process is ours: what the restart benchmark reports goes to a sink of its own
    if name == "growth" and pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
        return growth.growth(settings, pictures)
    return BENCHMARKS[name](settings)


def run_apart(name: str, options: list[str]) -> list[Row]:
    """Run one benchmark in a process of its own."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.json"
        command = [sys.executable, "-m", "benchmarks", name, "--json", str(report), *options]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        return msgspec.json.decode(report.read_bytes(), type=Report).rows


def table(found: list[Row]) -> str:
    """Write the rows as one Markdown table: medians, and in brackets the minima."""
    lines = [
        "| what | ours | beside | ratio | yardsticks | goal | met |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in found:
        met = "" if row.met is None else "yes" if row.met else "no"
        ratio = _beside(row.ratio, row.ratio_of_minima)
        yardsticks = _beside(row.yardsticks, row.yardsticks_of_minima)
        lines.append(f"| {' | '.join((row.what, row.ours, row.peer, ratio, yardsticks, row.goal, met))} |")
    return "\n".join(lines)


def _beside(median: float | None, minimum: float | None) -> str:
    return "" if median is None else f"{median}" if minimum is None else f"{median} ({minimum})"


if __name__ == "__main__":
    sys.exit(main())
