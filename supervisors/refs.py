"""References to supervisors: the management calls, in OTP's words.

Anybody may call them, from any thread and from inside other actors. Each is an ask that the supervisor answers between
two messages, so calls are served one at a time and in order. They wait as long as the supervisor needs (starting or
stopping a child takes as long as the child takes) and raise `pykka.ActorDeadError` once it is dead. A supervisor's own
child must not call it from `on_start` or `on_stop`: the two would wait for each other, as in OTP.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Literal, NamedTuple

import msgspec

from actors import ActorRef
from runtime.errors import AlreadyStarted, BeamstalkError
from supervisors._restart import RestartRecord
from supervisors.child_spec import ChildSpec, ChildType, SpecLike, spec_of

__all__ = [
    "AnySupervisorRef",
    "Call",
    "ChildCounts",
    "ChildEntry",
    "ChildRestarting",
    "ChildRunning",
    "DynamicSupervisorRef",
    "MaxChildren",
    "Refused",
    "SupervisorRef",
    "SupervisorStatistics",
]


class ChildRunning(AlreadyStarted):
    """Refuse what needs a child that does not run; `.ref` is the running child."""

    def __init__(self, child_id: Hashable, ref: ActorRef[Any]) -> None:
        super().__init__(f"expected child {child_id!r} not to run, got: {ref}. Terminate it first")
        self.child_id = child_id
        self.ref = ref


class ChildRestarting(BeamstalkError):
    """Refuse what needs a child that is down: this one is about to be started again."""

    def __init__(self, child_id: Hashable) -> None:
        super().__init__(f"expected child {child_id!r} to be down, got: it is restarting. Terminate it first")
        self.child_id = child_id


class MaxChildren(BeamstalkError):
    """Refuse a child to a dynamic supervisor that has `max_children` of them."""

    def __init__(self, max_children: int) -> None:
        super().__init__(f"expected fewer than max_children={max_children} children, got: that many")
        self.max_children = max_children


class ChildEntry(NamedTuple):
    """One line of `which_children`: `child` is the running child's ref, None, or "restarting"."""

    id: Hashable
    child: ActorRef[Any] | Literal["restarting"] | None
    type: ChildType


class ChildCounts(NamedTuple):
    """Count all specs, the children that live, and the specs of each type, alive or not."""

    specs: int
    active: int
    supervisors: int
    workers: int


class SupervisorStatistics(msgspec.Struct, frozen=True):
    """Tell how a supervisor is doing.

    `restarts` counts restart attempts in all, `restarts_in_window` those that count against `max_restarts` now, and
    `last_restarts` holds the last 50 with their reasons, oldest first.
    """

    children: ChildCounts
    restarting: int
    restarts: int
    restarts_in_window: int
    max_restarts: int
    max_seconds: float
    last_restarts: tuple[RestartRecord, ...]


class Call(msgspec.Struct, frozen=True):
    """Ask a supervisor to run one of its calls; only refs send it."""

    name: str
    args: tuple[Any, ...]


class Refused(msgspec.Struct, frozen=True):
    """Answer a call with an error for the caller, which is none of the supervisor's own."""

    error: BeamstalkError


class AnySupervisorRef(ActorRef[Any]):
    """What every supervisor answers."""

    __slots__ = ()

    def which_children(self) -> list[ChildEntry]:
        """List the children: (id, ref | None | "restarting", type), in start order."""
        answer: list[ChildEntry] = self._call("which_children")
        return answer

    def count_children(self) -> ChildCounts:
        """Count specs, active children, supervisors and workers."""
        answer: ChildCounts = self._call("count_children")
        return answer

    def supervision(self) -> SupervisorStatistics:
        """Return counts, restart intensity and the last restarts with their reasons."""
        answer: SupervisorStatistics = self._call("supervision")
        return answer

    def _call(self, name: str, *args: Any) -> Any:
        answer = self.ask(Call(name, args), timeout=None)
        if isinstance(answer, Refused):
            raise answer.error
        return answer


class SupervisorRef(AnySupervisorRef):
    """Refer to a `Supervisor`; its children go by their ids."""

    __slots__ = ()

    def start_child(self, child: SpecLike) -> ActorRef[Any] | None:
        """Add a child at the end of the order and start it; None when it said `IGNORE`.

        Raises `ChildRunning` (its `.ref` is the child) or `AlreadyExists` (known id, not running or restarting),
        `InvalidValue` for a bad spec, and `StartError` when it does not start, in which case the spec is not kept.
        """
        answer: ActorRef[Any] | None = self._call("start_child", spec_of(child))
        return answer

    def terminate_child(self, child_id: Hashable) -> None:
        """Stop a child and keep its spec (a temporary child's spec goes); nothing happens if it is down already.

        A child that is restarting is not tried again. Raises `NotFound`.
        """
        self._call("terminate_child", child_id)

    def restart_child(self, child_id: Hashable) -> ActorRef[Any] | None:
        """Start a child that is down; None when it said `IGNORE`.

        Raises `NotFound`, `ChildRunning`, `ChildRestarting`, or `StartError`, after which the child is still down.
        """
        answer: ActorRef[Any] | None = self._call("restart_child", child_id)
        return answer

    def delete_child(self, child_id: Hashable) -> None:
        """Forget a child that is down. Raises `NotFound`, `ChildRunning`, `ChildRestarting`."""
        self._call("delete_child", child_id)

    def get_child_spec(self, child_id: Hashable) -> ChildSpec:
        """Return a child's spec. Raises `NotFound`."""
        answer: ChildSpec = self._call("get_child_spec", child_id)
        return answer


class DynamicSupervisorRef(AnySupervisorRef):
    """Refer to a `DynamicSupervisor`; its children go by their refs."""

    __slots__ = ()

    def start_child(self, child: SpecLike, *args: Any) -> ActorRef[Any] | None:
        """Start a child, with `args` after those of its spec; None when it said `IGNORE`, and then nothing is kept.

        Raises `MaxChildren`, `InvalidValue` for a bad spec, and `StartError` when it does not start.
        """
        answer: ActorRef[Any] | None = self._call("start_child", spec_of(child), args)
        return answer

    def terminate_child(self, ref: ActorRef[Any]) -> None:
        """Stop a child and forget it; one that is dead already is gone anyway.

        A child that is restarting goes by the ref it had. Raises `NotFound` for a live actor that is not a child.
        """
        self._call("terminate_child", ref)

    def get_child_spec(self, ref: ActorRef[Any]) -> ChildSpec:
        """Return the spec of a child. Raises `NotFound`."""
        answer: ChildSpec = self._call("get_child_spec", ref)
        return answer
