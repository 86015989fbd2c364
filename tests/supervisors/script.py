"""Replay supervision scripts against the real supervisors: `python -m tests.supervisors.script FILE`.

FILE holds one script per line (JSON):

    {"name", "strategy", "max_restarts", "max_seconds", "auto_shutdown", "children": [child, …], "ops": [op, …]}
    child: {"id", "restart", "shutdown", "type", "significant", "starts": ["ok" | "ignore" | "error", …]}
    op: ["exit", id, reason] | ["kill", id] | ["start_child", child] | ["terminate_child", id] | ["restart_child", id]
        | ["delete_child", id] | ["parent_exit", reason]

The n-th start of an id has the n-th outcome, the last repeats. Printed is one line (JSON) after the start and one after
each operation, once the supervisor is quiet, until it is dead: name, op, result, alive, exit, children, counts, log. A
child or flag that OTP would refuse counts as "error:start_failed", the format having no word of its own for it. Time
stands still (a fake clock), so a script's restarts all fall into one window.

As in `model.py`, a child of type "supervisor" may have "children" and flags of its own, and there are the operations
["advance", seconds] and ["at", supervisor_id, op].
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pykka

from actors import Actor, ActorRef, Ignore
from runtime import _scheduler
from runtime.clock import FakeClock
from runtime.errors import AlreadyExists, BeamstalkError, Exit, ExitReason, InvalidValue, NotFound, StartError
from supervisors import ChildRestarting, ChildRunning, ChildSpec, Supervisor, SupervisorRef
from supervisors._core import Child as SupervisedChild

Line = dict[str, Any]
Script = dict[str, Any]
Child = dict[str, Any]

FLAGS = ("strategy", "max_restarts", "max_seconds", "auto_shutdown")
REFUSALS: dict[type[BeamstalkError], str] = {
    StartError: "start_failed",
    InvalidValue: "start_failed",
    NotFound: "not_found",
    ChildRestarting: "restarting",
    AlreadyExists: "already_present",
}


class Journal:
    """What happened since the last line, how often each id was started, and who is its latest incarnation."""

    def __init__(self) -> None:
        self.entries: list[str] = []
        self.starts: Counter[str] = Counter()
        self.latest: dict[str, ActorRef[Any]] = {}

    def next_outcome(self, child: Child) -> str:
        """Count a start of this id and return what its script has for it."""
        self.starts[child["id"]] += 1
        outcomes: list[str] = child["starts"]
        return outcomes[min(self.starts[child["id"]], len(outcomes)) - 1]

    def conclude(self, child: Child, outcome: str, ref: ActorRef[Any]) -> None:
        """Note how a start came out, and make it come out like that."""
        self.entries.append({"ok": "start:", "ignore": "ignore:", "error": "fail:"}[outcome] + child["id"])
        if outcome == "ignore":
            raise Ignore
        if outcome == "error":
            raise Exit("as the script says")
        self.latest[child["id"]] = ref


class ScriptWorker(Actor):
    """A child that ends with the reason it is told."""

    def __init__(self, journal: Journal, child: Child) -> None:
        super().__init__()
        self.journal = journal
        self.entry = child

    def on_start(self) -> None:
        self.journal.conclude(self.entry, self.journal.next_outcome(self.entry), self.actor_ref)

    def on_receive(self, message: Any) -> None:
        raise Exit(message)


class ScriptSupervisor(Supervisor):
    """The real supervisor, which notes the children it has stopped: from their ends nobody could tell who did it."""

    def __init__(self, journal: Journal, entry: Child) -> None:
        super().__init__(**{flag: entry[flag] for flag in FLAGS})
        self.journal = journal
        self.entry = entry

    def children(self) -> list[ChildSpec]:
        return [spec_of(self.journal, child) for child in self.entry["children"]]

    def _stop_child(self, child: SupervisedChild) -> None:
        ran = child.running
        super()._stop_child(child)
        if ran:
            self.journal.entries.append(f"stop:{child.spec.id}")


class InnerSupervisor(ScriptSupervisor):
    """A supervisor that is itself a child of the script."""

    def on_start(self) -> None:
        outcome = self.journal.next_outcome(self.entry)
        if outcome == "ok":
            try:
                super().on_start()
            except StartError:
                outcome = "error"
        self.journal.conclude(self.entry, outcome, self.actor_ref)


class Parent(Actor):
    """Whoever started the supervisor; ends when told, with the reason it is told."""

    trap_exits = True

    def on_receive(self, message: Any) -> SupervisorRef:
        if isinstance(message, Exit):
            raise message
        return ScriptSupervisor.start_link(*message)


def spec_of(journal: Journal, child: Child) -> ChildSpec:
    """Turn a script's child into a child spec; InvalidValue if it is none."""
    actor = InnerSupervisor if "children" in child else ScriptWorker
    rest = {field: child[field] for field in ("restart", "shutdown", "type", "significant")}
    return ChildSpec(child["id"], (actor, (journal, child)), **rest)


