"""A process ends when its host ends, whatever our threads are doing at that moment, and says nothing about them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 120


def end(how: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.hosts.programs.endings", how],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.parametrize(
    "how",
    [
        "a measurement hangs",
        "a child hangs at stop",
        "a green handler waits",
        "a handler backs off",
        "a hung thread was killed",
        "others emit",
        "others ask",
        "a thousand actors wait",
        "a process works",
        "interrupted in start",
    ],
)
def test_the_interpreter_ends_when(how: str) -> None:
    done = end(how)

    assert done.stderr == ""
    assert json.loads(done.stdout) == {"done": True}
    assert done.returncode == 0


def test_an_uncaught_exception_of_the_host_is_all_that_is_said() -> None:
    done = end("an uncaught exception")

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "LookupError: the host's own"
    assert done.stderr.count("Traceback") == 1
