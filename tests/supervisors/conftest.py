"""Fixtures of the supervision tests: see `house.py`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from loguru import logger

from actors import ActorRef
from runtime.testing import capture_events, fake_clock
from tests.supervisors.house import House, Run


@pytest.fixture
def house() -> Iterator[House]:
    """A scheduler with a fake clock, and everything that is reported meanwhile."""
    with fake_clock() as clock, capture_events("supervisors.*", "actors.*") as captured:
        house = House(clock, captured)
        logger.enable("supervisors")
        sink = logger.add(lambda message: house.logged.append(message.record), format="{message}", level="INFO")
        yield house
        logger.remove(sink)
        logger.disable("supervisors")


@pytest.fixture
def run(house: House) -> Iterator[Run]:
    """Start supervisors that are killed after the test: `run(Supervisor, children=[…])`."""
    started: list[ActorRef[Any]] = []

    def start(supervisor: Any, *args: Any, **options: Any) -> Any:
        ref = supervisor.start(*args, **options)
        started.append(ref)
        return ref

    yield start
    for ref in reversed(started):
        ref.kill()
        ref.wait()