class Replay:
    """One script being played."""

    def __init__(self, script: Script) -> None:
        self.name: str = script["name"]
        self.journal = Journal()
        self.parent = Parent.start()
        self.supervisor: SupervisorRef | None = None
        result = "ok"
        try:
            self.supervisor = self.parent.ask((self.journal, script), timeout=None)
        except (StartError, AlreadyExists, InvalidValue):
            result = "error:start_failed"
        self.first = self._line(0, result)

    def close(self) -> None:
        """End whatever still lives."""
        self.parent.kill()
        if self.supervisor is not None:
            self.supervisor.wait()

    def apply(self, number: int, op: list[Any]) -> Line:
        """Do one operation, wait until all supervisors are quiet, and say how things stand."""
        assert self.supervisor is not None
        result = self._do(op, self.supervisor)
        settle(self.supervisor)
        return self._line(number, result)

    def _do(self, op: list[Any], supervisor: SupervisorRef) -> str:
        match op:
            case ["advance", seconds]:
                clock().advance(seconds)
                return "ok"
            case ["at", child_id, inner_op]:
                inner = self._live(child_id)
                return self._do(inner_op, inner) if isinstance(inner, SupervisorRef) else "none"
            case ["parent_exit", reason]:
                self.parent.tell(Exit(exit_reason(reason)))
                self.parent.wait()
                supervisor.wait()
                return "ok"
            case ["exit", child_id, reason]:
                return self._end(child_id, exit_reason(reason))
            case ["kill", child_id]:
                return self._end(child_id, None)
            case [call, argument]:
                return manage(supervisor, call, spec_of(self.journal, argument) if call == "start_child" else argument)
        raise ValueError(f"expected an operation of the script format, got: {op!r}")

    def _live(self, child_id: str) -> ActorRef[Any] | None:
        ref = self.journal.latest.get(child_id)
        return ref if ref is not None and ref.is_alive() else None

    def _end(self, child_id: str, reason: ExitReason) -> str:
        child = self._live(child_id)
        if child is None:
            return "none"
        if reason is None:
            child.kill()
        elif isinstance(child, SupervisorRef):
            child.stop(reason=reason)
        else:
            child.tell(reason)
        child.wait()
        return "ok"

    def _line(self, number: int, result: str) -> Line:
        log, self.journal.entries = self.journal.entries, []
        supervisor = self.supervisor
        line: Line = {"name": self.name, "op": number, "result": result, "alive": False, "exit": "start_failed"}
        children, counts = [], []
        if supervisor is not None:
            line["alive"], line["exit"] = supervisor.is_alive(), supervisor.exit_reason
        if line["alive"] and supervisor is not None:
            children = [[entry.id, status(entry.child)] for entry in supervisor.which_children()]
            counts = list(supervisor.count_children())
        return line | {"children": children, "counts": counts, "log": log}


def manage(supervisor: SupervisorRef, call: str, argument: Any) -> str:
    """Make one management call and put its result into the format's words."""
    try:
        answer = getattr(supervisor, call)(argument)
    except ChildRunning:
        return "error:already_started" if call == "start_child" else "error:running"
    except BeamstalkError as error:
        return f"error:{REFUSALS[type(error)]}"
    return "ok:ignored" if answer is None and call in ("start_child", "restart_child") else "ok"


def settle(supervisor: SupervisorRef) -> None:
    """Wait until a supervisor and those below it have nothing left to do, or are dead.

    An exit signal is in the supervisor's mailbox before its sender counts as dead, and is served before a question. So
    an answer without a restarting child means quiet, unless an inner supervisor ended while we asked it.
    """
    quiet = False
    while not quiet:
        try:
            children = [entry.child for entry in supervisor.which_children()]
        except pykka.ActorDeadError:
            supervisor.wait()
            return
        inner = [child for child in children if isinstance(child, SupervisorRef)]
        for child in inner:
            settle(child)
        quiet = "restarting" not in children and all(child.is_alive() for child in inner)


def status(child: object) -> str:
    """Name where a child stands, as `which_children` shows it."""
    return "down" if child is None else "restarting" if child == "restarting" else "running"


def exit_reason(reason: Any) -> ExitReason:
    """Turn JSON's reason into ours: ["shutdown", x] is a tuple."""
    return tuple(reason) if isinstance(reason, list) else reason


def clock() -> FakeClock:
    """Return the fake clock that the scheduler was started with."""
    found = _scheduler.scheduler().clock
    assert isinstance(found, FakeClock), "start the scheduler with a FakeClock before replaying scripts"
    return found


def replay(script: Script) -> Iterator[Line]:
    """Play a script: one line after the start and one after each operation, until the supervisor is dead."""
    playing = Replay(script)
    try:
        line = playing.first
        yield line
        for number, op in enumerate(script["ops"], start=1):
            if not line["alive"]:
                break
            line = playing.apply(number, op)
            yield line
    finally:
        playing.close()


def main(path: str) -> None:
    """Replay every script of a file and print the lines."""
    _scheduler.start(clock=FakeClock())
    for text in Path(path).read_text("utf-8").splitlines():
        if text.strip():
            for line in replay(json.loads(text)):
                sys.stdout.write(json.dumps(line) + "\n")
    _scheduler.stop()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.supervisors.script FILE")
    main(sys.argv[1])
