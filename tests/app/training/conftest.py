"""What the tests of the training telemetry share: the events that were emitted, in their order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runtime import Event
from runtime.testing import capture_events
from tests.app.training.service import Service


class Captured:
    """The events of the training telemetry, in order of emission."""

    def __init__(self, events: list[Event]) -> None:
        self.events = events

    def of(self, name: str, **metadata: object) -> list[Event]:
        """Return the events of this name whose metadata has these items."""
        return [e for e in self.events if e.name == name and metadata.items() <= e.metadata.items()]

    def one(self, name: str, **metadata: object) -> Event:
        """Return the only event of this name with these items."""
        (found,) = self.of(name, **metadata)
        return found

    def names(self) -> list[str]:
        """Return all names, in order."""
        return [event.name for event in self.events]

    def is_balanced(self) -> bool:
        """Tell whether something started, and every start has exactly one end."""
        starts: list[tuple[str, int]] = []
        ends: list[tuple[str, int]] = []
        for event in self.events:
            prefix, _, phase = event.name.rpartition(".")
            if phase in ("start", "stop", "exception"):
                spans = starts if phase == "start" else ends
                spans.append((prefix, event.metadata["telemetry_span_context"]))
        return len(starts) > 0 and sorted(starts) == sorted(ends)


@pytest.fixture
def captured() -> Iterator[Captured]:
    with capture_events("tinkex.*") as capture:
        yield Captured(capture.events)


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as service:
        yield service
