"""A house to supervise in: a fake clock, workers that do as they are told, and a journal of what happened.

Every test that asks for `house` runs on a scheduler of its own whose time stands still until `house.clock.advance`;
`house.quiet()` returns when nobody has anything left to do, so that no test needs to sleep.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from loguru import logger

from actors import Actor, ActorRef, Ignore
from runtime import _dispatch, _scheduler
from runtime._mailbox import Mailbox
from runtime.clock import FakeClock
from runtime.errors import Exit
from supervisors import ChildSpec, DynamicSupervisorRef, SupervisorRef

EVENTS = ("supervisors.report", "supervisors.progress", "supervisors.unexpected_message", "actors.crash")


class Crash(Exception):
    """What a worker of the house dies of when told to crash."""


class Worker(Actor):
    """Notes its starts and ends; ends as it is told; starts as the house says."""

    def __init__(self, house: House, label: str) -> None:
        super().__init__()
        self.house = house
        self.label = label

    def on_start(self) -> None:
        self.house.starts[self.label] += 1
        outcomes = self.house.outcomes.get(self.label, ["ok"])
        outcome = outcomes.pop(0) if len(outcomes) > 1 else outcomes[0]
        self.house.journal.append(f"{'start' if outcome == 'ok' else outcome} {self.label}")
        if outcome == "ignore":
            raise Ignore
        if outcome != "ok":
            raise Exit(outcome)

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, BaseException):
            raise message
        return message() if callable(message) else message

    def on_stop(self, reason: Any = "normal") -> None:
        self.house.journal.append(f"stop {self.label}")


class House:
    """What a test of supervision works with."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.journal: list[str] = []
        self.starts: Counter[str] = Counter()
        self.outcomes: dict[str, list[str]] = {}
        self.logged: list[dict[str, Any]] = []
        self.mail = Mailbox()

    def spec(self, label: str, worker: type[Worker] = Worker, **options: Any) -> ChildSpec:
        """Build the spec of a worker."""
        return ChildSpec(label, (worker, (self, label)), **options)

    def quiet(self) -> None:
        """Wait until every actor has done what there was to do."""
        self.clock.settle()

    def end(self, ref: ActorRef[Any], reason: Any) -> None:
        """Have a worker end with a reason, and wait for what comes of it."""
        ref.tell(Exit(reason))
        self.quiet()

    def end_together(self, refs: list[ActorRef[Any]], reason: Any) -> None:
        """Have workers end at the same time, before anybody hears of any of them."""
        at_once = Worker.start(self, "somebody")
        at_once.ask(lambda: [ref.tell(Exit(reason)) for ref in refs])
        at_once.kill()
        self.quiet()

    def happened(self) -> list[str]:
        """Take what was noted since the last time."""
        self.quiet()
        journal, self.journal[:] = self.journal[:], []
        return journal

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the metadata of the events of one name."""
        return [event.metadata for event in self.mail.load if event.name == name]

    def contexts(self) -> list[tuple[str, Any]]:
        """Return context and reason of the supervisor reports."""
        return [(report["context"], report["reason"]) for report in self.events("supervisors.report")]


@pytest.fixture
def house() -> Iterator[House]:
    """A scheduler with a fake clock, and everything that is reported meanwhile."""
    _scheduler.stop()
    clock = FakeClock()
    _scheduler.start(clock=clock)
    house = House(clock)
    routes = _dispatch.routes()
    _dispatch.publish({name: (house.mail,) for name in EVENTS})
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


def child(supervisor: SupervisorRef, child_id: Any) -> ActorRef[Any]:
    """Return the running child of that id."""
    found = dict((entry.id, entry.child) for entry in supervisor.which_children())[child_id]
    assert isinstance(found, ActorRef), found
    return found


def standing(supervisor: SupervisorRef | DynamicSupervisorRef) -> dict[Any, str]:
    """Say where each child stands: running, down or restarting."""
    return {
        entry.id: "down" if entry.child is None else "restarting" if entry.child == "restarting" else "running"
        for entry in supervisor.which_children()
    }
