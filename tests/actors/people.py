"""Actors that do what they are told, for the tests of actors."""

from __future__ import annotations

import threading
from typing import Any

from actors import Actor, ActorRef
from tests.runtime.meeting import PATIENCE_S


class Obedient(Actor):
    """Calls what it is sent with itself, answers with the result, and notes everything else."""

    def __init__(self, *notes: Any) -> None:
        super().__init__()
        self.notes: list[Any] = list(notes)
        self.count = 0

    def on_receive(self, message: Any) -> Any:
        self.count += 1
        if callable(message):
            return message(self)
        self.notes.append(message)
        return message

    def on_continue(self, x: Any) -> None:
        if callable(x):
            x(self)
        else:
            self.notes.append(("continued", x))

    def on_stop(self, reason: Any = "normal") -> None:
        self.notes.append(("stopped", reason))

    def on_exit(self, ref: ActorRef[Any] | None, reason: Any) -> None:
        self.notes.append(("exit", ref, reason))

    def on_down(self, monitor_id: int, ref: ActorRef[Any], reason: Any) -> None:
        self.notes.append(("down", monitor_id, ref, reason))


class Trapping(Obedient):
    """Has exit signals told to it."""

    trap_exits = True


def notes(ref: ActorRef[Any]) -> list[Any]:
    """Return what an obedient actor has noted, after all that was sent to it so far."""
    found: list[Any] = ref.ask(lambda actor: list(actor.notes), timeout=PATIENCE_S)
    return found


def raising(error: BaseException) -> Any:
    """Make a message that raises in the actor."""

    def fail(actor: Obedient) -> None:
        raise error

    return fail


def thread_of(ref: ActorRef[Any]) -> int:
    """Return the id of the OS thread that an obedient actor runs on."""
    found: int = ref.ask(lambda actor: threading.get_native_id())
    return found
