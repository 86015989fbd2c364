"""Children on threads of their own, with the machine's clock: those that cannot be stopped are fenced."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from actors import Actor, ActorRef
from runtime._scheduler import scheduler
from runtime.testing import actor_system
from supervisors import ChildSpec, DynamicSupervisor, Supervisor
from tests.runtime.meeting import until

PATIENCE_S = 30.0
"""How long a test waits for what must happen; only a failing one waits that long."""


@pytest.fixture(autouse=True)
def actors() -> Iterator[None]:
    """Kill what a test has left."""
    with actor_system():
        yield


class Stuck(Actor):
    """A thread that hangs in its handler until it is let go."""

    carrier = "thread"

    def __init__(self, hanging: threading.Event, release: threading.Event) -> None:
        super().__init__()
        self.hanging = hanging
        self.release = release

    def on_receive(self, message: Any) -> None:
        self.hanging.set()
        self.release.wait(PATIENCE_S)


@pytest.fixture
def stuck() -> Iterator[tuple[Any, ...]]:
    """Arguments of a `Stuck` child; it is let go after the test."""
    events = (threading.Event(), threading.Event())
    yield events
    events[1].set()


@pytest.mark.parametrize("shutdown", [10, "brutal_kill"])
def test_a_thread_that_ignores_shutdown_is_fenced_and_the_supervisor_goes_on(
    stuck: tuple[Any, ...], shutdown: Any
) -> None:
    supervisor = Supervisor.start(children=[ChildSpec("a", (Stuck, stuck), shutdown=shutdown)])
    ref = supervisor.which_children()[0].child
    assert isinstance(ref, ActorRef)
    ref.tell("hang")
    assert stuck[0].wait(PATIENCE_S)

    supervisor.terminate_child("a")
    fresh = supervisor.restart_child("a")

    assert ref.exit_reason == "killed"
    assert fresh is not None
    assert fresh.is_alive()
    supervisor.stop()


def test_a_dynamic_supervisor_fences_its_threads_too(stuck: tuple[Any, ...]) -> None:
    supervisor = DynamicSupervisor.start()
    ref = supervisor.start_child(ChildSpec("a", (Stuck, stuck), shutdown=10))
    assert ref is not None
    ref.tell("hang")
    assert stuck[0].wait(PATIENCE_S)

    assert supervisor.stop(timeout=PATIENCE_S)
    assert ref.exit_reason == "killed"


class Fragile(Actor):
    """Says where it was started; crashes on request."""

    def __init__(self, starts: list[bool]) -> None:
        super().__init__()
        self.starts = starts

    def on_start(self) -> None:
        self.starts.append(scheduler().on_hub_thread())

    def on_receive(self, message: Any) -> None:
        raise RuntimeError("boom")


@pytest.mark.parametrize("carrier", ["green", "thread"])
@pytest.mark.parametrize("of_supervisor", ["green", "thread"])
def test_children_are_restarted_on_every_carrier_under_supervisors_on_every_carrier(
    carrier: str, of_supervisor: str
) -> None:
    starts: list[bool] = []
    spec = ChildSpec("a", (Fragile.options(carrier=carrier).start_link, (starts,)))
    supervisor: Any = Supervisor.options(carrier=of_supervisor).start(children=[spec])
    first = starts[0]

    supervisor.which_children()[0].child.tell("crash")
    until(lambda: len(starts) == 2)
    second = starts[1]

    assert first is second is (carrier == "green")
    supervisor.stop()


def test_a_supervisor_answers_threads_actors_and_its_other_children_while_a_child_hangs(
    stuck: tuple[Any, ...],
) -> None:
    supervisor = Supervisor.start(children=[ChildSpec("a", (Stuck, stuck), shutdown="brutal_kill")])
    ref = supervisor.which_children()[0].child
    assert isinstance(ref, ActorRef)
    ref.tell("hang")
    assert stuck[0].wait(PATIENCE_S)

    assert supervisor.count_children().active == 1
    assert supervisor.start_child(ChildSpec("b", Actor)) is not None
    supervisor.stop()
