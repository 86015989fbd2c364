"""A handler of the ordinary kind: keeps count of what the platform says it did.

It runs as an actor of its own, apart from the labelling, and is the main job's second opinion: at the end its count of
labels has to be the raters' own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import runtime

HANDLER_ID = "ledger"
EVENTS = (
    "anvil.assignment.completed",
    "anvil.assignment.timed_out",
    "anvil.agreement.low_score",
    "anvil.label.validation_failed",
)


class Ledger:
    """Counts events by name, and assignments that timed out (one event tells of several)."""

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()
        self.timed_out: Counter[str] = Counter()

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Listen while the block lasts, with a mailbox that is long enough for the fastest run on a slow machine."""
        runtime.attach_many(HANDLER_ID, EVENTS, self.handle, capacity=200_000)
        try:
            yield
        finally:
            runtime.detach(HANDLER_ID)

    def handle(self, event: str, measurements: dict[str, Any], metadata: dict[str, Any], config: object) -> None:
        """Count one event."""
        self.events[event] += 1
        if event == "anvil.assignment.timed_out":
            self.timed_out["requeued"] += metadata["requeued"]
            self.timed_out["escalated"] += metadata["escalated"]
