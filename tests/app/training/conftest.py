"""What the tests of the training telemetry share: the events that were emitted, in their order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.training.catalogue import CATALOGUE
from runtime import Event
from runtime._dispatch import publish
from runtime._handlers import table
from tests.app.training.service import Service


class Captured:
    """A subscriber that is always full, so that every event is handed to it in the emitter, at once."""

    limit = 0
    idle = False
    lazy = 0

    def __init__(self) -> None:
        self.load: list[Event] = []
        self.events: list[Event] = []

    def put_when_full(self, message: Event) -> bool:
        self.events.append(message)
        return True

    def wake(self) -> None:
        raise AssertionError("nothing waits here")

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
    captured = Captured()
    table.set_sink("captured", [name for declared in CATALOGUE for name in declared.names()], captured)
    publish(table.snapshot())
    yield captured
    table.remove_sink("captured")
    publish(table.snapshot())


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as service:
        yield service
