"""Children on threads and in processes, with the machine's clock: those that cannot be stopped are fenced or killed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors import Actor, ActorRef
from actors._carriers import start_handler
from runtime import Event
from runtime._handler_options import HandlerOptions
from runtime._scheduler import scheduler
from runtime._table import Attachment
from runtime.testing import actor_system
from supervisors import ChildSpec, DynamicSupervisor, Supervisor
from tests.actors import process_handlers
from tests.runtime.meeting import PATIENCE_S, until


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


def process_attachment(log: Path) -> Attachment:
    """A handler for another process, not attached to anything: it is a child of the test's own supervisor."""
    target = f"{process_handlers.__name__}:act"
    return Attachment("h", ("a.b",), target, {"log": str(log)}, HandlerOptions(carrier="process"), target)


def handle(attachment: Attachment, log: Path, number: int, do: str) -> None:
    """Give it an event, and return when its process has begun with it."""
    attachment.mailbox.put(Event("a.b", {"n": number}, {"do": do}, 0))
    until(lambda: log.exists() and log.read_text().splitlines()[-1:] == [str(number)])


def child_pid(ref: Any) -> int:
    return int(ref._actor._child._pid)


@pytest.mark.parametrize("shutdown", [50, "brutal_kill"])
def test_a_process_that_ignores_shutdown_is_killed_and_the_supervisor_goes_on(tmp_path: Path, shutdown: Any) -> None:
    log = tmp_path / "log"
    attachment = process_attachment(log)
    spec = ChildSpec("a", (start_handler, (attachment,)), shutdown=shutdown)
    supervisor = Supervisor.start(children=[spec, ChildSpec("b", Actor)])
    ref: Any = supervisor.which_children()[0].child
    neighbour = supervisor.which_children()[1].child
    handle(attachment, log, 0, "hang on")  # and ignore SIGTERM
    pid = child_pid(ref)

    supervisor.terminate_child("a")
    supervisor.restart_child("a")
    handle(attachment, log, 1, "")

    assert ref.exit_reason == "killed"
    until(lambda: not Path(f"/proc/{pid}").exists())
    assert supervisor.which_children()[1].child is neighbour
    until(lambda: attachment.mailbox.statistics().handled == 1)
    assert attachment.mailbox.statistics().failed == 1
    supervisor.stop()


@pytest.mark.parametrize("do", ["raise", "exit", "segfault", "be killed"])
def test_a_process_that_dies_is_restarted_by_the_rules_of_every_child(tmp_path: Path, do: str) -> None:
    log = tmp_path / "log"
    attachment = process_attachment(log)
    spec = ChildSpec("a", (start_handler, (attachment,)))
    supervisor = Supervisor.start(children=[spec], max_restarts=1, max_seconds=3600)  # starting a process takes time

    handle(attachment, log, 0, do)
    handle(attachment, log, 1, "")
    restarts = supervisor.supervision().restarts
    handle(attachment, log, 2, do)

    assert restarts == 1
    assert supervisor.wait(PATIENCE_S) == "shutdown"  # one restart too many
    mailbox = attachment.mailbox.statistics()
    assert (mailbox.handled, mailbox.failed, mailbox.pending) == (1, 2, 0)
