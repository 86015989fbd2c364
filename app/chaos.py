"""Two handlers that nobody should write, to show that they harm nobody: one sleeps, one raises.

Both hear what the ledger and the metrics hear, several times per label. The labelling rate and the emit latency of a
run with them are those of a run without.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import runtime

SLEEPER_ID = "chaos-sleeper"
RAISER_ID = "chaos-raiser"
EVENTS = ("anvil.assignment.completed", "anvil.label.submit.stop")
SLEEP_S = 0.2


class Mischief(Exception):
    """What the raiser raises."""


@contextmanager
def attached() -> Iterator[None]:
    """Keep both handlers attached while the block lasts."""
    runtime.attach_many(SLEEPER_ID, EVENTS, sleep)
    runtime.attach_many(RAISER_ID, EVENTS, Raiser())
    try:
        yield
    finally:
        runtime.detach(SLEEPER_ID)
        runtime.detach(RAISER_ID)


def sleep(event: str, measurements: dict[str, Any], metadata: dict[str, Any], config: object) -> None:
    """Take 200 ms for each event."""
    time.sleep(SLEEP_S)


class Raiser:
    """Fails on every third event."""

    def __init__(self) -> None:
        self._heard = itertools.count(1)

    def __call__(self, event: str, measurements: dict[str, Any], metadata: dict[str, Any], config: object) -> None:
        number = next(self._heard)
        if number % 3 == 0:
            raise Mischief(f"event {number} is a multiple of three")
