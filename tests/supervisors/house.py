"""A house to supervise in: a fake clock, workers that do as they are told, and a journal of what happened.

`house.quiet()` returns when nobody has anything left to do, and time stands still until `house.clock.advance`, so that
no test needs to sleep. The fixtures `house` and `run` are in `conftest.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from actors import Actor, ActorRef, Ignore
from runtime.clock import FakeClock
from runtime.errors import Exit
from runtime.testing import Capture
from supervisors import ChildSpec

Run = Callable[..., Any]
"""The type of the fixture `run`."""


class Crash(Exception):
    """What a worker of the house dies of when told to crash."""


class Worker(Actor):
    """Starts as the house says, ends by what it is sent, and notes when it is started and stopped."""

    def __init__(self, house: House, label: str) -> None:
        super().__init__()
        self.house = house
        self.label = label
        self.ends_by_itself = False

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
        self.ends_by_itself = True
        raise message

    def on_stop(self, reason: Any = "normal") -> None:
        if not self.ends_by_itself:
            self.house.journal.append(f"stop {self.label}")


class Stubborn(Worker):
    """Does not come to an end when told to."""

    def on_stop(self, reason: Any = "normal") -> None:
        self.house.journal.append(f"told {self.label}")
        nobody = Actor.start()
        try:
            nobody.wait()
        finally:
            nobody.kill()


class Errand(Actor):
    """Runs what it is sent, as an actor."""

    def on_receive(self, message: Any) -> Any:
        return message()


class House:
    """What a test of supervision works with."""

    def __init__(self, clock: FakeClock, captured: Capture) -> None:
        self.clock = clock
        self.captured = captured
        self.journal: list[Any] = []
        self.starts: Counter[str] = Counter()
        self.outcomes: dict[str, list[str]] = {}
        self.meanwhile: Callable[[], object] = lambda: None
        self.logged: list[Any] = []

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

    def end_together(self, reasons: dict[ActorRef[Any], Any]) -> None:
        """Have workers end, each with its reason, before anybody hears of any of them."""

        # An actor does not give way between its tells, so all of them are there before the first is handled.
        def tell_all() -> None:
            for ref, reason in reasons.items():
                ref.tell(Exit(reason))

        errand = Errand.start()
        errand.ask(tell_all)
        errand.stop()
        self.quiet()

    def happened(self) -> list[Any]:
        """Take what was noted since the last time."""
        self.quiet()
        journal, self.journal[:] = self.journal[:], []
        return journal

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the metadata of the events of one name."""
        return [event.metadata for event in self.captured.of(name)]

    def contexts(self) -> list[tuple[str, Any]]:
        """Return context and reason of the supervisor reports."""
        return [(report["context"], report["reason"]) for report in self.events("supervisors.report")]


def child(supervisor: Any, child_id: Any) -> Any:
    """Return the running child of that id."""
    found = {entry.id: entry.child for entry in supervisor.which_children()}[child_id]
    assert isinstance(found, ActorRef), found
    return found


def standing(supervisor: Any) -> dict[Any, str]:
    """Say where each child stands: running, down or restarting."""
    return {
        entry.id: "down" if entry.child is None else "restarting" if entry.child == "restarting" else "running"
        for entry in supervisor.which_children()
    }
