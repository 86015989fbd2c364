"""pytest fixtures for services that use beamstalk; found by pytest because the distribution is installed.

It is a module of its own, beside the packages, so that a user's own `runtime/` is never mistaken for ours, and it
imports only pytest at its top, so that test runs that do not use it pay nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from runtime.clock import FakeClock
    from runtime.testing import Capture


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "handler_failures: this test expects attached handlers to fail")


@pytest.fixture
def telemetry(request: pytest.FixtureRequest) -> Iterator[Capture]:
    """Capture every event of the test; fail it when a handler failed, unless it is marked `handler_failures`.

    Where handlers run, the end of the test waits for them to have what was emitted, for a second at most.
    """
    from runtime.testing import capture_events

    are_expected = request.node.get_closest_marker("handler_failures") is not None
    with capture_events() as captured:
        yield captured
        if not (are_expected or captured.failures):
            captured.settle()
    if captured.failures and not are_expected:
        first = captured.failures[0].metadata
        pytest.fail(f"handler {first['handler_id']} failed on {first['event_name']}: {first['reason']!r}")


@pytest.fixture
def actor_system() -> Iterator[None]:
    """End the actors that the test leaves behind."""
    from runtime.testing import actor_system

    with actor_system():
        yield


@pytest.fixture
def fake_clock() -> Iterator[FakeClock]:
    """Run the test's actors by a clock that only `advance` moves."""
    from runtime.testing import fake_clock

    with fake_clock() as clock:
        yield clock
