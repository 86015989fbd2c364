"""What the application's tests share: queues on a real SQLite file, a clock that moves when told, and what was emitted.

`emitted` listens to the whole catalogue. Everything opened here is closed here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.labeling import policies
from app.labeling.events import CATALOGUE
from app.labeling.queues import Queue
from app.labeling.records import QueueSettings, Sample
from app.labeling.schema import Field, Schema
from app.labeling.storage import Storage
from runtime import _dispatch, _handlers
from runtime._events import Event
from runtime.clock import FakeClock

SCHEMA = Schema("v1", (Field(name="valence", type="range", min=-4, max=4),))
RATERS = ("ada", "bob", "cyd")


class Emitted:
    """A subscriber that is always full: every event is handed to `put_when_full`, in the emitter and at once."""

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

    def of(self, name: str) -> list[Event]:
        """Return the events of one name, in order."""
        return [event for event in self.events if event.name == name]

    def names(self) -> list[str]:
        """Return all names, in order, without the database's."""
        return [event.name for event in self.events if not event.name.startswith("anvil.storage.")]


@pytest.fixture
def emitted() -> Iterator[Emitted]:
    capture = Emitted()
    _handlers.table.set_sink("emitted", [name for one in CATALOGUE for name in one.names()], capture)
    _dispatch.publish(_handlers.table.snapshot())
    yield capture
    _handlers.table.remove_sink("emitted")
    _dispatch.publish(_handlers.table.snapshot())


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    opened = Storage(tmp_path / "labels.db")
    yield opened
    opened.close()


@pytest.fixture
def new_queue(storage: Storage, clock: FakeClock) -> Callable[..., Queue]:
    """Make a queue of some samples for ada, bob and cyd; keyword arguments are settings of the queue."""

    def make(
        samples: int = 3, policy: str = "round_robin", policy_options: dict[str, Any] | None = None, **settings: Any
    ) -> Queue:
        queue = Queue.create(
            storage,
            QueueSettings(**{"queue_id": "q1", "tenant_id": "t1", "policy_type": policy} | settings),
            SCHEMA,
            policies.build(policy, **policy_options or {}),
            clock=clock,
        )
        queue.add_labelers(*RATERS)
        queue.add_samples(Sample(f"s{number}", f"text {number}") for number in range(1, samples + 1))
        return queue

    return make
