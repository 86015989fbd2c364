"""Fixtures of the supervision tests: see `house.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from loguru import logger

from actors import ActorRef
from runtime import _dispatch, _scheduler
from runtime.clock import FakeClock
from tests.supervisors.house import EVENTS, House


@pytest.fixture
def house() -> Iterator[House]:
    """A scheduler with a fake clock, and everything that is reported meanwhile."""
    _scheduler.stop()
    clock = FakeClock()
    _scheduler.start(clock=clock)
    house = House(clock)
    routes = _dispatch.routes()
    _dispatch.publish(dict.fromkeys(EVENTS, (house.mail,)))
    logger.enable("supervisors")
    sink = logger.add(lambda message: house.logged.append(message.record), format="{message}", level="INFO")
    yield house
    logger.remove(sink)
    logger.disable("supervisors")
    _dispatch.publish(routes)
    _scheduler.stop()


@pytest.fixture
def run(house: House) -> Iterator[Callable[..., Any]]:
    """Start supervisors that are stopped after the test: `run(Supervisor, children=[…])`."""
    started: list[ActorRef[Any]] = []

    def start(supervisor: Any, *args: Any, **options: Any) -> Any:
        ref = supervisor.start(*args, **options)
        started.append(ref)
        return ref

    yield start
    for ref in reversed(started):
        ref.kill()
        ref.wait()
