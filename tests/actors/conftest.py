"""Fixtures of the actor tests: every actor that a test leaves alive is killed, and the scheduler stops in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from actors import processes
from runtime import _dispatch, _scheduler
from runtime._mailbox import Mailbox
from runtime.clock import Clock, FakeClock
from tests.runtime.meeting import PATIENCE_S


@pytest.fixture(autouse=True)
def nobody_is_left() -> Iterator[None]:
    """Kill what the test left alive; then the table must be empty and the hub come to its end."""
    yield
    for ref in processes():
        ref.kill()
        ref.wait(PATIENCE_S)
    assert processes() == []
    _dispatch.publish({})
    _dispatch.use_clock(Clock())
    assert _scheduler.stop(PATIENCE_S)


@pytest.fixture(params=["green", "thread"])
def carrier(request: pytest.FixtureRequest) -> str:
    """Where the actor of the test runs; each test runs once for each."""
    return str(request.param)


@pytest.fixture
def clock() -> FakeClock:
    """A scheduler whose time stands still until the test advances it."""
    clock = FakeClock()
    _scheduler.start(clock=clock)
    return clock


@pytest.fixture
def routed() -> Callable[..., Mailbox]:
    """Route events, by name, into one mailbox that nobody empties: `mail = routed("actors.crash")`."""

    def route(*names: str) -> Mailbox:
        mailbox = Mailbox()
        _dispatch.publish(dict.fromkeys(names, (mailbox,)))
        return mailbox

    return route
