"""What the application's tests share: queues on a real SQLite file, a clock that moves when told, and what was emitted.

Everything opened here is closed here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.labeling import policies
from app.labeling.queues import Queue
from app.labeling.records import QueueSettings, Sample
from app.labeling.schema import Field, Schema
from app.labeling.storage import Storage
from runtime.clock import FakeClock
from runtime.testing import Capture, capture_events

SCHEMA = Schema("v1", (Field(name="valence", type="range", min=-4, max=4),))
RATERS = ("ada", "bob", "cyd")


@pytest.fixture
def emitted() -> Iterator[Capture]:
    with capture_events("anvil.*") as capture:
        yield capture


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
