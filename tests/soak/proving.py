"""Run the proof: start the victim, kill it at a random moment, again and again, then let it finish and judge."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.soak.oracle import Verdict, judge

START_S = 60.0
DRAIN_S = 120.0
ALIVE_S = 0.3
"""A victim is killed at some moment between its start and so long after its first commit."""


class Proof:
    """One victim's directory and the endpoint that it reports to."""

    def __init__(self, directory: Path, *, fail: float = 0.0, seed: int | None = None) -> None:
        self.directory = directory
        self.seed = random.randrange(1 << 32) if seed is None else seed
        self.random = random.Random(self.seed)
        self.notes = directory / "notes"
        self.journal = directory / "journal"
        self._fail = fail
        self._port = 0

    @contextlib.contextmanager
    def endpoint(self) -> Iterator[str]:
        """Run the endpoint, on the same port each time."""
        command = [sys.executable, "-m", "app.sink", "--quiet", "--port", str(self._port), "--fail", str(self._fail)]
        with subprocess.Popen([*command, "--journal", str(self.journal)], stdout=subprocess.PIPE, text=True) as sink:
            assert sink.stdout is not None
            url = sink.stdout.readline().split()[-1]
            self._port = int(url.rstrip("/").rpartition(":")[2])
            try:
                yield url
                with urllib.request.urlopen(url) as response:
                    received = json.load(response)
                assert received["invalid"] == received["conflicts"] == 0, received
            finally:
                sink.kill()

    def kill_one(self, url: str, round_number: int) -> None:
        """Start the victim and kill it: mostly under load, sometimes while it starts and recovers."""
        with subprocess.Popen([*_VICTIM, url, str(self.directory), str(round_number)]) as victim:
            if self.random.random() < 0.2:
                self._pause(self.random.uniform(0.2, 1.0))
            else:
                self._wait_for_work(victim, round_number)
                self._pause(self.random.uniform(0, ALIVE_S))
            assert victim.poll() is None, f"the victim ended by itself with {victim.returncode}"
            victim.kill()

    def drain(self, url: str) -> tuple[bool, int, int]:
        """Let the victim deliver what is left; answer (balanced, dead letters, files set aside)."""
        ended = subprocess.run(
            [*_VICTIM, url, str(self.directory), "-1", "--drain"],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            timeout=DRAIN_S,
        )
        assert ended.returncode == 0
        balanced, dead_letters, set_aside = ended.stdout.split()
        return balanced == "True", int(dead_letters), int(set_aside)

    def verdict(self) -> Verdict:
        """Judge what has happened so far."""
        return judge(self.notes, self.journal)

    def _wait_for_work(self, victim: subprocess.Popen[bytes], round_number: int) -> None:
        mark = f"committed {round_number}-"
        deadline = time.monotonic() + START_S
        start = self.notes.stat().st_size if self.notes.exists() else 0
        while victim.poll() is None:
            assert time.monotonic() < deadline, "the victim committed nothing"
            if self.notes.exists():
                with self.notes.open("rb") as file:
                    file.seek(start)
                    if mark.encode() in file.read():
                        return
            self._pause(0.005)

    def _pause(self, seconds: float) -> None:
        # The moment of a kill is a moment of real time: this is what the proof is about, not a wait for anything.
        time.sleep(seconds)


_VICTIM = [sys.executable, "-m", "tests.soak.victim"]
