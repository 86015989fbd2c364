"""A commit that returns when the event is on disk, beside the commit of a row by SQLite and nothing else.

Both write the same bytes below the same directory (`TMPDIR` chooses the disk), with the same `synchronous`, one after
the other. What ours adds is the way to the spool's writer and back: two threads, a queue, a record with its checksum.
"""

from __future__ import annotations

import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Literal

import runtime
from benchmarks._measure import Row, Settings, duration
from reporters.foundation import Foundation
from supervisors import Application

EVENT = "anvil.agreement.low_score"
PAYLOAD = b"x" * 340
"""As long as the record that is made of the event."""


def commits(settings: Settings) -> list[Row]:
    """The median of `runtime.commit`, with the spool's default `synchronous` and with the fast one."""
    with tempfile.TemporaryDirectory(prefix="beamstalk-bench-") as directory:
        return [_beside_sqlite(settings, Path(directory), "FULL"), _beside_sqlite(settings, Path(directory), "NORMAL")]


def _beside_sqlite(settings: Settings, directory: Path, synchronous: Literal["FULL", "NORMAL"]) -> Row:
    home = directory / synchronous
    home.mkdir()
    foundation = Foundation(f"file:{home}/metrics.jsonl", spool=home / "spool", synchronous=synchronous)
    ours: list[float] = []
    theirs: list[float] = []
    with (
        closing(sqlite3.connect(home / "bare.db", isolation_level=None)) as bare,
        Application("bench", children=[foundation]).running(),
    ):
        bare.execute("PRAGMA journal_mode=WAL")
        bare.execute(f"PRAGMA synchronous={synchronous}")
        bare.execute("CREATE TABLE records (seq INTEGER PRIMARY KEY, payload BLOB NOT NULL)")

        def one_row() -> None:
            bare.execute("BEGIN IMMEDIATE")
            bare.execute("INSERT INTO records (payload) VALUES (?)", (PAYLOAD,))
            bare.execute("COMMIT")

        for _ in range(settings.rounds):
            mine, other = _medians_ns(settings.times(200), _one_event, one_row)
            ours.append(mine)
            theirs.append(other)
    return Row(
        f"commit an event, {synchronous}: p50",
        duration(statistics.median(ours)),
        f"bare SQLite {duration(statistics.median(theirs))}",
        round(statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True)), 2),
        None,
        "",
        None,
    )


def _one_event() -> None:
    runtime.commit(EVENT, {"value": 0.5}, {"dimension": "novelty", "sample_id": "s1"})


def _medians_ns(count: int, *candidates: Callable[[], None]) -> list[float]:
    """Run the candidates in turn, so that a slow moment of the disk hits both; answer each one's median."""
    took: list[list[int]] = [[] for _ in candidates]
    for _ in range(count):
        for candidate, durations in zip(candidates, took, strict=True):
            begun = time.perf_counter_ns()
            candidate()
            durations.append(time.perf_counter_ns() - begun)
    return [statistics.median(durations) for durations in took]
