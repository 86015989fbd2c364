"""Every benchmark runs once and reports; nothing here judges a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec

from benchmarks.__main__ import BENCHMARKS, Report

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def test_every_benchmark_runs_once_and_reports(tmp_path: Path) -> None:
    done = run("--quick", "--json", str(tmp_path / "report.json"), "--pictures", str(tmp_path))

    assert done.returncode == 0, done.stderr
    assert done.stderr.split() == [word for name in BENCHMARKS for word in (name, "…")]
    report = msgspec.json.decode((tmp_path / "report.json").read_bytes(), type=Report)
    for row in report.rows:
        assert f"| {row.what} |" in done.stdout
        assert row.ratio is None or row.ratio >= 0  # rounded, and beside a peer that a busy machine has held up
    assert len({row.what for row in report.rows}) >= len(BENCHMARKS)
    assert sorted(path.name for path in tmp_path.glob("*.svg")) == [
        f"growth-{name}.svg" for name in ("actors", "events", "handlers", "series")
    ]


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    done = run("emitt")

    assert done.returncode == 2
    assert "expected names among emit, " in done.stderr
    assert "got: emitt" in done.stderr
